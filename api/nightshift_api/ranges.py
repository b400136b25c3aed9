"""Which part of a file a download asks for (RFC 9110, 14). Pure."""

import re

from nightshift_api.wire import Ranged
from nightshift_crds.errors import Rejected

_ONE_RANGE = re.compile("bytes=(?:([0-9]{1,100})-([0-9]{0,100})|-([0-9]{1,100}))", re.IGNORECASE)


class RangeNotSatisfiable(Rejected):
    """The file ends before the range begins. Carries the size that the file has."""

    def __init__(self, size: int) -> None:
        message = f"Expected the range to begin before byte {size}, where the file ends."
        super().__init__(message, code="invalid_value", status=416)
        self.size = size


def choose_part(asked: Ranged, size: int, etag: str | None) -> range | None:
    """Choose the bytes of a file that are sent; None is all of it.

    A range of another version of the file than the one that `etag` names is ignored.

    Raises:
        RangeNotSatisfiable: none of its bytes are in the range.
    """
    if asked.range is None or asked.if_range not in {None, etag}:
        return None
    return parse_range(asked.range, size)


def parse_range(text: str, size: int) -> range | None:
    """Read a Range header; None is one to ignore: several ranges, another unit, or nonsense.

    Raises:
        RangeNotSatisfiable: a file of that size has none of its bytes.
    """
    found = _ONE_RANGE.fullmatch(text)
    if not found:
        return None
    first, last, suffix = found.groups(default="")
    if last and int(last) < int(first):
        return None
    start = max(size - int(suffix), 0) if suffix else int(first)
    if start >= size:
        raise RangeNotSatisfiable(size)
    return range(start, min(int(last) + 1, size) if last else size)
