"""Server-sent events as bytes (WHATWG HTML, 9.2). Pure."""

import json
from collections.abc import Mapping

BEAT = b": still here\n\n"


def render_event(name: str, data: bytes | Mapping[str, object], version: str | None = None) -> bytes:
    """Write an event; `data` is JSON without a line break in it. The page names the last version when it comes back."""
    said = data if isinstance(data, bytes) else json.dumps(data).encode()
    if b"\n" in said or b"\r" in said:
        raise ValueError("an event would end in the middle of its data")
    resume = f"id: {version}\n".encode() if version is not None else b""
    return b"event: %b\n%bdata: %b\n\n" % (name.encode(), resume, said)
