"""`/openapi.json`: a description, and one of this API; `harness` holds every answer of every test against it."""

import inspect
import re
from pathlib import Path
from typing import Any, cast

import pytest

from nightshift_api import wire
from nightshift_api.app import PREFIXES
from nightshift_api.context import Context
from nightshift_api.routes import Operation, build_operations
from nightshift_api.wire import MORE, Wire
from tests.api.harness import BASE, Api, open_api
from tests.api.schema import Description, resolve

OPERATIONS = build_operations(cast(Context, None))
INSIDE_OTHERS = {"Wire", "ListObject", "Health"}
ASKED_BY_QUERY_OR_FORM = {
    "ListBatches",
    "ListFiles",
    "CreateFile",
    "CreatePart",
    "ExpiresAfter",
    "Idempotent",
    "Ranged",
}


def path_of(operation: Operation) -> str:
    return operation.path.replace(":path", "")


def operations_of(description: Description) -> dict[tuple[str, str], Description]:
    return {
        (method.upper(), path): operation
        for path, methods in description["paths"].items()
        for method, operation in methods.items()
    }


def references_in(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["$ref"]] if "$ref" in value else []
        return own + [found for item in value.values() for found in references_in(item)]
    return [found for item in value for found in references_in(item)] if isinstance(value, list) else []


async def test_it_has_what_openapi_3_1_asks_of_a_description(api: Api) -> None:
    description = api.description
    assert re.fullmatch(r"3\.1\.\d+", description["openapi"])
    assert description["info"].keys() >= {"title", "version"}
    assert description.keys() <= {"openapi", "info", "servers", "security", "paths", "components"}
    assert all(path.startswith("/") for path in description["paths"])
    assert {name for need in description["security"] for name in need} <= set(
        description["components"]["securitySchemes"]
    )


async def test_its_operations_are_well_formed_and_told_apart(api: Api) -> None:
    operations = operations_of(api.description)
    names = [operation["operationId"] for operation in operations.values()]
    assert len(set(names)) == len(names)
    for (_, path), operation in operations.items():
        in_path = {p["name"] for p in operation["parameters"] if p["in"] == "path"}
        assert in_path == set(re.findall(r"\{(\w+)\}", path))
        assert all(p["required"] for p in operation["parameters"] if p["in"] == "path")
        assert all(answer["description"] and len(answer["content"]) == 1 for answer in operation["responses"].values())
        assert all(re.fullmatch(r"[2-5]\d\d", status) for status in operation["responses"])


async def test_its_references_lead_somewhere(api: Api) -> None:
    references = references_in(api.description)
    assert references
    assert all(resolve({"$ref": reference}, api.description) for reference in references)


async def test_it_describes_every_call_and_no_other(api: Api) -> None:
    assert operations_of(api.description).keys() == {(op.method, path_of(op)) for op in OPERATIONS}


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda op: op.summary)
async def test_every_call_that_it_describes_is_there_under_both_prefixes(
    api: Api, prefix: str, operation: Operation
) -> None:
    path = re.sub(r"\{\w+\}", "x", path_of(operation))
    answer = await api.client.request(operation.method, f"{BASE}{prefix}{path}")
    assert answer.status_code != 405
    assert not answer.json().get("error", {}).get("message", "").startswith("Not Found")


async def test_it_describes_every_object_that_goes_over_the_wire(api: Api) -> None:
    models = {name for name, model in vars(wire).items() if inspect.isclass(model) and issubclass(model, Wire)}
    described = {re.sub(r"_\w+_$", "", name) for name in api.description["components"]["schemas"]}
    assert models - INSIDE_OTHERS - ASKED_BY_QUERY_OR_FORM <= described


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda op: op.summary)
async def test_it_describes_what_a_call_takes(api: Api, operation: Operation) -> None:
    described = operations_of(api.description)[operation.method, path_of(operation)]
    in_query = {p["name"] for p in described["parameters"] if p["in"] == "query"}
    assert in_query == set(operation.query.model_fields if operation.query else ())
    in_header = {p["name"] for p in described["parameters"] if p["in"] == "header"}
    assert in_header == {info.alias for info in (operation.headers.model_fields.values() if operation.headers else ())}
    body = described.get("requestBody", {"content": {}})["content"]
    kinds = {"application/json": operation.body, "multipart/form-data": operation.form}
    assert set(body) == {kind for kind, model in kinds.items() if model}
    assert described.get("requestBody", {}).get("required", True) is operation.needs_body


async def test_it_describes_an_upload_as_a_form_is_written(api: Api) -> None:
    form = operations_of(api.description)["POST", "/files"]["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert set(form["properties"]) == {"file", "purpose", "expires_after[anchor]", "expires_after[seconds]"}
    assert form["required"] == ["file", "purpose"]
    assert form["properties"]["expires_after[seconds]"]["minimum"] == 3600
    assert form["dependentRequired"] == {
        "expires_after[anchor]": ["expires_after[seconds]"],
        "expires_after[seconds]": ["expires_after[anchor]"],
    }


async def test_it_names_the_limits_of_a_page(api: Api) -> None:
    for path, default, most in (("/files", 10_000, 10_000), ("/batches", 20, 100)):
        (limit,) = (p for p in operations_of(api.description)["GET", path]["parameters"] if p["name"] == "limit")
        assert (limit["schema"]["minimum"], limit["schema"]["maximum"], limit["schema"]["default"]) == (
            1,
            most,
            default,
        )


async def test_it_names_the_endpoints_and_the_largest_file_of_the_installation(tmp_path: Path) -> None:
    async with open_api(tmp_path, endpoints=("/v1/embeddings",), max_file_bytes=1_234) as api:
        schemas = api.description["components"]["schemas"]
        assert schemas["CreateBatch"]["properties"]["endpoint"]["enum"] == ["/v1/embeddings"]
        assert schemas["CreateUpload"]["properties"]["bytes"]["maximum"] == 1_234


async def test_it_says_what_an_id_looks_like(api: Api) -> None:
    for (_, path), operation in operations_of(api.description).items():
        for parameter in operation["parameters"]:
            if parameter["name"] in {"file_id", "batch_id", "upload_id"} | ({"after"} if "{" not in path else set()):
                kind = parameter["name"].partition("_")[0] if "_" in parameter["name"] else path.strip("/")[:-1]
                kind = {"batche": "batch"}.get(kind, kind)
                assert re.search(parameter["schema"]["pattern"], f"{kind}_0192f0c2-0000-7000-8000-000000000000")
                assert not re.search(parameter["schema"]["pattern"], f"{kind}-0192f0c2-0000-7000-8000-000000000000")


async def test_it_says_that_an_answer_has_all_its_keys(api: Api) -> None:
    schemas = api.description["components"]["schemas"]
    for name in ("FileObject", "BatchObject", "UploadObject", "ModelObject", "ErrorDetails"):
        assert schemas[name]["required"] == list(schemas[name]["properties"])
    assert schemas["CreateBatch"]["required"] == ["input_file_id", "endpoint", "completion_window"]


async def test_it_describes_the_headers_that_clients_act_on(api: Api) -> None:
    for operation in operations_of(api.description).values():
        for status, response in operation["responses"].items():
            wanted = {"409": {"x-should-retry"}, "429": {"Retry-After"}, "503": {"Retry-After"}}.get(status, set())
            is_download = "application/octet-stream" in response["content"]
            wanted = wanted | {"x-request-id"} | ({"content-disposition", MORE} if is_download else set())
            assert {name for name, header in response["headers"].items() if header["required"]} == wanted


async def test_what_a_query_or_a_form_leaves_out_is_not_null(api: Api) -> None:
    for operation in operations_of(api.description).values():
        form = operation.get("requestBody", {}).get("content", {}).get("multipart/form-data", {}).get("schema", {})
        schemas = [parameter["schema"] for parameter in operation["parameters"]] + list(
            form.get("properties", {}).values()
        )
        assert all("anyOf" not in schema and schema.get("default", "") is not None for schema in schemas)


async def test_it_needs_no_key(api: Api) -> None:
    answer = await api.client.get(f"{BASE}/openapi.json", headers={"Authorization": ""})
    assert answer.json() == api.description
