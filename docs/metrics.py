"""The metrics of every role, as the code declares them: `docs/metrics.md` is written from this."""

from typing import Any

from nightshift_api.metrics import Metrics as ApiMetrics
from nightshift_crds.metering import MeteredBucket, MeteredCluster
from nightshift_crds.metrics import Declared
from nightshift_operator.metrics import Metrics as OperatorMetrics
from nightshift_processor.metrics import RunPage
from nightshift_processor.settings import RunSettings
from nightshift_processor.tally import Tally

_NOBODY: Any = None
_HEAD = """Each role shows those of its process too (`process_cpu_seconds_total`, `process_resident_memory_bytes`, ...).
What they are for, the dashboard and the alerts: [monitoring](monitoring.md).
"""


def declared() -> dict[str, list[Declared]]:
    """List the metrics of each role."""
    api, operator = ApiMetrics(), OperatorMetrics()
    operator.watch_queue(lambda: 0, lambda: 0.0)
    for page in (api.page, operator.page):
        MeteredCluster(_NOBODY, page)
        MeteredBucket(_NOBODY, page)
    run = RunPage(Tally(), RunSettings.model_construct(model="", max_concurrency=1))
    return {
        "nightshift-api": api.page.declared,
        "nightshift-operator": operator.page.declared,
        "nightshift-processor run": run.declared,
    }


def render_metrics() -> str:
    """Write the page."""
    parts = [_HEAD]
    for role, metrics in declared().items():
        rows = [f"| `{m.name}` | {m.kind} | {_labels(m)} | {m.meaning} |" for m in metrics]
        parts += [f"## {role}\n", "| metric | type | labels | meaning |", "| --- | --- | --- | --- |", *rows, ""]
    return "\n".join(parts)


def _labels(metric: Declared) -> str:
    return ", ".join(f"`{label}`" for label in metric.labels)
