"""The span of a step, under the one that its Job names in the environment. Requests to the model stand under it.

A run has one span and its lines have none: the header that names it is the same in every request, and costs a line
nothing.
"""

from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

from nightshift_crds.exits import Exit
from nightshift_crds.names import Step
from nightshift_crds.tracing import BATCH_ID, describe_model, from_environ, open_tracing
from nightshift_processor.settings import RunSettings, StepSettings

_FINE = frozenset({Exit.DONE, Exit.DEADLINE, Exit.INTERRUPTED})


def traced(step: Step, settings: StepSettings, environ: Mapping[str, str], work: Callable[[], int]) -> int:
    """Do the work of a step, in a span if traces are asked for; gives its exit code."""
    with open_tracing("processor", environ) as tracing:
        if tracing is None:
            return work()
        kind = "CLIENT" if step is Step.RUN else "INTERNAL"
        with tracing.span(f"processor {step.value}", from_environ(environ), _describe(settings), kind) as span:
            code = work()
            span.set_attribute("process.exit.code", code)
            if code not in _FINE:
                tracing.fail(span, str(code))
        return code


def _describe(settings: StepSettings) -> dict[str, str | int]:
    batch: dict[str, str | int] = {BATCH_ID: settings.batch_id or settings.batch_uid}
    if not isinstance(settings, RunSettings):
        return batch
    url = urlsplit(str(settings.model_url))
    return {
        **batch,
        **describe_model(settings.model, settings.endpoint),
        "server.address": url.hostname or "",
        "server.port": url.port or {"http": 80, "https": 443}[url.scheme],
        "nightshift.attempt": settings.attempt,
        "nightshift.shard": settings.index,
    }
