"""What may be removed for good, and when: files past their time, what crashes left, batches long ended (contract 11).

Pure. Removing is `sweep`'s; nothing is judged here that somebody else could still want.
"""

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta

from nightshift_crds import names
from nightshift_crds.bucket.port import ObjectInfo
from nightshift_crds.lifecycle import TIMESTAMPS, is_terminal
from nightshift_crds.models import BatchJob, FilePhase, StoredFile
from nightshift_crds.names import IdKind

_FEW = 20
"""Deletions that are always allowed: of a handful of objects every share is large."""


def is_expired(file: StoredFile, now: datetime) -> bool:
    """Tell whether a file's time is over; a batch that uses it may still hold it."""
    return file.status.expires_at is not None and file.status.expires_at <= now


def is_unfinished(file: StoredFile, now: datetime, age: timedelta) -> bool:
    """Tell whether a file is what a crash left of an upload."""
    is_upload = file.spec.source.batch_uid is None
    return is_upload and file.status.phase is None and file.created + age <= now


def is_unsealed(file: StoredFile) -> bool:
    """Tell whether a file is a result that is not whole: with its batch gone it never will be."""
    return file.spec.source.batch_uid is not None and file.status.phase is not FilePhase.READY


def is_retired(batch: BatchJob, now: datetime, retention: timedelta) -> bool:
    """Tell whether a batch ended so long ago that its record may go."""
    if not (is_terminal(batch.phase) and batch.status.settled):
        return False
    ended_at: datetime = getattr(batch.status, TIMESTAMPS[batch.phase])
    return ended_at + retention <= now


def owner_of(key: str) -> str | None:
    """Name the resource that an object belongs to: the name of a StoredFile, or the uid of a BatchJob.

    None for what no sweep may touch.
    """
    if key.startswith(names.BATCHES):
        return key.removeprefix(names.BATCHES).partition("/")[0]
    if key.startswith(names.FILES) and key.endswith(".jsonl"):
        value = names.parse_id(IdKind.FILE, key.removeprefix(names.FILES).removesuffix(".jsonl"))
        return names.resource_name(IdKind.FILE, value) if value else None
    return None


def is_passed(info: ObjectInfo, lives: Mapping[str, timedelta], now: datetime) -> bool:
    """Tell whether an object has outlived its use that is kept for a while only; its age is by the bucket's clock.

    `lives` has how long such objects live, by the start of their keys: no other is judged here, and these are no
    orphans, as they belong to no resource.
    """
    return any(info.key.startswith(prefix) and info.written + life <= now for prefix, life in lives.items())


def is_orphan(info: ObjectInfo, owners: Collection[str], now: datetime, age: timedelta) -> bool:
    """Tell whether an object belongs to nothing any more; its age is by the bucket's clock."""
    owner = owner_of(info.key)
    return owner is not None and owner not in owners and info.written + age <= now


def pick_orphans(found: Mapping[str, datetime], now: datetime, patience: timedelta) -> list[str]:
    """Pick the objects that were orphans already in a pass that long ago; `found` has when each was first seen."""
    return [key for key, since in found.items() if since + patience <= now]


def is_safe(deletions: int, objects: int, max_share: float) -> bool:
    """Tell whether a pass may delete that many of the bucket's objects: a mistake must not empty it."""
    return deletions <= max(_FEW, objects * max_share)
