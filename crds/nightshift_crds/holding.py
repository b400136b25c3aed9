"""Which files are still needed: nobody takes one away that a batch which has not ended is going to read.

API and operator look live, just before they delete. A rerun needs the input and the output of the batch that it runs
again until its own input is accepted: from then on it has of both what it needs.
"""

from collections.abc import Collection

from nightshift_crds.cluster.port import BATCH_JOB, Cluster, Manifest, Selector, each
from nightshift_crds.lifecycle import Phase, is_terminal
from nightshift_crds.models import StoredFile
from nightshift_crds.names import ResultKind

_UNPREPARED = frozenset({None, Phase.VALIDATING})
_RERUNS = "spec.input.rerunOf!=,status.settled!=true"


async def is_read(cluster: Cluster, file: StoredFile) -> bool:
    """Tell whether a batch reads a file, or will: as its input, or as a file of the batch that it runs again."""
    selector = Selector(file.metadata.namespace, fields=f"spec.input.fileId={file.id}")
    users = [manifest async for manifest in each(cluster, BATCH_JOB, selector)]
    if not all(is_terminal(_phase_of(user)) for user in users):
        return True
    origins = {str(user["metadata"]["name"]) for user in users}
    source = file.spec.source
    if source.batch_name and source.kind is ResultKind.OUTPUT:
        origins.add(source.batch_name)
    return bool(origins) and await is_awaited(cluster, file.metadata.namespace, origins)


async def is_awaited(cluster: Cluster, namespace: str, origins: Collection[str]) -> bool:
    """Tell whether one of these batches is to be run again by a batch that has not taken its rows over yet."""
    reruns = each(cluster, BATCH_JOB, Selector(namespace, fields=_RERUNS))
    return any([m["spec"]["input"]["rerunOf"] in origins async for m in reruns if _phase_of(m) in _UNPREPARED])


def _phase_of(manifest: Manifest) -> Phase | None:
    """Give the phase; one that a later version may have written is none that has ended."""
    phase: Phase | None = manifest.get("status", {}).get("phase")
    return phase
