"""The life of a batch as a table, and the only place that may name legal moves.

Pure. The CEL rules of the CRD, the diagram in `docs/lifecycle.md` and the tests are drawn from here.
Source of the table: contract 5. `phase` is our enum; the API shows it in lower case as `status`.
"""

from collections.abc import Mapping
from enum import StrEnum


class Phase(StrEnum):
    """Where a batch stands. The operator sets every phase; the API only asks, by `spec`."""

    VALIDATING = "VALIDATING"
    """A new BatchJob. Facts about its input move it on."""
    IN_PROGRESS = "IN_PROGRESS"
    """The input is valid and a Job sends it. The end of every slice moves it on."""
    FINALIZING = "FINALIZING"
    """Every line has an outcome. The manifest of the seal Job moves it on."""
    CANCELLING = "CANCELLING"
    """A cancel was accepted. The end of the teardown and the seal move it on."""
    COMPLETED = "COMPLETED"
    """The files are sealed; single requests may have failed. Nothing moves it on."""
    FAILED = "FAILED"
    """The input was refused, or the batch could not go on. Nothing moves it on."""
    EXPIRED = "EXPIRED"
    """The window passed first; what ran is kept. Nothing moves it on."""
    CANCELLED = "CANCELLED"
    """Torn down; what ran is kept. Nothing moves it on."""


class Sealing(StrEnum):
    """Why the files of a batch are sealed. Set once, before a seal Job exists, and never changed."""

    COMPLETED = "completed"
    """Every line has an outcome."""
    CANCELLED = "cancelled"
    """Rows that never ran are written as `batch_cancelled`."""
    EXPIRED = "expired"
    """Rows that never ran are written as `batch_expired`."""
    FAILED = "failed"
    """The batch could not go on; rows that never ran are not written."""


TRANSITIONS: Mapping[Phase, frozenset[Phase]] = {
    Phase.VALIDATING: frozenset({Phase.IN_PROGRESS, Phase.FAILED, Phase.EXPIRED, Phase.CANCELLING}),
    Phase.IN_PROGRESS: frozenset({Phase.FINALIZING, Phase.FAILED, Phase.EXPIRED, Phase.CANCELLING}),
    Phase.FINALIZING: frozenset({Phase.COMPLETED, Phase.FAILED, Phase.CANCELLING}),
    Phase.CANCELLING: frozenset({Phase.CANCELLED}),
    Phase.COMPLETED: frozenset(),
    Phase.FAILED: frozenset(),
    Phase.EXPIRED: frozenset(),
    Phase.CANCELLED: frozenset(),
}

TERMINAL = frozenset(phase for phase, successors in TRANSITIONS.items() if not successors)

TIMESTAMPS: Mapping[Phase, str] = {
    Phase.IN_PROGRESS: "in_progress_at",
    Phase.FINALIZING: "finalizing_at",
    Phase.CANCELLING: "cancelling_at",
    Phase.COMPLETED: "completed_at",
    Phase.FAILED: "failed_at",
    Phase.EXPIRED: "expired_at",
    Phase.CANCELLED: "cancelled_at",
}
"""The status field that entering a phase sets, once. VALIDATING has the creation timestamp."""


def can_move(before: Phase | None, after: Phase) -> bool:
    """Tell whether a status write may take a batch from one phase to another; staying is always legal.

    A batch without a phase is one that the operator has not seen yet: it is VALIDATING.
    """
    before = before or Phase.VALIDATING
    return after is before or after in TRANSITIONS[before]


def is_terminal(phase: Phase | None) -> bool:
    """Tell whether nothing can move a batch on any more."""
    return phase in TERMINAL


def render_diagram() -> str:
    """Draw the table as a Mermaid state diagram."""
    moves = [f"    {a} --> {b}" for a, successors in TRANSITIONS.items() for b in sorted(successors)]
    ends = [f"    {phase} --> [*]" for phase in TRANSITIONS if phase in TERMINAL]
    return "\n".join(["stateDiagram-v2", f"    [*] --> {Phase.VALIDATING}", *moves, *ends])
