"""What `nightshift local` is told and puts in order: options, key files, the catalogue, leases."""

import base64
import json
import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from nightshift_cli.local.setup import (
    SYSTEM_NAMESPACE,
    DataDir,
    LocalSettings,
    ServedModel,
    forget_leases,
    parse_keys,
    parse_model_keys,
    parse_models,
    write_catalogue,
    write_keys,
)
from nightshift_crds import keys
from nightshift_crds.cluster.port import HOSTED_MODEL, LEASE, SECRET, Cluster, Kind, Manifest, Selector, each
from nightshift_crds.errors import Rejected
from nightshift_crds.lines import CHAT, EMBEDDINGS, RESPONSES, SCORE
from nightshift_crds.models import ModelService
from tests.builders import NAMESPACE, a_model_manifest

URL = "http://127.0.0.1:8000"

# --- API keys ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "key", "namespace"),
    [
        ("sk-1", "sk-1", "default"),
        ("sk-1=team-a", "sk-1", "team-a"),
        ("a=b=team-a", "a=b", "team-a"),
        ("c2VjcmV0=", "c2VjcmV0=", "default"),
        ("c2VjcmV0==", "c2VjcmV0==", "default"),
        ("c2VjcmV0===x", "c2VjcmV0==", "x"),
    ],
)
def test_a_key_is_bound_to_the_namespace_behind_it(text: str, key: str, namespace: str) -> None:
    assert parse_keys([text]) == {key: namespace}


def test_keys_may_be_many_and_the_last_of_a_key_counts() -> None:
    assert parse_keys(["a=one", "b", "a=two"]) == {"a": "two", "b": "default"}


@pytest.mark.parametrize("text", ["", "=team-a", "sk-1=Team_A", "sk-1=-a", "sk-1=team a", f"sk-1={'n' * 64}"])
def test_a_key_that_is_empty_or_bound_to_no_namespace_is_refused(text: str) -> None:
    with pytest.raises(Rejected, match="Expected --api-key"):
        parse_keys([text])


def test_a_refused_namespace_does_not_show_the_key() -> None:
    with pytest.raises(Rejected) as refusal:
        parse_keys(["sk-secret=Team A"])
    assert "sk-secret" not in refusal.value.message


# --- models -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["gpt", "smollm2:135m", "meta-llama/Llama-3.1-8B", "a=b", "mit leer", "模", "x" * 256])
def test_a_model_may_have_any_name(name: str) -> None:
    (model,) = parse_models([f"{name}={URL}"], {}, 8)
    assert model == ServedModel(name, URL, 8)


@given(st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=256))
def test_a_model_is_named_by_what_stands_before_its_url(name: str) -> None:
    assume("=http" not in name)
    assert parse_models([f"{name}={URL}?a=b"], {}, 1) == (ServedModel(name, f"{URL}?a=b", 1),)


@pytest.mark.parametrize("url", [URL, "https://models.example/v1", "http://[::1]:8000/v1?x=http://y"])
def test_a_url_is_kept_as_it_is_given(url: str) -> None:
    assert [model.url for model in parse_models([f"m={url}"], {}, 1)] == [url]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "m",
        "m=",
        f"={URL}",
        URL,
        "m=ftp://model",
        "m=model:8000",
        "m=http://",
        "m=http:// x",
        "m=http://[",
        "m=http://host:99999",
        f"{'x' * 257}={URL}",
        f"m={URL}/{'x' * 1_000}",
    ],
)
def test_what_names_no_model_and_server_is_refused(text: str) -> None:
    with pytest.raises(Rejected, match="Expected --model NAME=URL"):
        parse_models([text], {}, 1)


def test_the_last_server_of_a_model_counts() -> None:
    assert [model.url for model in parse_models([f"m={URL}/1", f"m={URL}/2"], {}, 1)] == [f"{URL}/2"]


def test_the_key_of_a_model_server_comes_from_a_variable() -> None:
    found = parse_model_keys(["a/b:1=KEY", "x=y=KEY"], {"KEY": "sk-model"})
    assert found == {"a/b:1": "sk-model", "x=y": "sk-model"}
    assert [model.api_key for model in parse_models([f"a/b:1={URL}"], {"a/b:1": "sk-model"}, 1)] == ["sk-model"]


@pytest.mark.parametrize("text", ["KEY", "=KEY", "m=", "m=ABSENT", "m=EMPTY"])
def test_a_variable_that_is_not_set_is_refused(text: str) -> None:
    with pytest.raises(Rejected, match="--model-api-key"):
        parse_model_keys([text], {"KEY": "sk", "EMPTY": ""})


def test_a_key_for_a_model_that_is_not_served_is_refused_by_name() -> None:
    with pytest.raises(Rejected, match="none for other"):
        parse_models([f"m={URL}"], {"m": "sk", "other": "sk"}, 1)


# --- files ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def data_dir(tmp_path: Path) -> DataDir:
    made = DataDir(tmp_path / "data")
    made.create()
    return made


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_what_lies_in_a_data_directory_is_for_its_owner_only(data_dir: DataDir) -> None:
    write_keys(data_dir, {})
    assert [mode_of(folder) for folder in (data_dir.root, data_dir.work_dir)] == [0o700, 0o700]
    assert [mode_of(file) for file in (data_dir.own_key, data_dir.keys_file)] == [0o600, 0o600]


def test_keys_are_stored_by_hash_alone(data_dir: DataDir) -> None:
    assert write_keys(data_dir, {"sk-1": "team-a"}) == {"sk-1": "team-a"}
    content = data_dir.keys_file.read_bytes()
    assert b"sk-1" not in content
    assert keys.parse_keys(content).namespaces == {keys.hash_key("sk-1"): "team-a"}
    assert not data_dir.own_key.exists()


def test_sessions_of_the_console_outlast_a_restart(data_dir: DataDir) -> None:
    write_keys(data_dir, {"sk-1": "team-a"})
    first = keys.parse_keys(data_dir.keys_file.read_bytes()).session_secret
    write_keys(data_dir, {"sk-2": "team-b"})
    assert first is not None
    assert keys.parse_keys(data_dir.keys_file.read_bytes()).session_secret == first
    assert mode_of(data_dir.session_secret) == 0o600


def test_without_a_key_one_is_made_once(data_dir: DataDir) -> None:
    first = write_keys(data_dir, {})
    assert list(first.values()) == ["default"]
    assert all(len(key) > 30 for key in first)
    assert write_keys(data_dir, {}) == first
    write_keys(data_dir, {"sk-1": "team-a"})
    assert write_keys(data_dir, {}) == first


def test_an_empty_key_file_that_a_crash_left_opens_nothing(data_dir: DataDir) -> None:
    data_dir.own_key.write_text("\n")
    assert all(len(key) > 30 for key in write_keys(data_dir, {}))


def test_what_a_crash_left_of_a_write_is_written_over_and_never_readable_by_others(data_dir: DataDir) -> None:
    draft = data_dir.keys_file.with_suffix(".new")
    draft.write_text("half")
    draft.chmod(0o644)
    write_keys(data_dir, {"sk-1": "team-a"})
    assert json.loads(data_dir.keys_file.read_text())["keys"]
    assert mode_of(data_dir.keys_file) == 0o600
    assert not draft.exists()


# --- the catalogue ----------------------------------------------------------------------------------------------------


async def all_of(cluster: Cluster, kind: Kind, namespace: str = NAMESPACE) -> list[Manifest]:
    return [item async for item in each(cluster, kind, Selector(namespace))]


async def catalogue(cluster: Cluster, namespace: str = NAMESPACE) -> dict[str, Any]:
    return {item["spec"]["name"]: item["spec"]["service"] for item in await all_of(cluster, HOSTED_MODEL, namespace)}


def a_service(url: str, concurrency: int) -> dict[str, Any]:
    return ModelService(url=url, max_concurrency=concurrency).dump()


async def test_the_catalogue_of_every_namespace_is_what_was_given(cluster: Cluster) -> None:
    await write_catalogue(cluster, {"a", "b"}, [ServedModel("m:1", URL, 8), ServedModel("o/m", f"{URL}/v1", 9)])
    wanted = {"m:1": a_service(URL, 8), "o/m": a_service(f"{URL}/v1", 9)}
    assert await catalogue(cluster, "a") == wanted
    assert await catalogue(cluster, "b") == wanted


async def endpoints_of(cluster: Cluster) -> list[list[str]]:
    return [model["spec"]["endpoints"] for model in await all_of(cluster, HOSTED_MODEL)]


async def test_every_model_is_taken_to_serve_what_batches_may_be_on(cluster: Cluster) -> None:
    assert LocalSettings.load({}).endpoints == (CHAT, EMBEDDINGS)
    environ = {"NIGHTSHIFT_ENDPOINTS": f"{RESPONSES}, {SCORE},{RESPONSES}", "NIGHTSHIFT_MAX_LINES": "many"}
    wanted = LocalSettings.load(environ).endpoints
    for endpoints, listed in (((CHAT,), [CHAT]), (wanted, [RESPONSES, SCORE])):
        await write_catalogue(cluster, {NAMESPACE}, parse_models([f"m={URL}"], {}, 8, endpoints))
        assert await endpoints_of(cluster) == [listed]


async def test_another_start_changes_models_and_takes_away_what_is_not_served_any_more(cluster: Cluster) -> None:
    await write_catalogue(cluster, {NAMESPACE}, [ServedModel("kept", URL, 8, "sk-1"), ServedModel("gone", URL, 8, "k")])
    await write_catalogue(cluster, {NAMESPACE}, [ServedModel("kept", f"{URL}/new", 9)])
    assert await catalogue(cluster) == {"kept": a_service(f"{URL}/new", 9)}
    assert await all_of(cluster, SECRET) == []


async def test_the_same_start_again_changes_nothing(cluster: Cluster) -> None:
    models = [ServedModel("m", URL, 8, "sk-1")]
    await write_catalogue(cluster, {NAMESPACE}, models)
    before = await all_of(cluster, HOSTED_MODEL)
    await write_catalogue(cluster, {NAMESPACE}, models)
    assert await all_of(cluster, HOSTED_MODEL) == before


async def test_models_whose_names_look_alike_stay_apart(cluster: Cluster) -> None:
    names = ["a-b", "a/b", "A:b", "a b", "模", "型", "x" * 200, "x" * 201]
    await write_catalogue(cluster, {NAMESPACE}, [ServedModel(name, URL, 1) for name in names])
    assert sorted(await catalogue(cluster)) == sorted(names)


async def test_the_key_of_a_model_server_is_in_a_secret_and_not_in_the_model(cluster: Cluster) -> None:
    await write_catalogue(cluster, {NAMESPACE}, [ServedModel("m", URL, 8, "sk-old")])
    await write_catalogue(cluster, {NAMESPACE}, [ServedModel("m", URL, 8, "sk-new")])
    (model,) = await all_of(cluster, HOSTED_MODEL)
    (secret,) = await all_of(cluster, SECRET)
    reference = model["spec"]["service"]["apiKeySecret"]
    assert reference["name"] == secret["metadata"]["name"]
    assert base64.b64decode(secret["data"][reference["key"]]) == b"sk-new"
    assert "sk-new" not in json.dumps(model)


async def test_what_somebody_else_made_stays(cluster: Cluster) -> None:
    await cluster.create(HOSTED_MODEL, a_model_manifest("by-hand"))
    await write_catalogue(cluster, {NAMESPACE}, [])
    assert list(await catalogue(cluster)) == ["by-hand"]


async def test_leases_of_an_earlier_run_are_forgotten(cluster: Cluster) -> None:
    lease = {"apiVersion": LEASE.api_version, "kind": "Lease", "metadata": {"name": "l", "namespace": SYSTEM_NAMESPACE}}
    await cluster.create(LEASE, lease | {"spec": {}})
    await forget_leases(cluster)
    assert await all_of(cluster, LEASE, SYSTEM_NAMESPACE) == []
