"""How batches and models are written: columns for people, or what the server said as JSON or YAML.

Pure but for the YAML library, which is imported where it is used. Names come from users: they must not steer the
terminal.
"""

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, TypeVar

from nightshift_cli.views import BatchView, Cost, Document, ModelView

_T = TypeVar("_T")
NONE = "-"
_NAME_CHARS = 32
_PROBLEMS_SHOWN = 5
_MINUTE_S, _HOUR_S, _DAY_S = 60, 3_600, 86_400


class Form(StrEnum):
    """How an answer is written (`-o`)."""

    TABLE = "table"
    WIDE = "wide"
    JSON = "json"
    YAML = "yaml"
    NAME = "name"


def printable(text: str) -> str:
    """Replace what could steer a terminal."""
    return "".join(char if char.isprintable() else "?" for char in text)


def render_span(seconds: float) -> str:
    """Write a span of time for people."""
    whole = round(seconds)
    if whole < _MINUTE_S:
        return f"{whole} s"
    minutes = round(seconds / _MINUTE_S)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def render_age(seconds: float) -> str:
    """Write a span of time for a column, as kubectl does."""
    whole = max(int(seconds), 0)
    if whole < _MINUTE_S:
        return f"{whole}s"
    if whole < _HOUR_S:
        return f"{whole // _MINUTE_S}m"
    if whole < _DAY_S:
        return f"{whole // _HOUR_S}h{whole % _HOUR_S // _MINUTE_S}m"
    return f"{whole // _DAY_S}d"


def render_rate(per_s: float) -> str:
    """Write how many lines end in a time."""
    return f"{per_s:.1f}/s" if per_s >= 1 else f"{per_s * 60:.1f}/min"


def render_cost(cost: Cost) -> str:
    """Write an amount of money; small ones keep two digits that count."""
    amount = f"{cost.total:.2f}" if cost.total == 0 or cost.total >= 1 else f"{cost.total:.2g}"
    return f"{amount} {printable(cost.currency)}"


def render_time(seconds: float) -> str:
    """Write a moment, in UTC as Kubernetes does."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def render_status(batch: BatchView) -> str:
    """Write the status, and whether it is held back."""
    return f"{batch.status},suspended" if batch.is_suspended and not batch.has_ended else batch.status


def _maybe(render: Callable[[Any], str], value: object) -> str:
    return NONE if value is None or value == "" else render(value)


def _short(name: str) -> str:
    shown = printable(name)
    return shown if len(shown) <= _NAME_CHARS else f"{shown[: _NAME_CHARS - 1]}…"


# --- tables -----------------------------------------------------------------------------------------------------------

_Column = tuple[str, Callable[[_T, float], str]]
_BATCHES: tuple[_Column[BatchView], ...] = (
    ("BATCH", lambda batch, _: batch.ref),
    ("NAME", lambda batch, _: _maybe(_short, batch.name)),
    ("STATUS", lambda batch, _: render_status(batch)),
    ("DONE", lambda batch, _: str(batch.completed)),
    ("FAILED", lambda batch, _: str(batch.failed)),
    ("TOTAL", lambda batch, _: str(batch.total)),
    ("MODEL", lambda batch, _: _maybe(printable, batch.model)),
    ("AGE", lambda batch, now: render_age(now - batch.created_at)),
)
_WIDE: tuple[_Column[BatchView], ...] = (
    ("ENDPOINT", lambda batch, _: batch.endpoint),
    ("RATE", lambda batch, _: _maybe(render_rate, batch.rate)),
    ("ETA", lambda batch, _: _maybe(render_age, batch.eta_s)),
    ("TOKENS", lambda batch, _: _maybe(str, batch.tokens)),
    ("COST", lambda batch, _: _maybe(render_cost, batch.cost)),
    ("GPU", lambda batch, _: _maybe(printable, batch.gpu_type)),
    ("INSTANCE", lambda batch, _: _maybe(printable, batch.instance_type)),
    ("ATTEMPT", lambda batch, _: _maybe(str, batch.attempt)),
    ("DEADLINE", lambda batch, _: _maybe(render_time, batch.expires_at)),
    ("INPUT", lambda batch, _: _maybe(printable, batch.input)),
)
_MODELS: tuple[_Column[ModelView], ...] = (("MODEL", lambda model, _: printable(model.name)),)
_WIDE_MODELS: tuple[_Column[ModelView], ...] = (
    ("ENDPOINTS", lambda model, _: ",".join(model.endpoints) or NONE),
    ("SERVER", lambda model, _: _maybe(printable, model.server)),
)


def render_batches(batches: Sequence[BatchView], now: float, *, is_wide: bool = False) -> str:
    """Write a row for each batch; `now` is in Unix seconds."""
    return _render_table(batches, _BATCHES + _WIDE if is_wide else _BATCHES, now)


def render_models(models: Sequence[ModelView], *, is_wide: bool = False) -> str:
    """Write a row for each model."""
    return _render_table(models, _MODELS + _WIDE_MODELS if is_wide else _MODELS, 0)


def _render_table(items: Sequence[_T], columns: tuple[_Column[_T], ...], now: float) -> str:
    """Put columns as wide as they must be, two spaces apart, so that `awk` and people read them alike."""
    rows = [[title for title, _ in columns], *([render(item, now) for _, render in columns] for item in items)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


# --- one batch --------------------------------------------------------------------------------------------------------


def render_details(batch: BatchView, now: float) -> str:
    """Write all that there is to say of a batch, a line each."""
    facts: tuple[tuple[str, str], ...] = (
        ("Batch", batch.ref),
        ("Name", _maybe(printable, batch.name)),
        ("Status", render_status(batch)),
        ("Lines", f"{batch.completed} completed, {batch.failed} failed of {batch.total}"),
        ("Model", _maybe(printable, batch.model)),
        ("Endpoint", batch.endpoint),
        ("Input", _maybe(printable, batch.input)),
        ("Output file", _maybe(str, batch.output_file_id)),
        ("Error file", _maybe(str, batch.error_file_id)),
        ("Created", f"{render_time(batch.created_at)} ({render_age(now - batch.created_at)} ago)"),
        ("Deadline", _maybe(render_time, batch.expires_at)),
        ("Duration", _maybe(render_span, batch.duration_s)),
        ("Rate", _maybe(render_rate, batch.rate)),
        ("Time left", _maybe(render_span, batch.eta_s)),
        ("Tokens", _maybe(str, batch.tokens)),
        ("Cost", _maybe(_render_full_cost, batch.cost)),
        ("GPU", _maybe(printable, batch.gpu_type)),
        ("GPU time", _maybe(render_span, batch.gpu_seconds)),
        ("Instance", _maybe(printable, batch.instance_type)),
        ("Attempt", _maybe(str, batch.attempt)),
        ("Rerun of", _maybe(str, batch.rerun_of)),
    )
    conditions = [
        f"{found.type}={found.status} {found.reason}: {printable(found.message)}" for found in batch.conditions
    ]
    lines = [f"{f'{title}:':<13}{text}" for title, text in facts]
    return "\n".join([*lines, *_section("Conditions", conditions), *_section("Errors", render_problems(batch))])


def _render_full_cost(cost: Cost) -> str:
    per_million = cost.per_million_tokens
    shown = render_cost(cost)
    return shown if per_million is None else f"{shown}, {per_million:.2g} per million tokens"


def _section(title: str, lines: Sequence[str]) -> list[str]:
    return [f"{title}:", *(f"  {line}" for line in lines)] if lines else []


def render_problems(batch: BatchView) -> list[str]:
    """Write the first reasons why a batch failed."""
    return [
        f"{f'line {found.line}: ' if found.line else ''}{printable(found.message)} [{found.code}]"
        for found in batch.problems[:_PROBLEMS_SHOWN]
    ]


# --- for programs -----------------------------------------------------------------------------------------------------


def render_document(document: Document, form: Form) -> str:
    """Write what the server said as JSON or YAML."""
    if form is Form.YAML:
        import yaml  # noqa: PLC0415 - for those who ask for it

        return str(yaml.safe_dump(document, sort_keys=False, allow_unicode=True)).rstrip()
    return json.dumps(document, indent=2, ensure_ascii=False)
