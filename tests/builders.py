"""Test objects with defaults: say only what the test is about."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from nightshift_crds import names
from nightshift_crds.lines import CHAT
from nightshift_crds.models import BatchJob, EndpointVerdict, HostedModel, ModelLines, StoredFile, Verdict
from nightshift_crds.names import IdKind

T0 = datetime(2026, 11, 23, 8, 0, 0, tzinfo=UTC)
NAMESPACE = "team-a"
BATCH_UUID = names.make_uuid7(int(T0.timestamp() * 1000), b"batch-test")
FILE_UUID = names.make_uuid7(int(T0.timestamp() * 1000), b"file--test")
FILE_ID = names.make_id(IdKind.FILE, FILE_UUID)
BATCH_UID = "5f0e6d5a-6f0c-4f0b-9d43-0a6a3f1c2b7e"
MODEL = "smollm2:135m"


def timestamp(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


def a_batch_manifest(
    *,
    name: str = names.resource_name(IdKind.BATCH, BATCH_UUID),
    annotations: dict[str, str] | None = None,
    **spec: Any,
) -> dict[str, Any]:
    noted = {"annotations": annotations} if annotations else {}
    return {
        "apiVersion": "nightshift.dev/v1alpha1",
        "kind": "BatchJob",
        "metadata": {"name": name, "namespace": NAMESPACE} | noted,
        "spec": {"input": {"fileId": FILE_ID}, "endpoint": CHAT} | spec,
    }


def a_batch(
    *, spec: dict[str, Any] | None = None, status: dict[str, Any] | None = None, metadata: dict[str, Any] | None = None
) -> BatchJob:
    manifest = a_batch_manifest(**(spec or {}))
    manifest["metadata"] |= {
        "uid": BATCH_UID,
        "resourceVersion": "7",
        "creationTimestamp": timestamp(T0),
        "generation": 1,
    }
    manifest["metadata"] |= metadata or {}
    return BatchJob.parse(manifest | {"status": status or {}})


def a_file_manifest(*, name: str = names.resource_name(IdKind.FILE, FILE_UUID), **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "nightshift.dev/v1alpha1",
        "kind": "StoredFile",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"filename": "in.jsonl", "purpose": "batch"} | spec,
    }


def a_file(*, spec: dict[str, Any] | None = None, status: dict[str, Any] | None = None) -> StoredFile:
    manifest = a_file_manifest(**(spec or {}))
    manifest["metadata"] |= {"uid": "file-uid", "resourceVersion": "3", "creationTimestamp": timestamp(T0)}
    return StoredFile.parse(manifest | {"status": status or {}})


def a_model_manifest(name: str = MODEL, url: str = "http://127.0.0.1:9", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "nightshift.dev/v1alpha1",
        "kind": "HostedModel",
        "metadata": {"name": name.replace(":", "-").replace("/", "-"), "namespace": NAMESPACE},
        "spec": {"name": name, "service": {"url": url}} | spec,
    }


def a_model(name: str = MODEL, **spec: Any) -> HostedModel:
    return HostedModel.parse(a_model_manifest(name, **spec))


def a_verdict(
    *,
    lines: int = 10,
    models: Sequence[str] = (MODEL,),
    endpoint: str = CHAT,
    found: dict[str, Any] | None = None,
    **more: Any,
) -> Verdict:
    """Build the verdict of an input whose lines name models in turn; `found` is what else there is to say of them."""
    named = {name: [n + 1 for n in range(lines) if models[n % len(models)] == name] for name in models}
    tallies = [ModelLines(name=name, lines=numbers, count=len(numbers)) for name, numbers in named.items()]
    verdict = EndpointVerdict(models=tallies).model_copy(update=found or {})
    return Verdict(lines=lines, bytes=500, crc32c=7, endpoints={endpoint: verdict}).model_copy(update=more)


def a_line(
    custom_id: str = "row-1", *, model: str = MODEL, url: str = CHAT, method: str = "POST", **body: Any
) -> dict[str, Any]:
    content = {"model": model, "messages": [{"role": "user", "content": "Say hello."}]} | body
    return {"custom_id": custom_id, "method": method, "url": url, "body": content}


def jsonl(*lines: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)
