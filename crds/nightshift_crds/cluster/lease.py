"""Hold a Lease, so that one process of a role works at a time and others can see that it does.

It avoids double work; it is no fence. The fences are guarded writes and names that are functions of identity.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta

from nightshift_crds.cluster.port import LEASE, Cluster, Manifest
from nightshift_crds.errors import AlreadyExists, Missing, Stale, Unavailable

DURATION_S = 15
_RENEW_S = 5.0
_RETRY_S = 1.0


def is_held(lease: Manifest, now: datetime) -> bool:
    """Tell whether a Lease was renewed recently enough. Pure."""
    renewed = lease["spec"].get("renewTime")
    if not renewed or not lease["spec"].get("holderIdentity"):
        return False
    return now < datetime.fromisoformat(renewed) + timedelta(seconds=lease["spec"]["leaseDurationSeconds"])


@asynccontextmanager
async def holding_lease(
    cluster: Cluster, namespace: str, name: str, holder: str, on_lost: Callable[[], None]
) -> AsyncIterator[None]:
    """Wait until the Lease is ours, renew it, and give it up at the end.

    `on_lost` is called once if another holder has it, or it could not be renewed for its whole duration.
    """
    while not await _try_hold(cluster, namespace, name, holder):  # noqa: ASYNC110 - nothing tells when a holder is gone
        await asyncio.sleep(_RETRY_S)
    renewing = asyncio.create_task(_renew(cluster, namespace, name, holder, on_lost), name=f"lease {name}")
    try:
        yield
    finally:
        renewing.cancel()
        with suppress(asyncio.CancelledError):
            await renewing
        with suppress(Missing, Stale, Unavailable):
            await _give_up(cluster, namespace, name, holder)


async def _renew(cluster: Cluster, namespace: str, name: str, holder: str, on_lost: Callable[[], None]) -> None:
    renewed = asyncio.get_running_loop().time()
    while True:
        await asyncio.sleep(_RENEW_S)
        now = asyncio.get_running_loop().time()
        try:
            if not await _try_hold(cluster, namespace, name, holder):
                break
            renewed = now
        except Unavailable:
            if now - renewed > DURATION_S:
                break
    on_lost()


async def _try_hold(cluster: Cluster, namespace: str, name: str, holder: str) -> bool:
    now = datetime.now(UTC)
    spec = {
        "holderIdentity": holder,
        "leaseDurationSeconds": DURATION_S,
        "renewTime": now.isoformat(timespec="microseconds").replace("+00:00", "Z"),
    }
    try:
        lease = await cluster.get(LEASE, namespace, name)
        if lease["spec"].get("holderIdentity") not in {holder, None} and is_held(lease, now):
            return False
        guard = {"resourceVersion": lease["metadata"]["resourceVersion"]}
        await cluster.patch(LEASE, namespace, name, {"metadata": guard, "spec": spec})
    except Missing:
        try:
            await cluster.create(LEASE, _build(namespace, name, spec))
        except AlreadyExists:
            return False
    except Stale:
        return False
    return True


async def _give_up(cluster: Cluster, namespace: str, name: str, holder: str) -> None:
    """Let the next one in at once; a Lease that another holder has by now stays."""
    lease = await cluster.get(LEASE, namespace, name)
    if lease["spec"].get("holderIdentity") == holder:
        guard = {"resourceVersion": lease["metadata"]["resourceVersion"]}
        spec = {"holderIdentity": None, "renewTime": None}
        await cluster.patch(LEASE, namespace, name, {"metadata": guard, "spec": spec})


def _build(namespace: str, name: str, spec: Manifest) -> Manifest:
    return {
        "apiVersion": LEASE.api_version,
        "kind": LEASE.kind,
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    }
