"""Uploads by parts, as a client makes them."""

from typing import Any

import httpx2

from nightshift_crds import names
from nightshift_crds.bucket.port import Bucket
from tests.api.harness import Api, json_of
from tests.builders import NAMESPACE, a_line, jsonl

CONTENT = jsonl(a_line("row-1"), a_line("row-2"), a_line("row-3"))
PIECES = [CONTENT[:10], CONTENT[10:150], CONTENT[150:]]


async def begin(api: Api, **fields: Any) -> dict[str, Any]:
    """Announce a file, a moment after whatever was done before."""
    api.clock.advance(milliseconds=1)
    return json_of(await announce(api, **fields), 200)


async def announce(api: Api, **fields: Any) -> httpx2.Response:
    asked = {"filename": "in.jsonl", "purpose": "batch", "bytes": len(CONTENT), "mime_type": "text/jsonl"} | fields
    return await api.client.post("uploads", json={name: value for name, value in asked.items() if value is not ...})


async def send_part(api: Api, upload_id: str, content: bytes) -> httpx2.Response:
    return await api.client.post(f"uploads/{upload_id}/parts", files={"data": ("upload", content)})


async def add(api: Api, upload_id: str, *pieces: bytes) -> list[str]:
    """Send parts, and give their ids."""
    return [json_of(await send_part(api, upload_id, piece), 200)["id"] for piece in pieces]


async def complete(api: Api, upload_id: str, part_ids: list[str], **fields: Any) -> httpx2.Response:
    return await api.client.post(f"uploads/{upload_id}/complete", json={"part_ids": part_ids} | fields)


async def cancel(api: Api, upload_id: str) -> httpx2.Response:
    return await api.client.post(f"uploads/{upload_id}/cancel")


async def part_keys(bucket: Bucket, upload_id: str) -> list[str]:
    return [info.key async for info in bucket.list(names.parts_prefix(NAMESPACE, upload_id))]


async def file_keys(bucket: Bucket) -> list[str]:
    return [info.key async for info in bucket.list(names.FILES)]
