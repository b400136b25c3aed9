"""Names: API ids <-> Kubernetes names, names of Jobs, keys in the bucket.

Pure. Every name is a function of identity, so that whoever repeats a step after a crash finds what the
first try made. Sources: contract 2 (ids), guide (`openai/files/<FILE_ID>.jsonl`), design 5.
"""

import hashlib
import re
from collections.abc import Mapping
from enum import StrEnum
from functools import lru_cache
from uuid import UUID

_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_HEX_OF_JOB = 16


class IdKind(StrEnum):
    """The prefixes of API ids."""

    BATCH = "batch"
    FILE = "file"
    UPLOAD = "upload"
    """A session that a file comes in by parts in; it has no resource, only objects."""
    PART = "part"
    """A part of such a file."""


_DISPLAY_NAMES = ("cast.ai/batch-name", "batch-name")


def display_name(metadata: Mapping[str, str] | None) -> str | None:
    """Tell the name that people have given a batch in its metadata (contract 15, row 19)."""
    return next((metadata[key] for key in _DISPLAY_NAMES if key in metadata), None) if metadata else None


class ResultKind(StrEnum):
    """The two files that a batch can end with."""

    OUTPUT = "output"
    """Lines of successful requests."""
    ERROR = "error"
    """All other lines."""


class Step(StrEnum):
    """What the container of a Job does; also the first argument of `nightshift-processor`."""

    INSPECT = "inspect"
    """Check the lines of an input that did not come through the API; those of a rerun it writes first."""
    RUN = "run"
    """Send the lines to the model."""
    SEAL = "seal"
    """Make the result files and the manifest from the closed logs."""


def make_uuid7(now_ms: int, randomness: bytes) -> UUID:
    """Make a version 7 UUID (RFC 9562, 5.7) of a Unix time in milliseconds and 10 random bytes."""
    value = int.from_bytes(now_ms.to_bytes(6, "big") + randomness[:10], "big")
    value = (value & ~(0xF << 76)) | (0x7 << 76)
    value = (value & ~(0x3 << 62)) | (0x2 << 62)
    return UUID(int=value)


def uuid7_ms(value: UUID) -> int | None:
    """Read the Unix time in milliseconds out of a version 7 UUID; None for any other version."""
    return value.int >> 80 if value.version == 7 else None


def make_id(kind: IdKind, value: UUID) -> str:
    """Write the API id of a UUID: `batch_<uuid>`, `file_<uuid>`."""
    return f"{kind}_{value}"


def parse_id(kind: IdKind, text: str) -> UUID | None:
    """Read an API id; None if the prefix or the UUID is not as we write it, which callers answer with 404."""
    prefix, _, rest = text.partition("_")
    return UUID(rest) if prefix == kind and _UUID.fullmatch(rest) else None


def resource_name(kind: IdKind, value: UUID) -> str:
    """Write the Kubernetes name of a UUID: underscores are illegal there."""
    return f"{kind}-{value}"


def id_of(kind: IdKind, name: str, uid: str) -> str:
    """Write the API id of a resource: from its name if we gave it, from its uid if a person did."""
    prefix, _, rest = name.partition("-")
    return f"{kind}_{rest}" if prefix == kind and _UUID.fullmatch(rest) else f"{kind}_{uid}"


def result_file_uuid(created_ms: int, batch_uid: str, kind: ResultKind) -> UUID:
    """Derive the id of a result file, so that everybody knows it before the file exists."""
    return make_uuid7(created_ms, hashlib.sha256(f"{batch_uid}/{kind}".encode()).digest())


def job_name(batch_uid: str, step: Step, attempt: int = 0) -> str:
    """Name the Job of a step; `run` carries its attempt. `kubectl get jobs | grep batch-processor` finds it."""
    suffix = str(attempt) if step is Step.RUN else step
    return f"nightshift-batch-processor-{batch_uid.replace('-', '')[:_HEX_OF_JOB]}-{suffix}"


def line_id(batch_uid: str, item: int) -> str:
    """Name a result line: unique over all batches, and the same whenever the line is written again."""
    return f"{_line_prefix(batch_uid)}{item:08x}"


@lru_cache(maxsize=8)
def _line_prefix(batch_uid: str) -> str:
    return f"batch_req_{batch_uid.replace('-', '')[:_HEX_OF_JOB]}"


def result_filename(batch_id: str, kind: ResultKind) -> str:
    """Name a result file as contract 10.3 does."""
    return f"{batch_id}_{kind}.jsonl"


FILES = "openai/files/"
BATCHES = "openai/batches/"
IDEMPOTENCY = "openai/idempotency/"
UPLOADS = "openai/uploads/"
OWNER_KEY = "openai/.nightshift"
"""Names the installation that owns the bucket; without it nothing is swept (design 6)."""


def file_key(file_id: str) -> str:
    """Locate the bytes of a file."""
    return f"{FILES}{file_id}.jsonl"


def idempotency_key(namespace: str, key: str) -> str:
    """Locate what the first request with an `Idempotency-Key` chose; whatever the key holds, this is a key."""
    return f"{IDEMPOTENCY}{namespace}/{hashlib.sha256(key.encode()).hexdigest()}"


def session_key(namespace: str, upload_id: str) -> str:
    """Locate what an upload by parts was announced as."""
    return f"{UPLOADS}{namespace}/{upload_id}/session.json"


def outcome_key(namespace: str, upload_id: str) -> str:
    """Locate how an upload by parts ended: create-only, so that of complete and cancel one wins."""
    return f"{UPLOADS}{namespace}/{upload_id}/outcome.json"


def parts_prefix(namespace: str, upload_id: str) -> str:
    """Locate the parts of an upload, each under its id."""
    return f"{UPLOADS}{namespace}/{upload_id}/parts/"


def batch_prefix(batch_uid: str) -> str:
    """Locate everything that a batch writes but for its two files."""
    return f"{BATCHES}{batch_uid}/"


def manifest_key(batch_uid: str) -> str:
    """Locate the commit point of a batch."""
    return f"{batch_prefix(batch_uid)}manifest.json"


def verdict_key(batch_uid: str) -> str:
    """Locate what `inspect` found out about an input that no upload has checked."""
    return f"{batch_prefix(batch_uid)}verdict.json"


def rest_key(batch_uid: str) -> str:
    """Locate the input of a rerun: the rows that the batch that it runs again has left."""
    return f"{batch_prefix(batch_uid)}rest.jsonl"


def reused_key(batch_uid: str) -> str:
    """Locate the output lines that a rerun has taken over."""
    return f"{batch_prefix(batch_uid)}reused.jsonl"


def scratch_prefixes(batch_uid: str) -> tuple[str, ...]:
    """Locate what is of no use once the manifest stands, in the order in which it is to go.

    Whoever reads a growing file looks at the last ones first, and so never takes a part of it for all.
    """
    return (reused_key(batch_uid), logs_prefix(batch_uid), progress_prefix(batch_uid))


def logs_prefix(batch_uid: str) -> str:
    """Locate the logs of all slices."""
    return f"{batch_prefix(batch_uid)}log/"


def log_prefix(batch_uid: str, slice_no: int) -> str:
    """Locate the log of a slice."""
    return f"{logs_prefix(batch_uid)}{slice_no:04d}/"


def record_key(batch_uid: str, slice_no: int, seq: int) -> str:
    """Locate a record of a log; the zeros make the order of names the order of records."""
    return f"{log_prefix(batch_uid, slice_no)}{seq:08d}"


def progress_prefix(batch_uid: str) -> str:
    """Locate the progress of all slices."""
    return f"{batch_prefix(batch_uid)}progress/"


def progress_key(batch_uid: str, slice_no: int, claim: int) -> str:
    """Locate the progress that the writer of a claim reports."""
    return f"{progress_prefix(batch_uid)}{slice_no:04d}/{claim:08d}"
