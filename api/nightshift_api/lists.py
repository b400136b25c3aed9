"""The lists of batches and files: an index of each, fed by list and watch, and never behind what a client was told.

The endpoints read and write through `Lists.cluster`, which notes what lists must show from then on. What bounds it: a
row for each object of the namespaces served, of about 1 KB for a file and 2 KB for a batch (60 KB at worst, with all
the metadata and errors that there may be); the sweep takes files after their life and batches after their retention.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial

import structlog

from nightshift_api.following import Follower, Listed
from nightshift_api.index import Index, Row
from nightshift_api.marks import MarksLease
from nightshift_api.rendering import created_at, has_content, render_batch, render_file
from nightshift_api.settings import Settings
from nightshift_crds.cluster.around import AroundCluster
from nightshift_crds.cluster.port import (
    BATCH_JOB,
    STORED_FILE,
    Cluster,
    Kind,
    Manifest,
    Propagation,
)
from nightshift_crds.errors import Refused, Unavailable
from nightshift_crds.models import BatchJob, StoredFile
from nightshift_crds.names import IdKind
from nightshift_crds.reading import parse_known
from nightshift_crds.several import errands

_log = structlog.get_logger()


def row_of_batch(window_s: int, manifest: Manifest) -> Row | None:
    """Give the row of a BatchJob, as its status has it."""
    batch = parse_known(BatchJob, manifest)
    if batch is None:
        return None
    shown = render_batch(batch, None, window_s)
    words = "\n".join((shown.x_details.name or "", shown.model or "", batch.id, batch.metadata.name)).casefold()
    json = shown.model_dump_json().encode()
    return Row(shown.created_at, batch.id, json, batch.metadata.name, shown.status, words=words)


def row_of_file(manifest: Manifest) -> Row | None:
    """Give the row of a StoredFile, if there is something to be read."""
    file = parse_known(StoredFile, manifest)
    if file is None or not has_content(file):
        return None
    shown = render_file(file, file.status.bytes).model_dump_json().encode()
    expires_at = file.status.expires_at.timestamp() if file.status.expires_at else None
    return Row(created_at(file), file.id, shown, file.metadata.name, file.spec.purpose, expires_at)


FILES = Listed(STORED_FILE, IdKind.FILE, row_of_file)


class Lists:
    """The indexes of an installation; see `following`."""

    def __init__(self, cluster: Cluster, settings: Settings) -> None:
        batches = Listed(BATCH_JOB, IdKind.BATCH, partial(row_of_batch, settings.completion_window_s))
        self.followers = {
            listed.kind: Follower(cluster, listed, settings.list_patience_s) for listed in (batches, FILES)
        }
        self.marks = MarksLease(cluster, settings.marks_lease)
        self.cluster: Cluster = MarkedCluster(cluster, self)
        self._read: dict[tuple[str, Kind], int] = {}

    def check_ready(self) -> None:
        """Raise `Unavailable` until every index has been filled once."""
        for follower in self.followers.values():
            follower.check_ready()

    async def index(self, kind: Kind, namespace: str) -> Index:
        """Give an index that shows all that any client of any replica was told before. Raises `Unavailable`."""
        follower = self.followers[kind]
        version = await self.marks.read(namespace, kind)
        await follower.reach(namespace, max(version, self._read.get((namespace, kind), 0)))
        return follower.index

    def note_read(self, kind: Kind, manifest: Manifest) -> None:
        """Note what a client is shown of one object: a list that this process answers later is not older."""
        if kind in self.followers:
            key, version = (manifest["metadata"]["namespace"], kind), _version_of(manifest)
            self._read[key] = max(version, self._read.get(key, 0))

    async def note_written(self, kind: Kind, manifest: Manifest) -> None:
        """Note a write before its client is told."""
        if kind in self.followers:
            with _not_failing(kind):
                await self.marks.raise_to(manifest["metadata"]["namespace"], kind, _version_of(manifest))

    async def note_deleted(self, kind: Kind, namespace: str, end: asyncio.Future[int]) -> None:
        """Note a deletion before its client is told. Its answer has no version, but our own watch tells of it."""
        with _not_failing(kind):
            await self.marks.raise_to(namespace, kind, await self.followers[kind].reach_end(end))


@contextmanager
def _not_failing(kind: Kind) -> Iterator[None]:
    """Go on although a write could not be noted: it is done, and must not be answered as if it were not."""
    try:
        yield
    except (Refused, Unavailable) as error:
        _log.error("write.not_noted", kind=kind.kind, problem=str(error))


def _version_of(manifest: Manifest) -> int:
    return int(manifest["metadata"]["resourceVersion"])


class MarkedCluster(AroundCluster):
    """The `Cluster` port over another one, for those who list what they have read and written."""

    def __init__(self, inner: Cluster, lists: Lists) -> None:
        super().__init__(inner)
        self._lists = lists

    async def get(self, kind: Kind, namespace: str, name: str) -> Manifest:
        """See the port."""
        found = await super().get(kind, namespace, name)
        self._lists.note_read(kind, found)
        return found

    async def create(self, kind: Kind, manifest: Manifest) -> Manifest:
        """See the port."""
        return await self._noted(kind, await super().create(kind, manifest))

    async def patch(self, kind: Kind, namespace: str, name: str, patch: Manifest) -> Manifest:
        """See the port."""
        return await self._noted(kind, await super().patch(kind, namespace, name, patch))

    async def patch_status(self, kind: Kind, namespace: str, name: str, patch: Manifest) -> Manifest:
        """See the port."""
        return await self._noted(kind, await super().patch_status(kind, namespace, name, patch))

    async def _noted(self, kind: Kind, written: Manifest) -> Manifest:
        await self._lists.note_written(kind, written)
        return written

    async def delete(  # noqa: PLR0913 - the port's signature
        self,
        kind: Kind,
        namespace: str,
        name: str,
        *,
        propagation: Propagation,
        uid: str = "",
        grace_s: int | None = None,
    ) -> None:
        """See the port."""
        follower = self._lists.followers.get(kind)
        if follower is None:
            await super().delete(kind, namespace, name, propagation=propagation, uid=uid, grace_s=grace_s)
            return
        with follower.awaiting_end(namespace, follower.listed.id_of(name, uid)) as end:
            await super().delete(kind, namespace, name, propagation=propagation, uid=uid, grace_s=grace_s)
            await self._lists.note_deleted(kind, namespace, end)


@asynccontextmanager
async def following(cluster: Cluster, settings: Settings) -> AsyncIterator[Lists]:
    """Keep the lists of a cluster for as long as the context lasts; a bug in that ends the context."""
    lists = Lists(cluster, settings)
    async with errands() as start:
        for follower in lists.followers.values():
            start(follower.run())
        yield lists
