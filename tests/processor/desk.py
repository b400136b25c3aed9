"""A model client that answers when the test says so, and what the test says."""

import asyncio

from nightshift_processor.client import Hear, Result


class Desk:
    """Takes requests, and gives each the result that the test has for it."""

    def __init__(self) -> None:
        self.open: dict[bytes, Hear] = {}
        self._news = asyncio.Event()

    def send(self, body: bytes, hear: Hear) -> None:
        self.open[body] = hear
        self._news.set()

    async def is_reached_by(self, body: bytes) -> None:
        while body not in self.open:
            await self.is_visited()

    async def is_visited(self) -> None:
        self._news.clear()
        await self._news.wait()

    def answer(self, body: bytes, result: Result) -> None:
        self.open.pop(body)(result)
