"""The index that lists are cut from: pages put together are the whole list, whatever comes and goes meanwhile."""

from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from nightshift_api.index import Index, Position, Query, Row
from nightshift_crds.names import IdKind
from tests.api.given import an_id
from tests.builders import T0

HERE, THERE = "team-a", "team-b"


def a_row(second: int, n: int = 0, group: str = "", shown: bytes = b"{}", expires_at: float | None = None) -> Row:
    id_ = an_id(IdKind.FILE, T0 + timedelta(seconds=second), n)
    return Row(second, id_, shown, "name", group, expires_at)


rows_ = st.builds(a_row, st.integers(0, 3), st.integers(0, 5), st.sampled_from("ab"))


def read_page(index: Index, limit: int, after: Position | None, *, descending: bool) -> tuple[list[Position], bool]:
    rows, has_more = index.page(HERE, Query(limit, 0, after, is_descending=descending))
    assert len(rows) == limit or not has_more
    return [row.position for row in rows], has_more


def read_all(index: Index, limit: int, *, descending: bool) -> list[Position]:
    read: list[Position] = []
    has_more = True
    while has_more:
        page, has_more = read_page(index, limit, read[-1] if read else None, descending=descending)
        read += page
    return read


@given(st.lists(rows_), st.integers(1, 5), st.booleans())
def test_pages_put_together_are_the_whole_list_in_order(rows: list[Row], limit: int, descending: bool) -> None:
    index = Index()
    for row in rows:
        index.put(HERE, row)
        index.put(THERE, a_row(9))
    assert read_all(index, limit, descending=descending) == sorted({r.position for r in rows}, reverse=descending)


class Reading(RuleBasedStateMachine):
    """A reader of pages, while rows come, change and go: what was there all the time is read exactly once, in order."""

    @initialize(rows=st.lists(rows_, min_size=1), limit=st.integers(1, 4), descending=st.booleans())
    def begin(self, rows: list[Row], limit: int, descending: bool) -> None:
        self.index, self.limit, self.descending = Index(), limit, descending
        for row in rows:
            self.index.put(HERE, row)
        self.there_all_the_time = {row.position for row in rows}
        self.read: list[Position] = []
        self.has_more = True

    @rule(row=rows_)
    def put(self, row: Row) -> None:
        self.index.put(HERE, row)

    @rule(row=rows_)
    def drop(self, row: Row) -> None:
        self.index.drop(HERE, row.id)
        self.there_all_the_time.discard(row.position)

    @rule(rows=st.lists(rows_))
    def retain(self, rows: list[Row]) -> None:
        self.index.retain({(HERE, row.id) for row in rows})
        self.there_all_the_time &= {row.position for row in rows}

    @precondition(lambda self: self.has_more)
    @rule()
    def turn_the_page(self) -> None:
        after = self.read[-1] if self.read else None
        page, self.has_more = read_page(self.index, self.limit, after, descending=self.descending)
        self.read += page

    @invariant()
    def all_is_read_once_in_order(self) -> None:
        assert self.read == sorted(set(self.read), reverse=self.descending)
        assert self.has_more or self.there_all_the_time <= set(self.read)


TestReading = Reading.TestCase
TestReading.settings = settings(max_examples=50)


def test_a_row_is_what_was_put_last() -> None:
    index = Index()
    index.put(HERE, a_row(1, shown=b"old"))
    index.put(HERE, a_row(1, shown=b"new", group="other"))
    (row,), _ = index.page(HERE, Query(10, 0))
    assert (row.shown, index.find(HERE, row.id), len(index)) == (b"new", row, 1)


def test_a_namespace_sees_its_own_rows_only() -> None:
    index = Index()
    index.put(THERE, a_row(1))
    assert index.page(HERE, Query(10, 0)) == ([], False)
    assert index.find(HERE, a_row(1).id) is None
    index.drop(HERE, a_row(1).id)
    assert len(index) == 1


@pytest.mark.parametrize(("group", "seconds"), [(None, [3, 2, 1]), ("a", [3, 1]), ("b", [2]), ("c", [])])
def test_a_list_can_be_narrowed_to_a_group(group: str | None, seconds: list[int]) -> None:
    index = Index()
    for second, of in enumerate("aba", 1):
        index.put(HERE, a_row(second, group=of))
    rows, _ = index.page(HERE, Query(10, 0, groups=frozenset({group}) if group else None))
    assert [row.at for row in rows] == seconds


def test_what_has_expired_is_no_part_of_a_page() -> None:
    index = Index()
    for second in range(4):
        index.put(HERE, a_row(second, expires_at=10.0 + second))
    rows, has_more = index.page(HERE, Query(2, 11.0))
    assert ([row.at for row in rows], has_more) == ([3, 2], False)
