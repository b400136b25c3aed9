"""What goes over the wire: OpenAI's objects as pydantic models, field by field as contract 3, 4 and 6 have them.

Pure. `/openapi.json` is generated from these, and every response is one of these, so that it is true.
"""

import re
from typing import Annotated, Any, Generic, Literal, TypeVar, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo
from pydantic_core import PydanticCustomError

from nightshift_crds.models import MAX_EXPIRY_S, MAX_METADATA_PAIRS, MIN_EXPIRY_S, MetadataValue
from nightshift_crds.names import IdKind

MAX_BATCHES_PER_PAGE = 100
MAX_FILES_PER_PAGE = 10_000
ENDPOINTS = "endpoints"
_INTEGER = re.compile("-?[0-9]+")


class Wire(BaseModel):
    """A JSON object of the contract; an answer has all its keys, always (contract 1.7)."""

    model_config = ConfigDict(
        frozen=True, use_attribute_docstrings=True, json_schema_serialization_defaults_required=True
    )


def id_pattern(kind: IdKind) -> str:
    """Give the pattern of the ids of a kind. Pure."""
    return f"^{kind}_[0-9a-f]{{8}}(-[0-9a-f]{{4}}){{3}}-[0-9a-f]{{12}}$"


def _described(**words: object) -> Any:
    """Describe a field further than it is validated: what an id cannot be is answered by 404, and not by 400."""
    return Field(json_schema_extra=words)  # type: ignore[arg-type]


FileId = Annotated[str, _described(pattern=id_pattern(IdKind.FILE))]
BatchId = Annotated[str, _described(pattern=id_pattern(IdKind.BATCH))]
UploadId = Annotated[str, _described(pattern=id_pattern(IdKind.UPLOAD))]
PartId = Annotated[str, _described(pattern=id_pattern(IdKind.PART))]


# --- requests ---------------------------------------------------------------------------------------------------------


def _read_integer(value: object) -> object:
    if isinstance(value, str) and not _INTEGER.fullmatch(value):
        raise PydanticCustomError("int_parsing", "it should be an integer, written in digits")
    return int(value) if isinstance(value, float) and value.is_integer() else value


Integer = BeforeValidator(_read_integer)
"""In a query or a form pydantic alone would also take `1.0`, `1_0` and ` 1`; in JSON `1.0` is the integer 1."""


class ExpiresAfter(Wire):
    """When a file shall go."""

    anchor: Literal["created_at"]
    seconds: Annotated[int, Field(ge=MIN_EXPIRY_S, le=MAX_EXPIRY_S), Integer]


MetadataKey = Annotated[str, Field(max_length=64)]


def _check_endpoint(endpoint: str, info: ValidationInfo) -> str:
    assert info.context is not None
    allowed = info.context[ENDPOINTS]
    if endpoint not in allowed:
        raise PydanticCustomError("unsupported", "it should be one of {allowed}", {"allowed": ", ".join(allowed)})
    return endpoint


class CreateBatch(Wire):
    """Body of `POST /batches`; which endpoints there are is said by the context of its validation."""

    input_file_id: FileId
    endpoint: Annotated[str, AfterValidator(_check_endpoint)]
    completion_window: Literal["24h"]
    metadata: Annotated[dict[MetadataKey, MetadataValue], Field(max_length=MAX_METADATA_PAIRS)] | None = None
    output_expires_after: ExpiresAfter | None = None


class RerunBatch(Wire):
    """Body of `POST /batches/{batch_id}/rerun`, which may be left out: what is not here is as it was."""

    metadata: Annotated[dict[MetadataKey, MetadataValue], Field(max_length=MAX_METADATA_PAIRS)] | None = None
    output_expires_after: ExpiresAfter | None = None


MAX_IDEMPOTENCY_KEY_CHARS = 255
"""What other APIs with this header allow; a key is stored as its digest, so a longer one would cost nothing more."""


class Idempotent(Wire):
    """Header of a call that can be sent again safely."""

    idempotency_key: Annotated[
        Annotated[str, Field(min_length=1, max_length=MAX_IDEMPOTENCY_KEY_CHARS)] | None, Field(alias="Idempotency-Key")
    ] = None


MORE = "Nightshift-More"
"""Header of a download: `true` while a batch still writes to the file, `false` once it is whole."""


class Ranged(Wire):
    """Headers of a download that asks for a part of a file."""

    range: Annotated[str | None, Field(alias="Range")] = None
    if_range: Annotated[str | None, Field(alias="If-Range")] = None


BatchStatus = Literal[
    "validating", "failed", "in_progress", "finalizing", "completed", "expired", "cancelling", "cancelled"
]
_STATUS = "|".join(get_args(BatchStatus))
MAX_SEARCH_CHARS = 100


class ListBatches(Wire):
    """Query of `GET /batches`; `status` (one, or several with commas) and `search` are more than OpenAI has."""

    limit: Annotated[int, Field(ge=1, le=MAX_BATCHES_PER_PAGE), Integer] = 20
    after: BatchId | None = None
    status: Annotated[str, Field(pattern=f"^({_STATUS})(,({_STATUS}))*$")] | None = None
    search: Annotated[str, Field(min_length=1, max_length=MAX_SEARCH_CHARS)] | None = None


class ListFiles(Wire):
    """Query of `GET /files`."""

    purpose: str | None = None
    limit: Annotated[int, Field(ge=1, le=MAX_FILES_PER_PAGE), Integer] = MAX_FILES_PER_PAGE
    order: Literal["asc", "desc"] = "desc"
    after: FileId | None = None


class CreateFile(Wire):
    """Form of `POST /files`, besides the bytes."""

    purpose: Literal["batch"]
    expires_after: ExpiresAfter | None = None


class CreateUpload(Wire):
    """Body of `POST /uploads`; `mime_type` is free text, and what it says changes nothing."""

    bytes: Annotated[int, Field(ge=1), Integer]
    filename: str
    mime_type: str
    purpose: Literal["batch"]
    expires_after: ExpiresAfter | None = None


class CreatePart(Wire):
    """Form of `POST /uploads/{upload_id}/parts`, besides the bytes: nothing."""


class CompleteUpload(Wire):
    """Body of `POST /uploads/{upload_id}/complete`."""

    part_ids: Annotated[list[PartId], _described(minItems=1, uniqueItems=True)]
    md5: Annotated[str, _described(pattern="^[0-9a-fA-F]{32}$")] | None = None


# --- responses --------------------------------------------------------------------------------------------------------


class FileObject(Wire):
    """A file."""

    id: FileId
    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    expires_at: int | None
    filename: str
    purpose: str
    status: Literal["uploaded", "processed", "error"]
    status_details: str | None = None


class DeletedFile(Wire):
    """Answer of `DELETE /files/{id}`."""

    id: FileId
    object: Literal["file"] = "file"
    deleted: Literal[True] = True


UploadStatus = Literal["pending", "completed", "cancelled", "expired"]


class UploadObject(Wire):
    """An upload that comes by parts."""

    id: UploadId
    object: Literal["upload"] = "upload"
    bytes: int
    created_at: int
    expires_at: int
    filename: str
    purpose: str
    status: UploadStatus
    file: FileObject | None


class UploadPart(Wire):
    """A part of an upload."""

    id: PartId
    object: Literal["upload.part"] = "upload.part"
    created_at: int
    upload_id: UploadId


class LineProblem(Wire):
    """Why a batch failed validation."""

    code: str
    message: str
    param: str | None
    line: int | None


class LineProblems(Wire):
    """All that validation found, up to a cap."""

    object: Literal["list"] = "list"
    data: list[LineProblem]


class RequestCounts(Wire):
    """Request lines of a batch."""

    total: int
    completed: int
    failed: int


class InputDetails(Wire):
    """Part of the input tokens."""

    cached_tokens: int


class OutputDetails(Wire):
    """Part of the output tokens."""

    reasoning_tokens: int


class BatchUsage(Wire):
    """Tokens of the successful lines."""

    input_tokens: int
    input_tokens_details: InputDetails
    output_tokens: int
    output_tokens_details: OutputDetails
    total_tokens: int


class ResourceName(Wire):
    """Which BatchJob a batch is."""

    namespace: str
    name: str


class BatchCondition(Wire):
    """One thing that holds of a batch or not; see `docs/conditions.md`."""

    type: str
    status: Literal["True", "False", "Unknown"]
    reason: str
    message: str
    last_transition_time: int


class BatchCost(Wire):
    """What a batch has cost so far, to a millionth of the currency."""

    currency: str
    total: float
    per_million_tokens: float | None
    """The total over all tokens, however it came about; null while there are none."""


class BatchDetails(Wire):
    """What OpenAI's object has no field for (contract 15). Lists show what the status of the batch has."""

    name: str | None
    """Of the metadata: `cast.ai/batch-name`, else `batch-name`."""
    resource: ResourceName
    suspended: bool
    conditions: list[BatchCondition]
    gpu_type: str | None
    instance_type: str | None
    attempt: int
    failed_attempts: int
    started_at: int | None
    duration_s: int | None
    """From `started_at` to the end, or to now; in lists null until the end."""
    remaining: int
    """Lines without an outcome."""
    rate: float | None
    """Lines a second by the last report of every slice; null unless a processor works, and in lists."""
    eta_s: int | None
    """Seconds that the remaining lines take at that rate."""
    gpu_seconds: int | None
    """Seconds times GPUs, over all attempts; 0 for a model that runs already, null until the batch runs."""
    cost: BatchCost | None
    """Null if the model had no pricing when the batch began."""
    rerun_of: BatchId | None
    reused: int
    """Lines taken over from the batch that this one reruns."""


class BatchObject(Wire):
    """A batch."""

    id: BatchId
    object: Literal["batch"] = "batch"
    endpoint: str
    model: str | None
    errors: LineProblems | None
    input_file_id: str
    completion_window: str
    status: BatchStatus
    output_file_id: FileId | None
    error_file_id: FileId | None
    created_at: int
    in_progress_at: int | None
    expires_at: int
    finalizing_at: int | None
    completed_at: int | None
    failed_at: int | None
    expired_at: int | None
    cancelling_at: int | None
    cancelled_at: int | None
    request_counts: RequestCounts
    usage: BatchUsage | None
    metadata: dict[str, str] | None
    x_details: BatchDetails


class ModelObject(Wire):
    """A model that may be batched."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str
    shutdown_date: int | None = None


T = TypeVar("T", bound=Wire)


class ListObject(Wire, Generic[T]):
    """A page of objects."""

    object: Literal["list"] = "list"
    data: list[T]
    first_id: str | None
    last_id: str | None
    has_more: bool


class ModelList(Wire):
    """All models; clients do not page this list."""

    object: Literal["list"] = "list"
    data: list[ModelObject]


class Health(Wire):
    """Answer of `GET /healthz`."""

    status: Literal["ok"] = "ok"


class ErrorDetails(Wire):
    """What went wrong; only `message` is for people."""

    message: str
    type: Literal["invalid_request_error", "rate_limit_error", "server_error"]
    param: str | None
    code: str | None


class ErrorObject(Wire):
    """The one shape of every answer above 399."""

    error: ErrorDetails
