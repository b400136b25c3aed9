"""A model server that answers every POST the same after a given time, and can do nothing else quickly.

`python -m tests.bench.delayed PORT LATENCY_S`. `GET /arrivals` gives when each POST came, in seconds since 1970.
"""

import asyncio
import json
import sys
import time
from array import array
from typing import cast

import uvloop
from httptools import HttpRequestParser

from tests.bench.processes import ANSWER

PORT, LATENCY_S = int(sys.argv[1]), float(sys.argv[2])
_HEAD = b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
_SERVED = _HEAD % (b"200 OK", len(ANSWER), ANSWER)
_UNKNOWN = _HEAD % (b"404 Not Found", 2, b"{}")
_arrivals = array("d")


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
            asyncio.get_running_loop().call_later(LATENCY_S, self._answer, _SERVED)
        elif self._url == b"/arrivals":
            content = json.dumps(_arrivals.tolist()).encode()
            self._answer(_HEAD % (b"200 OK", len(content), content))
        else:
            self._answer(_UNKNOWN)

    def _answer(self, answer: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(answer)


async def main() -> None:
    """Serve until killed."""
    await asyncio.get_running_loop().create_server(Connection, "127.0.0.1", PORT, backlog=4096)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main())
