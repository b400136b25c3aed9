"""What effects are called: the call, and what it is about. Never which object: a name stands for all of its kind."""

import json
import os
from collections.abc import AsyncIterator, Sequence

from nightshift_crds import names
from nightshift_crds.cluster.port import BATCH_JOB, JOB, LEASE, STORED_FILE, Kind, Manifest
from nightshift_crds.records import decode_header


def of_key(key: str, data: bytes | AsyncIterator[bytes] = b"") -> str:
    """Name the class of an object in the bucket."""
    if key == names.OWNER_KEY:
        return "owner"
    if key.startswith(names.IDEMPOTENCY):
        return "idempotency key"
    if key.startswith(names.UPLOADS):
        return {"session.json": "upload session", "outcome.json": "upload outcome"}.get(
            key.split("/")[4], "upload part"
        )
    if key.startswith(names.FILES):
        return _of_file(key)
    kind = key.removeprefix(names.BATCHES).split("/")[1].removesuffix(".json").removesuffix(".jsonl")
    is_record = kind == "log" and isinstance(data, bytes) and data
    return f"record {decode_header(_header(data)).kind}" if is_record and isinstance(data, bytes) else kind


def _header(record: bytes) -> bytes:
    return record.partition(b"\n")[0]


def _of_file(key: str) -> str:
    for variable, name in (("NIGHTSHIFT_OUTPUT_FILE_ID", "output file"), ("NIGHTSHIFT_ERROR_FILE_ID", "error file")):
        if key == names.file_key(os.environ.get(variable, "")):
            return name
    return "file"


def ids_of(key: str, data: bytes | AsyncIterator[bytes]) -> Sequence[str]:
    """List the custom_ids of the lines that a record of a log makes durable."""
    if "/log/" not in key or not isinstance(data, bytes):
        return ()
    return [json.loads(line)["custom_id"] for line in data.splitlines()[1:]]


def prompt_of(body: bytes) -> str:
    """Read the prompt of a request; in these tests it is the custom_id of its line."""
    return str(json.loads(body)["messages"][-1]["content"])


def of_manifest(kind: Kind, manifest: Manifest) -> str:
    """Name what is created."""
    if kind is STORED_FILE and (result := manifest["spec"].get("source", {}).get("kind")):
        return f"{kind.kind} {result}"
    return of_name(kind, manifest["metadata"]["name"])


def of_name(kind: Kind, name: str) -> str:
    """Name an object by its kind, and by what its name says that is not its identity."""
    if kind is JOB:
        step = name.rpartition("-")[2]
        return f"{kind.kind} {'run' if step.isdigit() else step}"
    return f"{kind.kind} {name}" if kind is LEASE else kind.kind


def of_patch(kind: Kind, name: str, patch: Manifest) -> str:
    """Name what a patch of anything but a status does."""
    if kind is LEASE:
        given_up = "holderIdentity" in patch.get("spec", {}) and patch["spec"]["holderIdentity"] is None
        return f"{of_name(kind, name)}{' given up' * given_up}"
    if "suspend" in patch["spec"]:
        return f"{kind.kind} {'suspend' if patch['spec']['suspend'] else 'resume'}"
    return f"{kind.kind} {'cancel' if 'cancelRequested' in patch['spec'] else 'spec'}"


def of_status(kind: Kind, patch: Manifest) -> str:
    """Name what a patch of a status says, the weightiest first."""
    status = patch["status"]
    if kind is BATCH_JOB:
        for field, show in _STATUS.items():
            if status.get(field) is not None:
                return f"{kind.kind} {show.format(status[field])}"
        return f"{kind.kind} conditions"
    if kind is STORED_FILE:
        return f"{kind.kind} {status.get('phase', 'shown')}"
    return kind.kind


_STATUS = {
    "phase": "to {}",
    "sealing": "sealing {}",
    "settled": "settled",
    "attempt": "attempt",
    "webhooks": "webhooks",
    "counts": "progress",
    "gpuSeconds": "progress",
    "jobUid": "job",
}
