"""Spans of batches: one of the whole life, and one of each phase under it.

Nothing of them is remembered: what a span is about gives its ids, and the status its times, to the second. So Jobs can
be told to stand under a phase that is not over yet, and an operator that starts anew goes on where another has ended.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Self

from nightshift_crds.cluster.port import Manifest
from nightshift_crds.lifecycle import TIMESTAMPS, Phase, is_terminal
from nightshift_crds.models import BatchJob, BatchJobStatus
from nightshift_crds.tracing import BATCH_ID, describe_model, from_annotations, to_environ

if TYPE_CHECKING:
    from opentelemetry.trace import Span

    from nightshift_crds.otel import Tracing

_HEADERS = "OTEL_EXPORTER_OTLP_HEADERS"
_NAMESPACE = "k8s.namespace.name"
_PHASE = "nightshift.batch.phase"
_OWN = frozenset({_HEADERS, "OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES"})
"""Variables of the operator that processors do not get: who it is, and the key to the collector, which whoever may read
Jobs could read there."""
_LOST = frozenset({Phase.FAILED, Phase.EXPIRED})


@dataclass(frozen=True)
class Traces:
    """Makes the spans of batches; without `tracing` there are none.

    Attributes:
        variables: by which processors are told where theirs go.
    """

    tracing: "Tracing | None" = None
    variables: tuple[Manifest, ...] = ()

    @classmethod
    def of(cls, tracing: "Tracing | None", environ: Mapping[str, str], headers_secret: str) -> Self:
        """Have processors send theirs where the operator's go; with headers out of a Secret, `NAME/KEY`."""
        passed = {name: text for name, text in environ.items() if name.startswith("OTEL_") and name not in _OWN}
        name, _, key = headers_secret.partition("/")
        reference = {"secretKeyRef": {"name": name, "key": key, "optional": True}}
        headers = [{"name": _HEADERS, "valueFrom": reference}] if name else []
        return cls(tracing, (*_variables(passed), *headers))

    def moved(self, batch: BatchJob, status: BatchJobStatus) -> None:
        """Record what a status has ended that was written, `batch` being as it was before."""
        if self.tracing is None or status.phase is None or status.phase is batch.phase:
            return
        ended_at = getattr(status, TIMESTAMPS[status.phase])
        about: dict[str, str | int] = {BATCH_ID: batch.id, _NAMESPACE: batch.metadata.namespace}
        phase = _phase(self.tracing, batch)
        phase.set_attributes(about | {_PHASE: batch.phase.value})
        self.tracing.end(phase, ended_at)
        if is_terminal(status.phase):
            whole = _whole(self.tracing, batch)
            whole.set_attributes(about | {_PHASE: status.phase.value} | _sum_up(batch, status))
            if status.phase in _LOST:
                self.tracing.fail(whole, status.errors[0].code if status.errors else status.phase.value.lower())
            self.tracing.end(whole, ended_at)

    def variables_for(self, batch: BatchJob) -> list[Manifest]:
        """Tell a processor where its span stands, and where to send it."""
        if self.tracing is None:
            return []
        carrier = self.tracing.carrier_of(_phase(self.tracing, batch))
        resource = {"OTEL_RESOURCE_ATTRIBUTES": f"{_NAMESPACE}={batch.metadata.namespace}"}
        return [*self.variables, *_variables(resource | to_environ(carrier))]

    def ids_of(self, batch: BatchJob) -> dict[str, str]:
        """Name the trace of a batch to the log, if it has one."""
        return {"trace_id": self.tracing.trace_id_of(_whole(self.tracing, batch))} if self.tracing else {}


def _whole(tracing: "Tracing", batch: BatchJob) -> "Span":
    return tracing.plan("batch", from_annotations(batch.metadata.annotations), batch.metadata.uid, batch.created)


def _phase(tracing: "Tracing", batch: BatchJob) -> "Span":
    name, seed = f"batch {batch.phase.value.lower()}", f"{batch.metadata.uid} {batch.phase}"
    return tracing.plan(name, tracing.carrier_of(_whole(tracing, batch)), seed, _entered_at(batch))


def _entered_at(batch: BatchJob) -> datetime:
    entered_at: datetime | None = getattr(batch.status, TIMESTAMPS.get(batch.phase, ""), None)
    return entered_at or batch.created


def _sum_up(batch: BatchJob, status: BatchJobStatus) -> dict[str, str | int]:
    """Say what a batch has come to. Pure."""
    counts, usage = status.counts, status.usage
    tokens = {"input": usage.input_tokens, "output": usage.output_tokens} if usage else {}
    return {
        **describe_model(status.model or "", batch.spec.endpoint),
        "nightshift.batch.total": counts.total,
        "nightshift.batch.completed": counts.completed,
        "nightshift.batch.failed": counts.failed,
        **{f"gen_ai.usage.{kind}_tokens": count for kind, count in tokens.items()},
    }


def _variables(values: Mapping[str, str]) -> list[Manifest]:
    return [{"name": name, "value": text} for name, text in values.items()]
