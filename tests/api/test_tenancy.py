"""Another tenant's objects are indistinguishable from absent ones (contract 1.2)."""

from dataclasses import dataclass

import httpx2
import pytest

from nightshift_crds.lifecycle import Phase
from nightshift_crds.lines import CHAT
from nightshift_crds.names import IdKind, ResultKind
from tests.api.given import SliceLog, a_batch_in, add_result_file, an_id
from tests.api.harness import Api
from tests.builders import T0, a_model_manifest


@dataclass(frozen=True)
class Call:
    """A request that names an object by its id."""

    method: str
    path: str

    async def ask(self, client: httpx2.AsyncClient, file_id: str, batch_id: str) -> httpx2.Response:
        path = self.path.format(file=file_id, batch=batch_id)
        body = {"input_file_id": file_id, "endpoint": CHAT, "completion_window": "24h"} if path == "batches" else None
        return await client.request(self.method, path, json=body)


CALLS = [
    Call("GET", "files/{file}"),
    Call("GET", "files/{file}/content"),
    Call("DELETE", "files/{file}"),
    Call("POST", "batches"),
    Call("GET", "batches/{batch}"),
    Call("POST", "batches/{batch}/cancel"),
    Call("POST", "batches/{batch}/rerun"),
    Call("POST", "batches/{batch}/suspend"),
    Call("POST", "batches/{batch}/resume"),
]


@pytest.mark.parametrize("call", CALLS, ids=str)
@pytest.mark.parametrize("file", ["input", "output"])
async def test_an_object_of_another_tenant_is_answered_as_one_that_never_was(api: Api, call: Call, file: str) -> None:
    batch = await a_batch_in(api, Phase.IN_PROGRESS)
    output = await add_result_file(api, batch, ResultKind.OUTPUT)
    await SliceLog(api.bucket, batch.metadata.uid).append([b"{}\n"])
    file_id = {"input": batch.spec.input.file_id, "output": output}[file]
    foreign = await call.ask(api.stranger, str(file_id), batch.id)
    never = await call.ask(api.stranger, an_id(IdKind.FILE, T0), an_id(IdKind.BATCH, T0))
    assert (foreign.status_code, foreign.json()) == (404, never.json())
    assert (await api.get(f"batches/{batch.id}"))["status"] == "in_progress"
    assert (await api.client.get(f"files/{file_id}/content")).status_code == 200


@pytest.mark.parametrize("path", ["files", "batches", "models"])
async def test_a_list_has_nothing_of_another_tenant(api: Api, path: str) -> None:
    await api.create_batch()
    await api.add_model(a_model_manifest())
    assert len(await api.ids(path)) == 1
    assert (await api.stranger.get(path)).json()["data"] == []


async def test_a_cursor_of_another_tenant_is_a_deleted_one(api: Api) -> None:
    """It tells a time, and nothing of whether there is such an object."""
    file_id = (await api.upload())["id"]
    assert (await api.stranger.get("files", params={"after": file_id})).status_code == 200
