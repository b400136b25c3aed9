"""Cut a list into pages: newest first, by cursor, stable under insertions and deletions (contract 1.6).

Pure. The order is total: `created_at` in seconds, then id; ids of our making sort by their millisecond.
"""

from collections.abc import Callable, Iterable
from typing import TypeVar

from nightshift_api.wire import ListObject, Wire
from nightshift_crds.errors import Rejected
from nightshift_crds.names import IdKind, parse_id, uuid7_ms

R = TypeVar("R")
W = TypeVar("W", bound=Wire)
Position = tuple[int, str]


def paginate(
    rows: Iterable[tuple[Position, R]], *, after: Position | None, limit: int, descending: bool = True
) -> tuple[list[R], bool]:
    """Take the rows behind a position, and tell whether more would follow."""
    ordered = sorted(rows, key=lambda row: row[0], reverse=descending)
    behind = [row for at, row in ordered if after is None or (at < after if descending else at > after)]
    return behind[:limit], len(behind) > limit


def parse_cursor(kind: IdKind, after: str | None, known: Callable[[str], int | None]) -> Position | None:
    """Find the position that a cursor names, also of an object that has been deleted since.

    `known` gives the `created_at` of an id that is still there. Raises `Rejected` for an id that tells no time.
    """
    if after is None:
        return None
    created_at = known(after)
    if created_at is not None:
        return created_at, after
    value = parse_id(kind, after)
    milliseconds = uuid7_ms(value) if value else None
    if milliseconds is None:
        raise Rejected("Expected 'after' to be the id of an object.", code="invalid_value", param="after")
    return milliseconds // 1000, after


def render_page(objects: list[W], *, has_more: bool, id_of: Callable[[W], str]) -> ListObject[W]:
    """Show a page."""
    ids = [id_of(item) for item in objects]
    return ListObject(
        data=objects, first_id=ids[0] if ids else None, last_id=ids[-1] if ids else None, has_more=has_more
    )
