"""A model server that answers every POST the same after a given time, and can do nothing else quickly.

`python -m tests.bench.delayed PORT LATENCY_S`. `GET /arrivals` gives when each POST came, in seconds since 1970.
"""

import asyncio
import json
import sys
import time
from array import array
from collections import deque
from typing import cast

import uvloop
from httptools import HttpRequestParser

from tests.bench.processes import ANSWER

PORT, LATENCY_S = int(sys.argv[1]), float(sys.argv[2])
_HEAD = b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
_SERVED = _HEAD % (b"200 OK", len(ANSWER), ANSWER)
_UNKNOWN = _HEAD % (b"404 Not Found", 2, b"{}")
_SPIN_S = 0.002
"""A timer is exact to a millisecond; the last two are spent asking whether it is time."""
_arrivals = array("d")


class Answers:
    """Answers that are due, the first one first."""

    def __init__(self) -> None:
        self._due: deque[tuple[float, Connection]] = deque()

    def add(self, connection: "Connection") -> None:
        """Have a connection answered in time."""
        self._due.append((time.monotonic() + LATENCY_S, connection))
        if len(self._due) == 1:
            self._give()

    def _give(self) -> None:
        now, loop = time.monotonic(), asyncio.get_running_loop()
        while self._due and self._due[0][0] <= now:
            self._due.popleft()[1].answer(_SERVED)
        if self._due:
            left_s = self._due[0][0] - now - _SPIN_S
            loop.call_later(left_s, self._give) if left_s > 0 else loop.call_soon(self._give)


class Connection(asyncio.Protocol):
    """One request after the other."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are none by their class
        self._parser = HttpRequestParser(self)
        self._url = b""

    def data_received(self, data: bytes) -> None:
        """See asyncio."""
        self._parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        """See httptools."""
        self._url = url

    def on_message_complete(self) -> None:
        """See httptools."""
        if self._parser.get_method() == b"POST":
            _arrivals.append(time.time())
            _answers.add(self)
        elif self._url == b"/arrivals":
            content = json.dumps(_arrivals.tolist()).encode()
            self.answer(_HEAD % (b"200 OK", len(content), content))
        else:
            self.answer(_UNKNOWN)

    def answer(self, answer: bytes) -> None:
        """Send an answer, unless nobody is there any more."""
        if not self._transport.is_closing():
            self._transport.write(answer)


_answers = Answers()


async def main() -> None:
    """Serve until killed."""
    await asyncio.get_running_loop().create_server(Connection, "127.0.0.1", PORT, backlog=4096)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main())
