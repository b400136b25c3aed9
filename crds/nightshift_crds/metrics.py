"""How a role shows what it counts: a page for Prometheus on a port of its own, which those who call the API do not see.

Labels are bounded: no id, no name that a user made up, and of models so many, then `other`. Roles count where they
work; what stands in their memory anyway is read when the page is asked for, in the thread that answers.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import structlog
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    start_http_server,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from nightshift_crds.settings import MetricsSettings

_log = structlog.get_logger()
OTHER = "other"
"""The label of all models beyond those that are told apart."""
UNKNOWN = "unknown"
"""The label of a batch whose model is not known yet."""

disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for every counter, which nobody asks for

Values = Iterable[tuple[tuple[str, ...], float]]
"""Label values, each with what is counted for them."""


@dataclass(frozen=True)
class Declared:
    """A metric as queries name it, but for the endings of a histogram."""

    name: str
    kind: str
    labels: tuple[str, ...]
    meaning: str


@dataclass(frozen=True)
class Timings:
    """What a histogram holds: how many were within each bound, then how many beyond, and all of them added up."""

    bounds: Sequence[float]
    counts: Sequence[int]
    total: float


class Page:
    """The metrics of a role. Names get the project's prefix here."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.declared: list[Declared] = []

    def counter(self, name: str, meaning: str, *labels: str) -> Counter:
        """Make a counter; its name ends in `_total`."""
        return Counter(self._declare(name, "counter", meaning, labels), meaning, labels, registry=self.registry)

    def gauge(self, name: str, meaning: str, *labels: str) -> Gauge:
        """Make a gauge."""
        return Gauge(self._declare(name, "gauge", meaning, labels), meaning, labels, registry=self.registry)

    def histogram(self, name: str, meaning: str, bounds: Sequence[float], *labels: str) -> Histogram:
        """Make a histogram with these upper bounds."""
        full = self._declare(name, "histogram", meaning, labels)
        return Histogram(full, meaning, labels, buckets=bounds, registry=self.registry)

    def count_of(self, name: str, meaning: str, labels: tuple[str, ...], read: Callable[[], Values]) -> None:
        """Show as a counter what is counted elsewhere."""
        full = self._declare(name, "counter", meaning, labels)
        self.registry.register(_Reading(lambda: _fill(CounterMetricFamily(full, meaning, labels=labels), read())))

    def level_of(self, name: str, meaning: str, labels: tuple[str, ...], read: Callable[[], Values]) -> None:
        """Show as a gauge what stands elsewhere."""
        full = self._declare(name, "gauge", meaning, labels)
        self.registry.register(_Reading(lambda: _fill(GaugeMetricFamily(full, meaning, labels=labels), read())))

    def timings_of(
        self, name: str, meaning: str, labels: tuple[str, ...], read: Callable[[], tuple[tuple[str, ...], Timings]]
    ) -> None:
        """Show as a histogram what is timed elsewhere."""
        full = self._declare(name, "histogram", meaning, labels)
        self.registry.register(
            _Reading(lambda: _fill_timings(HistogramMetricFamily(full, meaning, labels=labels), *read()))
        )

    def _declare(self, name: str, kind: str, meaning: str, labels: tuple[str, ...]) -> str:
        full = f"nightshift_{name}"
        self.declared.append(Declared(full, kind, labels, meaning))
        return full


@dataclass(frozen=True)
class _Reading(Collector):
    read: Callable[[], Metric]

    def collect(self) -> Iterable[Metric]:
        yield self.read()


def _fill(family: CounterMetricFamily | GaugeMetricFamily, values: Values) -> Metric:
    for labels, value in values:
        family.add_metric(labels, value)
    return family


def _fill_timings(family: HistogramMetricFamily, labels: tuple[str, ...], timings: Timings) -> Metric:
    buckets: list[tuple[str, float]] = []
    below = 0
    for bound, count in zip((*map(str, map(float, timings.bounds)), "+Inf"), timings.counts, strict=True):
        below += count
        buckets.append((bound, below))
    family.add_metric(labels, buckets, timings.total)
    return family


class ModelLabels:
    """Labels of models: the first so many that come have one of their own."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._known: set[str] = set()

    def of(self, model: str | None) -> str:
        """Give the label of a model."""
        if not model:
            return UNKNOWN
        if model not in self._known:
            if len(self._known) >= self._most:
                return OTHER
            self._known.add(model)
        return model


@contextmanager
def showing(page: Page, settings: MetricsSettings) -> Iterator[None]:
    """Answer `/metrics` for as long as the context lasts, if a port is set; a port that cannot be had stops nobody."""
    if not settings.metrics_port:
        yield
        return
    ProcessCollector(registry=page.registry)
    try:
        server, thread = start_http_server(settings.metrics_port, settings.metrics_host, page.registry)
    except OSError as error:
        _log.warning("metrics.unavailable", port=settings.metrics_port, problem=error.strerror)
        yield
        return
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
