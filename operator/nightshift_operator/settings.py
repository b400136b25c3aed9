"""What the operator is told at start."""

from typing import Annotated

from pydantic import AfterValidator, Field, FilePath

from nightshift_crds.lines import ErrorForm
from nightshift_crds.settings import CommonSettings, Words
from nightshift_operator.webhooks import parse_networks

MIB = 1 << 20
DAY_S = 86_400


def _check_pairs(words: tuple[str, ...]) -> tuple[str, ...]:
    if not all(word.partition("=")[0].isidentifier() and "=" in word for word in words):
        raise ValueError("each is NAME=VALUE")
    return words


def _check_networks(words: tuple[str, ...]) -> tuple[str, ...]:
    parse_networks(words)
    return words


class Settings(CommonSettings):
    """Settings of `nightshift-operator`."""

    installation: Annotated[str, Field(min_length=1, max_length=253)] = "nightshift"
    """Name of this installation: the sweep touches only a bucket that it owns."""
    lease: Annotated[str, Field(pattern="^[a-z0-9-]+/[a-z0-9.-]+$")] = "default/nightshift-operator"
    """Lease (`namespace/name`) that is held while working."""
    holder: Annotated[str, Field(min_length=1)] = "nightshift-operator"
    """Who holds the Lease; the pod's name on Kubernetes."""
    workers: Annotated[int, Field(ge=1, le=256)] = 16
    """Batches that are reconciled at the same time."""
    resync_interval_s: Annotated[float, Field(gt=0)] = 300
    """Seconds between two full lists; events are hints, lists are the truth."""
    probe_port: Annotated[int, Field(ge=1, le=65535)] = 8081
    """Port of the liveness probe, `/healthz`; only on Kubernetes."""
    metrics_max_models: Annotated[int, Field(ge=0)] = 100
    """Models that metrics tell apart, those that come first; batches of all others are counted as `other`. Each costs
    up to 60 time series."""
    processor_metrics_port: Annotated[int, Field(ge=0, le=65535)] = 0
    """Port on which processors that send lines show metrics; 0 shows none."""

    completion_window_s: Annotated[int, Field(ge=1)] = DAY_S
    """Seconds until a batch expires, whatever it says about 24h; for tests and small installations."""
    clock_skew_s: Annotated[int, Field(ge=0, le=3_600)] = 2
    """Seconds that the operator's clock may be ahead: a batch expires only so long after its deadline."""
    max_file_bytes: Annotated[int, Field(ge=1)] = 100 * MIB
    """Size of an input in bytes."""
    max_lines: Annotated[int, Field(ge=1)] = 50_000
    """Request lines of a batch."""
    max_line_bytes: Annotated[int, Field(ge=1)] = 16 * MIB
    """Length of one line in bytes."""
    max_embedding_inputs: Annotated[int, Field(ge=1)] = 50_000
    """Embedding inputs of a batch, over all its lines."""
    uri_prefixes: Words = ()
    """Where batches may read inputs by `uri`: `namespace=prefix`, separated by commas; none by default."""

    image: str = "nightshift:0.1.0"
    """Image of the processor."""
    service_account: str = "nightshift-processor"
    """ServiceAccount of the processor."""
    image_pull_secrets: Words = ()
    """Secrets of the batch's namespace by which images are pulled, separated by commas."""
    processor_cpu: str = "100m"
    """CPU that a processor requests; it may use more."""
    processor_memory: str = "512Mi"
    """Memory that a processor requests and may not exceed."""
    processor_env: Annotated[Words, AfterValidator(_check_pairs)] = ()
    """Variables for every processor: `NAME=VALUE`, separated by commas."""
    tracing_headers_secret: Annotated[str, Field(pattern="^([a-z0-9.-]+/[A-Za-z0-9._-]+)?$")] = ""
    """Secret (`name/key`) of the batch's namespace with what processors send to the collector of traces as
    `OTEL_EXPORTER_OTLP_HEADERS`; only on Kubernetes. They get other `OTEL_` variables of the operator as they are."""
    priority_class: Annotated[str, Field(max_length=253)] = ""
    """PriorityClass of all pods of a batch whose model names none."""
    tolerated_taints: Words = ()
    """Keys of node taints that every pod of a batch tolerates, separated by commas. Beside a model server that of GPU
    nodes always is; where there are no other nodes, the pods that seal and inspect need it too: `nvidia.com/gpu`."""
    gpu_label: Annotated[str, Field(min_length=1)] = "cloud.google.com/gke-accelerator"
    """Label of a node that says which GPUs it has; `gpuType` selects by it."""
    grace_s: Annotated[int, Field(ge=1)] = 60
    """Seconds that a processor gets between SIGTERM and SIGKILL."""
    backoff_limit: Annotated[int, Field(ge=0)] = 6
    """Crashed pods that one Job replaces."""
    max_attempts: Annotated[int, Field(ge=1)] = 3
    """Run Jobs that may end without doing their work before a batch fails."""
    max_model_restarts: Annotated[int, Field(ge=1)] = 5
    """Restarts of a model server beside its processor after which a run Job is given up."""
    stuck_pod_s: Annotated[int, Field(ge=1)] = 1_800
    """Seconds after which a run Job is given up whose pod has a node, but an image or a Secret that is not there."""
    teardown_timeout_s: Annotated[int, Field(ge=1)] = 600
    """Seconds after which a teardown is forced."""
    lost_pod_s: Annotated[int, Field(ge=0)] = 120
    """Seconds beyond its grace after which a pod on a lost node is given up; its log is fenced."""
    scratch_size: str = "1Gi"
    """Size of the scratch volume, which holds the input once."""

    flush_interval_s: Annotated[float, Field(gt=0)] = 0.5
    """Seconds after which a processor makes results durable. 5 suits a cloud bucket."""
    flush_bytes: Annotated[int, Field(ge=1)] = MIB
    """Bytes of results that a processor makes durable without waiting. 8 MiB suits a cloud bucket."""
    slices_per_shard: Annotated[int, Field(ge=1, le=1_024)] = 8
    """Parts of a batch for each of its processors, where there are several: one that is done takes the next part. More
    of them even out more. 1,024 are the most, and none has fewer than 50 lines as long as every processor has one."""
    prefix_order: bool = True
    """Whether lines are sent in the order of what their prompts begin with, for the prefix cache of the model server,
    and not in that of the file. A batch keeps the order that it began with."""
    request_timeout_s: Annotated[float, Field(gt=0)] = 600
    """Seconds that a model server gets for one answer."""
    max_tries: Annotated[int, Field(ge=1)] = 5
    """Times that a line is sent whose failure may be its own fault."""
    max_answer_bytes: Annotated[int, Field(ge=1)] = 64 * MIB
    """Size in bytes over which an answer is an error."""
    error_line_format: ErrorForm = ErrorForm.SEED
    """`seed`: error lines have `response` null. `openai`: an HTTP error stands in `response`."""

    progress_interval_s: Annotated[float, Field(gt=0)] = 15
    """Seconds between two copies of a batch's progress to its status, for kubectl; the API reads the bucket."""
    progress_writes_per_s: Annotated[float, Field(gt=0)] = 10
    """Such copies a second over all batches: what they may cost etcd."""
    default_expiry_s: Annotated[int, Field(ge=3_600)] = 30 * DAY_S
    """Life in seconds of result files whose batch names none."""
    scratch_retention_s: Annotated[int, Field(ge=0)] = 600
    """Seconds that logs outlive their batch, so that downloads that began while it ran can end."""

    webhooks_file: FilePath | None = None
    """File with the endpoints that are told of the end of batches, read again whenever it changes
    ([its form](webhooks.md))."""
    webhook_ca_file: FilePath | None = None
    """Certificates of authorities (PEM) that endpoints may have theirs from, besides those of the system."""
    webhook_allowed_cidrs: Annotated[Words, AfterValidator(_check_networks)] = ()
    """Networks that webhooks may go to though their addresses are not public, separated by commas: the one of Services
    for a receiver in the cluster."""
    webhook_timeout_s: Annotated[float, Field(gt=0, le=60)] = 15
    """Seconds that an endpoint gets to take a webhook, from the look-up of its name to the status of its answer."""
    webhook_concurrency: Annotated[int, Field(ge=1, le=64)] = 4
    """Webhooks that are sent to one endpoint at the same time."""
    webhook_retry_s: Annotated[int, Field(ge=1, le=3_600)] = 5
    """Seconds after which a webhook is sent again that was not taken; each further pause is three times as long."""
    webhook_give_up_s: Annotated[int, Field(ge=0, le=7 * DAY_S)] = DAY_S
    """Seconds after the first attempt at which the last one is made."""

    sweep_interval_s: Annotated[float, Field(gt=0)] = 3_600
    """Seconds between two sweeps; what is absent must be absent in two of them."""
    sweep_dry_run: bool = False
    """Whether the sweep only logs what it would delete."""
    sweep_max_share: Annotated[float, Field(gt=0, le=1)] = 0.05
    """Share of the bucket's objects over which a sweep of orphans deletes nothing and says so."""
    orphan_age_s: Annotated[int, Field(ge=60)] = DAY_S
    """Age in seconds, by the bucket's clock, from which bytes without a file are an orphan."""
    upload_life_s: Annotated[int, Field(ge=60)] = 3_600
    """Seconds until an upload by parts expires that was not completed; its parts go an hour later."""
    idempotency_life_s: Annotated[int, Field(ge=60)] = DAY_S
    """Seconds that an `Idempotency-Key` is remembered, by the bucket's clock."""
    unfinished_upload_s: Annotated[int, Field(ge=60)] = 3_600
    """Age in seconds from which a StoredFile without status is what a crash left of an upload."""
    batch_retention_s: Annotated[int, Field(ge=0)] = 30 * DAY_S
    """Seconds that a BatchJob outlives its end."""
