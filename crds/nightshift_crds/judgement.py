"""Whether an input can be run: facts about its lines against limits and catalogue (contract 8).

The operator judges a batch by it, and `nightshift check` a file that nobody has uploaded yet. Pure. Each line has at
most one error; errors are in order of lines and capped, with a last entry that counts the rest.
"""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from nightshift_crds.lines import EMBEDDINGS
from nightshift_crds.models import MAX_ERRORS, BatchError, EndpointVerdict, HostedModel, ModelLines, Verdict


@dataclass(frozen=True)
class Limits:
    """What an input may be; see the settings of the same names."""

    max_file_bytes: int
    max_lines: int
    max_embedding_inputs: int


def find_errors(verdict: Verdict, endpoint: str, known: Collection[str], limits: Limits) -> list[BatchError]:
    """List what is wrong with an input for a batch on an endpoint; an empty list accepts it.

    The verdict must hold the endpoint, unless the input is refused as a whole. `known` names the models that batches on
    the endpoint can use.
    """
    whole = _find_file_error(verdict, endpoint, limits)
    if whole:
        return [whole]
    found = verdict.endpoints[endpoint]
    refused = list(_refused_models(found, known))
    by_model = [_model_error(code, line) for lines, code in refused for line in lines.lines]
    by_line = sorted([*found.errors, *by_model], key=lambda error: error.line or 0)
    return _capped(by_line, found.error_count + sum(lines.count for lines, _ in refused))


def batchable_names(models: Iterable[HostedModel], endpoint: str) -> frozenset[str]:
    """Name the models of a catalogue that batches on an endpoint can use."""
    return frozenset(model.spec.name for model in models if is_batchable(model, endpoint))


def find_model(models: Iterable[HostedModel], name: str, endpoint: str) -> HostedModel | None:
    """Find the model that a line names; None if there is none that can be batched on the endpoint."""
    return next((model for model in models if model.spec.name == name and is_batchable(model, endpoint)), None)


def is_batchable(model: HostedModel, endpoint: str) -> bool:
    """Tell whether batches on an endpoint can use a model."""
    return endpoint in model.spec.endpoints


def is_judged(verdict: Verdict, endpoint: str, limits: Limits) -> bool:
    """Tell whether a verdict is enough to decide on."""
    return endpoint in verdict.endpoints or _find_file_error(verdict, endpoint, limits) is not None


def _find_file_error(verdict: Verdict, endpoint: str, limits: Limits) -> BatchError | None:
    if verdict.bytes > limits.max_file_bytes:
        message = f"The input file has {verdict.bytes} bytes; the limit is {limits.max_file_bytes}."
        return BatchError(code="file_too_large", message=message)
    if verdict.lines == 0:
        return BatchError(code="empty_file", message="The input file has no request lines.")
    if verdict.lines > limits.max_lines:
        message = f"The input file has {verdict.lines} request lines; the limit is {limits.max_lines}."
        return BatchError(code="too_many_tasks", message=message)
    if endpoint == EMBEDDINGS and verdict.embedding_inputs > limits.max_embedding_inputs:
        message = f"The input file has {verdict.embedding_inputs} inputs; the limit is {limits.max_embedding_inputs}."
        return BatchError(code="too_many_embedding_inputs", message=message)
    return None


_MODEL_MESSAGES = {
    "model_not_found": "Expected 'body.model' to be a model that can be batched on this endpoint.",
    "mismatched_model": "Expected 'body.model' to be the model of the first line: a batch has one model.",
}


def _model_error(code: str, line: int) -> BatchError:
    return BatchError(code=code, message=_MODEL_MESSAGES[code], param="body.model", line=line)


def _refused_models(found: EndpointVerdict, known: Collection[str]) -> Iterator[tuple[ModelLines, str]]:
    """Give the lines that name a model which cannot run, and why; past the eighth, models are not told apart."""
    for position, lines in enumerate(found.models):
        if lines.name not in known:
            yield lines, "model_not_found"
        elif position:
            yield lines, "mismatched_model"
    if found.other_models:
        yield found.other_models, "mismatched_model"


def _capped(errors: list[BatchError], count: int) -> list[BatchError]:
    kept = errors[:MAX_ERRORS]
    if count <= len(kept):
        return kept
    left_out = count - len(kept)
    message = f"{left_out} more {'line has an error' if left_out == 1 else 'lines have errors'} and are not listed."
    return [*kept, BatchError(code="too_many_errors", message=message)]
