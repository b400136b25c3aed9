"""The files of the page: who may frame it, what may run on it, and how little is sent."""

import gzip
import re

import httpx2
import pytest

from nightshift_api.console.pages import STATIC, load_assets
from tests.api.harness import BASE, Api
from tests.api.test_metrics import counted

PAGES = ["/console", "/console/", "/console/batches/batch_1"]


async def get(api: Api, path: str, **headers: str) -> httpx2.Response:
    transport = httpx2.ASGITransport(api.app, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url=BASE, headers=headers) as client:
        return await client.get(path)


@pytest.mark.parametrize("path", PAGES)
async def test_the_page_is_served_under_each_address_of_its_views(api: Api, path: str) -> None:
    answer = await get(api, path)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.text == (STATIC / "index.html").read_text()


async def test_nothing_runs_on_the_page_but_its_own_files(api: Api) -> None:
    policy = dict(
        part.split(" ", 1) for part in (await get(api, "/console")).headers["content-security-policy"].split("; ")
    )
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert policy["require-trusted-types-for"] == "'script'"
    assert not re.search("unsafe|http|[*]|data:", " ".join(policy.values()))


async def test_other_sites_can_neither_frame_nor_read_nor_guess(api: Api) -> None:
    page = (await get(api, "/console")).headers
    assert page["referrer-policy"] == "no-referrer"
    assert page["cross-origin-opener-policy"] == "same-origin"
    for path in ("/console", "/console/static/app.js"):
        headers = (await get(api, path)).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cross-origin-resource-policy"] == "same-origin"


def test_the_page_has_nothing_inline_and_names_no_other_host() -> None:
    html = (STATIC / "index.html").read_text()
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=|javascript:", html)
    own = [path for path in STATIC.rglob("*") if path.suffix in {".html", ".css", ".js"} and "vendor" not in path.parts]
    assert [
        p.name for p in own if re.search(r"https?://|\beval\(|innerHTML|unsafeHTML|document\.write", p.read_text())
    ] == []


@pytest.mark.parametrize("path", sorted(load_assets(STATIC)))
async def test_a_file_is_sent_packed_if_that_is_taken_and_not_at_all_if_it_is_known(api: Api, path: str) -> None:
    url, plain = f"/console/static/{path}", (STATIC / path).read_bytes()
    packed = await get(api, url, **{"accept-encoding": "gzip"})
    assert packed.content == plain
    assert (packed.headers.get("content-encoding") == "gzip") == (not path.endswith(".woff2"))
    whole = await get(api, url, **{"accept-encoding": "identity"})
    assert (whole.content, "content-encoding" in whole.headers) == (plain, False)
    again = await get(api, url, **{"if-none-match": whole.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize("path", ["nothing.js", "../pages.py", "..%2Fpages.py", "", "vendor"])
async def test_nothing_else_is_served(api: Api, path: str) -> None:
    assert (await get(api, f"/console/static/{path}")).status_code == 404


async def test_what_a_model_wrote_is_never_taken_for_a_page(api: Api) -> None:
    file = await api.upload(b'{"x": "<script>"}\n')
    headers = (await api.client.get(f"files/{file['id']}/content")).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["content-disposition"].startswith("attachment")


async def test_a_page_of_batches_is_packed_for_the_console_alone(api: Api) -> None:
    await api.create_batch()
    plain = await api.client.get("batches")
    packed = await api.client.get("batches", headers={"nightshift-console": "1", "accept-encoding": "gzip"})
    assert packed.json() == plain.json()
    assert "content-encoding" not in plain.headers
    assert packed.headers["content-encoding"] == "gzip"
    assert int(packed.headers["content-length"]) < len(gzip.compress(plain.content)) + 100


async def test_what_the_console_asks_is_counted_by_itself(api: Api) -> None:
    await get(api, "/console/static/app.js")
    await get(api, "/console/batches/batch_1")
    requests = counted(api.metrics, "http_requests_total")
    assert requests["GET", "/console/static/{path}", "200"] == 1
    assert requests["GET", "/console/batches/{batch_id}", "200"] == 1
