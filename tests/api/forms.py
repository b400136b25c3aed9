"""Multipart forms, byte by byte."""

from collections.abc import AsyncIterator, Iterable

import httpx2

from tests.api.harness import Api

BOUNDARY = "x-boundary-x"
TYPE = {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}


def part(name: str, content: bytes | str, filename: str | None = None, headers: str = "") -> bytes:
    """Write a part; its header lines end with the blank one."""
    told = f'Content-Disposition: form-data; name="{name}"' + (
        f'; filename="{filename}"' if filename is not None else ""
    )
    return raw_part(told + headers, content if isinstance(content, bytes) else content.encode())


def raw_part(headers: str, content: bytes) -> bytes:
    return f"--{BOUNDARY}\r\n{headers}\r\n\r\n".encode() + content + b"\r\n"


def form(*parts: bytes) -> bytes:
    return b"".join(parts) + END


END = f"--{BOUNDARY}--\r\n".encode()
PURPOSE = part("purpose", "batch")


async def send(api: Api, body: bytes | Iterable[bytes], headers: dict[str, str] = TYPE) -> httpx2.Response:
    """Upload what is in a body; one in pieces arrives so, and without a length."""
    content = body if isinstance(body, bytes) else stream(body)
    return await api.client.post("files", content=content, headers=headers)


async def stream(chunks: Iterable[bytes]) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk
