"""Who is let in, and how fast that changes (contract 1.2)."""

from pathlib import Path

import pytest

from nightshift_api.auth import Keyring
from nightshift_crds.keys import hash_key, render_keys
from tests.api.harness import KEY, OTHER_KEY, OTHER_NAMESPACE, Api, call, client_of, error_of
from tests.builders import NAMESPACE

NOBODY = (None, None)
WRONG = ("invalid_api_key", None)


def replace(path: Path, text: str) -> None:
    """Change a file as Kubernetes changes a mounted Secret: all at once."""
    fresh = path.with_suffix(".fresh")
    fresh.write_text(text)
    fresh.replace(path)


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": f"Bearer {KEY}"},
        {"Authorization": f"bearer {KEY}"},
        {"Authorization": f"Bearer   {KEY} "},
        {"api-key": KEY},
        {"Authorization": "Bearer", "api-key": KEY},
        {"Authorization": "Basic dXNlcjpwYXNz", "api-key": KEY},
        {"Authorization": f"Bearer {KEY}", "api-key": "sk-wrong"},
    ],
)
async def test_a_key_is_taken_as_openai_and_azure_clients_send_it(api: Api, headers: dict[str, str]) -> None:
    async with client_of(api.app, description=api.description) as client:
        assert (await client.get("models", headers=headers)).status_code == 200


@pytest.mark.parametrize(
    ("headers", "refusal"),
    [
        ({}, NOBODY),
        ({"Authorization": ""}, NOBODY),
        ({"Authorization": "Bearer"}, NOBODY),
        ({"Authorization": "Bearer  "}, NOBODY),
        ({"Authorization": KEY}, NOBODY),
        ({"Authorization": f"Basic {KEY}"}, NOBODY),
        ({"api-key": ""}, NOBODY),
        ({"Authorization": "Bearer sk-wrong"}, WRONG),
        ({"Authorization": "Bearer sk-wrong", "api-key": KEY}, WRONG),
        ({"Authorization": f"Bearer {KEY.upper()}"}, WRONG),
        ({"Authorization": f"Bearer {KEY} {KEY}"}, WRONG),
        ({"api-key": "k" * 100_000}, WRONG),
    ],
)
async def test_whoever_has_no_key_is_told_apart_from_one_with_a_wrong_key(
    api: Api, headers: dict[str, str], refusal: tuple[str | None, str | None]
) -> None:
    async with client_of(api.app, description=api.description) as client:
        assert error_of(await client.get("models", headers=headers), 401) == refusal


async def test_a_refusal_does_not_show_the_key(api: Api) -> None:
    async with client_of(api.app, "sk-secret", api.description) as client:
        assert "sk-secret" not in (await client.get("models")).text


async def test_a_key_of_bytes_that_are_no_ascii_is_a_wrong_key(api: Api) -> None:
    scope = {"method": "GET", "path": "/v1/models", "headers": [(b"authorization", b"Bearer \xff\x80")]}
    start, *_ = await call(api.app, scope, [])
    assert start["status"] == 401


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "nothing"), ("PUT", "files"), ("POST", "batches"), ("POST", "files"), ("GET", "files/x")],
)
async def test_without_a_key_nothing_is_told_about_what_there_is(api: Api, method: str, path: str) -> None:
    async with client_of(api.app, description=api.description) as client:
        assert error_of(await client.request(method, path), 401) == NOBODY


async def test_headers_of_openai_clients_that_mean_nothing_here_are_ignored(api: Api) -> None:
    headers = {"OpenAI-Organization": "o", "OpenAI-Project": "p", "OpenAI-Beta": "b", "X-Stainless-Lang": "python"}
    assert (await api.client.get("models", headers=headers)).status_code == 200


async def test_a_revoked_key_stops_at_once(api: Api) -> None:
    assert (await api.client.get("models")).status_code == 200
    replace(api.keys_file, render_keys({OTHER_KEY: OTHER_NAMESPACE}))
    assert error_of(await api.client.get("models"), 401) == WRONG
    assert (await api.stranger.get("models")).status_code == 200


async def test_a_key_that_is_handed_on_opens_the_new_namespace_only(api: Api) -> None:
    file = await api.upload()
    replace(api.keys_file, render_keys({KEY: OTHER_NAMESPACE, OTHER_KEY: NAMESPACE}))
    assert await api.ids("files") == []
    assert (await api.stranger.get(f"files/{file['id']}")).status_code == 200


@pytest.mark.parametrize("text", ["", "{", "[]", '{"keys": [{"sha256": "short", "namespace": "n"}]}', "\0"])
async def test_a_key_file_that_goes_bad_leaves_the_last_good_one_in_force(api: Api, text: str) -> None:
    replace(api.keys_file, text)
    assert (await api.client.get("models")).status_code == 200
    async with client_of(api.app, "sk-wrong", api.description) as client:
        assert error_of(await client.get("models"), 401) == WRONG


async def test_a_key_file_that_is_gone_for_a_while_leaves_the_last_good_one_in_force(api: Api) -> None:
    good = api.keys_file.read_text()
    api.keys_file.unlink()
    assert (await api.client.get("models")).status_code == 200
    replace(api.keys_file, good.replace(hash_key(KEY), hash_key("sk-new")))
    assert error_of(await api.client.get("models"), 401) == WRONG


def test_without_a_key_file_nobody_is_let_in_until_there_is_one(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    keyring = Keyring(path)
    assert keyring.namespace_of(KEY) is None
    replace(path, render_keys({KEY: NAMESPACE}))
    assert keyring.namespace_of(KEY) == NAMESPACE
