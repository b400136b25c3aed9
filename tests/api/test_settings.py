"""What the API is told at start, and what it refuses to be told."""

from pathlib import Path

import pytest

from nightshift_api.settings import MIB, Settings
from nightshift_crds.errors import Rejected
from nightshift_crds.lines import CHAT, EMBEDDINGS

NEEDED = {
    "NIGHTSHIFT_CLUSTER": "sqlite:///c",
    "NIGHTSHIFT_BUCKET": "file:///b",
    "NIGHTSHIFT_API_KEYS_FILE": "/keys.json",
}


def test_what_it_must_be_told_is_named_all_at_once() -> None:
    with pytest.raises(Rejected) as refusal:
        Settings.load({})
    assert all(name in refusal.value.message for name in NEEDED)


def test_its_defaults_are_those_of_the_contract() -> None:
    settings = Settings.load(NEEDED)
    assert settings.api_keys_file == Path("/keys.json")
    assert settings.endpoints == (CHAT, EMBEDDINGS)
    assert (settings.max_file_bytes, settings.max_lines) == (100 * MIB, 50_000)
    assert (settings.max_upload_part_bytes, settings.max_upload_parts, settings.upload_life_s) == (64 * MIB, 1000, 3600)
    assert settings.max_creates_per_hour == 2_000
    assert settings.max_reads_per_s == 0
    assert (settings.completion_window_s, settings.default_expiry_s) == (86_400, 2_592_000)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("endpoints", f"{CHAT}", (CHAT,)),
        ("endpoints", f" {CHAT}, /v1/responses ,", (CHAT, "/v1/responses")),
        ("ready_leases", "system/operator,system/runner", ("system/operator", "system/runner")),
        ("ready_leases", "", ()),
        ("adopt_bucket", "true", True),
        ("service_account_tokens", "false", False),
        ("max_cached_reviews", "1", 1),
        ("max_reviews_per_s", "0", 0),
        ("max_creates_per_hour", "0", 0),
        ("max_uploads_per_hour", "5", 5),
        ("max_reads_per_s", "5", 5),
        ("max_concurrent_requests", "0", 0),
        ("max_concurrent_uploads", "0", 0),
        ("max_connections", "1", 1),
        ("max_header_bytes", "1024", 1024),
        ("max_headers", "1", 1),
        ("header_timeout_s", "0.5", 0.5),
        ("keep_alive_s", "620", 620),
        ("body_stall_s", "0.5", 0.5),
        ("min_bytes_per_s", "1", 1),
        ("send_stall_s", "0.5", 0.5),
        ("listen_fd", "3", 3),
        ("port", "0", 0),
    ],
)
def test_a_setting_is_read_from_its_variable(name: str, text: str, value: object) -> None:
    assert getattr(Settings.load(NEEDED | {f"NIGHTSHIFT_{name.upper()}": text}), name) == value


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("endpoints", ","),
        ("endpoints", "/openai/v1/chat/completions"),
        ("endpoints", "/v1/Chat"),
        ("endpoints", "/v1/" + "x" * 61),
        ("endpoints", ",".join(f"/v1/{n}" for n in range(17))),
        ("ready_leases", "operator"),
        ("ready_leases", "a/b/c"),
        ("ready_leases", "a/"),
        ("port", "65536"),
        ("port", "http"),
        ("max_file_bytes", "0"),
        ("max_lines", "0"),
        ("max_cached_reviews", "0"),
        ("max_reviews_per_s", "-1"),
        ("max_creates_per_hour", "-1"),
        ("max_uploads_per_hour", "-1"),
        ("max_reads_per_s", "-1"),
        ("max_concurrent_requests", "-1"),
        ("max_concurrent_uploads", "-1"),
        ("max_connections", "0"),
        ("max_header_bytes", "1023"),
        ("max_headers", "0"),
        ("header_timeout_s", "0"),
        ("keep_alive_s", "0"),
        ("body_stall_s", "0"),
        ("min_bytes_per_s", "0"),
        ("send_stall_s", "0"),
        ("default_expiry_s", "3599"),
        ("max_upload_part_bytes", "0"),
        ("max_upload_parts", "0"),
        ("max_upload_parts", "10001"),
        ("upload_life_s", "59"),
        ("shutdown_grace_s", "-1"),
        ("installation", "i" * 254),
    ],
)
def test_a_value_that_could_only_fail_later_is_refused_at_the_start(name: str, text: str) -> None:
    variable = f"NIGHTSHIFT_{name.upper()}"
    with pytest.raises(Rejected, match=variable):
        Settings.load(NEEDED | {variable: text})
