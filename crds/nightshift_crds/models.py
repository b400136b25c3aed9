"""The three resources as pydantic models: the one source of the CRDs and of what every role reads and writes.

Pure. Field names are camelCase in manifests. A docstring under a field becomes its text in `kubectl explain`; `RULES`
become `x-kubernetes-validations` and are also what the SQLite cluster enforces. Unknown fields are ignored, so that a
role reads resources one version older or newer than itself. Every string, list and map has a maximum: without one the
API server refuses a CRD with rules. Sources: design 4, contract 4 and 11.
"""

from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from datetime import datetime
from enum import StrEnum
from operator import itemgetter
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self, get_args

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from nightshift_crds import names
from nightshift_crds.lifecycle import TERMINAL, TIMESTAMPS, TRANSITIONS, Phase, Sealing, can_move, is_terminal
from nightshift_crds.lines import DEFAULT_ENDPOINTS, MAX_MODEL_CHARS, LineOrder
from nightshift_crds.names import IdKind, ResultKind

GROUP = "nightshift.dev"
VERSION = "v1alpha1"
MAX_ERRORS = 100
"""Validation errors that a batch keeps; one more entry says how many were left out (contract 8)."""
MIN_EXPIRY_S = 3_600
MAX_EXPIRY_S = 2_592_000
MAX_METADATA_PAIRS = 16
MAX_METADATA_KEY_CHARS = 64
MAX_METADATA_VALUE_CHARS = 512
MAX_ENDPOINTS = 16
MAX_WEBHOOKS = 16
"""Endpoints of an installation that may be told of the end of batches."""
MAX_DELIVERIES = 2 * MAX_WEBHOOKS
"""As many as a batch keeps: they are more than endpoints only if some were renamed while it waited for them."""

Name = Annotated[str, Field(max_length=253)]
Uid = Annotated[str, Field(max_length=64)]
Text = Annotated[str, Field(max_length=1024)]
Model = Annotated[str, Field(min_length=1, max_length=MAX_MODEL_CHARS)]
Endpoint = Annotated[str, Field(max_length=64, pattern="^/v1/[a-z0-9/_-]+$")]
ExpirySeconds = Annotated[int, Field(ge=MIN_EXPIRY_S, le=MAX_EXPIRY_S)]
Count = Annotated[int, Field(ge=0)]
Weekday = Literal["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]
WEEKDAYS: tuple[Weekday, ...] = get_args(Weekday)
ClockTime = Annotated[str, Field(max_length=5, pattern="^([01][0-9]|2[0-3]):[0-5][0-9]$")]
MetadataValue = Annotated[str, Field(max_length=MAX_METADATA_VALUE_CHARS)]
FreeMap = Annotated[dict[str, Annotated[str, Field(max_length=253)]], Field(max_length=32)]
Currency = Annotated[str, Field(max_length=3, pattern="^[A-Z]{3}$")]
Price = Annotated[float, Field(ge=0, le=1_000_000_000)]
Opaque = Annotated[dict[str, Any], Field(json_schema_extra={"x-kubernetes-preserve-unknown-fields": True})]


class Rule(NamedTuple):
    """A CEL rule and what a person is told whose write it refuses."""

    cel: str
    message: str


def _spell(field: str) -> str:
    """Spell a field as manifests do."""
    return {"crc32c": "crc32c", "job_uid": "jobUID"}.get(field) or to_camel(field)


def _set_once(field: str) -> Rule:
    return Rule(
        f"!has(oldSelf.{field}) || (has(self.{field}) && self.{field} == oldSelf.{field})", f"{field} is set once"
    )


def _never_falls(field: str) -> Rule:
    return Rule(
        f"!has(oldSelf.{field}) || (has(self.{field}) && self.{field} >= oldSelf.{field})", f"{field} never falls"
    )


def _fixed(field: str) -> Rule:
    return Rule(f"self.{field} == oldSelf.{field}", f"{field} cannot be changed")


def _fixed_option(field: str) -> Rule:
    cel = f"has(self.{field}) ? has(oldSelf.{field}) && self.{field} == oldSelf.{field} : !has(oldSelf.{field})"
    return Rule(cel, f"{field} cannot be changed")


def _legal_moves() -> Rule:
    moves = [f"(oldSelf.phase == '{a}' && self.phase in [{_quoted(b)}])" for a, b in TRANSITIONS.items() if b]
    cel = " || ".join(["!has(oldSelf.phase)", "(has(self.phase) && (self.phase == oldSelf.phase", *moves])
    return Rule(f"{cel}))", _MOVES)


def _legal_starts() -> Rule:
    starts = {phase for phase in Phase if can_move(None, phase)}
    cel = "(has(oldSelf.status) && has(oldSelf.status.phase)) || !has(self.status) || !has(self.status.phase)"
    return Rule(f"{cel} || self.status.phase in [{_quoted(starts)}]", _MOVES)


_MOVES = "phase can only move as docs/lifecycle.md shows"


def _quoted(phases: AbstractSet[Phase]) -> str:
    return ", ".join(f"'{phase}'" for phase in sorted(phases))


class Part(BaseModel):
    """A frozen piece of a manifest."""

    model_config = ConfigDict(
        alias_generator=_spell, populate_by_name=True, extra="ignore", frozen=True, use_attribute_docstrings=True
    )
    RULES: ClassVar[tuple[Rule, ...]] = ()

    def dump(self) -> dict[str, Any]:
        """Give the JSON form, without what is not set."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


class OwnerReference(Part):
    """Whose deletion takes an object along."""

    api_version: str
    kind: str
    name: str
    uid: str
    controller: bool = False


class ObjectMeta(Part):
    """What every role reads of Kubernetes' metadata."""

    name: str
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    creation_timestamp: datetime | None = None
    deletion_timestamp: datetime | None = None
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    owner_references: list[OwnerReference] = []


class Resource(Part):
    """An object of our API group; `spec` is what was asked, `status` what is true."""

    PLURAL: ClassVar[str]
    SHORT: ClassVar[str]
    SELECTABLE: ClassVar[tuple[str, ...]] = ()
    COLUMNS: ClassVar[tuple[tuple[str, str, str], ...]] = ()
    """Of `kubectl get`: name, type, path. kubectl shows a `date` as its age, and one in the future as `<invalid>`."""
    WIDE_COLUMNS: ClassVar[tuple[tuple[str, str, str], ...]] = ()
    """Those that `-o wide` shows besides."""

    metadata: ObjectMeta

    @classmethod
    def parse(cls, manifest: dict[str, Any]) -> Self:
        """Read a manifest."""
        return cls.model_validate(manifest)

    @classmethod
    def build(cls, metadata: dict[str, Any], spec: Part) -> dict[str, Any]:
        """Build a manifest to create."""
        return {"apiVersion": f"{GROUP}/{VERSION}", "kind": cls.__name__, "metadata": metadata, "spec": spec.dump()}

    @property
    def created(self) -> datetime:
        """When the cluster took the object in."""
        if self.metadata.creation_timestamp is None:
            raise ValueError(f"{self.metadata.name} has not been created yet")
        return self.metadata.creation_timestamp

    def owner_reference(self) -> OwnerReference:
        """Refer to this object as the controller of another."""
        return OwnerReference(
            api_version=f"{GROUP}/{VERSION}",
            kind=type(self).__name__,
            name=self.metadata.name,
            uid=self.metadata.uid,
            controller=True,
        )


# --- BatchJob ---------------------------------------------------------------------------------------------------------


class BatchInput(Part):
    """Where the request lines come from: exactly one of the three."""

    file_id: Annotated[str, Field(max_length=64, pattern="^file_[0-9a-f-]{36}$")] | None = None
    """Id of an uploaded file of this namespace, as the Files API shows it."""
    uri: Text | None = None
    """URL of an object in the installation's bucket, below a prefix that the installation allows this namespace."""
    rerun_of: Name | None = None
    """Name of a BatchJob of this namespace whose rows without a success are run again; it is waited for."""


class Scheduling(Part):
    """Where the processor of a batch runs. A BatchJob may set only what its HostedModel allows."""

    gpu_type: Annotated[str, Field(max_length=63)] | None = None
    spot: bool | None = None
    priority_class_name: Name | None = None
    queue: Name | None = None
    """Kueue LocalQueue that admits the Job."""


class BatchJobSpec(Part):
    """What was asked of a batch. Fixed at creation but for the two switches and the time of the first."""

    RULES: ClassVar = (
        *map(_fixed, ("input", "endpoint", "completionWindow")),
        *map(_fixed_option, ("metadata", "outputExpiresAfterSeconds", "model", "scheduling")),
        Rule(
            "[has(self.input.fileId), has(self.input.uri), has(self.input.rerunOf)].filter(x, x).size() == 1",
            "input takes exactly one of fileId, uri and rerunOf",
        ),
        Rule("self.cancelRequested || !oldSelf.cancelRequested", "a cancel cannot be taken back"),
        _set_once("cancelRequestedAt"),
        # By pattern, not size(): characters are code points (contract 4.2), which a pattern counts everywhere.
        Rule(
            f"!has(self.metadata) || self.metadata.all(k, k.matches('(?s)^.{{0,{MAX_METADATA_KEY_CHARS}}}$'))",
            f"metadata keys have at most {MAX_METADATA_KEY_CHARS} characters",
        ),
    )

    input: BatchInput
    endpoint: Endpoint
    """Path that every line's `url` names."""
    completion_window: Literal["24h"] = "24h"
    metadata: Annotated[dict[str, MetadataValue], Field(max_length=MAX_METADATA_PAIRS)] | None = None
    output_expires_after_seconds: ExpirySeconds | None = None
    """Life of the result files in seconds from their sealing; 30 days if absent."""
    model: Model | None = None
    """Model of every line; learned at validation if absent."""
    scheduling: Scheduling | None = None
    cancel_requested: bool = False
    """Set to true to cancel; it cannot be taken back."""
    cancel_requested_at: datetime | None = None
    suspend: bool = False
    """While true nothing runs; the clock runs on."""


class Condition(Part):
    """One thing that holds or not, with a reason from a documented closed set and a message for people."""

    type: Annotated[str, Field(max_length=63)]
    status: Literal["True", "False", "Unknown"]
    reason: Annotated[str, Field(max_length=63)]
    message: Text = ""
    last_transition_time: datetime


class Counts(Part):
    """Request lines, as contract 10.4 counts them: rows that never ran are in neither sum."""

    total: Count = 0
    completed: Count = 0
    failed: Count = 0


class TokenUsage(Part):
    """Tokens of the successful lines."""

    input_tokens: Count = 0
    cached_tokens: Count = 0
    output_tokens: Count = 0
    reasoning_tokens: Count = 0
    total_tokens: Count = 0


class BatchError(Part):
    """Why a batch failed: one line of its input, or the whole (`line` absent)."""

    code: Annotated[str, Field(max_length=64)]
    message: Text
    param: Annotated[str, Field(max_length=128)] | None = None
    line: Annotated[int, Field(ge=1)] | None = None


class CheckedInput(Part):
    """What validation accepted; a processor refuses bytes that differ from it."""

    key: Text
    bytes: Count
    crc32c: Annotated[int, Field(ge=0, le=0xFFFFFFFF)]


class Pricing(Part):
    """What a batch costs. All prices are in one currency; what has none costs nothing."""

    currency: Currency = "USD"
    """ISO 4217 code."""
    per_million_input_tokens: Price = 0.0
    per_million_output_tokens: Price = 0.0
    per_gpu_hour: Price = 0.0
    """Of the GPUs of the model servers that are started for a batch."""


class Cost(Part):
    """What a batch has cost so far."""

    currency: Currency
    total: Annotated[str, Field(max_length=64, pattern="^[0-9]+[.][0-9]{6}$")]
    """To a millionth of the currency. A decimal as text: a float would not come back as it was written everywhere."""


class DeliveryState(StrEnum):
    """How far the telling of one endpoint is."""

    PENDING = "Pending"
    """It is being sent, or will be sent again."""
    DELIVERED = "Delivered"
    """The endpoint has taken it."""
    GIVEN_UP = "GivenUp"
    """The endpoint did not take it in time, refused it for good, or is not configured any more."""


class WebhookDelivery(Part):
    """What became of telling an endpoint that the batch has ended; its URL stands in no status."""

    name: Annotated[str, Field(max_length=63)]
    """Name of the endpoint in the operator's settings."""
    state: DeliveryState = DeliveryState.PENDING
    attempts: Count = 0
    """Answers that were waited for, each with or without success."""
    last_answer: Annotated[str, Field(max_length=256)] | None = None
    last_attempt_at: datetime | None = None
    next_attempt_at: datetime | None = None


class BatchJobStatus(Part):
    """What is true of a batch. The operator alone writes it, in one guarded write per step."""

    RULES: ClassVar = (
        _legal_moves(),
        *map(_set_once, ("sealing", "deadline", "slices", "order", "input", "pricing", "outputFileId", "errorFileId")),
        *map(_set_once, ("rerunOf", "inputFileId", "reused")),
        *map(_set_once, sorted(to_camel(field) for field in TIMESTAMPS.values())),
        *(
            Rule(
                f"!has(self.phase) || self.phase != '{p}' || has(self.{to_camel(TIMESTAMPS[p])})", f"{p} needs its time"
            )
            for p in sorted(TIMESTAMPS)
        ),
        *map(_never_falls, ("attempt", "gpuSeconds")),
    )

    phase: Phase | None = None
    sealing: Sealing | None = None
    """Why the files are sealed; fixed before a seal Job exists."""
    conditions: Annotated[
        list[Condition],
        Field(
            max_length=8, json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}
        ),
    ] = []
    deadline: datetime | None = None
    """When what has not run is given up."""
    in_progress_at: datetime | None = None
    finalizing_at: datetime | None = None
    cancelling_at: datetime | None = None
    completed_at: datetime | None = None
    failed_at: datetime | None = None
    expired_at: datetime | None = None
    cancelled_at: datetime | None = None
    counts: Counts = Counts()
    usage: TokenUsage | None = None
    """Of the lines that this batch has sent itself."""
    gpu_seconds: Count | None = None
    """GPUs times seconds that the pods of the run had theirs, over all attempts; 0 for a model with a `service`."""
    gpu_seconds_by_pod: Annotated[dict[str, Count], Field(max_length=256)] = {}
    """Those of `gpuSeconds` that pods had which were there at the last write, by the first 16 digits of their uid."""
    pricing: Pricing | None = None
    """That of the model when validation accepted the batch; it never changes."""
    cost: Cost | None = None
    """Of `usage` and `gpuSeconds` by `pricing`."""
    rerun_of: Annotated[str, Field(max_length=64)] | None = None
    """Id of the batch that this one runs again, as the API shows it."""
    input_file_id: Text | None = None
    """What the API shows as `input_file_id` of a rerun: that of the batch that is run again."""
    reused: Count | None = None
    """Rows that were taken over, with their results, from the batch that is run again; they count as completed."""
    input: CheckedInput | None = None
    slices: Annotated[int, Field(ge=1, le=1024)] | None = None
    """Parts that the input is cut into, each with a log of its own."""
    order: LineOrder | None = None
    """Order of the lines that the slices are runs of; absent: that of the file."""
    attempt: Annotated[int, Field(ge=0)] = 0
    """Number of the current run Job, from 1."""
    failed_attempts: Annotated[int, Field(ge=0)] = 0
    """Run Jobs that ended without doing their work; suspending and resuming is none."""
    job_name: Name | None = None
    job_uid: Uid | None = None
    model: Model | None = None
    gpu_type: Annotated[str, Field(max_length=63)] | None = None
    instance_type: Annotated[str, Field(max_length=63)] | None = None
    output_file_id: Annotated[str, Field(max_length=64)] | None = None
    error_file_id: Annotated[str, Field(max_length=64)] | None = None
    errors: Annotated[
        list[BatchError], Field(max_length=MAX_ERRORS + 1, json_schema_extra={"x-kubernetes-list-type": "atomic"})
    ] = []
    webhooks: Annotated[
        list[WebhookDelivery],
        Field(
            max_length=MAX_DELIVERIES,
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
        ),
    ] = []
    """Who is told that the batch has ended, and how far that is."""
    settled: bool = False
    """True once nothing is left to do for a terminal batch; it then leaves every watch."""
    observed_generation: Count = 0


_CANCELLABLE = (
    f"!has(self.status) || !((has(self.status.phase) && self.status.phase in [{_quoted(TERMINAL - {Phase.CANCELLED})}])"
    " || (has(self.status.sealing) && self.status.sealing in ['expired', 'failed']))"
)


class BatchJob(Resource):
    """A batch: request lines that a hosted model answers within 24 hours."""

    PLURAL: ClassVar = "batchjobs"
    SHORT: ClassVar = "bj"
    SELECTABLE: ClassVar = (".status.phase", ".status.settled", ".spec.input.fileId", ".spec.input.rerunOf")
    COLUMNS: ClassVar = (
        ("Phase", "string", ".status.phase"),
        ("Model", "string", ".status.model"),
        ("Done", "integer", ".status.counts.completed"),
        ("Failed", "integer", ".status.counts.failed"),
        ("Total", "integer", ".status.counts.total"),
        ("Deadline", "string", ".status.deadline"),
        ("Age", "date", ".metadata.creationTimestamp"),
    )
    WIDE_COLUMNS: ClassVar = (
        ("Tokens", "integer", ".status.usage.totalTokens"),
        ("GPU-s", "integer", ".status.gpuSeconds"),
        ("Cost", "string", ".status.cost.total"),
        ("Currency", "string", ".status.cost.currency"),
    )
    RULES: ClassVar = (
        _legal_starts(),
        Rule(
            f"!self.spec.cancelRequested || oldSelf.spec.cancelRequested || {_CANCELLABLE}",
            "a batch that has ended cannot be cancelled",
        ),
    )

    spec: BatchJobSpec
    status: BatchJobStatus = BatchJobStatus()

    @property
    def id(self) -> str:
        """The id that the API shows."""
        return names.id_of(IdKind.BATCH, self.metadata.name, self.metadata.uid)

    @property
    def phase(self) -> Phase:
        """The phase; a batch that the operator has not seen yet is VALIDATING."""
        return self.status.phase or Phase.VALIDATING

    @property
    def reused(self) -> int:
        """How many rows it has taken over from the batch that it runs again."""
        return self.status.reused or 0

    @property
    def input_file_id(self) -> str | None:
        """What the API shows as its input; None for a rerun that the operator has not seen yet."""
        return self.spec.input.file_id or self.spec.input.uri or self.status.input_file_id

    @property
    def visible_phase(self) -> Phase:
        """The phase as users see it: from the patch that asks for a cancel on, a batch is cancelling."""
        return Phase.CANCELLING if self.spec.cancel_requested and not is_terminal(self.phase) else self.phase

    def result_file_id(self, kind: ResultKind) -> str:
        """The id that a result file of this batch has, whether it exists yet or not."""
        created_ms = int(self.created.timestamp() * 1000)
        return names.make_id(IdKind.FILE, names.result_file_uuid(created_ms, self.metadata.uid, kind))


# --- StoredFile -------------------------------------------------------------------------------------------------------


class FilePhase(StrEnum):
    """Where a file stands. Without a phase a file does not exist for users."""

    WRITING = "Writing"
    """A result file of a batch that runs; the operator sets it. Sealing moves it on."""
    READY = "Ready"
    """The bytes are whole; the API sets it for uploads, the operator for results. Nothing moves it on."""


class FileSource(Part):
    """Where a file comes from: an upload has no batch, a result file names its own."""

    batch_name: Name | None = None
    batch_uid: Uid | None = None
    kind: ResultKind | None = None
    reused: Count | None = None
    """Lines of an output file that its batch has taken over: until it is sealed they lie apart from the others."""


class StoredFileSpec(Part):
    """What a file is; nothing of it changes."""

    RULES: ClassVar = (Rule("self == oldSelf", "a file's spec cannot be changed"),)

    filename: Annotated[str, Field(max_length=512)]
    purpose: Annotated[str, Field(max_length=64)]
    expires_after_seconds: ExpirySeconds | None = None
    source: FileSource = FileSource()


class ModelLines(Part):
    """Lines that name a model: the first of them by number, and how many there are."""

    name: Model
    lines: Annotated[
        list[int], Field(max_length=MAX_ERRORS + 1, json_schema_extra={"x-kubernetes-list-type": "atomic"})
    ]
    count: Count


class Fault(Part):
    """What is wrong with some lines, and which: a file for another endpoint has it on every line."""

    code: Annotated[str, Field(max_length=64)]
    message: Text
    param: Annotated[str, Field(max_length=128)] | None = None
    lines: Annotated[list[int], Field(max_length=MAX_ERRORS, json_schema_extra={"x-kubernetes-list-type": "atomic"})]

    @classmethod
    def group(cls, errors: Iterable[BatchError]) -> "list[Fault]":
        """Put the errors of lines together that differ in nothing else."""
        lines: dict[tuple[str, str, str | None], list[int]] = {}
        for error in errors:
            lines.setdefault((error.code, error.message, error.param), []).append(error.line or 0)
        return [cls(code=what[0], message=what[1], param=what[2], lines=numbers) for what, numbers in lines.items()]


class EndpointVerdict(Part):
    """What a batch on one endpoint would find wrong with a file: at most one error per line, and the models named."""

    faults: Annotated[
        list[Fault], Field(max_length=MAX_ERRORS, json_schema_extra={"x-kubernetes-list-type": "atomic"})
    ] = []
    """Those of the first lines that have one."""
    error_count: Count = 0
    models: Annotated[
        list[ModelLines], Field(max_length=8, json_schema_extra={"x-kubernetes-list-type": "atomic"})
    ] = []
    """Models of the lines without an error, in order of appearance."""
    other_models: ModelLines | None = None
    """Lines of all further models together; the name is that of the first."""

    @property
    def errors(self) -> list[BatchError]:
        """The errors of the first lines that have one, in order."""
        by_line = sorted(((line, fault) for fault in self.faults for line in fault.lines), key=itemgetter(0))
        return [BatchError(code=f.code, message=f.message, param=f.param, line=line) for line, f in by_line]


class Verdict(Part):
    """What the checks on the way found: facts about an input that validation compares with the catalogue."""

    lines: Count
    """Request lines; blank ones are not counted."""
    bytes: Count
    crc32c: Annotated[int, Field(ge=0, le=0xFFFFFFFF)]
    embedding_inputs: Count = 0
    endpoints: Annotated[dict[str, EndpointVerdict], Field(max_length=MAX_ENDPOINTS)] = {}
    """By endpoint; one that is absent was not checked, or did not fit."""


class RestVerdict(Verdict):
    """A verdict on the rows that a batch has left, and what was taken over of it."""

    reused: Count = 0
    """Lines of its output file."""
    reused_bytes: Count = 0


class StoredFileStatus(Part):
    """What is true of a file's bytes."""

    phase: FilePhase | None = None
    bytes: Count = 0
    crc32c: Annotated[int, Field(ge=0, le=0xFFFFFFFF)] | None = None
    expires_at: datetime | None = None
    expires_day: Annotated[str, Field(max_length=10)] | None = None
    """Day of `expiresAt` (UTC, YYYY-MM-DD), for the sweep to select by."""
    verdict: Verdict | None = None


class StoredFile(Resource):
    """A file of the Files API; its bytes lie in the bucket."""

    PLURAL: ClassVar = "storedfiles"
    SHORT: ClassVar = "sf"
    SELECTABLE: ClassVar = (".status.phase", ".status.expiresDay", ".spec.purpose")
    COLUMNS: ClassVar = (
        ("Filename", "string", ".spec.filename"),
        ("Purpose", "string", ".spec.purpose"),
        ("Phase", "string", ".status.phase"),
        ("Bytes", "integer", ".status.bytes"),
        ("Expires", "string", ".status.expiresAt"),
        ("Age", "date", ".metadata.creationTimestamp"),
    )

    spec: StoredFileSpec
    status: StoredFileStatus = StoredFileStatus()

    @property
    def id(self) -> str:
        """The id that the API shows."""
        return names.id_of(IdKind.FILE, self.metadata.name, self.metadata.uid)


# --- HostedModel ------------------------------------------------------------------------------------------------------


class SecretKey(Part):
    """A key of a Secret in the same namespace."""

    name: Name
    key: Name


class ModelService(Part):
    """A model server that already runs; the processor needs no GPU."""

    url: Text
    """Root of the server: a line's `url` is appended to it. A URL that ends in `/v1` means the same."""
    ca_secret: SecretKey | None = None
    """CA bundle to trust besides the system's."""
    api_key_secret: SecretKey | None = None
    max_concurrency: Annotated[int, Field(ge=1, le=10_000)] = 64
    """Requests in flight at once, of one processor, at most; fewer while the server is slow, full or refuses."""
    batch_share: Annotated[float, Field(ge=0.01, le=1)] = 1.0
    """Part of `maxConcurrency` that a processor uses while others use the server too."""
    latency_tolerance: Annotated[float, Field(ge=1, le=100)] = 2.0
    """How many times its best a latency may be, while others use the server, before less is sent."""


class ModelVolume(Part):
    """A volume of a model server and where it is mounted, read-only. No path of the node can be one."""

    name: Annotated[str, Field(max_length=63)]
    mount_path: Annotated[str, Field(max_length=256, pattern="^/")]
    persistent_volume_claim: Name | None = None
    """Name of a claim that many nodes may read."""
    image: Text | None = None
    """An OCI image with the model's files."""
    config_map: Name | None = None
    secret: Name | None = None


class ModelServer(Part):
    """A model server that is started for the life of a batch, beside its processor on a GPU node."""

    image: Text
    args: Annotated[list[Text], Field(max_length=64, json_schema_extra={"x-kubernetes-list-type": "atomic"})] = []
    env: FreeMap = {}
    run_as_user: Annotated[int, Field(ge=1)] | None = None
    """User that the container runs as; needed where the image would run as root, which no pod of a batch may."""
    resources: Opaque = {}
    """Limits of the container; the GPUs are among them. Requests are the same."""
    resource_claim_template: Name | None = None
    """ResourceClaimTemplate by which the pod gets its devices, where they are not counted in `resources`."""
    node_selector: FreeMap = {}
    tolerations: Annotated[
        list[Opaque], Field(max_length=16, json_schema_extra={"x-kubernetes-list-type": "atomic"})
    ] = []
    """Besides that of GPU nodes, which is always there."""
    port: Annotated[int, Field(ge=1, le=65535)] = 8000
    readiness_path: Annotated[str, Field(max_length=256)] = "/health"
    """Answers 200 once the model is loaded."""
    startup_seconds: Annotated[int, Field(ge=10, le=7200)] = 1800
    """How long loading the model may take before the server is started again."""
    shm_size: Annotated[str, Field(max_length=16)] | None = None
    """Size of `/dev/shm`, which counts as memory."""
    volumes: Annotated[
        list[ModelVolume], Field(max_length=16, json_schema_extra={"x-kubernetes-list-type": "atomic"})
    ] = []
    max_concurrency: Annotated[int, Field(ge=1, le=10_000)] = 64


class Window(Part):
    """A time of the week, by the clock of a place."""

    days: Annotated[list[Weekday], Field(max_length=7, json_schema_extra={"x-kubernetes-list-type": "set"})] = []
    """Days on which it opens; every day if there is none."""
    start: ClockTime
    end: ClockTime
    """On the next day, if it is not later than `start`."""
    time_zone: Annotated[str, Field(min_length=1, max_length=64)] = "UTC"
    """Of the IANA database, for instance `Europe/Berlin`."""


class HostedModelSpec(Part):
    """A model that may be batched and how to reach it."""

    RULES: ClassVar = (
        Rule("has(self.service) != has(self.server)", "takes exactly one of service and server"),
        Rule(
            "!has(self.server) || !has(self.server.volumes) || self.server.volumes.all(v,"
            " [has(v.persistentVolumeClaim), has(v.image), has(v.configMap), has(v.secret)].filter(x, x).size() == 1)",
            "a volume takes exactly one of persistentVolumeClaim, image, configMap and secret",
        ),
        Rule(
            "!has(self.service) || !has(self.pricing) || !has(self.pricing.perGpuHour)"
            " || self.pricing.perGpuHour == 0.0",
            "a price per GPU hour takes a server: the GPUs of a service are not a batch's own",
        ),
    )

    name: Model
    """What users write as `model`; may hold `:` and `/`."""
    endpoints: Annotated[
        list[Endpoint],
        Field(min_length=1, max_length=MAX_ENDPOINTS, json_schema_extra={"x-kubernetes-list-type": "set"}),
    ] = list(DEFAULT_ENDPOINTS)
    """What batches may ask of it, as far as the API allows the endpoint; a line's `url` is one of these."""
    service: ModelService | None = None
    server: ModelServer | None = None
    pricing: Pricing | None = None
    shards: Annotated[int, Field(ge=1, le=64)] = 1
    """Processors that share one batch."""
    scheduling: Scheduling | None = None
    windows: Annotated[list[Window], Field(max_length=16, json_schema_extra={"x-kubernetes-list-type": "atomic"})] = []
    """When batches of this model run; always if there is none. Outside they wait, and their clock runs on."""
    overridable: Annotated[
        list[Literal["gpuType", "spot", "priorityClassName", "queue"]],
        Field(max_length=4, json_schema_extra={"x-kubernetes-list-type": "set"}),
    ] = []
    """Fields of `scheduling` that a BatchJob may set for itself."""


class HostedModel(Resource):
    """A model of the catalogue: what `GET /models` lists is what validation accepts."""

    PLURAL: ClassVar = "hostedmodels"
    SHORT: ClassVar = "hm"
    COLUMNS: ClassVar = (
        ("Model", "string", ".spec.name"),
        ("Service", "string", ".spec.service.url"),
        ("Image", "string", ".spec.server.image"),
        ("Age", "date", ".metadata.creationTimestamp"),
    )

    spec: HostedModelSpec


RESOURCES: tuple[type[Resource], ...] = (BatchJob, StoredFile, HostedModel)
