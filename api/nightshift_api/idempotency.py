"""`Idempotency-Key`: a request that is sent again makes nothing again (contract 1.5, design 5).

The first request with a key writes a create-only object before it creates anything: what was asked, and the id that it
has chosen. Whoever comes later with the key, at another replica or after a crash, goes on with that id. The sweep takes
the object after a day.
"""

import hashlib
import json
from typing import Any

from pydantic import BaseModel, ConfigDict
from starlette.datastructures import Headers

from nightshift_api.parsing import parse_fields
from nightshift_api.wire import Idempotent, Wire
from nightshift_crds.bucket.port import Bucket, get, put_first
from nightshift_crds.errors import Conflict, Missing

_HEADER = "Idempotency-Key"


class Claim(BaseModel):
    """What stands in the bucket for a key."""

    model_config = ConfigDict(frozen=True)

    asked: str
    """SHA-256 of what the first request asked for."""
    id: str
    """The id that it chose for what it creates."""


def parse_key(headers: Headers) -> str | None:
    """Read the key of a request; None if it has none. Pure. Raises `Rejected`."""
    sent: dict[str, Any] = {_HEADER: headers[_HEADER]} if _HEADER in headers else {}
    return parse_fields(Idempotent, sent).idempotency_key


def hash_asked(call: str, body: Wire) -> str:
    """Hash what a call asks for, so that spelling it otherwise (spaces, order, fields nobody knows) changes nothing.

    Pure.
    """
    canonical = json.dumps([call, body.model_dump(mode="json")], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


async def find_claimed(bucket: Bucket, at: str, asked: str) -> str | None:
    """Give the id that an earlier request with the same key chose; None if there was none. Raises `Conflict`."""
    try:
        return _check(await get(bucket, at), asked)
    except Missing:
        return None


async def claim(bucket: Bucket, at: str, asked: str, own_id: str) -> str:
    """Choose an id for a key, or give the one that somebody was quicker to choose. Raises `Conflict`."""
    return _check(await put_first(bucket, at, Claim(asked=asked, id=own_id).model_dump_json().encode()), asked)


def _check(stands: bytes, asked: str) -> str:
    found = Claim.model_validate_json(stands)
    if found.asked != asked:
        message = f"This '{_HEADER}' was used for another request."
        raise Conflict(message, code="idempotency_key_reuse", param=_HEADER)
    return found.id
