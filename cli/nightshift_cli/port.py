"""What commands ask of whoever keeps the batches: the port, and what goes in and comes out.

Its adapters are `over_http` (the API, by the OpenAI SDK) and `over_kubernetes` (the resources, no API). What an adapter
cannot do it says by `Rejected`, with what to do instead. `Unavailable` may come from every call, `NotFound` from each
that names something, and `Rejected` with the status 401 or 403 where the caller is not let in.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from nightshift_cli.views import BatchView, Document, ModelView


@dataclass(frozen=True)
class Wanted:
    """Which batches a list is about.

    Attributes:
        statuses: any of these; every status if there is none.
        limit: how many at most; None is all.
        after: the batch that the list goes on behind.
    """

    statuses: frozenset[str] = frozenset()
    limit: int | None = None
    after: str | None = None


@dataclass(frozen=True)
class Page:
    """Batches, newest first; `has_more` tells whether others come behind them."""

    batches: tuple[BatchView, ...]
    has_more: bool


@dataclass(frozen=True)
class NewBatch:
    """A batch to create, of an uploaded file or of an object in the installation's bucket: one of the two."""

    endpoint: str
    file_id: str | None = None
    uri: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Content:
    """What can be read of a file now.

    Attributes:
        start: where in the file `chunks` begin: where it was asked for, or 0 if that is not possible.
        size: of the whole file, in bytes.
        etag: names these bytes; None while a batch still writes to the file.
        is_growing: whether more will come.
    """

    chunks: Iterator[bytes]
    start: int
    size: int
    etag: str | None
    is_growing: bool


class Service(Protocol):
    """Whoever keeps the batches. A batch is named by its id, on Kubernetes also by the name of its BatchJob."""

    has_bytes: bool
    """Whether files can be sent and fetched here."""

    def list(self, wanted: Wanted) -> Page:
        """List batches, newest first."""
        ...

    def get(self, ref: str) -> BatchView:
        """Show a batch as it is now."""
        ...

    def create(self, new: NewBatch) -> BatchView:
        """Create a batch."""
        ...

    def cancel(self, ref: str) -> BatchView:
        """Ask for a cancel; once more changes nothing. Raises `Conflict` if the batch has ended otherwise."""
        ...

    def suspend(self, ref: str) -> BatchView:
        """Let nothing of a batch run until it is resumed. Raises `Conflict` if it has ended or is being cancelled."""
        ...

    def resume(self, ref: str) -> BatchView:
        """Let a batch run again. Raises `Conflict` if it has ended or is being cancelled."""
        ...

    def rerun(self, ref: str, metadata: Mapping[str, str]) -> BatchView:
        """Create a batch of the rows of another that have no success; without `metadata` it has that of the other."""
        ...

    def models(self) -> Sequence[ModelView]:
        """List the models that batches may name."""
        ...

    def upload(self, path: Path, show: Callable[[int], None]) -> str:
        """Upload an input; gives its id. `show` is told how many bytes have been read."""
        ...

    def open_content(self, file_id: str, start: int = 0, etag: str | None = None) -> AbstractContextManager[Content]:
        """Open what can be read of a file, from a byte on if it still is what `etag` names."""
        ...

    def wrap(self, documents: Sequence[Document]) -> Document:
        """Put several documents into one, as the server would."""
        ...
