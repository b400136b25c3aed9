"""By what lines are sorted so that those whose prompts begin alike are sent one after the other (design 7).

Pure. A model server keeps what it has computed of a prompt's beginning for as long as it has room: lines that share a
beginning find it there if they come together. A batch has one model, so its name need not be part of the key. Keys are
made of bytes as the user wrote them: equal texts of one program are equal bytes, and nothing is decoded for it.
"""

from collections.abc import Iterator
from hashlib import blake2b

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

_TEXTS = 4
"""Messages that count: a system prompt, and the beginning of what follows it."""
_BEGINNING_BYTES = 240
_HASH_BYTES = 8
MAX_KEY_BYTES = _TEXTS * (_BEGINNING_BYTES + _HASH_BYTES) + _HASH_BYTES


class _Message(Struct):
    content: Raw = Raw(b"")


class _Body(Struct):
    messages: list[_Message] | UnsetType = UNSET
    prompt: Raw = Raw(b"")
    input: Raw = Raw(b"")
    tools: Raw = Raw(b"")


class _Line(Struct):
    body: _Body


_decode = msgspec.json.Decoder(_Line).decode


def prefix_key(line: bytes) -> bytes:
    """Give the key of a line; an empty one if it has none, which sorts it first, in the order of the file.

    Of each text its beginning, so that near matches are neighbours, and a hash of all of it, so that equal texts are
    together however long they are. Tools come behind the first text, as most templates write them.
    """
    try:
        body = _decode(line).body
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return b""
    first, *others = list(_texts(body)) or [Raw(b"")]
    tools = _hash(body.tools) if body.tools else b""
    return b"".join([_part(first), tools, *map(_part, others)])


def _texts(body: _Body) -> Iterator[Raw]:
    if body.messages is UNSET:
        yield body.prompt or body.input
        return
    for message in body.messages[:_TEXTS]:
        yield message.content


def _part(text: Raw) -> bytes:
    return bytes(memoryview(text)[:_BEGINNING_BYTES]) + _hash(text) if text else b""


def _hash(text: Raw) -> bytes:
    return blake2b(text, digest_size=_HASH_BYTES).digest()
