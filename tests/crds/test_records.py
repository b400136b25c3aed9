"""The bytes that a running batch leaves behind, and back."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightshift_crds.lifecycle import Sealing
from nightshift_crds.lines import Usage
from nightshift_crds.models import Counts
from nightshift_crds.names import ResultKind
from nightshift_crds.records import (
    BatchManifest,
    Claimant,
    Header,
    Ledger,
    Progress,
    RecordKind,
    SealedFile,
    State,
    counts_of,
    decode_header,
    decode_manifest,
    decode_progress,
    encode_manifest,
    encode_progress,
    encode_record,
    sum_states,
    usage_of,
)

counts = st.integers(0, 2**62)
usages = st.builds(
    Usage,
    input_tokens=counts,
    cached_tokens=counts,
    output_tokens=counts,
    reasoning_tokens=counts,
    total_tokens=counts,
)
states = st.builds(
    State,
    completed=counts,
    failed=counts,
    usage=usages,
    output_bytes=counts,
    error_bytes=counts,
    done=st.binary(max_size=40),
)
headers = st.builds(
    Header,
    kind=st.sampled_from(RecordKind),
    writer=st.text(max_size=40),
    by=st.none() | st.builds(Claimant, attempt=counts, index=counts),
    state=states,
    output_length=counts,
    error_length=counts,
)
item_sets = st.integers(1, 300).flatmap(lambda n: st.tuples(st.just(n), st.sets(st.integers(0, n - 1))))


def a_ledger(items: int, done: set[int]) -> Ledger:
    ledger = Ledger(items)
    ledger.add(done)
    return ledger


def items_of(ledger: Ledger, items: int) -> set[int]:
    return {item for item in range(items) if item in ledger}


# --- ledger -----------------------------------------------------------------------------------------------------------


@given(item_sets)
def test_a_ledger_holds_what_was_added_and_nothing_else(case: tuple[int, set[int]]) -> None:
    items, done = case
    ledger = a_ledger(items, done)
    assert items_of(ledger, items) == done
    assert items_of(Ledger.unpack(ledger.pack(), items), items) == done


@given(item_sets, st.data())
def test_a_merged_ledger_holds_what_either_had(case: tuple[int, set[int]], data: st.DataObject) -> None:
    items, done = case
    other = data.draw(st.sets(st.integers(0, items - 1)))
    ledger = a_ledger(items, done)
    ledger.merge(a_ledger(items, other))
    assert items_of(ledger, items) == done | other


def test_no_bytes_are_the_ledger_of_a_slice_that_has_not_begun() -> None:
    assert items_of(Ledger.unpack(b"", 9), 9) == set()


def test_what_is_added_to_a_ledger_that_was_read_stays_its_own() -> None:
    packed = a_ledger(9, {1}).pack()
    first, second = Ledger.unpack(packed, 9), Ledger.unpack(packed, 9)
    first.add([8])
    assert items_of(second, 9) == {1}


@pytest.mark.parametrize(("written", "read"), [(9, 8), (8, 9), (100, 0), (1, 50_000)])
def test_a_ledger_over_another_input_is_refused(written: int, read: int) -> None:
    with pytest.raises(ValueError, match="not one over"):
        Ledger.unpack(Ledger(written).pack(), read)


def test_the_ledger_of_the_largest_input_is_small() -> None:
    assert len(a_ledger(50_000, set(range(30_000))).pack()) < 200
    assert len(a_ledger(50_000, set(range(0, 50_000, 3))).pack()) < 6_250


# --- records, progress, manifest --------------------------------------------------------------------------------------


@given(headers, st.lists(st.sampled_from([b'{"a":1}\n', b"{}\n"])))
def test_a_record_is_a_header_line_and_its_lines(header: Header, lines: list[bytes]) -> None:
    first, newline, rest = encode_record(header, lines).partition(b"\n")
    assert (decode_header(first), newline, rest) == (header, b"\n", b"".join(lines))


def test_a_header_of_a_version_whose_pods_shared_no_slices_names_no_pod() -> None:
    line = b'{"kind":"claim","writer":"w","state":{"completed":3},"output_length":0,"error_length":0}'
    assert decode_header(line) == Header(kind=RecordKind.CLAIM, writer="w", by=None, state=State(completed=3))


@pytest.mark.parametrize("line", [b"", b"{}", b"[]", b'{"kind":"later","writer":"w","state":{}}', b'{"kind":"part"}'])
def test_a_line_that_is_no_header_is_refused(line: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode_header(line)


@given(counts, states, st.floats(0, 1e9))
def test_progress_says_all_but_which_items_are_done(seq: int, state: State, rate: float) -> None:
    slim = msgspec.structs.replace(state, done=b"")
    assert decode_progress(encode_progress(Progress(seq=seq, state=state, rate=rate))) == Progress(
        seq=seq, state=slim, rate=rate
    )


def a_manifest(*kinds: ResultKind) -> BatchManifest:
    files = {kind: SealedFile(file_id=f"file_{kind}", bytes=7, crc32c=8, lines=1) for kind in kinds}
    return BatchManifest(reason=Sealing.EXPIRED, completed=1, failed=2, usage=Usage(input_tokens=3), files=files)


@pytest.mark.parametrize("kinds", [(), (ResultKind.OUTPUT,), (ResultKind.OUTPUT, ResultKind.ERROR)])
def test_a_manifest_is_read_as_it_was_written(kinds: tuple[ResultKind, ...]) -> None:
    assert decode_manifest(encode_manifest(a_manifest(*kinds))) == a_manifest(*kinds)


def test_equal_manifests_are_equal_bytes() -> None:
    one = a_manifest(ResultKind.OUTPUT, ResultKind.ERROR)
    assert encode_manifest(one) == encode_manifest(a_manifest(ResultKind.ERROR, ResultKind.OUTPUT))


# --- sums -------------------------------------------------------------------------------------------------------------


@given(st.lists(st.builds(State, completed=st.integers(0, 99), failed=st.integers(0, 99), usage=usages)))
def test_slices_add_up_field_by_field(parts: list[State]) -> None:
    total = sum_states(parts)
    assert total.completed == sum(part.completed for part in parts)
    assert total.failed == sum(part.failed for part in parts)
    assert total.usage == sum((part.usage for part in parts), Usage())


def test_sizes_add_up_too_and_ledgers_are_left_out() -> None:
    part = State(output_bytes=2, error_bytes=3, done=b"x")
    assert sum_states([part, part]) == State(output_bytes=4, error_bytes=6)


def test_counts_and_usage_are_shown_as_a_status_has_them() -> None:
    usage = Usage(input_tokens=1, cached_tokens=2, output_tokens=3, reasoning_tokens=4, total_tokens=5)
    assert counts_of(State(completed=1, failed=2), 9) == Counts(total=9, completed=1, failed=2)
    assert counts_of(a_manifest(), 9) == Counts(total=9, completed=1, failed=2)
    shown = usage_of(usage)
    assert [shown.input_tokens, shown.cached_tokens, shown.output_tokens] == [1, 2, 3]
    assert [shown.reasoning_tokens, shown.total_tokens] == [4, 5]
