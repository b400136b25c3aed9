"""An upload by parts as it stands in the bucket (contract 7, design 5): announced, in parts, at its end one outcome.

Every object is create-only, so that replicas need not know of each other: whoever writes the outcome first has decided
between complete and cancel for all. Nothing here is a file yet; the sweep takes it all a while after it has expired.
"""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from hashlib import md5

from pydantic import BaseModel, ConfigDict

from nightshift_api.wire import CreateFile
from nightshift_crds import names
from nightshift_crds.bucket.port import Bucket, get, put_first
from nightshift_crds.errors import Missing, NotFound, Rejected
from nightshift_crds.models import Verdict
from nightshift_crds.names import IdKind


class _Stored(BaseModel):
    model_config = ConfigDict(frozen=True)

    def encode(self) -> bytes:
        """Write it as it is stored."""
        return self.model_dump_json().encode()


class Announced(_Stored):
    """What an upload was announced as."""

    filename: str
    bytes: int
    form: CreateFile
    """What a form of `POST /files` would have said."""


class Assembled(_Stored):
    """The file that the parts have become: its bytes are durable, and all that is needed to record it is here."""

    file_id: str
    part_ids: tuple[str, ...]
    md5: str
    verdict: Verdict


class Outcome(_Stored):
    """How an upload ended: with a file, or cancelled."""

    assembled: Assembled | None = None


@dataclass(frozen=True)
class Session:
    """An upload by parts, as it was found."""

    namespace: str
    id: str
    created_at: int
    announced: Announced
    outcome: Outcome | None = None


async def announce(bucket: Bucket, namespace: str, upload_id: str, announced: Announced) -> Session:
    """Begin an upload."""
    await bucket.put(names.session_key(namespace, upload_id), announced.encode(), create_only=True)
    return Session(namespace, upload_id, created_at(IdKind.UPLOAD, upload_id), announced)


async def find_session(bucket: Bucket, namespace: str, upload_id: str) -> Session:
    """Find an upload of a namespace. Raises `NotFound`."""
    began_at = created_at(IdKind.UPLOAD, upload_id)
    try:
        announced = Announced.model_validate_json(await get(bucket, names.session_key(namespace, upload_id)))
    except Missing:
        raise unknown() from None
    try:
        outcome = Outcome.model_validate_json(await get(bucket, names.outcome_key(namespace, upload_id)))
    except Missing:
        outcome = None
    return Session(namespace, upload_id, began_at, announced, outcome)


async def decide(bucket: Bucket, session: Session, outcome: Outcome) -> Outcome:
    """End an upload, and give how it has ended: somebody may have been quicker."""
    key = names.outcome_key(session.namespace, session.id)
    return Outcome.model_validate_json(await put_first(bucket, key, outcome.encode()))


async def measure_parts(bucket: Bucket, session: Session) -> dict[str, int]:
    """Give the size of every part by its id."""
    prefix = names.parts_prefix(session.namespace, session.id)
    return {info.key.removeprefix(prefix): info.size async for info in bucket.list(prefix)}


class Reader:
    """Read parts one behind the other, and hash them on the way."""

    def __init__(self, bucket: Bucket, session: Session, part_ids: Sequence[str]) -> None:
        prefix = names.parts_prefix(session.namespace, session.id)
        self._keys = [f"{prefix}{part_id}" for part_id in part_ids]
        self._bucket = bucket
        self._md5 = md5(usedforsecurity=False)

    @property
    def md5(self) -> str:
        """What has been read, hashed."""
        return self._md5.hexdigest()

    async def chunks(self, expected_md5: str | None) -> AsyncGenerator[bytes, None]:
        """Stream the bytes. Raises `Missing`, and at the end `Rejected` if they are not what was expected."""
        for key in self._keys:
            async with aclosing(self._bucket.read(key)) as chunks:
                async for chunk in chunks:
                    self._md5.update(chunk)
                    yield chunk
        check_md5(expected_md5, self.md5)


def check_parts(part_ids: Sequence[str], sizes: Mapping[str, int], expected_bytes: int) -> None:
    """Refuse parts that there are not, or that do not make the file that was announced. Pure. Raises `Rejected`."""
    for n, part_id in enumerate(part_ids):
        if part_id not in sizes:
            raise _invalid(f"The upload has no part of the id that stands at {n}.", "part_ids")
    if len(set(part_ids)) < len(part_ids):
        raise _invalid("Expected every part once.", "part_ids")
    total = sum(sizes[part_id] for part_id in part_ids)
    if total != expected_bytes:
        raise _invalid(f"The parts have {total} bytes, and the upload was to have {expected_bytes}.", "part_ids")


def check_md5(expected: str | None, found: str) -> None:
    """Refuse bytes that were not expected. Pure. Raises `Rejected`."""
    if expected is not None and expected.lower() != found:
        raise _invalid("The bytes that have arrived have another MD5.", "md5")


def created_at(kind: IdKind, object_id: str) -> int:
    """Read out of an id when it was made, in seconds. Pure. Raises `NotFound` for what is no id of ours."""
    value = names.parse_id(kind, object_id)
    milliseconds = names.uuid7_ms(value) if value else None
    if milliseconds is None:
        raise unknown()
    return milliseconds // 1000


def unknown() -> NotFound:
    """Answer for an upload that there is not for this caller. Pure."""
    return NotFound("No such upload.", param="upload_id")


def _invalid(message: str, param: str) -> Rejected:
    return Rejected(message, code="invalid_value", param=param)
