"""The page of a run: what its tally and its flow hold, read when somebody asks."""

from collections import Counter
from collections.abc import Callable, Mapping

from nightshift_crds.metrics import UNKNOWN, Page, Timings
from nightshift_processor.client import Failure
from nightshift_processor.settings import RunSettings
from nightshift_processor.tally import LATENCIES_S, Tally, name_of

_RESULTS = ("2xx", "3xx", "4xx", "429", "5xx", "503", *map(name_of, Failure))
"""How requests end; those that never have are shown too, so that a first one is seen to be more than none."""


class RunPage(Page):
    """The metrics of a run; its model is a label of each."""

    def __init__(self, tally: Tally, settings: RunSettings) -> None:
        super().__init__()
        self._model = settings.model or UNKNOWN
        self._show_work(tally)
        self._show_requests(tally)
        self._show_flow(tally, settings.max_concurrency)

    def _show_work(self, tally: Tally) -> None:
        self._total_by(
            "outcome",
            "rows",
            "Rows whose outcome is durable: `completed` or `failed`.",
            lambda: {"completed": tally.completed, "failed": tally.failed},
        )
        self._total_by(
            "kind",
            "tokens",
            "Tokens of these rows: `input`, of them `cached`; `output`, of them `reasoning`.",
            lambda: _tokens(tally),
        )
        self._total("flushes", "Records of results that were made durable.", lambda: tally.flushes)
        self._total("record_bytes", "Their size in bytes.", lambda: tally.record_bytes)

    def _show_requests(self, tally: Tally) -> None:
        self._total_by(
            "result",
            "requests",
            "Requests to the model server by their end: a class of statuses but for 429 and 503, or why there was no"
            " answer.",
            lambda: _requests(tally),
        )
        self._total_by(
            "result",
            "retries",
            "Lines that were sent again, by what came before.",
            lambda: dict.fromkeys(_RESULTS, 0) | dict(tally.retries),
        )
        self.timings_of(
            "processor_request_seconds",
            "From a request to the end of its answer, whatever that is.",
            ("model",),
            lambda: ((self._model,), Timings(LATENCIES_S, list(tally.latencies), tally.latency_s)),
        )
        self._level("first_request_seconds", "From the start to the first request.", lambda: tally.first_request_s)

    def _show_flow(self, tally: Tally, most: int) -> None:
        self._level(
            "requests_in_flight",
            "Requests that the model server works on.",
            lambda: tally.flow.in_flight if tally.flow else 0,
        )
        self._level(
            "requests_limit",
            "Requests that may be in flight, as flow control has it.",
            lambda: tally.flow.limit if tally.flow else None,
        )
        self._level("requests_most", "Requests that may ever be in flight.", lambda: most)

    def _total_by(self, label: str, name: str, meaning: str, read: Callable[[], Mapping[str, float]]) -> None:
        self.count_of(
            f"processor_{name}_total",
            meaning,
            ("model", label),
            lambda: [((self._model, key), count) for key, count in read().items()],
        )

    def _total(self, name: str, meaning: str, read: Callable[[], float]) -> None:
        self.count_of(f"processor_{name}_total", meaning, ("model",), lambda: [((self._model,), read())])

    def _level(self, name: str, meaning: str, read: Callable[[], float | None]) -> None:
        self.level_of(
            f"processor_{name}",
            meaning,
            ("model",),
            lambda: [((self._model,), value)] if (value := read()) is not None else [],
        )


def _tokens(tally: Tally) -> Mapping[str, float]:
    usage = tally.usage
    return {
        "input": usage.input_tokens,
        "cached": usage.cached_tokens,
        "output": usage.output_tokens,
        "reasoning": usage.reasoning_tokens,
    }


def _requests(tally: Tally) -> Mapping[str, float]:
    found = Counter(dict.fromkeys(_RESULTS, 0))
    for status, count in list(tally.statuses.items()):  # at once: the loop adds to them meanwhile
        found[name_of(status)] += count
    for failure, count in list(tally.failures.items()):
        found[name_of(failure)] += count
    return found
