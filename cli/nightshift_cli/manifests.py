"""Manifests as what is shown of them, and what is asked for as manifests. Pure."""

from collections.abc import Mapping
from datetime import datetime

from nightshift_cli.port import NewBatch
from nightshift_cli.views import BatchView, Condition, Cost, Document, ModelView, Problem
from nightshift_crds import names
from nightshift_crds.models import BatchInput, BatchJob, BatchJobSpec, BatchJobStatus, HostedModel
from nightshift_crds.names import IdKind, ResultKind
from nightshift_crds.receipts import cost_per_million
from nightshift_crds.reruns import rerun_spec

_GROUP = "nightshift.dev"


def view_of_manifest(manifest: Document) -> BatchView:
    """Read a BatchJob; it is named by its name, as kubectl does."""
    batch = BatchJob.parse(dict(manifest))
    spec, status = batch.spec, batch.status
    ended = status.completed_at or status.failed_at or status.expired_at or status.cancelled_at
    started = status.in_progress_at
    return BatchView(
        ref=batch.metadata.name,
        document=manifest,
        status=batch.visible_phase.lower(),
        endpoint=spec.endpoint,
        created_at=int(batch.created.timestamp()),
        total=status.counts.total,
        completed=status.counts.completed,
        failed=status.counts.failed,
        model=status.model or spec.model,
        input=batch.input_file_id or "",
        expires_at=_seconds(status.deadline),
        output_file_id=status.output_file_id or _file_of(batch, ResultKind.OUTPUT, status.counts.completed),
        error_file_id=status.error_file_id or _file_of(batch, ResultKind.ERROR, status.counts.failed),
        tokens=status.usage.total_tokens if status.usage else None,
        problems=tuple(Problem(found.code, found.message, found.line) for found in status.errors),
        name=names.display_name(spec.metadata),
        is_suspended=spec.suspend,
        conditions=tuple(Condition(c.type, c.status, c.reason, c.message) for c in status.conditions),
        gpu_type=status.gpu_type,
        instance_type=status.instance_type,
        attempt=status.attempt,
        duration_s=(ended - started).total_seconds() if ended and started else None,
        gpu_seconds=status.gpu_seconds,
        cost=_cost_of(status),
        rerun_of=spec.input.rerun_of,
    )


def _cost_of(status: BatchJobStatus) -> Cost | None:
    cost = status.cost
    return Cost(cost.currency, float(cost.total), cost_per_million(cost, status.usage)) if cost else None


def _file_of(batch: BatchJob, kind: ResultKind, lines: int) -> str | None:
    """A result file has its id from its first line on, before the status says so."""
    return batch.result_file_id(kind) if lines else None


def _seconds(moment: datetime | None) -> int | None:
    return int(moment.timestamp()) if moment else None


def view_of_model(manifest: Document) -> ModelView:
    """Read a HostedModel."""
    spec = HostedModel.parse(dict(manifest)).spec
    server = spec.service.url if spec.service else spec.server.image if spec.server else None
    return ModelView(spec.name, manifest, tuple(spec.endpoints), server)


def parse_ref(ref: str) -> tuple[str, str | None]:
    """Read what a person calls a batch: `batch_<uuid>`, a name, or `batchjob/name` as kubectl writes it.

    Gives the name of the BatchJob, and the uid that it may have if a person has named it.
    """
    kind, _, name = ref.rpartition("/")
    if kind in {"", "bj", "batchjob", "batchjobs", f"batchjob.{_GROUP}", f"batchjobs.{_GROUP}"}:
        value = names.parse_id(IdKind.BATCH, name)
        return (names.resource_name(IdKind.BATCH, value), str(value)) if value else (name, None)
    return ref, None


def build_batch(name: str, namespace: str, new: NewBatch) -> dict[str, object]:
    """Build the manifest of a batch, as the API does."""
    source = BatchInput(file_id=new.file_id, uri=new.uri)
    spec = BatchJobSpec(input=source, endpoint=new.endpoint, metadata=dict(new.metadata) or None)
    return BatchJob.build({"name": name, "namespace": namespace}, spec)


def build_rerun(name: str, of: BatchJob, metadata: Mapping[str, str]) -> dict[str, object]:
    """Build the manifest of a batch that runs the rows of another again that have no success; all else is as there."""
    given = {"metadata": dict(metadata)} if metadata else {}
    return BatchJob.build({"name": name, "namespace": of.metadata.namespace}, rerun_spec(of, **given))
