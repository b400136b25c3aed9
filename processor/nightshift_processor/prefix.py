"""By what lines are sorted so that those whose prompts begin alike are sent one after the other (design 7).

Pure. A model server keeps what it has computed of a prompt's beginning for as long as it has room: lines that share a
beginning find it there if they come together. A batch has one model, so its name need not be part of the key. Keys are
made of bytes as the user wrote them: equal texts of one program are equal bytes, and nothing is decoded for it.
"""

import msgspec
from google_crc32c import value as crc32c_of
from msgspec import UNSET, Raw, Struct, UnsetType

_TEXTS = 4
"""Messages that count: a system prompt, and the beginning of what follows it."""
_SUM = b"%08x"
_PART = b"%.240b" + _SUM
"""The beginning of a text, and a checksum of all of it."""
_NOTHING = Raw(b"")
MAX_KEY_BYTES = _TEXTS * len(_PART % (bytes(240), 0)) + len(_SUM % 0)


class _Message(Struct, gc=False):
    content: Raw = _NOTHING


class _Body(Struct, gc=False):
    messages: list[_Message] | UnsetType = UNSET
    prompt: Raw = _NOTHING
    input: Raw = _NOTHING
    tools: Raw = _NOTHING


class _Line(Struct, gc=False):
    body: _Body


_decode = msgspec.json.Decoder(_Line).decode


def prefix_key(line: bytes) -> bytes:
    """Give the key of a line; an empty one if it has none, which sorts it first, in the order of the file.

    Of each text its beginning, so that near matches are neighbours, and a checksum of all of it, so that equal texts
    are together however long they are; that others may have the same one costs nothing but a place. Tools come behind
    the first text, as most templates write them.
    """
    try:
        body = _decode(line).body
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return b""
    key, tools = b"", body.tools
    for message in _messages(body):  # added up here: a function for each part would cost as much again
        text = message.content
        if text:
            key += _PART % (text, crc32c_of(text))
        if tools:
            key += _SUM % crc32c_of(tools)
            tools = _NOTHING
    return key


def _messages(body: _Body) -> list[_Message]:
    return [_Message(body.prompt or body.input)] if body.messages is UNSET else body.messages[:_TEXTS]
