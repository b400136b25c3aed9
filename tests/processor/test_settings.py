"""What a processor is told by its Job."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from nightshift_crds.errors import Rejected
from nightshift_crds.lifecycle import Sealing
from nightshift_crds.lines import ErrorForm
from nightshift_processor.settings import InspectSettings, RunSettings, SealSettings, StepSettings
from tests.processor.given import environ_of

STEP = {"bucket": "file:///b", "batch_uid": "uid", "input_key": "k"}
INSPECT: dict[str, Any] = STEP | {"endpoint": "/v1/embeddings"}
RUN: dict[str, Any] = STEP | {
    "input_crc32c": 7,
    "endpoint": "/v1/embeddings",
    "model_url": "http://model:8000/v1",
    "deadline": "2026-11-24T08:00:00+00:00",
}
SEAL: dict[str, Any] = STEP | {
    "input_crc32c": 7,
    "reason": "expired",
    "items": 3,
    "output_file_id": "file_o",
    "error_file_id": "file_e",
}
STEPS: list[tuple[type[StepSettings], dict[str, Any]]] = [
    (InspectSettings, INSPECT),
    (RunSettings, RUN),
    (SealSettings, SEAL),
]


@pytest.mark.parametrize(("settings", "values"), STEPS)
def test_what_a_step_must_be_told_is_named_all_at_once(settings: type[StepSettings], values: dict[str, Any]) -> None:
    settings.load(environ_of(values))
    with pytest.raises(Rejected) as refusal:
        settings.load({})
    assert all(f"NIGHTSHIFT_{name.upper()}" in refusal.value.message for name in values)


def test_which_pod_it_is_is_the_index_that_kubernetes_gives_it() -> None:
    loaded = RunSettings.load(environ_of(RUN | {"slices": 24, "shards": 4}) | {"JOB_COMPLETION_INDEX": "3"})
    assert (loaded.slices, loaded.shards, loaded.index) == (24, 4, 3)
    assert RunSettings.load(environ_of(RUN)).index == 0


@pytest.mark.parametrize("text", ["2026-11-24T08:00:00+00:00", "2026-11-24T08:00:00Z", "2026-11-24T10:00:00+02:00"])
def test_a_deadline_is_a_moment(text: str) -> None:
    loaded = RunSettings.load(environ_of(RUN | {"deadline": text}))
    assert loaded.deadline - datetime(2026, 11, 24, 8, tzinfo=UTC) == timedelta(0)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("deadline", "2026-11-24T08:00:00"),
        ("deadline", "tomorrow"),
        ("model_url", "ftp://model"),
        ("model_url", "model:8000"),
        ("max_concurrency", 0),
        ("batch_share", 0),
        ("batch_share", 1.1),
        ("latency_tolerance", 0.5),
        ("load_interval_s", 0),
        ("max_tries", 0),
        ("slices", 0),
        ("shards", 0),
        ("attempt", -1),
        ("order", "random"),
        ("flush_interval_s", 0),
        ("flush_bytes", 0),
        ("request_timeout_s", -1),
        ("error_line_format", "ours"),
        ("input_crc32c", "x"),
    ],
)
def test_a_value_that_cannot_be_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(Rejected, match=f"NIGHTSHIFT_{name.upper()}"):
        RunSettings.load(environ_of(RUN | {name: value}))


def test_a_refusal_never_shows_a_value() -> None:
    with pytest.raises(Rejected) as refusal:
        RunSettings.load(environ_of(RUN | {"model_api_key": "sk-secret", "deadline": "sk-secret"}))
    assert "sk-secret" not in refusal.value.message


def test_a_key_is_not_shown_and_what_surrounds_it_is_not_part_of_it() -> None:
    loaded = RunSettings.load(environ_of(RUN | {"model_api_key": "sk-secret\n"}))
    assert "sk-secret" not in repr(loaded)
    assert loaded.model_api_key is not None
    assert loaded.model_api_key.get_secret_value() == "sk-secret"


@pytest.mark.parametrize("key", ["sk-secret\nX-Other: 1", "sk-secret\r\n\r\nGET /", "sk-\x00secret", "sk\tsecret"])
def test_a_key_over_several_lines_is_refused_and_not_shown(key: str) -> None:
    with pytest.raises(Rejected, match="NIGHTSHIFT_MODEL_API_KEY") as refusal:
        RunSettings.load(environ_of(RUN | {"model_api_key": key}))
    assert "secret" not in refusal.value.message


def test_words_are_read_as_what_they_name() -> None:
    assert SealSettings.load(environ_of(SEAL)).reason is Sealing.EXPIRED
    assert RunSettings.load(environ_of(RUN | {"error_line_format": "openai"})).error_line_format is ErrorForm.OPENAI
    assert RunSettings.load(environ_of(RUN)).error_line_format is ErrorForm.SEED
