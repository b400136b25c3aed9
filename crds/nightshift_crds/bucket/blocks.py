"""Join the small chunks of a stream into blocks that are worth a hop to another thread."""

from collections.abc import AsyncIterator

BLOCK_BYTES = 1 << 20


async def join_blocks(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Give the bytes of a stream in blocks of about `BLOCK_BYTES`; a stream without bytes gives one empty block."""
    held: list[bytes] = []
    size = 0
    async for chunk in chunks:
        held.append(chunk)
        size += len(chunk)
        if size >= BLOCK_BYTES:
            yield b"".join(held)
            held, size = [], 0
    yield b"".join(held)
