"""Remove what `retention` says may go: StoredFiles first, then bytes, and orphans only with every precaution.

It runs beside the reconcile loop. Expired files are found by the day they expire on, so that a pass does not read
them all; orphans are judged in two passes, by whole lists, and by a live look just before they go.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime, timedelta

import structlog

from nightshift_crds import names
from nightshift_crds.bucket.port import Bucket, ObjectInfo, get
from nightshift_crds.cluster.port import BATCH_JOB, STORED_FILE, Cluster, Kind, Propagation, Selector, each
from nightshift_crds.errors import Missing, Stale, Unavailable
from nightshift_crds.holding import is_awaited, is_read
from nightshift_crds.models import BatchJob, FilePhase, ObjectMeta, StoredFile
from nightshift_crds.reading import parse_known
from nightshift_operator.metrics import Metrics
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
from nightshift_operator.settings import DAY_S, Settings

_log = structlog.get_logger()
_UPLOAD_GRACE = timedelta(hours=1)
"""A complete that began before a session expired may still read its parts for so long; SDKs wait 10 minutes."""


@dataclass
class Swept:
    """What one pass has removed, or would have in a dry run."""

    files: int = 0
    batches: int = 0
    orphans: int = 0
    passed: int = 0
    """Idempotency keys, and objects of upload sessions, whose time is over."""


@dataclass
class Sweep:
    """The sweep of one installation; what it remembers is when it first saw each orphan."""

    cluster: Cluster
    bucket: Bucket
    settings: Settings
    metrics: Metrics = field(default_factory=Metrics)
    _orphans: dict[str, datetime] = field(default_factory=dict)
    _swept_day: date | None = None

    async def run(self) -> None:
        """Make a pass every interval, until cancelled."""
        while True:
            try:
                await self.run_once(datetime.now(UTC))
            except (Stale, Unavailable) as error:
                self.metrics.sweep_failed()
                _log.warning("sweep.unavailable", problem=str(error))
            except Exception:  # noqa: BLE001 - a bug must not end the operator: the batches go on
                self.metrics.sweep_failed()
                _log.exception("sweep.failed")
            await asyncio.sleep(self.settings.sweep_interval_s)

    async def run_once(self, now: datetime) -> Swept:
        """Make one pass."""
        swept = Swept()
        async for file in self._due_files(now):
            swept.files += await self._remove_file(file)
        async for manifest in each(self.cluster, BATCH_JOB, Selector(fields="status.settled=true")):
            batch = parse_known(BatchJob, manifest)
            if batch and is_retired(batch, now, timedelta(seconds=self.settings.batch_retention_s)):
                swept.batches += await self._remove_batch(batch)
        if await self._owns_bucket():
            swept.passed = await self._sweep_passed(now)
            swept.orphans = await self._sweep_orphans(now)
        self._swept_day = now.date()
        _log.info("sweep.done", **asdict(swept))
        self.metrics.swept(asdict(swept), now)
        return swept

    # files and batches

    async def _due_files(self, now: datetime) -> AsyncIterator[StoredFile]:
        for selector in self._selectors(now.date()):
            async for manifest in each(self.cluster, STORED_FILE, selector):
                file = parse_known(StoredFile, manifest)
                if file and await self._is_due(file, now):
                    yield file

    def _selectors(self, today: date) -> list[Selector]:
        """Select what may be due: at first everything, later what expires on the days since the last pass."""
        if self._swept_day is None:
            return [Selector()]
        held_days = 2 + self.settings.completion_window_s // DAY_S  # a batch may hold an expired input to its own end
        first = self._swept_day - timedelta(days=held_days)
        due = [first + timedelta(days=n) for n in range((today - first).days + 1)]
        terms = ["status.phase=", f"status.phase={FilePhase.WRITING}", *(f"status.expiresDay={day}" for day in due)]
        return [Selector(fields=term) for term in terms]

    async def _is_due(self, file: StoredFile, now: datetime) -> bool:
        if is_expired(file, now):
            return not await is_read(self.cluster, file)
        if is_unsealed(file):
            return await self._is_abandoned(file)
        return is_unfinished(file, now, timedelta(seconds=self.settings.unfinished_upload_s))

    async def _is_abandoned(self, file: StoredFile) -> bool:
        """Tell whether the batch is gone that would have sealed a file."""
        metadata, source = file.metadata, file.spec.source
        with suppress(Missing):
            batch = await self.cluster.get(BATCH_JOB, metadata.namespace, source.batch_name or "")
            if batch["metadata"]["uid"] == source.batch_uid:
                return False
        with suppress(Missing):  # read again behind the batch, which may have sealed it before it went
            return is_unsealed(StoredFile.parse(await self.cluster.get(STORED_FILE, metadata.namespace, metadata.name)))
        return False

    async def _remove_file(self, file: StoredFile) -> bool:
        _log.info("sweep.file", file=file.id, dry_run=self.settings.sweep_dry_run)
        if self.settings.sweep_dry_run:
            return True
        with suppress(Missing, Stale):  # gone, or not the one that was judged
            await self._remove_record(STORED_FILE, file.metadata)
            if not await self._has_record(file.metadata.name):  # one of that name elsewhere is somebody's file
                await self.bucket.delete(names.file_key(file.id))
            return True
        return False

    async def _remove_batch(self, batch: BatchJob) -> bool:
        """Remove a batch's record and what it left in the bucket; its result files have a time of their own."""
        if await is_awaited(self.cluster, batch.metadata.namespace, [batch.metadata.name]):
            return False
        _log.info("sweep.batch", batch=batch.id, dry_run=self.settings.sweep_dry_run)
        if self.settings.sweep_dry_run:
            return True
        with suppress(Missing, Stale):
            await self._remove_record(BATCH_JOB, batch.metadata)
            async for info in self.bucket.list(names.batch_prefix(batch.metadata.uid)):
                await self.bucket.delete(info.key)
            return True
        return False

    async def _remove_record(self, kind: Kind, metadata: ObjectMeta) -> None:
        await self.cluster.delete(
            kind, metadata.namespace, metadata.name, propagation=Propagation.BACKGROUND, uid=metadata.uid
        )

    # what the API keeps for hours

    async def _sweep_passed(self, now: datetime) -> int:
        settings = self.settings
        lives = {
            names.IDEMPOTENCY: timedelta(seconds=settings.idempotency_life_s),
            names.UPLOADS: timedelta(seconds=settings.upload_life_s) + _UPLOAD_GRACE,
        }
        passed = [i.key for prefix in lives async for i in self.bucket.list(prefix) if is_passed(i, lives, now)]
        _log.info("sweep.passed", count=len(passed), dry_run=settings.sweep_dry_run)
        if not settings.sweep_dry_run:
            for key in passed:
                await self.bucket.delete(key)
        return len(passed)

    # orphans

    async def _owns_bucket(self) -> bool:
        """Read whose bucket it is; while it has no owner, or another one, nothing in it is an orphan of ours."""
        try:
            owner = (await get(self.bucket, names.OWNER_KEY)).decode()
        except Missing:  # the API claims it at its first start
            return False
        if owner != self.settings.installation:
            self.metrics.sweep_refused("not_our_bucket")
            _log.error("sweep.not_our_bucket", owner=owner, installation=self.settings.installation)
        return owner == self.settings.installation

    async def _sweep_orphans(self, now: datetime) -> int:
        objects, orphans = await self._find_orphans(now)
        self.metrics.found_orphans(len(orphans), sum(info.size for info in orphans))
        self._orphans = {info.key: self._orphans.get(info.key, now) for info in orphans}
        due = pick_orphans(self._orphans, now, timedelta(seconds=self.settings.sweep_interval_s))
        if not is_safe(len(due), objects, self.settings.sweep_max_share):
            self.metrics.sweep_refused("too_many_orphans")
            _log.error("sweep.too_many_orphans", orphans=len(due), objects=objects)
            return 0
        return sum([await self._remove_orphan(key) for key in due])

    async def _find_orphans(self, now: datetime) -> tuple[int, list[ObjectInfo]]:
        """List the bucket first and its owners after, so that whatever was there before has its owner there too."""
        age = timedelta(seconds=self.settings.orphan_age_s)
        infos = [info for prefix in (names.FILES, names.BATCHES) async for info in self.bucket.list(prefix)]
        owners = {m["metadata"]["name"] async for m in each(self.cluster, STORED_FILE)}
        owners |= {m["metadata"]["uid"] async for m in each(self.cluster, BATCH_JOB)}
        return len(infos), [info for info in infos if is_orphan(info, owners, now, age)]

    async def _has_record(self, name: str) -> bool:
        """Look live, in all namespaces, whether there is a StoredFile of a name."""
        return bool([None async for _ in each(self.cluster, STORED_FILE, Selector(fields=f"metadata.name={name}"))])

    async def _remove_orphan(self, key: str) -> bool:
        if await self._has_record(owner_of(key) or ""):
            return False
        _log.info("sweep.orphan", key=key, dry_run=self.settings.sweep_dry_run)
        if not self.settings.sweep_dry_run:
            await self.bucket.delete(key)
        return True
