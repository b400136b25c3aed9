"""The page of metrics: what is told apart on it, where it is shown, and that it stops nobody."""

import socket
import urllib.request
from collections.abc import Callable
from urllib.error import URLError

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from structlog.testing import capture_logs

from nightshift_crds.metrics import OTHER, UNKNOWN, ModelLabels, Page, Timings, showing
from nightshift_crds.settings import MetricsSettings


def fetch(port: int, accept: str = "*/*") -> str:
    request = urllib.request.Request(f"http://127.0.0.1:{port}/metrics", headers={"Accept": accept})
    with urllib.request.urlopen(request, timeout=5) as answer:
        return str(answer.read().decode())


def settings(port: int) -> MetricsSettings:
    return MetricsSettings(metrics_port=port, metrics_host="127.0.0.1")


def test_so_many_models_are_told_apart_and_the_rest_is_other() -> None:
    labels = ModelLabels(2)
    assert [labels.of(model) for model in ("a", "b", "c", "a", "b", "c")] == ["a", "b", OTHER, "a", "b", OTHER]
    assert (labels.of(None), labels.of("")) == (UNKNOWN, UNKNOWN)


def test_what_a_role_counts_and_what_stands_elsewhere_are_one_page() -> None:
    page = Page()
    page.counter("sent_total", "Sent.", "to").labels("a").inc(2)
    page.gauge("level", "Level.").set(3)
    page.histogram("wait_seconds", "Wait.", (1, 2)).observe(1.5)
    page.count_of("read_total", "Read.", ("by",), lambda: [(("b",), 4)])
    page.level_of("left", "Left.", (), lambda: [((), 5)])
    page.timings_of("took_seconds", "Took.", ("by",), lambda: (("c",), Timings((0.5, 1), [1, 0, 2], 9.5)))
    sample = page.registry.get_sample_value
    assert sample("nightshift_sent_total", {"to": "a"}) == 2
    assert (sample("nightshift_level"), sample("nightshift_left")) == (3, 5)
    assert sample("nightshift_read_total", {"by": "b"}) == 4
    assert [sample("nightshift_wait_seconds_bucket", {"le": le}) for le in ("1.0", "2.0", "+Inf")] == [0, 1, 1]
    took = [sample("nightshift_took_seconds_bucket", {"by": "c", "le": le}) for le in ("0.5", "1.0", "+Inf")]
    assert took == [1, 1, 3]
    assert sample("nightshift_took_seconds_sum", {"by": "c"}) == 9.5
    assert [declared.name for declared in page.declared] == [
        f"nightshift_{name}" for name in ("sent_total", "level", "wait_seconds", "read_total", "left", "took_seconds")
    ]


def test_no_counter_has_a_second_series_for_its_birth() -> None:
    page = Page()
    page.counter("sent_total", "Sent.").inc()
    assert [sample.name for family in page.registry.collect() for sample in family.samples] == ["nightshift_sent_total"]


def test_a_page_is_shown_as_long_as_the_role_works_in_both_forms(unused_tcp_port: int) -> None:
    page = Page()
    page.counter("sent_total", "Sent.").inc()
    with showing(page, settings(unused_tcp_port)):
        assert "\nnightshift_sent_total 1.0\n" in fetch(unused_tcp_port)
        text = fetch(unused_tcp_port, "application/openmetrics-text; version=1.0.0")
        families = text_string_to_metric_families(text)  # type: ignore[no-untyped-call]
        assert {"nightshift_sent", "process_cpu_seconds"} <= {family.name for family in families}
    with pytest.raises(URLError):
        fetch(unused_tcp_port)


def test_no_port_shows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert MetricsSettings.load({}).metrics_port == 0
    with showing(Page(), settings(0)), capture_logs() as logs:
        pass
    assert logs == []


def test_a_port_that_somebody_has_stops_nobody(unused_tcp_port_factory: Callable[[], int]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with capture_logs() as logs, showing(Page(), settings(port)):
            pass
    assert [(log["event"], log["port"]) for log in logs] == [("metrics.unavailable", port)]
