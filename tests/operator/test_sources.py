"""Where an input by URI may lie: nothing outside the prefixes of its own namespace, however it is spelt (design 8)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightshift_operator.sources import key_of_uri

BUCKET = "gs://bucket"
PREFIXES = ("team-a=shared/a", "team-a=imports/", "team-b=shared/b")


def key_of(uri: str, namespace: str = "team-a", prefixes: tuple[str, ...] = PREFIXES) -> str | None:
    return key_of_uri(uri, BUCKET, namespace, prefixes)


@pytest.mark.parametrize("key", ["shared/a/in.jsonl", "shared/a/2026/11/in.jsonl", "imports/in.jsonl", "shared/a/ä b"])
def test_an_object_below_a_prefix_of_the_namespace_may_be_read(key: str) -> None:
    assert key_of(f"{BUCKET}/{key}") == key


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "gs://bucket",
        "gs://bucket/",
        "gs://other/shared/a/in.jsonl",
        "gs://bucket2/shared/a/in.jsonl",
        "GS://bucket/shared/a/in.jsonl",
        "s3://bucket/shared/a/in.jsonl",
        "file:///etc/passwd",
        "/etc/passwd",
        "shared/a/in.jsonl",
        "gs://bucket/shared/in.jsonl",
        "gs://bucket/shared/a",
        "gs://bucket/shared/a/",
        "gs://bucket/shared/ab/in.jsonl",
        "gs://bucket/shared/b/in.jsonl",
        "gs://bucket//shared/a/in.jsonl",
        "gs://bucket/shared//a/in.jsonl",
        "gs://bucket/shared/a/../b/in.jsonl",
        "gs://bucket/shared/a/./in.jsonl",
        "gs://bucket/shared/a/..",
        "gs://bucket/shared/a/%2e%2e/b/in.jsonl",
        "gs://bucket/shared/a/in.jsonl?generation=1",
        "gs://bucket/shared/a/in.jsonl#part",
        "gs://bucket/shared/a\\..\\b",
        "gs://bucket/shared/a/$(NIGHTSHIFT_BATCH_UID)",
        "gs://bucket/shared/a/in\n.jsonl",
        "gs://bucket/shared/a/in\x00.jsonl",
    ],
)
def test_a_uri_that_leads_or_could_be_read_to_lead_elsewhere_is_refused(uri: str) -> None:
    assert key_of(uri) is None


@pytest.mark.parametrize("prefix", ["team-a=openai", "team-a=openai/files", "team-a=openai/"])
def test_no_setting_opens_what_belongs_to_the_installation(prefix: str) -> None:
    assert key_of(f"{BUCKET}/openai/files/file_1.jsonl", prefixes=(prefix,)) is None


@pytest.mark.parametrize("prefix", ["team-a=", "team-a=/", "team-a", "=shared/a", "team-b=shared/a", ""])
def test_an_empty_or_foreign_prefix_opens_nothing(prefix: str) -> None:
    assert key_of(f"{BUCKET}/shared/a/in.jsonl", prefixes=(prefix,)) is None


def test_a_namespace_without_prefixes_reads_nothing_by_uri() -> None:
    assert key_of(f"{BUCKET}/shared/a/in.jsonl", prefixes=()) is None


@given(st.lists(st.sampled_from(["shared", "a", "b", "imports", "..", ".", "", "openai", "%2e", "\\"]), max_size=6))
def test_whatever_is_given_lies_below_a_prefix_and_has_one_reading(parts: list[str]) -> None:
    key = key_of(f"{BUCKET}/" + "/".join(parts))
    assert key is None or (key.startswith(("shared/a/", "imports/")) and not {"", ".", ".."} & set(key.split("/")))
