"""What a run counts: plain numbers, since some of them change with every line.

`metrics` shows them; nobody decides by them. Pure: times are seconds of a clock that never goes back, and arguments.
"""

from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field

from nightshift_crds.lines import Usage
from nightshift_processor.client import Answer, Failure, Result
from nightshift_processor.flow import Flow

LATENCIES_S = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
"""Upper bounds that latencies of the model server are told apart by."""


@dataclass(slots=True)
class Tally:
    """What a run has come to.

    Attributes:
        statuses: requests by the status that they were answered with.
        failures: requests that have no answer, by the reason.
        latencies: answers by the bound that they were within; the last is beyond all.
        completed, failed, usage: what is durable, as far as this run has made it so.
        retries: lines that were sent again, by what came before.
        first_request_s: from the start to the first request; None before it.
    """

    born: float = 0.0
    statuses: Counter[int] = field(default_factory=Counter)
    failures: Counter[Failure] = field(default_factory=Counter)
    latencies: list[int] = field(default_factory=lambda: [0] * (len(LATENCIES_S) + 1))
    latency_s: float = 0.0
    retries: Counter[str] = field(default_factory=Counter)
    first_request_s: float | None = None
    flow: Flow | None = None
    completed: int = 0
    failed: int = 0
    usage: Usage = field(default_factory=Usage)
    flushes: int = 0
    record_bytes: int = 0

    def send(self, now: float) -> None:
        """Note that a request goes out."""
        if self.first_request_s is None:
            self.first_request_s = now - self.born

    def answer(self, status: int, took_s: float) -> None:
        """Count an answer."""
        self.statuses[status] += 1
        self.latencies[bisect_left(LATENCIES_S, took_s)] += 1
        self.latency_s += took_s

    def fail(self, failure: Failure) -> None:
        """Count a request that has no answer."""
        self.failures[failure] += 1

    def retry(self, result: Result) -> None:
        """Count a line that is sent again."""
        self.retries[name_of(result.status if isinstance(result, Answer) else result)] += 1

    def flush(self, completed: int, failed: int, usage: Usage, size: int) -> None:
        """Count a record that is durable, and what has become so with it."""
        self.completed += completed
        self.failed += failed
        self.usage += usage
        self.flushes += 1
        self.record_bytes += size


def name_of(result: int | Failure) -> str:
    """Name a result as metrics do: the statuses that slow a run down by themselves, of others the class."""
    if isinstance(result, Failure):
        return result.name.lower()
    return str(result) if result in {429, 503} else f"{result // 100}xx"
