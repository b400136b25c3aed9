"""What lists are cut from: a compact row for each object, in the order in which lists show them (contract 1.6).

Pure. A row holds the JSON that a list shows, so that a page is looked up and joined. The order is total: `created_at`
in seconds, then id; ids of our making sort by their millisecond.
"""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator
from dataclasses import dataclass, field
from heapq import merge
from itertools import islice
from operator import attrgetter

Position = tuple[int, str]


@dataclass(frozen=True, slots=True)
class Row:
    """An object as lists know it.

    Attributes:
        at: its `created_at`.
        shown: its JSON.
        name: the name of its resource.
        group: what lists can be narrowed to: the purpose of a file, the status of a batch.
        expires_at: Unix time from which on no list shows it.
        words: what a search looks in, in one case.
    """

    at: int
    id: str
    shown: bytes
    name: str
    group: str = ""
    expires_at: float | None = None
    words: str = ""

    @property
    def position(self) -> Position:
        """Where it stands in the order of lists."""
        return self.at, self.id


@dataclass(frozen=True)
class Query:
    """Which rows a page has; `after` is the position that it begins behind, `now` decides what has expired."""

    limit: int
    now: float
    after: Position | None = None
    groups: frozenset[str] | None = None
    is_descending: bool = True


@dataclass(frozen=True)
class Found:
    """What a search has found; `last_id` is the last row that it looked at, `has_more` whether more rows follow."""

    rows: list[Row]
    last_id: str | None
    has_more: bool


_position = attrgetter("position")


@dataclass
class _Shelf:
    """The rows of one namespace: by id, and in order, oldest first, by group."""

    by_id: dict[str, Row] = field(default_factory=dict)
    by_group: dict[str, list[Row]] = field(default_factory=dict)

    def put(self, row: Row) -> None:
        self.drop(row.id)
        self.by_id[row.id] = row
        insort(self.by_group.setdefault(row.group, []), row, key=_position)

    def drop(self, id_: str) -> None:
        row = self.by_id.pop(id_, None)
        if row is not None:
            rows = self.by_group[row.group]
            del rows[bisect_left(rows, row.position, key=_position)]

    def read(self, query: Query) -> Iterator[Row]:
        groups = [rows for group, rows in self.by_group.items() if query.groups is None or group in query.groups]
        return merge(*(_behind(rows, query) for rows in groups), key=_position, reverse=query.is_descending)


def _behind(rows: list[Row], query: Query) -> Iterator[Row]:
    if query.is_descending:
        first = len(rows) if query.after is None else bisect_left(rows, query.after, key=_position)
        return (rows[n] for n in range(first - 1, -1, -1))
    first = 0 if query.after is None else bisect_right(rows, query.after, key=_position)
    return (rows[n] for n in range(first, len(rows)))


class Index:
    """The rows of one kind. A page costs its own length and a few comparisons, however many rows there are."""

    def __init__(self) -> None:
        self._shelves: dict[str, _Shelf] = {}

    def __len__(self) -> int:
        return sum(len(shelf.by_id) for shelf in self._shelves.values())

    def put(self, namespace: str, row: Row) -> None:
        """Add a row, or the row of an object that has changed."""
        self._shelves.setdefault(namespace, _Shelf()).put(row)

    def drop(self, namespace: str, id_: str) -> None:
        """Forget an object, if it is known."""
        if shelf := self._shelves.get(namespace):
            shelf.drop(id_)

    def retain(self, kept: set[tuple[str, str]]) -> None:
        """Forget every object but those of which namespace and id are given."""
        for namespace, shelf in self._shelves.items():
            for id_ in [id_ for id_ in shelf.by_id if (namespace, id_) not in kept]:
                shelf.drop(id_)

    def find(self, namespace: str, id_: str) -> Row | None:
        """Look an object up by its id."""
        shelf = self._shelves.get(namespace)
        return shelf.by_id.get(id_) if shelf else None

    def page(self, namespace: str, query: Query) -> tuple[list[Row], bool]:
        """Give the rows of a page, and whether more would follow."""
        rows = self._shelves.get(namespace, _Shelf()).read(query)
        found = list(islice((row for row in rows if not _has_expired(row, query.now)), query.limit + 1))
        return found[: query.limit], len(found) > query.limit

    def search(self, namespace: str, query: Query, words: str, max_looked: int) -> Found:
        """Give the next rows that hold some words, of so many at most that are looked at."""
        found: list[Row] = []
        last_id: str | None = None
        for count, row in enumerate(self._shelves.get(namespace, _Shelf()).read(query)):
            if count == max_looked or len(found) == query.limit:
                return Found(found, last_id, has_more=True)
            last_id = row.id
            if words in row.words and not _has_expired(row, query.now):
                found.append(row)
        return Found(found, last_id, has_more=False)

    def totals(self, namespace: str) -> dict[str, int]:
        """Count the rows of each group."""
        shelf = self._shelves.get(namespace, _Shelf())
        return {group: len(rows) for group, rows in sorted(shelf.by_group.items()) if rows}


def _has_expired(row: Row, now: float) -> bool:
    return row.expires_at is not None and row.expires_at <= now
