"""VALIDATING: compare facts about the input, and refuse it or let it run (design 5, step 3).

Pure.
"""

from nightshift_crds.exits import Exit
from nightshift_crds.judgement import batchable_names, find_errors, find_model, is_judged
from nightshift_crds.lifecycle import Phase, Sealing
from nightshift_crds.models import BatchError, CheckedInput, FilePhase, HostedModel, RestVerdict, StoredFile, Verdict
from nightshift_crds.names import ResultKind, Step
from nightshift_crds.records import State, counts_of
from nightshift_operator.conditions import Kind, Reason, Says, explain_step, no, yes
from nightshift_operator.decisions import (
    Action,
    CreateJob,
    CreateResultFiles,
    Decision,
    Event,
    EventReason,
    ShowResultFile,
)
from nightshift_operator.facts import Job, JobState, Observed
from nightshift_operator.placement import find_scheduling_errors
from nightshift_operator.reruns import find_origin_problem, is_early
from nightshift_operator.view import INTERNAL, View

_INPUT_PARAM = "input_file_id"
_MAX_SLICES = 1_024
"""As many as `status.slices` may say: each is an object that readers of a running batch look at."""
_LINES_OF_A_SLICE = 50
"""Below this the claims of slices cost more than they even out."""
_UNREADABLE = "The input cannot be read, or a file of the batch that is to be run again."
_TOO_LATE = "The window passed before the input was checked; nothing ran."


def decide_validating(view: View) -> Decision:
    """Say what follows for a batch whose input has not been accepted yet."""
    observed = view.observed
    spec, limits = observed.batch.spec, view.policy.limits
    problem = _input_problem(observed)
    if problem:
        return _refuse(view, [problem])
    if is_early(observed):
        return _wait_for_origin(view)
    if observed.verdict is None or not is_judged(observed.verdict, spec.endpoint, limits):
        return _inspect(view)
    known = batchable_names(observed.models, spec.endpoint)
    errors = find_errors(observed.verdict, spec.endpoint, known, limits)
    errors = errors or _model_errors(spec.model, observed.verdict, spec.endpoint)
    if errors:
        return _refuse(view, errors)
    model = find_model(observed.models, observed.verdict.endpoints[spec.endpoint].models[0].name, spec.endpoint)
    assert model is not None, "find_errors has looked for it"
    errors = find_scheduling_errors(observed.batch, model)
    return _refuse(view, errors) if errors else _accept(view, observed.verdict, model)


def _input_problem(observed: Observed) -> BatchError | None:
    if observed.batch.spec.input.rerun_of is not None:
        return find_origin_problem(observed)
    if observed.batch.spec.input.file_id is not None:
        message = _file_problem(observed.input_file)
        return _input_error(message) if message else None
    if observed.input_key is None:
        return _input_error("Expected an input below a prefix of the bucket that this namespace may read.")
    return None


def _file_problem(file: StoredFile | None) -> str | None:
    if file is None or file.status.phase is None:
        return "The input file does not exist."
    if file.spec.purpose != "batch" or file.status.phase is not FilePhase.READY:
        return "Expected a file with the purpose 'batch'."
    return None


def _input_error(message: str) -> BatchError:
    return BatchError(code="invalid_request", message=message, param=_INPUT_PARAM)


def _model_errors(wanted: str | None, verdict: Verdict, endpoint: str) -> list[BatchError]:
    if wanted is None or wanted == verdict.endpoints[endpoint].models[0].name:
        return []
    message = "Expected the lines to name the model that the batch names."
    return [BatchError(code="mismatched_model", message=message, param="model")]


def _wait_for_origin(view: View) -> Decision:
    text = "The batch that is to be run again has not ended yet."
    return _wait(view, Says(Kind.VALIDATED, holds=None, reason=Reason.WAITING_FOR_BATCH, message=text))


def _inspect(view: View) -> Decision:
    job = view.observed.inspect
    if job is not None and job.state is not JobState.ACTIVE and not view.is_late:
        return _refuse(view, [_inspect_error(job)])
    text = "A Job checks the lines of the input before any of them is sent."
    says = Says(Kind.VALIDATED, holds=None, reason=Reason.INSPECTING, message=text)
    if job is None:
        return _wait(view, says, CreateJob(Step.INSPECT))
    return _wait(view, explain_step(says, job))


def _wait(view: View, says: Says, *actions: Action) -> Decision:
    if view.is_late:
        return view.end(Phase.EXPIRED, view.stamped(), _TOO_LATE)
    status = view.saying(view.stamped(), says)
    after_s = min(view.policy.progress_interval_s, view.until_deadline_s)
    return view.waiting(status, *actions, after_s=after_s)


def _inspect_error(job: Job) -> BatchError:
    return _input_error(_UNREADABLE) if Exit.BAD_INPUT in job.exit_codes else INTERNAL


def _refuse(view: View, errors: list[BatchError]) -> Decision:
    found = f"The input has {len(errors)} error{'s' * (len(errors) != 1)}: {errors[0].message}"
    text = f"{found} Correct it and create another batch; status.errors has all."
    status = view.saying(view.stamped(), no(Kind.VALIDATED, Reason.INPUT_REFUSED, text))
    return view.end(Phase.FAILED, status.model_copy(update={"errors": errors}), text)


def count_slices(lines: int, shards: int, per_shard: int) -> int:
    """Count the slices of a batch: several for each of several shards, and at least one, as far as there are lines."""
    if shards == 1:
        return 1
    wanted = min(shards * per_shard, lines // _LINES_OF_A_SLICE, _MAX_SLICES)
    return max(wanted, min(shards, lines))


def _accept(view: View, verdict: Verdict, model: HostedModel) -> Decision:
    observed = view.observed
    reused = verdict.reused if isinstance(verdict, RestVerdict) else None
    update = {
        "model": model.spec.name,
        "counts": counts_of(State(), verdict.lines + (reused or 0), reused or 0),
        "gpu_seconds": 0,
        "pricing": model.spec.pricing,
        "reused": reused,
        "input": CheckedInput(key=observed.input_key or "", bytes=verdict.bytes, crc32c=verdict.crc32c),
        "slices": count_slices(verdict.lines, model.spec.shards, view.policy.slices_per_shard),
        "order": view.policy.order,
    }
    text = f"{verdict.lines} line{'s' * (verdict.lines != 1)} can be run."
    status = view.saying(view.stamped(), yes(Kind.VALIDATED, Reason.INPUT_ACCEPTED, text)).model_copy(update=update)
    actions = _result_files(verdict)
    if view.is_late:
        return view.to(status.model_copy(update={"sealing": Sealing.EXPIRED}), *actions)
    status = view.entering(Phase.IN_PROGRESS, status.model_copy(update={"attempt": 1}))
    return view.to(status, *actions, event=Event(EventReason.IN_PROGRESS, text))


def _result_files(verdict: Verdict) -> list[Action]:
    """Make the result files known; the one for output is shown at once if it has lines already."""
    if not isinstance(verdict, RestVerdict) or not verdict.reused:
        return [CreateResultFiles()]
    return [CreateResultFiles(verdict.reused), ShowResultFile(ResultKind.OUTPUT, verdict.reused_bytes)]
