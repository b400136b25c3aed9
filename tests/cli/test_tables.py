"""What is written of batches and models: columns, details, JSON and YAML. No server, no terminal."""

import json

import pytest
import yaml

from nightshift_cli.tables import (
    Form,
    render_age,
    render_batches,
    render_cost,
    render_details,
    render_document,
    render_models,
    render_rate,
    render_span,
)
from nightshift_cli.views import BatchView, Cost, ModelView, view_of_api
from tests.cli.stub_api import a_batch_object

DAY_S = 86_400
DETAILS = {
    "name": "nightly",
    "suspended": True,
    "conditions": [{"type": "Progressing", "status": "False", "reason": "Suspended", "message": "asked for"}],
    "gpu_type": "nvidia-l4",
    "instance_type": "g2-standard-8",
    "attempt": 2,
    "duration_s": 90,
    "rate": 12.5,
    "eta_s": 3_700,
    "gpu_seconds": 180,
    "cost": {"currency": "EUR", "total": 0.01234, "per_million_tokens": 0.5},
    "rerun_of": "batch_0",
}


def a_view(status: str = "in_progress", **fields: object) -> BatchView:
    counts = (9, 3, 2)
    return view_of_api(a_batch_object(status, counts, model="m:1", expires_at=DAY_S, metadata=None, **fields))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (90, "2 min"),
        (3_569, "59 min"),
        (3_599, "1 h 0 min"),
        (7_500, "2 h 5 min"),
        (DAY_S, "24 h 0 min"),
    ],
)
def test_a_time_span_is_as_exact_as_people_want_it(seconds: float, text: str) -> None:
    assert render_span(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(-3, "0s"), (59.9, "59s"), (60, "1m"), (3_599, "59m"), (7_500, "2h5m"), (3 * DAY_S, "3d")]
)
def test_an_age_is_as_short_as_kubectl_writes_it(seconds: float, text: str) -> None:
    assert render_age(seconds) == text


@pytest.mark.parametrize(
    ("total", "text"), [(0, "0.00 EUR"), (0.01234, "0.012 EUR"), (1, "1.00 EUR"), (1234.5, "1234.50 EUR")]
)
def test_money_has_two_digits_that_count(total: float, text: str) -> None:
    assert render_cost(Cost("EUR", total)) == text


def test_a_rate_below_one_is_told_by_the_minute() -> None:
    assert (render_rate(12.34), render_rate(0.5)) == ("12.3/s", "30.0/min")


def test_a_table_has_a_row_for_each_batch() -> None:
    assert render_batches([a_view()], 61).splitlines() == [
        "BATCH    NAME  STATUS       DONE  FAILED  TOTAL  MODEL  AGE",
        "batch_1  -     in_progress  3     2       9      m:1    1m",
    ]


def test_a_wide_table_has_what_the_server_says_of_the_run() -> None:
    header, row = render_batches([a_view(x_details=DETAILS)], 61, is_wide=True).splitlines()
    shown = dict(zip(header.split(), row.replace("0.012 EUR", "0.012_EUR").split(), strict=True))
    assert (shown["NAME"], shown["STATUS"]) == ("nightly", "in_progress,suspended")
    assert (shown["RATE"], shown["ETA"], shown["COST"]) == ("12.5/s", "1h1m", "0.012_EUR")
    assert (shown["GPU"], shown["INSTANCE"], shown["ATTEMPT"]) == ("nvidia-l4", "g2-standard-8", "2")
    assert (shown["DEADLINE"], shown["INPUT"]) == ("1970-01-02T00:00:00Z", "file_in")


def test_what_a_server_does_not_say_is_a_dash() -> None:
    header, row = render_batches([a_view(x_details=None)], 61, is_wide=True).splitlines()
    shown = dict(zip(header.split(), row.split(), strict=True))
    assert {shown[name] for name in ("RATE", "ETA", "TOKENS", "COST", "GPU", "INSTANCE", "ATTEMPT")} == {"-"}


def test_a_batch_that_has_ended_is_suspended_no_more() -> None:
    assert "suspended" not in render_batches([a_view("completed", x_details=DETAILS)], 61)


@pytest.mark.parametrize(
    ("name", "shown"), [("a\x1b[31mb", "a?[31mb"), ("n" * 40, "n" * 31 + "…"), ("Übersetzung", "Übersetzung")]
)
def test_a_name_steers_no_terminal_and_takes_no_more_than_its_column(name: str, shown: str) -> None:
    assert render_batches([a_view(x_details={"name": name})], 61).splitlines()[1].split()[1] == shown


def test_details_say_all_there_is() -> None:
    told = render_details(a_view(x_details=DETAILS), 61)
    for line in (
        "Lines:       3 completed, 2 failed of 9",
        "Rate:        12.5/s",
        "Time left:   1 h 2 min",
        "Cost:        0.012 EUR, 0.5 per million tokens",
        "GPU time:    3 min",
        "Rerun of:    batch_0",
        "Conditions:",
        "  Progressing=False Suspended: asked for",
    ):
        assert line in told.splitlines()


def test_details_say_why_a_batch_failed() -> None:
    found = [{"code": "bad", "message": "no\x1bgood", "param": None, "line": 7}]
    told = render_details(a_view("failed", errors={"object": "list", "data": found}), 61)
    assert told.splitlines()[-2:] == ["Errors:", "  line 7: no?good [bad]"]


def test_models_are_told_with_where_they_are() -> None:
    models = [ModelView("llama:1", {}, ("/v1/completions",), "http://llama"), ModelView("m", {})]
    assert render_models(models).splitlines() == ["MODEL", "llama:1", "m"]
    assert render_models(models, is_wide=True).splitlines()[1] == "llama:1  /v1/completions  http://llama"


@pytest.mark.parametrize(("form", "read"), [(Form.JSON, json.loads), (Form.YAML, yaml.safe_load)])
def test_a_document_comes_back_as_it_was(form: Form, read: object) -> None:
    document = {"id": "batch_1", "metadata": {"name": "Übersetzung", "n": "1"}, "errors": None, "data": [1]}
    assert callable(read)
    assert read(render_document(document, form)) == document
