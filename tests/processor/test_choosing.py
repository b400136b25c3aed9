"""Which slice a pod takes next."""

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightshift_crds.records import Claimant, Header, RecordKind, State
from nightshift_processor.choosing import Standing, choose, judge, slice_of

CLAIM, PART, END, CLOSE = RecordKind.CLAIM, RecordKind.PART, RecordKind.END, RecordKind.CLOSE
ME = Claimant(attempt=2, index=1)


def a_header(kind: RecordKind, by: Claimant | None) -> Header:
    return Header(kind=kind, writer="w", by=by, state=State())


@pytest.mark.parametrize(
    ("kind", "by", "standing"),
    [
        (CLAIM, ME, Standing.OWN),
        (PART, ME, Standing.OWN),
        (PART, Claimant(2, 0), Standing.SETTLED),
        (PART, Claimant(1, 1), Standing.FREE),
        (CLAIM, Claimant(1, 0), Standing.FREE),
        (PART, None, Standing.FREE),
        (PART, Claimant(3, 1), Standing.LOST),
        (END, None, Standing.SETTLED),
        (END, ME, Standing.SETTLED),
        (END, Claimant(3, 0), Standing.SETTLED),
        (CLOSE, None, Standing.LOST),
    ],
)
def test_a_log_is_judged_by_its_last_record(kind: RecordKind, by: Claimant | None, standing: Standing) -> None:
    assert judge(a_header(kind, by), ME) is standing


LASTS = {
    0: a_header(PART, Claimant(2, 0)),
    1: a_header(END, Claimant(2, 1)),
    2: a_header(PART, Claimant(1, 2)),
    4: a_header(CLAIM, ME),
}


def test_what_the_pod_before_has_left_comes_first_then_what_is_free_from_the_start_on() -> None:
    settled: set[int] = set()
    chosen = []
    while (slice_no := choose(LASTS, settled, 6, ME, 3)) is not None:
        chosen.append(slice_no)
        settled.add(slice_no)
    assert chosen == [4, 3, 5, 2]


def test_a_log_that_is_lost_is_chosen_before_all_else_for_it_tells_that_there_is_nothing_left() -> None:
    assert choose(LASTS | {5: a_header(CLOSE, None)}, set(), 6, ME, 0) == 5


headers = st.builds(
    a_header,
    st.sampled_from([CLAIM, PART, END]),
    st.none() | st.builds(Claimant, st.integers(1, 2), st.integers(0, 3)),
)


@given(st.integers(1, 30), st.data())
def test_a_choice_is_the_best_of_what_is_not_settled(slices: int, data: st.DataObject) -> None:
    lasts = data.draw(st.dictionaries(st.integers(0, slices - 1), headers))
    settled = data.draw(st.sets(st.integers(0, slices - 1)))
    start = data.draw(st.integers(0, slices))
    rank = {n: judge(lasts[n], ME) if n in lasts else Standing.FREE for n in range(slices) if n not in settled}
    chosen = choose(lasts, settled, slices, ME, start)
    if Standing.OWN in rank.values():
        assert chosen is not None
        assert rank[chosen] is Standing.OWN
    elif Standing.FREE in rank.values():
        free = [n for n, standing in rank.items() if standing is Standing.FREE]
        assert chosen == min(free, key=lambda n: (n - start) % slices)
    else:
        assert chosen is None


@given(st.integers(1, 40), st.integers(1, 6), st.randoms(use_true_random=False))
def test_pods_that_see_old_tails_claim_every_slice_once_whoever_is_first(
    slices: int, pods: int, luck: random.Random
) -> None:
    truth: dict[int, Header] = {}
    seen: list[dict[int, Header]] = [{} for _ in range(pods)]
    settled: list[set[int]] = [set() for _ in range(pods)]
    claims: Counter[int] = Counter()
    working = set(range(pods))
    while working:
        pod = luck.choice(sorted(working))
        me = Claimant(1, pod)
        slice_no = choose(seen[pod], settled[pod], slices, me, slices * pod // pods)
        if slice_no is None:
            working.remove(pod)
            continue
        settled[pod].add(slice_no)
        if slice_no in truth:  # another pod was first: look again
            seen[pod] = dict(truth)
        else:
            truth[slice_no] = a_header(CLAIM, me)
            claims[slice_no] += 1
    assert claims == dict.fromkeys(range(slices), 1)


@given(st.integers(0, 60_000), st.integers(1, 1_024))
def test_slices_are_equal_runs_that_make_up_the_input(items: int, slices: int) -> None:
    parts = [slice_of(items, slices, n) for n in range(slices)]
    assert [part.start for part in parts[1:]] == [part.stop for part in parts[:-1]]
    assert (parts[0].start, parts[-1].stop) == (0, items)
    lengths = [part.stop - part.start for part in parts]
    assert max(lengths) - min(lengths) <= 1
