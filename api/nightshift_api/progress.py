"""Batches while they run: whether the bucket is fresher than their status (design 5), and which one writes a file."""

from nightshift_crds.cluster.port import BATCH_JOB, Cluster
from nightshift_crds.errors import Missing
from nightshift_crds.lifecycle import Phase
from nightshift_crds.models import BatchJob, StoredFile

_RUNNING = frozenset({Phase.IN_PROGRESS, Phase.FINALIZING, Phase.CANCELLING})


def is_running(batch: BatchJob) -> bool:
    """Tell whether the bucket may know more of a batch than its status does. Pure."""
    return batch.phase in _RUNNING


async def batch_of(cluster: Cluster, file: StoredFile) -> BatchJob | None:
    """Find the batch that writes a file; None for an upload, and if the batch is gone."""
    source = file.spec.source
    if source.batch_name is None:
        return None
    try:
        batch = BatchJob.parse(await cluster.get(BATCH_JOB, file.metadata.namespace, source.batch_name))
    except Missing:
        return None
    return batch if batch.metadata.uid == source.batch_uid else None
