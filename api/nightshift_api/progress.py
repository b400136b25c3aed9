"""What a running batch has come to, read from the bucket: fresher than its status, and never falling (design 5)."""

from nightshift_crds.bucket.port import Bucket
from nightshift_crds.cluster.port import BATCH_JOB, Cluster
from nightshift_crds.errors import Missing
from nightshift_crds.lifecycle import Phase
from nightshift_crds.models import BatchJob, StoredFile
from nightshift_crds.records import State, sum_states
from nightshift_crds.slicelog import read_progress

_RUNNING = frozenset({Phase.IN_PROGRESS, Phase.FINALIZING, Phase.CANCELLING})


async def read_state(bucket: Bucket, batch: BatchJob) -> State | None:
    """Read what a batch has come to; None where its status alone is the truth."""
    if batch.phase not in _RUNNING:
        return None
    return sum_states(found.state for found in (await read_progress(bucket, batch.metadata.uid)).values())


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
