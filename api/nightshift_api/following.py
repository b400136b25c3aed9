"""Keep an index in step with the cluster: list once, then watch, and list again when the watch has lost the thread.

It says how far it has come, so that whoever has written, here or at another replica, can be waited for (`marks`).
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass

import structlog

from nightshift_api.index import Index, Row
from nightshift_api.news import News
from nightshift_crds import names
from nightshift_crds.cluster.port import EVERYTHING, Change, ChangeType, Cluster, Kind, Manifest
from nightshift_crds.errors import Missing, Refused, Stale, Unavailable
from nightshift_crds.names import IdKind

_AGAIN_S = 1.0
_log = structlog.get_logger()


@dataclass(frozen=True)
class Listed:
    """A kind that is listed. `row_of` gives the row of an object, or None if no list shows it."""

    kind: Kind
    id_kind: IdKind
    row_of: Callable[[Manifest], Row | None]

    def id_of(self, name: str, uid: str) -> str:
        """Write the API id of an object."""
        return names.id_of(self.id_kind, name, uid)


class Follower:
    """Follows all objects of a kind.

    Within one namespace changes come in the order of their versions, so the last one that has come says that all before
    it have; versions are compared as Kubernetes allows within one kind (its API concepts, "resource versions").
    """

    def __init__(self, cluster: Cluster, listed: Listed, patience_s: float) -> None:
        self.index = Index()
        self.listed = listed
        self._cluster = cluster
        self._kind = listed.kind
        self._patience_s = patience_s
        self._floor = -1
        self._told: dict[str, int] = {}
        self._ends: dict[tuple[str, str], asyncio.Future[int]] = {}
        self._moved = asyncio.Condition()
        self._listeners: set[News] = set()

    async def run(self) -> None:
        """Follow, until cancelled."""
        while True:
            try:
                since = await self._list()
                async with aclosing(self._cluster.watch(self._kind, EVERYTHING, since)) as changes:
                    async for change in changes:
                        await self._take(change)
            except (Missing, Refused, Stale, Unavailable) as error:
                _log.warning("index.restarted", kind=self._kind.kind, problem=str(error))
                await asyncio.sleep(_AGAIN_S)

    async def reach(self, namespace: str, version: int) -> None:
        """Wait until all changes of a namespace up to a version are in the index. Raises `Unavailable`."""
        try:
            async with asyncio.timeout(self._patience_s), self._moved:
                await self._moved.wait_for(lambda: self.version_of(namespace) >= version)
        except TimeoutError:
            raise self._behind() from None

    @contextmanager
    def listening(self, namespace: str) -> Iterator[News]:
        """Note what changes in a namespace, for as long as the context lasts."""
        news = News(namespace)
        self._listeners.add(news)
        try:
            yield news
        finally:
            self._listeners.discard(news)

    def version_of(self, namespace: str) -> int:
        """Tell how far a namespace has come; two equal answers mean that nothing has changed in between."""
        return max(self._floor, self._told.get(namespace, -1))

    def check_ready(self) -> None:
        """Raise `Unavailable` as long as not all objects have been read once."""
        if self._floor < 0:
            raise Unavailable(f"the {self._kind.plural} have not been read yet", delay_s=1)

    @contextmanager
    def awaiting_end(self, namespace: str, id_: str) -> Iterator[asyncio.Future[int]]:
        """Give a future of the version at which an object has gone that is about to be deleted."""
        end = self._ends.setdefault((namespace, id_), asyncio.get_running_loop().create_future())
        try:
            yield end
        finally:
            self._ends.pop((namespace, id_), None)

    async def reach_end(self, end: asyncio.Future[int]) -> int:
        """Wait for an end, and give its version. Raises `Unavailable`."""
        done, _ = await asyncio.wait([end], timeout=self._patience_s)
        if not done:
            raise self._behind()
        return end.result()

    def _behind(self) -> Unavailable:
        return Unavailable(f"the list of {self._kind.plural} is behind", delay_s=1)

    async def _list(self) -> str:
        """Read all objects; gives the version from which a watch misses nothing."""
        page = await self._cluster.list(self._kind)
        since = page.resource_version
        present: set[tuple[str, str]] = set()
        while True:
            present.update(filter(None, map(self._put, page.items)))
            if page.after is None:
                break
            page = await self._cluster.list(self._kind, after=page.after)
        self.index.retain(present)
        self._floor = int(since)
        self._told.clear()
        for namespace, id_ in self._ends.keys() - present:
            self._end(namespace, id_, self._floor)
        for news in self._listeners:
            news.forget()
        await self._tell()
        return since

    async def _take(self, change: Change) -> None:
        metadata = change.manifest["metadata"]
        namespace, version = metadata["namespace"], int(metadata["resourceVersion"])
        if change.type is ChangeType.DELETED:
            self._end(*self._drop(change.manifest), version)
        else:
            self._put(change.manifest)
        self._told[namespace] = version
        for news in self._listeners:
            news.note(namespace, self.listed.id_of(metadata["name"], metadata["uid"]))
        await self._tell()

    async def _tell(self) -> None:
        async with self._moved:
            self._moved.notify_all()

    def _put(self, manifest: Manifest) -> tuple[str, str] | None:
        """Take an object in; gives its namespace and id if a list shows it."""
        namespace: str = manifest["metadata"]["namespace"]
        row = self.listed.row_of(manifest)
        if row is None:
            self._drop(manifest)
            return None
        self.index.put(namespace, row)
        return namespace, row.id

    def _drop(self, manifest: Manifest) -> tuple[str, str]:
        metadata = manifest["metadata"]
        id_ = self.listed.id_of(metadata["name"], metadata["uid"])
        self.index.drop(metadata["namespace"], id_)
        return metadata["namespace"], id_

    def _end(self, namespace: str, id_: str, version: int) -> None:
        if end := self._ends.pop((namespace, id_), None):
            end.set_result(version)
