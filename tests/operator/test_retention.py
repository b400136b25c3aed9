"""What may be removed for good, and when: at the moment and not before, and never what nobody can name."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightshift_crds import names
from nightshift_crds.bucket.port import ObjectInfo
from nightshift_crds.lifecycle import Phase
from nightshift_crds.names import IdKind
from nightshift_operator.retention import (
    is_expired,
    is_orphan,
    is_passed,
    is_retired,
    is_safe,
    is_unfinished,
    is_unsealed,
    owner_of,
    pick_orphans,
)
from tests.builders import BATCH_UID, FILE_ID, FILE_UUID, T0, a_batch, a_file, timestamp
from tests.operator.builders import a_status

HOUR = timedelta(hours=1)
TICK = timedelta(seconds=1)
FILE_NAME = names.resource_name(IdKind.FILE, FILE_UUID)
OF_A_BATCH = {"source": {"batchName": "batch", "batchUid": BATCH_UID, "kind": "output"}}


@pytest.mark.parametrize(("now", "is_over"), [(T0 - TICK, False), (T0, True), (T0 + HOUR, True)])
def test_a_file_expires_at_its_time(now: datetime, is_over: bool) -> None:
    assert is_expired(a_file(status={"phase": "Ready", "expiresAt": timestamp(T0)}), now) is is_over


def test_a_file_without_a_time_never_expires() -> None:
    assert not is_expired(a_file(status={"phase": "Writing"}), T0 + timedelta(days=9_999))


@pytest.mark.parametrize(
    ("status", "spec", "age", "is_left_over"),
    [
        ({}, {}, HOUR, True),
        ({}, {}, HOUR - TICK, False),
        ({"phase": "Ready"}, {}, HOUR, False),
        ({}, OF_A_BATCH, HOUR, False),
    ],
    ids=["old", "young", "finished", "a batch's own"],
)
def test_an_upload_without_a_status_is_left_over_after_a_while(
    status: dict[str, Any], spec: dict[str, Any], age: timedelta, is_left_over: bool
) -> None:
    assert is_unfinished(a_file(status=status, spec=spec), T0 + age, HOUR) is is_left_over


@pytest.mark.parametrize(
    ("status", "spec", "is_open"),
    [
        ({"phase": "Writing"}, OF_A_BATCH, True),
        ({}, OF_A_BATCH, True),
        ({"phase": "Ready"}, OF_A_BATCH, False),
        ({}, {}, False),
    ],
)
def test_a_result_is_unsealed_until_it_is_ready(status: dict[str, Any], spec: dict[str, Any], is_open: bool) -> None:
    assert is_unsealed(a_file(status=status, spec=spec)) is is_open


@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize("is_settled", [True, False])
def test_only_a_batch_that_ended_and_settled_is_retired(phase: Phase, is_settled: bool) -> None:
    batch = a_batch(status=a_status(phase, settled=is_settled))
    is_over = phase in {Phase.COMPLETED, Phase.FAILED, Phase.EXPIRED, Phase.CANCELLED}
    assert is_retired(batch, T0 + 24 * HOUR, HOUR) is (is_over and is_settled)


@pytest.mark.parametrize(("since_end", "is_over"), [(HOUR - TICK, False), (HOUR, True)])
def test_a_batch_is_kept_for_a_while_after_its_end(since_end: timedelta, is_over: bool) -> None:
    batch = a_batch(status=a_status(Phase.FAILED, settled=True))
    assert batch.status.failed_at is not None
    assert is_retired(batch, batch.status.failed_at + since_end, HOUR) is is_over


@pytest.mark.parametrize(
    ("key", "owner"),
    [
        (f"openai/files/{FILE_ID}.jsonl", FILE_NAME),
        (f"openai/batches/{BATCH_UID}/manifest.json", BATCH_UID),
        (f"openai/batches/{BATCH_UID}/log/0000/00000001", BATCH_UID),
        ("openai/.nightshift", None),
        ("openai/idempotency/team-a/abc", None),
        ("openai/uploads/upload_1/part_1", None),
        ("openai/files/readme.txt", None),
        (f"openai/files/{FILE_ID}", None),
        (f"openai/files/{FILE_ID.upper()}.jsonl", None),
        (f"openai/files/sub/{FILE_ID}.jsonl", None),
        ("openai/files/batch_0192f0c2-0000-7000-8000-000000000000.jsonl", None),
        ("shared/team-a/in.jsonl", None),
        (f"other/openai/files/{FILE_ID}.jsonl", None),
        ("", None),
    ],
)
def test_an_object_has_an_owner_only_where_the_installation_keeps_its_own(key: str, owner: str | None) -> None:
    assert owner_of(key) == owner


@given(st.text(max_size=40))
def test_no_object_outside_of_files_and_batches_has_an_owner(key: str) -> None:
    assert owner_of(key) is None or key.startswith(("openai/files/file_", "openai/batches/"))


@pytest.mark.parametrize(
    ("age", "owners", "key", "is_one"),
    [
        (HOUR, [], f"openai/files/{FILE_ID}.jsonl", True),
        (HOUR - TICK, [], f"openai/files/{FILE_ID}.jsonl", False),
        (HOUR, [FILE_NAME], f"openai/files/{FILE_ID}.jsonl", False),
        (HOUR, [], "openai/.nightshift", False),
        (HOUR, [BATCH_UID], f"openai/batches/{BATCH_UID}/manifest.json", False),
    ],
    ids=["nobody's", "young", "owned", "nothing that may be swept", "a batch's"],
)
def test_an_orphan_is_old_and_belongs_to_nothing(age: timedelta, owners: list[str], key: str, is_one: bool) -> None:
    assert is_orphan(ObjectInfo(key, 1, T0), owners, T0 + age, HOUR) is is_one


def test_an_orphan_is_picked_only_if_it_was_one_that_long_ago_already() -> None:
    found = {"old": T0, "new": T0 + TICK}
    assert pick_orphans(found, T0 + HOUR, HOUR) == ["old"]


@pytest.mark.parametrize(
    ("deletions", "objects", "is_allowed"),
    [(0, 0, True), (20, 20, True), (21, 21, False), (21, 420, True), (21, 419, False), (501, 10_000, False)],
)
def test_a_pass_may_delete_a_handful_or_a_small_share(deletions: int, objects: int, is_allowed: bool) -> None:
    assert is_safe(deletions, objects, 0.05) is is_allowed


@pytest.mark.parametrize(
    ("key", "age", "is_over"),
    [
        ("openai/notes/a", HOUR, True),
        ("openai/notes/a", HOUR - TICK, False),
        ("openai/marks/a", HOUR, False),
        ("openai/marks/a", 2 * HOUR, True),
        ("openai/files/a", 999 * HOUR, False),
        ("x/openai/notes/a", 999 * HOUR, False),
    ],
)
def test_what_lives_for_a_while_goes_by_the_life_of_its_kind(key: str, age: timedelta, is_over: bool) -> None:
    lives = {"openai/notes/": HOUR, "openai/marks/": 2 * HOUR}
    assert is_passed(ObjectInfo(key, 1, T0), lives, T0 + age) is is_over


def test_what_the_api_keeps_for_hours_belongs_to_no_resource() -> None:
    keys = [names.idempotency_key("team-a", "k"), names.session_key("team-a", "upload_1")]
    assert [owner_of(key) for key in keys] == [None, None]
