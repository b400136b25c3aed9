"""What every endpoint is given: the two ports, the lists, the settings, and the world's clock and dice."""

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING
from uuid import UUID

from nightshift_api.admission import Admission
from nightshift_api.lists import Lists
from nightshift_api.metrics import Metrics
from nightshift_api.settings import Settings
from nightshift_crds.bucket.port import Bucket
from nightshift_crds.cluster.port import Cluster
from nightshift_crds.names import make_uuid7

if TYPE_CHECKING:
    from nightshift_crds.otel import Tracing


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class Context:
    """Passed to whoever answers requests."""

    lists: Lists
    bucket: Bucket
    settings: Settings
    now: Callable[[], datetime] = _now
    randomness: Callable[[int], bytes] = os.urandom
    metrics: Metrics = field(default_factory=Metrics)
    tracing: "Tracing | None" = None
    closing: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when this process is to end: what would go on for ever ends then."""

    @property
    def cluster(self) -> Cluster:
        """The cluster, through which whatever is written is soon listed."""
        return self.lists.cluster

    @cached_property
    def admission(self) -> Admission:
        """What each namespace may ask for; one for all endpoints."""
        return Admission(self.settings, self.now)

    def make_uuid(self) -> UUID:
        """Make a fresh id that sorts by time."""
        return make_uuid7(int(self.now().timestamp() * 1000), self.randomness(10))
