"""What follows from what is: one pure function, a branch per phase.

Pure: no I/O, no clock, no randomness. Cancel is looked at before all else; `sealing`, once set, leads to the end by
one path whatever the phase. The rules are design 5 and 6; the moves are `lifecycle.TRANSITIONS`.
"""

from datetime import datetime

from nightshift_crds.lifecycle import Phase, Sealing, is_terminal
from nightshift_operator.decisions import Decision
from nightshift_operator.ending import decide_cancelling, decide_sealing, settle, start_cancelling
from nightshift_operator.facts import Observed
from nightshift_operator.receipts import with_receipt
from nightshift_operator.running import decide_running
from nightshift_operator.validating import decide_validating
from nightshift_operator.view import Policy, View


def decide(observed: Observed, now: datetime, policy: Policy) -> Decision:
    """Say what follows from what is; whatever is written says what the batch has used by then."""
    view = View(observed, now.replace(microsecond=0), policy)
    return with_receipt(view, _decide(view))


def _decide(view: View) -> Decision:
    batch = view.observed.batch
    if batch.metadata.deletion_timestamp is not None:
        return Decision()
    if is_terminal(batch.phase):
        return settle(view)
    if batch.spec.cancel_requested and batch.phase is not Phase.CANCELLING:
        return start_cancelling(view)
    if batch.status.sealing is not None:
        return decide_sealing(view)
    return _decide_open(view)


def _decide_open(view: View) -> Decision:
    match view.observed.batch.phase:
        case Phase.VALIDATING:
            return decide_validating(view)
        case Phase.IN_PROGRESS:
            return decide_running(view)
        case Phase.CANCELLING:
            return decide_cancelling(view)
        case _:  # FINALIZING is entered together with `sealing`: a status without it was written by hand
            return view.to(view.sealing(Sealing.COMPLETED))
