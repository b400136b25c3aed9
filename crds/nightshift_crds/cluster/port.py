"""Where resources live: the one interface behind which Kubernetes or one SQLite file stands.

The comments here are the contract, and `tests/crds/cluster/test_conformance.py` is its proof over every adapter.
Objects are manifests: plain JSON as `kubectl get -o json` shows it. Errors are those of `nightshift_crds.errors`;
`Unavailable` may come from every call.
"""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from nightshift_crds.models import GROUP, VERSION, BatchJob, HostedModel, Resource, StoredFile

Manifest = dict[str, Any]
PAGE_SIZE = 500


@dataclass(frozen=True)
class Kind:
    """A resource type as a client must know it; `has_status` says whether its status stands apart."""

    api_version: str
    kind: str
    plural: str
    has_status: bool = False
    model: type[Resource] | None = None


def _own(model: type[Resource]) -> Kind:
    return Kind(
        f"{GROUP}/{VERSION}", model.__name__, model.PLURAL, has_status="status" in model.model_fields, model=model
    )


BATCH_JOB = _own(BatchJob)
STORED_FILE = _own(StoredFile)
HOSTED_MODEL = _own(HostedModel)
JOB = Kind("batch/v1", "Job", "jobs", has_status=True)
POD = Kind("v1", "Pod", "pods", has_status=True)
NODE = Kind("v1", "Node", "nodes", has_status=True)
"""Stands in no namespace; only a real cluster has any."""
SECRET = Kind("v1", "Secret", "secrets")
EVENT = Kind("v1", "Event", "events")
LEASE = Kind("coordination.k8s.io/v1", "Lease", "leases")
TOKEN_REVIEW = Kind("authentication.k8s.io/v1", "TokenReview", "tokenreviews", has_status=True)
SUBJECT_ACCESS_REVIEW = Kind("authorization.k8s.io/v1", "SubjectAccessReview", "subjectaccessreviews", has_status=True)
"""A create asks, the status of what it gives is the answer, and nothing is stored; only a real cluster answers."""
KINDS = {kind.kind: kind for kind in (BATCH_JOB, STORED_FILE, HOSTED_MODEL, JOB, POD, SECRET, EVENT, LEASE)}


class Propagation(StrEnum):
    """What a deletion does to the objects owned. There is no default: that of `batch/v1` leaves pods running."""

    FOREGROUND = "Foreground"
    """The owner stays, marked as deleting, until all that it owns is gone."""
    BACKGROUND = "Background"
    """The owner goes at once, what it owns a moment later."""


class ChangeType(StrEnum):
    """What a watch tells of an object."""

    ADDED = "ADDED"
    MODIFIED = "MODIFIED"
    DELETED = "DELETED"
    """Gone, or no longer selected: a watcher cannot tell which."""


@dataclass(frozen=True)
class Change:
    """A hint that an object is not as it was; the manifest may be old when it is read.

    Its resourceVersion is that of the change, also of a deletion. Within a namespace changes come in their order.
    """

    type: ChangeType
    manifest: Manifest


@dataclass(frozen=True)
class Page:
    """Some objects in order of namespace and name.

    Attributes:
        after: what to ask the next page with; None on the last one.
        resource_version: where a watch goes on that shall miss nothing after this page.
    """

    items: list[Manifest]
    after: str | None
    resource_version: str


@dataclass(frozen=True)
class Selector:
    """Which objects a list or a watch is about.

    Attributes:
        namespace: None means all that this installation serves.
        labels: each must be there with that value.
        fields: comma-separated `path=value` and `path!=value`, as `kubectl --field-selector` takes them; an absent
            field is the empty string.
    """

    namespace: str | None = None
    labels: tuple[tuple[str, str], ...] = ()
    fields: str = ""


EVERYTHING = Selector()


class Cluster(Protocol):
    """The calls that roles make. Each is atomic; nothing else is promised about two of them."""

    async def get(self, kind: Kind, namespace: str, name: str) -> Manifest:
        """Read one object as it is now. Raises `Missing`."""
        ...

    async def list(
        self, kind: Kind, selector: Selector = EVERYTHING, *, limit: int = PAGE_SIZE, after: str | None = None
    ) -> Page:
        """Read a page of objects, in order of namespace and name. Raises `Missing` if the cluster lacks the kind."""
        ...

    async def create(self, kind: Kind, manifest: Manifest) -> Manifest:
        """Create an object; `status` is ignored where it stands apart. Raises `AlreadyExists`, `Refused`."""
        ...

    async def patch(self, kind: Kind, namespace: str, name: str, patch: Manifest) -> Manifest:
        """Merge a patch (RFC 7386) into all but `status`; `metadata.resourceVersion` in it is a guard.

        Raises `Missing`, `Stale`, `Refused`.
        """
        ...

    async def patch_status(self, kind: Kind, namespace: str, name: str, patch: Manifest) -> Manifest:
        """Merge a patch of the form `{"metadata": ..., "status": ...}` into `status` alone; guarded like `patch`.

        Raises `Missing`, `Stale`, `Refused`. A patch that changes nothing makes no new version.
        """
        ...

    async def delete(  # noqa: PLR0913 - who, then how by keyword
        self,
        kind: Kind,
        namespace: str,
        name: str,
        *,
        propagation: Propagation,
        uid: str = "",
        grace_s: int | None = None,
    ) -> None:
        """Delete an object, if `uid` is empty or its own. Raises `Missing`, `Stale` (another uid).

        A Pod stays, marked as deleting, until its processes are gone; `grace_s` 0 does not wait for them.
        """
        ...

    def watch(self, kind: Kind, selector: Selector, since: str) -> AsyncGenerator[Change, None]:
        """Follow changes after a resourceVersion. Ends with `Stale` when the past is no longer known: list again."""
        ...

    async def record_event(self, about: Manifest, *, warning: bool, reason: str, message: str) -> None:
        """Tell people who look at an object what happened to it."""
        ...


async def each(cluster: Cluster, kind: Kind, selector: Selector = EVERYTHING) -> AsyncGenerator[Manifest, None]:
    """Read all selected objects, page by page."""
    after: str | None = None
    while True:
        page = await cluster.list(kind, selector, after=after)
        for item in page.items:
            yield item
        after = page.after
        if after is None:
            return
