"""What is shown of a batch and of a model, whoever was asked: one shape for the API's objects and for manifests.

Pure. The API's objects are read here; manifests, which need the resources' models, in `manifests`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nightshift_cli.exits import ENDS
from nightshift_crds.names import display_name

Document = Mapping[str, Any]


@dataclass(frozen=True)
class Problem:
    """Why a batch failed; `line` is None for what concerns the whole input."""

    code: str
    message: str
    line: int | None = None


@dataclass(frozen=True)
class Condition:
    """Something that holds of a batch or not, in words."""

    type: str
    status: str
    reason: str
    message: str


@dataclass(frozen=True)
class Cost:
    """What a batch costs, in the installation's own currency."""

    currency: str
    total: float
    per_million_tokens: float | None = None


@dataclass(frozen=True, kw_only=True)
class BatchView:
    """A batch as it was when the server was asked. Times are Unix seconds, and spans seconds.

    Attributes:
        ref: what every command takes for this batch: its id, or the name of its BatchJob.
        document: what the server said.
        input: id of the input file, or its URL.
        rate: lines that end in a second; None where the server does not say.
    """

    ref: str
    document: Document
    status: str
    endpoint: str
    created_at: int
    total: int = 0
    completed: int = 0
    failed: int = 0
    model: str | None = None
    input: str = ""
    expires_at: int | None = None
    output_file_id: str | None = None
    error_file_id: str | None = None
    tokens: int | None = None
    problems: tuple[Problem, ...] = ()
    name: str | None = None
    is_suspended: bool = False
    conditions: tuple[Condition, ...] = ()
    gpu_type: str | None = None
    instance_type: str | None = None
    attempt: int | None = None
    duration_s: float | None = None
    rate: float | None = None
    eta_s: float | None = None
    gpu_seconds: float | None = None
    cost: Cost | None = None
    rerun_of: str | None = None

    @property
    def has_ended(self) -> bool:
        """Whether nothing will change any more."""
        return self.status in ENDS

    @property
    def done(self) -> int:
        """Lines that have an outcome."""
        return self.completed + self.failed


@dataclass(frozen=True)
class ModelView:
    """A model that batches may name."""

    name: str
    document: Document
    endpoints: tuple[str, ...] = ()
    server: str | None = None


def view_of_api(batch: Document) -> BatchView:
    """Read a batch object; a server without `x_details`, and one without some of them, is none the worse."""
    details = batch.get("x_details") or {}
    counts = batch.get("request_counts") or {}
    return BatchView(
        ref=batch["id"],
        document=batch,
        status=batch["status"],
        endpoint=batch["endpoint"],
        created_at=batch["created_at"],
        total=counts.get("total", 0),
        completed=counts.get("completed", 0),
        failed=counts.get("failed", 0),
        model=batch.get("model"),
        input=batch["input_file_id"],
        expires_at=batch.get("expires_at"),
        output_file_id=batch.get("output_file_id"),
        error_file_id=batch.get("error_file_id"),
        tokens=(batch.get("usage") or {}).get("total_tokens"),
        problems=tuple(_problem(found) for found in (batch.get("errors") or {}).get("data") or ()),
        name=details.get("name") or display_name(batch.get("metadata")),
        is_suspended=bool(details.get("suspended")),
        conditions=tuple(_condition(found) for found in details.get("conditions") or ()),
        cost=_cost(details.get("cost")),
        **{key: details.get(key) for key in _PLAIN},
    )


_PLAIN = ("gpu_type", "instance_type", "attempt", "duration_s", "rate", "eta_s", "gpu_seconds", "rerun_of")
"""What has one name and one meaning in `x_details` and here."""


def _problem(found: Document) -> Problem:
    return Problem(found.get("code") or "", found.get("message") or "", found.get("line"))


def _condition(found: Document) -> Condition:
    return Condition(found["type"], found["status"], found["reason"], found.get("message") or "")


def _cost(found: Document | None) -> Cost | None:
    return Cost(found["currency"], found["total"], found.get("per_million_tokens")) if found else None
