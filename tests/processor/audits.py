"""What must be true of a sealed batch, however it came to its end."""

import json
from typing import Any

from google_crc32c import value as crc32c_of

from nightshift_crds import names
from nightshift_crds.bucket.port import Bucket, get
from nightshift_crds.lines import Usage
from nightshift_crds.names import ResultKind
from nightshift_crds.records import BatchManifest, decode_manifest
from tests.builders import BATCH_UID
from tests.processor.given import ERROR_ID, OUTPUT_ID, usage_of

NEVER_RAN = {"batch_cancelled", "batch_expired"}
FILE_IDS = {ResultKind.OUTPUT: OUTPUT_ID, ResultKind.ERROR: ERROR_ID}


async def audit(bucket: Bucket, *custom_ids: str) -> BatchManifest:
    """Prove that every custom_id stands once in one of the files, and that the manifest says what the files hold."""
    manifest = decode_manifest(await get(bucket, names.manifest_key(BATCH_UID)))
    outputs = await _lines_of(bucket, manifest, ResultKind.OUTPUT)
    errors = await _lines_of(bucket, manifest, ResultKind.ERROR)
    assert sorted(line["custom_id"] for line in (*outputs, *errors)) == sorted(custom_ids)
    assert len({line["id"] for line in (*outputs, *errors)}) == len(custom_ids)
    assert all(line["error"] is None for line in outputs)
    assert manifest.completed == len(outputs)
    assert manifest.failed == sum(line["error"]["code"] not in NEVER_RAN for line in errors)
    assert manifest.usage == sum(map(usage_of, outputs), Usage())
    return manifest


async def _lines_of(bucket: Bucket, manifest: BatchManifest, kind: ResultKind) -> list[dict[str, Any]]:
    key = names.file_key(FILE_IDS[kind])
    if kind not in manifest.files:
        assert await bucket.head(key) is None
        return []
    file, data = manifest.files[kind], await get(bucket, key)
    lines = data.splitlines(keepends=True)
    assert all(line.endswith(b"\n") for line in lines)
    assert (file.file_id, file.bytes, file.crc32c, file.lines) == (
        FILE_IDS[kind],
        len(data),
        crc32c_of(data),
        len(lines),
    )
    assert lines, "a file without lines is not made"
    return [json.loads(line) for line in lines]
