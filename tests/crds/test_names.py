"""Names as functions of identity: they can be read back, they never collide, and they sort as they should."""

import re
from itertools import pairwise
from uuid import RFC_4122, UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightshift_crds import names
from nightshift_crds.bucket.port import check_key
from nightshift_crds.names import IdKind, ResultKind, Step
from tests.builders import BATCH_UID, FILE_UUID

MILLISECONDS = st.integers(min_value=0, max_value=2**48 - 1)
RANDOMNESS = st.binary(min_size=10, max_size=32)
UUIDS = st.uuids()
KINDS = st.sampled_from(IdKind)
ARABIC_ZERO = "\u0660"
KUBERNETES_NAME = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")


# --- ids --------------------------------------------------------------------------------------------------------------


@given(MILLISECONDS, RANDOMNESS)
def test_a_uuid7_is_one_by_the_rfc_and_tells_its_time(now_ms: int, randomness: bytes) -> None:
    value = names.make_uuid7(now_ms, randomness)
    assert (value.version, value.variant) == (7, RFC_4122)
    assert names.uuid7_ms(value) == now_ms


@given(MILLISECONDS, MILLISECONDS, RANDOMNESS, RANDOMNESS)
def test_ids_sort_by_their_time_as_text(one: int, two: int, random_one: bytes, random_two: bytes) -> None:
    ids = [names.make_id(IdKind.FILE, names.make_uuid7(ms, r)) for ms, r in ((one, random_one), (two, random_two))]
    assert one == two or (ids[0] < ids[1]) is (one < two)


@given(RANDOMNESS, RANDOMNESS)
def test_a_uuid7_keeps_74_random_bits(one: bytes, two: bytes) -> None:
    def free(randomness: bytes) -> int:
        return int.from_bytes(randomness[:10], "big") & ~(0xF << 76) & ~(0x3 << 62)

    assert (names.make_uuid7(0, one) == names.make_uuid7(0, two)) is (free(one) == free(two))


@given(st.uuids(version=4))
def test_a_uuid_of_another_version_tells_no_time(value: UUID) -> None:
    assert names.uuid7_ms(value) is None


@given(KINDS, UUIDS)
def test_an_id_is_read_back_and_only_as_what_it_is(kind: IdKind, value: UUID) -> None:
    text = names.make_id(kind, value)
    assert names.parse_id(kind, text) == value
    assert [other for other in IdKind if names.parse_id(other, text)] == [kind]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "file",
        "file_",
        f"file-{FILE_UUID}",
        f"batch_{FILE_UUID}",
        f"FILE_{FILE_UUID}",
        f"file_{str(FILE_UUID).upper()}",
        f"file_{FILE_UUID.hex}",
        f"file_{{{FILE_UUID}}}",
        f"file_{FILE_UUID} ",
        f"file_{FILE_UUID}\n",
        f"file_file_{FILE_UUID}",
        f"file_{ARABIC_ZERO * 8}-0000-0000-0000-000000000000",
        "file_../../etc/passwd",
    ],
)
def test_what_is_not_spelt_as_we_spell_it_is_no_id(text: str) -> None:
    assert names.parse_id(IdKind.FILE, text) is None


@given(st.text())
def test_any_text_is_an_id_or_none(text: str) -> None:
    value = names.parse_id(IdKind.BATCH, text)
    assert value is None or names.make_id(IdKind.BATCH, value) == text


@given(KINDS, UUIDS, UUIDS)
def test_a_resource_of_ours_is_shown_by_its_name_and_a_hand_made_one_by_its_uid(
    kind: IdKind, value: UUID, uid: UUID
) -> None:
    name = names.resource_name(kind, value)
    assert KUBERNETES_NAME.fullmatch(name)
    assert names.id_of(kind, name, str(uid)) == names.make_id(kind, value)
    for by_hand in ("nightly", "batch-of-monday", f"{name}-2", str(value)):
        assert names.id_of(kind, by_hand, str(uid)) == names.make_id(kind, uid)


# --- what a batch makes -----------------------------------------------------------------------------------------------


@given(MILLISECONDS, UUIDS)
def test_the_result_files_of_a_batch_have_ids_of_their_own_and_always_the_same(created_ms: int, uid: UUID) -> None:
    ids = {kind: names.result_file_uuid(created_ms, str(uid), kind) for kind in ResultKind}
    assert ids == {kind: names.result_file_uuid(created_ms, str(uid), kind) for kind in ResultKind}
    assert ids[ResultKind.OUTPUT] != ids[ResultKind.ERROR]
    assert {names.uuid7_ms(value) for value in ids.values()} == {created_ms}


@given(UUIDS, UUIDS)
def test_result_files_of_two_batches_never_meet(one: UUID, two: UUID) -> None:
    ids = {names.result_file_uuid(0, str(uid), kind) for uid in {one, two} for kind in ResultKind}
    assert len(ids) == 2 * len({one, two})


@given(UUIDS, st.integers(min_value=0, max_value=10_000))
def test_every_try_of_a_step_has_a_job_name_that_fits_a_label_and_is_found_by_grep(uid: UUID, attempt: int) -> None:
    made = {names.job_name(str(uid), step, n) for step in Step for n in (attempt, attempt + 1)}
    assert len(made) == 4  # two runs; the other steps have one Job each
    assert all(KUBERNETES_NAME.fullmatch(name) and len(name) <= 52 and "batch-processor" in name for name in made)


def test_jobs_of_two_batches_have_different_names() -> None:
    others = [str(UUID(int=UUID(BATCH_UID).int ^ (1 << bit))) for bit in range(64, 128)]
    assert len({names.job_name(uid, Step.SEAL) for uid in [BATCH_UID, *others]}) == 65


@given(UUIDS, st.integers(min_value=0, max_value=2**32 - 2))
def test_a_line_has_an_id_of_its_own(uid: UUID, item: int) -> None:
    line_id = names.line_id(str(uid), item)
    assert line_id.startswith("batch_req_")
    assert line_id == names.line_id(str(uid), item)
    assert line_id != names.line_id(str(uid), item + 1)
    assert line_id != names.line_id(str(UUID(int=uid.int ^ (1 << 127))), item)


def test_a_result_file_is_called_after_its_batch() -> None:
    assert names.result_filename("batch_1", ResultKind.OUTPUT) == "batch_1_output.jsonl"
    assert names.result_filename("batch_1", ResultKind.ERROR) == "batch_1_error.jsonl"


# --- keys -------------------------------------------------------------------------------------------------------------


def test_a_file_lies_where_the_guide_says() -> None:
    assert names.file_key("file_123") == "openai/files/file_123.jsonl"


def test_the_order_of_keys_is_the_order_of_slices_and_records() -> None:
    records = [(slice_no, seq) for slice_no in (0, 1, 9, 10, 1023) for seq in (0, 1, 9, 10, 99_999_999)]
    keys = [names.record_key(BATCH_UID, *record) for record in records]
    claims = [names.progress_key(BATCH_UID, *record) for record in records]
    for made in (keys, claims):
        assert all(a < b for a, b in pairwise(made))


def test_what_a_batch_writes_lies_below_its_prefix_and_scratch_is_all_but_what_is_kept() -> None:
    prefix = names.batch_prefix(BATCH_UID)
    scratch = [
        names.record_key(BATCH_UID, 3, 4),
        names.progress_key(BATCH_UID, 3, 4),
        names.reused_key(BATCH_UID),
    ]
    kept = [names.manifest_key(BATCH_UID), names.verdict_key(BATCH_UID), names.rest_key(BATCH_UID)]
    assert all(key.startswith(prefix) for key in scratch + kept)
    assert [key for key in scratch + kept if key.startswith(names.scratch_prefixes(BATCH_UID))] == scratch
    assert scratch[0].startswith(names.log_prefix(BATCH_UID, 3))
    assert scratch[1].startswith(names.progress_prefix(BATCH_UID))


def test_no_batch_lies_below_another_and_no_slice_in_the_log_of_another() -> None:
    assert not names.batch_prefix(f"{BATCH_UID}0").startswith(names.batch_prefix(BATCH_UID))
    assert not names.record_key(BATCH_UID, 12, 0).startswith(names.log_prefix(BATCH_UID, 1))


@given(st.text(max_size=300), st.text(max_size=300))
def test_an_idempotency_key_makes_a_key_of_its_own_whatever_it_holds(one: str, other: str) -> None:
    keys = [names.idempotency_key("team-a", one), names.idempotency_key("team-a", other)]
    assert (keys[0] == keys[1]) is (one == other)
    assert all(check_key(key) == key and len(key) < 200 for key in keys)
    assert names.idempotency_key("team-b", one) not in keys


def test_an_upload_lies_below_its_namespace_and_its_parts_apart_from_the_rest() -> None:
    upload_id = names.make_id(IdKind.UPLOAD, FILE_UUID)
    prefix = names.parts_prefix("team-a", upload_id)
    others = [names.session_key("team-a", upload_id), names.outcome_key("team-a", upload_id)]
    assert all(key.startswith(f"openai/uploads/team-a/{upload_id}/") for key in [prefix, *others])
    assert not any(key.startswith(prefix) for key in others)
