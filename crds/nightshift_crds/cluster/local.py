"""The cluster of `nightshift local`: one SQLite file in WAL mode that several processes share.

It keeps what the roles rely on of a Kubernetes API server: resourceVersions and guarded writes, `status` apart from
`spec`, schema and CEL rules of our CRDs, selectors, pages, watches, and deletion that follows owner references. On
Kubernetes nothing of it is used. It is for thousands of objects, not millions: selectors are applied row by row.

Writes and reads run in one thread per process, each in a transaction of its own. A watch polls `PRAGMA data_version`,
which costs microseconds and tells whether any process has committed since.
"""

import asyncio
import json
import sqlite3
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import cel
from pydantic import ValidationError

from nightshift_crds.cluster.port import (
    EVENT,
    EVERYTHING,
    KINDS,
    PAGE_SIZE,
    POD,
    Change,
    ChangeType,
    Kind,
    Manifest,
    Page,
    Propagation,
    Selector,
    each,
)
from nightshift_crds.errors import AlreadyExists, Missing, Refused, Stale, Unavailable
from nightshift_crds.schema import rule_holders

_T = TypeVar("_T")
_BUSY_S = 30.0
_POLL_S = 0.02
_TOMBSTONES = 10_000
_EVENT_LIFE = timedelta(hours=1)
_FOREGROUND = "foregroundDeletion"

_SCHEMA = """
CREATE TABLE IF NOT EXISTS objects (
    kind TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL,
    uid TEXT NOT NULL UNIQUE, owner TEXT, version INTEGER NOT NULL, body TEXT NOT NULL,
    PRIMARY KEY (kind, namespace, name)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS objects_by_version ON objects (kind, version);
CREATE INDEX IF NOT EXISTS objects_by_owner ON objects (owner) WHERE owner IS NOT NULL;
CREATE TABLE IF NOT EXISTS deletions (version INTEGER PRIMARY KEY, kind TEXT NOT NULL, body TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS clock (id INTEGER PRIMARY KEY CHECK (id = 1), version INTEGER NOT NULL);
INSERT OR IGNORE INTO clock VALUES (1, 1);
"""


@dataclass(frozen=True)
class _Key:
    kind: str
    namespace: str
    name: str

    @classmethod
    def of(cls, kind: Kind, namespace: str, name: str) -> "_Key":
        return cls(kind.kind, namespace, name)

    @property
    def row(self) -> tuple[str, str, str]:
        return (self.kind, self.namespace, self.name)

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"


# --- what a write may do ----------------------------------------------------------------------------------------------


def merge(target: Any, patch: Any) -> Any:
    """Apply a JSON merge patch (RFC 7386) and return the result; nothing is changed in place. Pure."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge(result.get(key), value)
    return result


@cache
def _programs(kind: Kind) -> list[tuple[str, cel.Program, bool, str]]:
    """Compile the rules of a kind: where each holds, the program, whether it needs the old object, the message."""
    holders = rule_holders(kind.model) if kind.model else {}
    return [
        (part, cel.compile(rule.cel), "oldSelf" in rule.cel, rule.message)
        for part, model in holders.items()
        for rule in model.RULES
    ]


def admit(kind: Kind, new: Manifest, old: Manifest | None) -> Manifest:
    """Validate an object of our group as the API server would, and fill in the defaults. Pure.

    Raises:
        Refused: schema or rules forbid it; the message names field and rule.
    """
    if kind.model is None:
        return new
    try:
        parsed = kind.model.parse(new).dump()
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_url=False))
        raise Refused(f"{kind.kind} {new['metadata'].get('name')}: {problems}") from None
    admitted = new | {part: parsed[part] for part in ("spec", "status") if part in new and part in parsed}
    for part, program, is_transition, message in _programs(kind):
        now, before = _part_of(admitted, part), _part_of(old, part)
        if now is None or (is_transition and before is None):
            continue
        if program.execute({"self": now, "oldSelf": before}) is not True:
            raise Refused(f"{kind.kind} {new['metadata'].get('name')}: {part}: {message}")
    return admitted


def _part_of(manifest: Manifest | None, part: str) -> Manifest | None:
    return manifest.get(part) if manifest is not None and part else manifest


def _is_selected(manifest: Manifest, selector: Selector) -> bool:
    if selector.namespace is not None and manifest["metadata"].get("namespace", "") != selector.namespace:
        return False
    labels = manifest["metadata"].get("labels", {})
    if any(labels.get(key) != value for key, value in selector.labels):
        return False
    return all(_holds(manifest, term) for term in selector.fields.split(",") if term)


def _holds(manifest: Manifest, term: str) -> bool:
    path, _, wanted = term.partition("=")
    found: Any = manifest
    for key in path.removesuffix("!").split("."):
        found = found.get(key) if isinstance(found, dict) else None
    text = "" if found is None else str(found).lower() if isinstance(found, bool) else str(found)
    return (text == wanted) is not path.endswith("!")


# --- the file ---------------------------------------------------------------------------------------------------------


class _Store:
    """The transactions, as plain functions of one connection; they run in the adapter's thread."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.executescript(_SCHEMA)

    def close(self) -> None:
        self._db.close()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    # reading

    def get(self, key: _Key) -> Manifest:
        row = self._db.execute("SELECT body FROM objects WHERE kind=? AND namespace=? AND name=?", key.row).fetchone()
        if row is None:
            raise Missing(str(key))
        return _load(row[0])

    def page(self, kind: Kind, selector: Selector, limit: int, after: str | None) -> Page:
        namespace, _, name = (after or "/").partition("/")
        version = self.version()
        rows = self._db.execute(
            "SELECT body FROM objects WHERE kind=? AND (namespace, name) > (?, ?) ORDER BY namespace, name",
            (kind.kind, namespace, name),
        )
        items: list[Manifest] = []
        for (body,) in rows:
            manifest = _load(body)
            if not _is_selected(manifest, selector):
                continue
            if len(items) == limit:
                last = items[-1]["metadata"]
                return Page(items, f"{last.get('namespace', '')}/{last['name']}", str(version))
            items.append(manifest)
        return Page(items, None, str(version))

    def version(self) -> int:
        return int(self._db.execute("SELECT version FROM clock").fetchone()[0])

    def changes(self, kind: Kind, since: int) -> tuple[int, list[tuple[bool, Manifest]]]:
        """Give the newest version and all that changed since, in order; True marks what was deleted."""
        self._db.execute("BEGIN")  # one snapshot for all reads
        try:
            oldest, count = self._db.execute("SELECT min(version), count(*) FROM deletions").fetchone()
            if count >= _TOMBSTONES and since < oldest:
                raise Stale(f"version {since} is too old to watch from")
            version = self.version()
            rows = self._db.execute(
                "SELECT version, 0, body FROM objects WHERE kind=:kind AND version>:since"
                " UNION ALL SELECT version, 1, body FROM deletions WHERE kind=:kind AND version>:since ORDER BY 1",
                {"kind": kind.kind, "since": since},
            ).fetchall()
        finally:
            self._db.execute("COMMIT")
        return version, [(bool(gone), _load(body)) for _, gone, body in rows]

    # writing

    def create(self, kind: Kind, manifest: Manifest, now: datetime) -> Manifest:
        metadata = manifest["metadata"]
        key = _Key.of(kind, metadata.get("namespace", ""), metadata["name"])
        fresh = {
            "uid": str(uuid.uuid4()),
            "creationTimestamp": now.isoformat().replace("+00:00", "Z"),
            "generation": 1,
        }
        content = {name: value for name, value in manifest.items() if not (kind.has_status and name == "status")}
        created = admit(kind, content | {"metadata": metadata | fresh}, None)
        with self._transaction():
            if self._find(key) is not None:
                raise AlreadyExists(str(key))
            return self._write(key, created)

    def patch(self, kind: Kind, key: _Key, patch: Manifest) -> Manifest:
        with self._transaction():
            old = self._guarded(key, patch)
            content = {k: v for k, v in patch.items() if k not in {"apiVersion", "kind"}}
            if kind.has_status:
                content.pop("status", None)
            merged = merge(old, content)
            merged["metadata"] |= {
                k: old["metadata"][k] for k in ("uid", "creationTimestamp", "name", "resourceVersion")
            }
            new = admit(kind, merged, old)
            if new.get("spec") != old.get("spec"):
                new["metadata"]["generation"] = old["metadata"]["generation"] + 1
            return old if new == old else self._write(key, new)

    def patch_status(self, kind: Kind, key: _Key, patch: Manifest) -> Manifest:
        with self._transaction():
            old = self._guarded(key, patch)
            new = admit(kind, merge(old, {"status": patch.get("status", {})}), old)
            return old if new == old else self._write(key, new)

    def delete(self, key: _Key, propagation: Propagation, uid: str, grace_s: int | None, now: datetime) -> None:
        with self._transaction():
            manifest = self.get(key)
            if uid and manifest["metadata"]["uid"] != uid:
                raise Stale(f"{key} has another uid")
            self._delete(key, manifest, propagation, grace_s, now)

    def drop_events(self, before: datetime) -> None:
        with self._transaction():
            self._db.execute(
                "DELETE FROM objects WHERE kind='Event' AND json_extract(body, '$.lastTimestamp') < ?",
                (before.isoformat().replace("+00:00", "Z"),),
            )

    # inside a transaction

    def _find(self, key: _Key) -> Manifest | None:
        try:
            return self.get(key)
        except Missing:
            return None

    def _guarded(self, key: _Key, patch: Manifest) -> Manifest:
        old = self.get(key)
        expected = patch.get("metadata", {}).get("resourceVersion")
        if expected is not None and expected != old["metadata"]["resourceVersion"]:
            raise Stale(f"{key} is at {old['metadata']['resourceVersion']}, not {expected}")
        return old

    def _tick(self) -> int:
        return int(self._db.execute("UPDATE clock SET version=version+1 RETURNING version").fetchone()[0])

    def _write(self, key: _Key, manifest: Manifest) -> Manifest:
        version = self._tick()
        written = manifest | {"metadata": manifest["metadata"] | {"resourceVersion": str(version)}}
        owners = [o["uid"] for o in written["metadata"].get("ownerReferences", []) if o.get("controller")]
        self._db.execute(
            "INSERT OR REPLACE INTO objects (kind, namespace, name, uid, owner, version, body) VALUES (?,?,?,?,?,?,?)",
            (*key.row, written["metadata"]["uid"], next(iter(owners), None), version, json.dumps(written)),
        )
        return written

    def _delete(self, key: _Key, manifest: Manifest, how: Propagation, grace_s: int | None, now: datetime) -> None:
        if key.kind == POD.kind and grace_s != 0:
            self._mark(key, manifest, now, [])
            return
        dependents = self._dependents(manifest["metadata"]["uid"])
        if how is Propagation.FOREGROUND and dependents:
            self._mark(key, manifest, now, [_FOREGROUND])
        else:
            self._remove(key, manifest)
        for dependent in dependents:
            self._delete(_key_of(dependent), dependent, Propagation.BACKGROUND, None, now)

    def _mark(self, key: _Key, manifest: Manifest, now: datetime, finalizers: list[str]) -> None:
        if "deletionTimestamp" in manifest["metadata"]:
            return
        mark = {"deletionTimestamp": now.isoformat().replace("+00:00", "Z"), "finalizers": finalizers}
        self._write(key, merge(manifest, {"metadata": mark}))

    def _remove(self, key: _Key, manifest: Manifest) -> None:
        version = self._tick()
        last = merge(manifest, {"metadata": {"resourceVersion": str(version)}})
        self._db.execute("DELETE FROM objects WHERE kind=? AND namespace=? AND name=?", key.row)
        self._db.execute("INSERT INTO deletions VALUES (?,?,?)", (version, key.kind, json.dumps(last)))
        self._db.execute(
            "DELETE FROM deletions WHERE version <="
            " (SELECT version FROM deletions ORDER BY version DESC LIMIT 1 OFFSET ?)",
            (_TOMBSTONES,),
        )
        for reference in manifest["metadata"].get("ownerReferences", []):
            self._release(reference["uid"])

    def _release(self, owner_uid: str) -> None:
        """Let an owner go that waited in the foreground for the last object that it owns."""
        row = self._db.execute("SELECT body FROM objects WHERE uid=?", (owner_uid,)).fetchone()
        owner = _load(row[0]) if row else None
        if owner and _FOREGROUND in owner["metadata"].get("finalizers", []) and not self._dependents(owner_uid):
            self._remove(_key_of(owner), owner)

    def _dependents(self, uid: str) -> list[Manifest]:
        rows = self._db.execute("SELECT body FROM objects WHERE owner=?", (uid,)).fetchall()
        return [_load(body) for (body,) in rows]


def _load(body: str) -> Manifest:
    manifest: Manifest = json.loads(body)
    return manifest


def _key_of(manifest: Manifest) -> _Key:
    metadata = manifest["metadata"]
    return _Key.of(KINDS[manifest["kind"]], metadata.get("namespace", ""), metadata["name"])


# --- the port ---------------------------------------------------------------------------------------------------------


class LocalCluster:
    """The `Cluster` port over one SQLite file; see `open_local`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sqlite")
        with _failing_as_unavailable():
            self._store = _Store(path)

    def close(self) -> None:
        """Finish what runs and let go of the file."""
        self._thread.shutdown()
        self._store.close()

    async def _run(self, call: Callable[[], _T]) -> _T:
        with _failing_as_unavailable():
            return await asyncio.get_running_loop().run_in_executor(self._thread, call)

    async def get(self, kind: Kind, namespace: str, name: str) -> Manifest:
        """See the port."""
        return await self._run(lambda: self._store.get(_Key.of(kind, namespace, name)))

    async def list(
        self, kind: Kind, selector: Selector = EVERYTHING, *, limit: int = PAGE_SIZE, after: str | None = None
    ) -> Page:
        """See the port."""
        return await self._run(lambda: self._store.page(kind, selector, limit, after))

    async def create(self, kind: Kind, manifest: Manifest) -> Manifest:
        """See the port."""
        return await self._run(lambda: self._store.create(kind, manifest, _now()))

    async def patch(self, kind: Kind, namespace: str, name: str, patch: Manifest) -> Manifest:
        """See the port."""
        return await self._run(lambda: self._store.patch(kind, _Key.of(kind, namespace, name), patch))

    async def patch_status(self, kind: Kind, namespace: str, name: str, patch: Manifest) -> Manifest:
        """See the port."""
        return await self._run(lambda: self._store.patch_status(kind, _Key.of(kind, namespace, name), patch))

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
        key = _Key.of(kind, namespace, name)
        await self._run(lambda: self._store.delete(key, propagation, uid, grace_s, _now()))

    async def watch(self, kind: Kind, selector: Selector, since: str) -> AsyncGenerator[Change, None]:
        """See the port. States in between may be skipped."""
        poll = sqlite3.connect(self._path, timeout=_BUSY_S, isolation_level=None)
        try:
            known = await self._known(kind, selector, since)
            version, seen = int(since), -1
            while True:
                current = poll.execute("PRAGMA data_version").fetchone()[0]
                if current == seen:
                    await asyncio.sleep(_POLL_S)
                    continue
                seen = current
                version, changes = await self._run(lambda: self._store.changes(kind, version))  # noqa: B023 - awaited here
                for gone, manifest in changes:
                    change = _tell(known, manifest, gone=gone, selected=_is_selected(manifest, selector))
                    if change:
                        yield change
        finally:
            poll.close()

    async def _known(self, kind: Kind, selector: Selector, since: str) -> set[str]:
        """Find the objects that the watcher may have listed, so that one that stops matching is told as DELETED."""
        return {
            item["metadata"]["uid"]
            async for item in each(self, kind)
            if _is_selected(item, selector) == (int(item["metadata"]["resourceVersion"]) <= int(since))
        }

    async def record_event(self, about: Manifest, *, warning: bool, reason: str, message: str) -> None:
        """See the port. Events are kept for an hour, as a Kubernetes cluster does."""
        now = _now()
        metadata = about["metadata"]
        event = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": f"{metadata['name']}.{uuid.uuid4().hex[:16]}", "namespace": metadata["namespace"]},
            "involvedObject": {"kind": about["kind"], "name": metadata["name"], "uid": metadata["uid"]},
            "type": "Warning" if warning else "Normal",
            "reason": reason,
            "message": message,
            "lastTimestamp": now.isoformat().replace("+00:00", "Z"),
        }
        await self.create(EVENT, event)
        await self._run(lambda: self._store.drop_events(now - _EVENT_LIFE))


@contextmanager
def _failing_as_unavailable() -> Iterator[None]:
    try:
        yield
    except sqlite3.DatabaseError as error:  # locked for longer than _BUSY_S, not writable, not SQLite, disk full
        raise Unavailable(f"the local cluster does not answer: {error}") from error


def _tell(known: set[str], manifest: Manifest, *, gone: bool, selected: bool) -> Change | None:
    uid = manifest["metadata"]["uid"]
    was_known = uid in known
    if selected and not gone:
        known.add(uid)
        return Change(ChangeType.MODIFIED if was_known else ChangeType.ADDED, manifest)
    known.discard(uid)
    return Change(ChangeType.DELETED, manifest) if was_known or selected else None


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


@asynccontextmanager
async def open_local(path: Path) -> AsyncIterator[LocalCluster]:
    """Open the SQLite file, made if it is not there, for as long as the context lasts."""
    cluster = LocalCluster(path)
    try:
        yield cluster
    finally:
        cluster.close()
