"""Untrusted requests to typed values, with the contract's own codes when they are wrong.

Pure. Pydantic finds the problems; the tables here say which of them is told, and in which words (contract 14).
"""

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails, from_json

from nightshift_api.wire import Wire
from nightshift_crds.errors import Rejected

_W = TypeVar("_W", bound=Wire)

_CODES: Mapping[str, str] = {
    "missing": "missing_required_parameter",
    "greater_than_equal": "integer_below_min_value",
    "less_than_equal": "integer_above_max_value",
    "too_long": "object_above_max_properties",
    "string_too_long": "string_above_max_length",
    "int_parsing_size": "integer_above_max_value",
}
_STAGES: Mapping[str, int] = {"metadata": 3, "output_expires_after": 4, "expires_after": 4}


def parse_body(model: type[_W], body: bytes, context: Mapping[str, Any] | None = None) -> _W:
    """Read a JSON body; the first failure in the order of contract 14 wins. Raises `Rejected`."""
    try:
        fields = from_json(body, allow_inf_nan=False)
    except ValueError:
        raise Rejected("Expected the body to be JSON.") from None
    if not isinstance(fields, dict):
        raise Rejected("Expected the body to be a JSON object.")
    return _validate(model, fields, context, strict=True)


def parse_fields(model: type[_W], fields: Mapping[str, Any]) -> _W:
    """Check the fields of a query or a form, where numbers are spelt as strings. Raises `Rejected`."""
    return _validate(model, fields, None, strict=False)


def _validate(model: type[_W], fields: Mapping[str, Any], context: Mapping[str, Any] | None, *, strict: bool) -> _W:
    try:
        return model.model_validate(fields, strict=strict, context=context)
    except ValidationError as error:
        found = sorted(error.errors(include_url=False), key=_rank)
        raise _rejected(found[0]) from None


def _rank(error: ErrorDetails) -> tuple[int, int]:
    stage = _STAGES.get(str(error["loc"][0]), 2)
    if len(error["loc"]) == 1:
        stage = {"missing_required_parameter": 0, "invalid_type": 1}.get(_code(error), stage)
    return stage, len(error["loc"])


def _code(error: ErrorDetails) -> str:
    kind = error["type"]
    if kind == "literal_error":
        return "invalid_value" if isinstance(error["input"], str) else "invalid_type"
    if kind.endswith(("_type", "_parsing")):
        return "invalid_type"
    return _CODES.get(kind, "invalid_value")


def _rejected(error: ErrorDetails) -> Rejected:
    path = [str(step) for step in error["loc"]]
    param = path[0] if path[2:] == ["[key]"] else ".".join(path)
    return Rejected(f"Invalid '{param}': {_sentence(error)}", code=_code(error), param=param)


def _sentence(error: ErrorDetails) -> str:
    if error["type"] == "missing":
        return "this parameter is required."
    return error["msg"].replace("Input should", "it should").replace("Dictionary should", "it should") + "."
