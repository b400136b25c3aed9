"""Sign in to the console, use the API with the cookie, be put out."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from nightshift_api.app import build_app
from nightshift_api.auth import Keyring
from nightshift_api.context import Context
from nightshift_crds.keys import render_keys
from tests.api.harness import BASE, KEY, OTHER_KEY, OTHER_NAMESPACE, Api, error_of, json_of, make_settings, open_api
from tests.api.test_auth import replace
from tests.builders import NAMESPACE

OURS = {"nightshift-console": "1", "sec-fetch-site": "same-origin"}
SECRET = "of all replicas, and of the next start"


@asynccontextmanager
async def browser_of(app: Any, cookies: dict[str, str] | None = None) -> AsyncIterator[httpx2.AsyncClient]:
    """A client that keeps cookies and sends what our page does."""
    transport = httpx2.ASGITransport(app, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url=BASE, headers=OURS, cookies=cookies) as client:
        yield client


async def sign_in(client: httpx2.AsyncClient, key: str = KEY) -> httpx2.Response:
    return await client.post("/console/session", json={"key": key})


async def test_who_signs_in_uses_the_api_by_the_cookie(api: Api) -> None:
    file = await api.upload()
    async with browser_of(api.app) as browser:
        assert json_of(await sign_in(browser), 200)["namespace"] == NAMESPACE
        assert [f["id"] for f in json_of(await browser.get("/v1/files"), 200)["data"]] == [file["id"]]
        body = {"input_file_id": file["id"], "endpoint": "/v1/chat/completions", "completion_window": "24h"}
        assert json_of(await browser.post("/v1/batches", json=body), 200)["status"] == "validating"


async def test_the_page_is_told_the_limits(tmp_path: Path) -> None:
    async with open_api(tmp_path, max_lines=7, endpoints="/v1/embeddings") as api, browser_of(api.app) as browser:
        limits = json_of(await sign_in(browser), 200)["limits"]
        assert (limits["max_lines"], limits["endpoints"]) == (7, ["/v1/embeddings"])
        assert json_of(await browser.get("/console/session"), 200)["limits"] == limits


@pytest.mark.parametrize("key", ["sk-wrong", "", KEY.upper(), "é"])
async def test_a_wrong_key_signs_nobody_in(api: Api, key: str) -> None:
    async with browser_of(api.app) as browser:
        answer = await sign_in(browser, key)
        assert error_of(answer, 401) == ("invalid_api_key", None)
        assert "set-cookie" not in answer.headers


async def test_a_token_of_a_service_account_is_told_why_not(api: Api) -> None:
    async with browser_of(api.app) as browser:
        answer = await sign_in(browser, "eyJh.eyJz.c2ln")
        assert answer.status_code == 401
        assert "ServiceAccount" in answer.json()["error"]["message"]


async def test_another_site_can_neither_sign_in_nor_write_nor_read(api: Api) -> None:
    async with browser_of(api.app) as browser:
        other = OURS | {"sec-fetch-site": "cross-site"}
        assert (await browser.post("/console/session", json={"key": KEY}, headers=other)).status_code == 403
        await sign_in(browser)
        assert error_of(await browser.post("/v1/batches", json={}, headers=other), 403) == (None, None)
        assert (await browser.get("/v1/batches", headers=other)).status_code == 403
        assert (await browser.delete("/console/session", headers=other)).status_code == 403
        del browser.headers["nightshift-console"]
        assert (await browser.post("/v1/batches", json={})).status_code == 403


async def test_a_key_in_the_request_wins_over_the_cookie(api: Api) -> None:
    await api.upload()
    async with browser_of(api.app) as browser:
        await sign_in(browser)
        headers = {"Authorization": f"Bearer {OTHER_KEY}", "sec-fetch-site": "cross-site"}
        assert json_of(await browser.get("/v1/files", headers=headers), 200)["data"] == []
        assert (await browser.get("/v1/files", headers={"Authorization": "Bearer sk-wrong"})).status_code == 401


async def test_signing_out_takes_the_cookie_away(api: Api) -> None:
    async with browser_of(api.app) as browser:
        await sign_in(browser)
        assert (await browser.delete("/console/session")).status_code == 204
        assert not browser.cookies
        assert error_of(await browser.get("/console/session"), 401) == (None, None)
        assert error_of(await browser.get("/v1/batches"), 401) == (None, None)


async def test_a_session_ends_with_its_key(api: Api) -> None:
    async with browser_of(api.app) as browser:
        await sign_in(browser)
        replace(api.keys_file, render_keys({OTHER_KEY: OTHER_NAMESPACE}))
        for path in ("/v1/batches", "/console/session", "/console/events"):
            assert error_of(await browser.get(path), 401) == (None, None)


async def test_a_session_ends_with_its_time(api: Api) -> None:
    async with browser_of(api.app) as browser:
        expires_at = json_of(await sign_in(browser), 200)["expires_at"]
        api.clock.advance(seconds=expires_at - api.clock.now.timestamp() - 1)
        assert (await browser.get("/v1/batches")).status_code == 200
        api.clock.advance(seconds=1)
        assert (await browser.get("/v1/batches")).status_code == 401


async def test_a_session_holds_at_every_replica_and_after_a_restart_if_the_file_has_the_secret(api: Api) -> None:
    replace(api.keys_file, render_keys({KEY: NAMESPACE}, SECRET))
    async with browser_of(api.app) as browser:
        await sign_in(browser)
        cookies = dict(browser.cookies)
    another = another_replica(api)
    async with browser_of(another, cookies) as browser:
        assert (await browser.get("/v1/batches")).status_code == 200
        replace(api.keys_file, render_keys({KEY: NAMESPACE}, SECRET[::-1]))
        assert (await browser.get("/v1/batches")).status_code == 401, "a new secret ends all sessions"


async def test_without_a_secret_in_the_file_a_session_is_of_one_process(api: Api) -> None:
    async with browser_of(api.app) as browser:
        await sign_in(browser)
        cookies = dict(browser.cookies)
    async with browser_of(another_replica(api), cookies) as browser:
        assert (await browser.get("/v1/batches")).status_code == 401


def another_replica(api: Api) -> Any:
    settings = make_settings(api.keys_file.parent)
    return build_app(Context(api.lists, api.bucket, settings, now=api.clock), Keyring(api.keys_file))


async def test_the_hashes_of_the_keys_sign_nobody_in(api: Api) -> None:
    """Hashes are no secret: they stand in the chart's values. So nothing that is made of them alone may sign."""
    from nightshift_api.console.cookies import Session, render_session  # noqa: PLC0415
    from nightshift_crds.keys import hash_key  # noqa: PLC0415

    session = Session(hash_key(KEY), int(api.clock.now.timestamp()) + 60)
    for secret in (b"", hash_key(KEY).encode(), json.loads(api.keys_file.read_text())["keys"][0]["sha256"].encode()):
        async with browser_of(api.app, {"nightshift_session": render_session(session, secret)}) as browser:
            assert (await browser.get("/v1/batches")).status_code == 401


async def test_over_tls_the_cookie_says_so(tmp_path: Path) -> None:
    async with open_api(tmp_path, console_secure_cookie=True) as api, browser_of(api.app) as browser:
        cookie = (await sign_in(browser)).headers["set-cookie"]
        assert cookie.startswith("__Host-")
        assert "Secure" in cookie


async def test_a_console_that_is_off_serves_nothing_and_takes_no_cookie(tmp_path: Path) -> None:
    async with open_api(tmp_path, console=False) as api, browser_of(api.app) as browser:
        for path in ("/console", "/console/", "/console/static/app.js", "/console/session", "/console/events"):
            assert (await browser.get(path)).status_code == 404
        browser.cookies.set("nightshift_session", "x")
        assert "API key" in (await browser.get("/v1/batches")).json()["error"]["message"]
