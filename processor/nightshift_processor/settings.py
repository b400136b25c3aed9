"""What a processor is told by the Job that starts it: one value per step."""

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Self

from pydantic import AnyHttpUrl, AwareDatetime, BeforeValidator, Field, SecretStr

from nightshift_crds.lifecycle import Sealing
from nightshift_crds.lines import ErrorForm, LineOrder
from nightshift_crds.settings import MetricsSettings, Settings

MIB = 1 << 20
_INDEX = "JOB_COMPLETION_INDEX"
"""The variable in which Kubernetes tells a pod of an Indexed Job its index."""


def _strip_key(text: str) -> str:
    """Take off what surrounds a key: Secrets often end with a newline. Within it there can be none: it is a header."""
    key = text.strip()
    if not key.isprintable():
        raise ValueError("a key is one line of printable characters")
    return key


class HttpClient(StrEnum):
    """Ways to speak HTTP to a model server."""

    THIN = "thin"
    """Nightshift's own."""
    AIOHTTP = "aiohttp"
    """The library: takes eight times the CPU."""


class StepSettings(Settings):
    """What every step is told."""

    bucket: str
    """URL of the bucket: `file:///PATH`."""
    batch_uid: str
    """Uid of the BatchJob."""
    batch_id: str = ""
    """Id of the batch as the API shows it, for logs; without it they have the uid."""
    input_key: str
    """Key of the input in the bucket."""


class InspectSettings(StepSettings):
    """Settings of `nightshift-processor inspect`."""

    endpoint: str
    """Endpoint of the batch."""
    max_file_bytes: Annotated[int, Field(ge=1)] = 100 * MIB
    """Size in bytes over which an input is not read."""
    max_lines: Annotated[int, Field(ge=1)] = 50_000
    """Request lines that are checked."""
    max_line_bytes: Annotated[int, Field(ge=1)] = 16 * MIB
    """Length of one line in bytes; one line is held in memory."""
    origin_input_key: str = ""
    """Of a rerun: key of the input of the batch that is run again. What is left of it is made the input first."""
    origin_input_crc32c: int | None = None
    """CRC-32C of that input as it was validated; not there if it never was."""
    origin_output_key: str = ""
    """Key of that batch's output file, whose lines are taken over; not there if it has none."""


class SpoolSettings(StepSettings):
    """What a step is told that reads the input again."""

    input_crc32c: int
    """CRC-32C of the bytes that were validated."""
    scratch_dir: Path = Path("/scratch")
    """Folder that holds the input meanwhile."""


class RunSettings(SpoolSettings, MetricsSettings):
    """Settings of `nightshift-processor run`."""

    endpoint: str
    """Path that is appended to the model server's URL."""
    model: str = ""
    """Name of the model, for metrics."""
    model_url: AnyHttpUrl
    """Root of the model server; a trailing `/v1` means the same."""
    model_api_key: Annotated[SecretStr, BeforeValidator(_strip_key)] | None = None
    """Key that the model server wants."""
    max_concurrency: Annotated[int, Field(ge=1)] = 64
    """Requests in flight at once, at most; how many there are follows the model server."""
    model_is_shared: bool = True
    """Whether others use the model server too: then it starts with few, and its latency and `/metrics` are watched."""
    batch_share: Annotated[float, Field(ge=0.01, le=1)] = 1.0
    """Part of the requests in flight that there may be while others use the model server."""
    latency_tolerance: Annotated[float, Field(ge=1)] = 2.0
    """How many times its best a latency of the model server may be before less is sent, where others may use it too."""
    load_interval_s: Annotated[float, Field(gt=0)] = 2
    """Seconds between two looks at the `/metrics` of the model server."""
    deadline: AwareDatetime
    """When what has not run is given up."""
    slices: Annotated[int, Field(ge=1)] = 1
    """Parts that the input is cut into."""
    order: LineOrder = LineOrder.FILE
    """Order of the lines that these parts are runs of: `file` or `prefix`."""
    attempt: Annotated[int, Field(ge=0)] = 0
    """Number of the Job among those of the batch: its pods take over what earlier ones have left."""
    shards: Annotated[int, Field(ge=1)] = 1
    """Pods of the Job, which share the parts."""
    index: Annotated[int, Field(ge=0)] = 0
    """Which of these pods it is, as Kubernetes tells it in JOB_COMPLETION_INDEX."""
    flush_interval_s: Annotated[float, Field(gt=0)] = 0.5
    """Seconds after which results are made durable. After a SIGKILL this much may reach the model again."""
    flush_bytes: Annotated[int, Field(ge=1)] = MIB
    """Bytes of results that are made durable without waiting; about twice as much is held in memory."""
    request_timeout_s: Annotated[float, Field(gt=0)] = 600
    """Seconds that the model server gets for one answer."""
    max_tries: Annotated[int, Field(ge=1)] = 5
    """Times that a line is sent which gets a timeout, a broken connection, 408, 425 or a 5xx other than 503."""
    max_answer_bytes: Annotated[int, Field(ge=1)] = 64 * MIB
    """Size in bytes over which an answer is an error."""
    http_client: HttpClient = HttpClient.THIN
    """`thin`: Nightshift's own, the quick one. `aiohttp`: that library, should the first not get on with a server."""
    error_line_format: ErrorForm = ErrorForm.SEED
    """`seed`: error lines have `response` null. `openai`: an HTTP error stands in `response`."""
    give_up_after_s: Annotated[float, Field(gt=0)] = 600
    """Seconds after which a bucket that does not answer ends the pod; another one tries again."""

    @classmethod
    def load(cls, environ: Mapping[str, str]) -> Self:
        """Read the settings, and the index that Kubernetes tells under a name of its own. Raises `Rejected`."""
        return super().load({**environ, "NIGHTSHIFT_INDEX": environ.get(_INDEX, "")})


class SealSettings(SpoolSettings):
    """Settings of `nightshift-processor seal`."""

    reason: Sealing
    """Why the files are sealed."""
    slices: Annotated[int, Field(ge=1)] = 1
    """Parts that the input is cut into."""
    items: Annotated[int, Field(ge=0)]
    """Request lines of the input."""
    reused: Annotated[int, Field(ge=0)] = 0
    """Output lines that a rerun has taken over; they come first."""
    output_file_id: str
    """Id of the output file."""
    error_file_id: str
    """Id of the error file."""
