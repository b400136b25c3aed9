"""How a request reaches the model server: the one interface behind which a thin client or aiohttp stands.

The comments here are the contract, and `tests/processor/test_client.py` is its proof over both clients. A client sends
bytes and gives bytes; it follows no redirect, keeps no cookie, sends nothing twice, decides nothing. What an answer
means is `outcome`'s to say, whether to ask again `retry`'s.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Protocol

from msgspec import Struct

CONNECT_TIMEOUT_S = 10.0
IDLE_S = 4.0
"""Seconds after which a connection is not used again: less than the five of uvicorn, and so of vLLM, because a request
that meets the server's goodbye on its way is lost, and nobody can tell whether it was worked on."""


class Answer(Struct, frozen=True, gc=False):
    """What the model server said.

    Attributes:
        retry_after_s: how long it wants to be left alone, if it said so in seconds.
    """

    status: int
    body: bytes
    request_id: str | None = None
    retry_after_s: float | None = None


class Failure(Enum):
    """Why there is no answer."""

    NOT_CONNECTED = auto()
    """Nobody took the request: the server is down or unknown, or the proxy before it cannot reach it."""
    BROKEN = auto()
    """The connection broke after the request had gone out, so the server may have worked on it."""
    TIMEOUT = auto()
    """No whole answer within the time for one."""
    TOO_LARGE = auto()
    """The answer is larger than is taken."""


Result = Answer | Failure
"""What comes of a request."""
Hear = Callable[[Result], None]
"""Is told a result. It must not raise: nobody is there to catch it."""


class ModelClient(Protocol):
    """Sends any number of requests at once, and waits for none (docs/decisions/0022 has what a task for each costs)."""

    def send(self, body: bytes, hear: Hear) -> None:
        """Send a request body to the batch's endpoint.

        `hear` is told once, in a later turn of the loop, and not at all if the client is closed before.
        """
        ...


@dataclass(frozen=True)
class Endpoint:
    """Where requests go, and what holds for each of them.

    Attributes:
        headers: sent with every request, besides what HTTP itself needs.
        timeout_s: from the call to the last byte of the answer.
        max_answer_bytes: of a body, as it came and unpacked.
    """

    url: str
    headers: Mapping[str, str]
    timeout_s: float
    max_answer_bytes: int


def build_answer(status: int, body: bytes, request_id: bytes, retry_after: bytes) -> Answer:
    """Give an answer out of its parts; a header that it has not is empty.

    A request id that is no UTF-8 becomes text that can be written. Patience is asked for in whole seconds.
    """
    return Answer(
        status,
        body,
        request_id.decode(errors="replace") if request_id else None,
        float(retry_after) if retry_after.isdigit() else None,
    )
