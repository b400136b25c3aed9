"""`/models`: what may be batched, and nothing else (contract 6)."""

import pytest

from nightshift_api.models import render_model
from nightshift_crds.models import HostedModel
from tests.api.faults import Weak
from tests.api.harness import OTHER_NAMESPACE, Api, call, error_of
from tests.api.test_app import SCOPE
from tests.builders import T0, a_model_manifest, timestamp

NAMES = ["smollm2:135m", "org/model", "org/model:tag", "a b", "ü", "a%2Fb", "a?b#c", "..", "x/", "/x"]


def quote(name: str) -> str:
    """Encode every character, as no client does and all may."""
    return "".join(f"%{byte:02X}" for byte in name.encode())


async def test_models_are_listed_by_name(api: Api) -> None:
    for name in ("b", "a/x", "c:1"):
        await api.add_model(a_model_manifest(name))
    assert await api.ids("models") == ["a/x", "b", "c:1"]


async def test_a_list_without_models_is_a_list(api: Api) -> None:
    assert await api.get("models") == {"object": "list", "data": []}


def test_a_model_is_shown_as_contract_6_has_it() -> None:
    manifest = a_model_manifest("m")
    manifest["metadata"] |= {"creationTimestamp": timestamp(T0), "uid": "u"}
    assert render_model(HostedModel.parse(manifest)).model_dump() == {
        "id": "m",
        "object": "model",
        "created": int(T0.timestamp()),
        "owned_by": "nightshift",
        "shutdown_date": None,
    }


@pytest.mark.parametrize("name", NAMES)
async def test_a_model_is_found_by_its_name_with_every_character_encoded(api: Api, name: str) -> None:
    manifest = a_model_manifest(name)
    manifest["metadata"]["name"] = "m"
    await api.add_model(manifest)
    assert (await api.get(f"models/{quote(name)}"))["id"] == name


@pytest.mark.parametrize("path", ["org/model:tag", "org%2Fmodel:tag", "org%2fmodel%3Atag"])
async def test_a_model_is_found_by_its_name_raw_and_encoded(api: Api, path: str) -> None:
    await api.add_model(a_model_manifest("org/model:tag"))
    assert (await api.get(f"models/{path}"))["id"] == "org/model:tag"


async def test_a_model_that_its_schema_does_not_allow_hides_no_other(weak: Weak) -> None:
    for name in ("good", "bad"):
        await weak.api.add_model(a_model_manifest(name))
    weak.cluster.alter_lists(lambda m: m | {"spec": {}} if m["metadata"]["name"] == "bad" else m)
    assert await weak.api.ids("models") == ["good"]
    assert (await weak.api.get("models/good"))["id"] == "good"


async def test_a_model_of_another_namespace_is_unknown(api: Api) -> None:
    manifest = a_model_manifest("m")
    manifest["metadata"]["namespace"] = OTHER_NAMESPACE
    await api.add_model(manifest)
    assert await api.ids("models") == []
    assert error_of(await api.client.get("models/m"), 404) == ("model_not_found", "model")


async def test_a_name_with_a_line_break_is_unknown_as_any_other(api: Api) -> None:
    start, *_ = await call(api.app, SCOPE | {"method": "GET", "path": "/v1/models/a\nb"}, [])
    assert start["status"] == 404
