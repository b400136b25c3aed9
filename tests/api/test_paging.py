"""Lists in pages: put together they are the whole list, whatever comes and goes meanwhile (contract 1.6)."""

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest

from nightshift_api.index import Row
from nightshift_api.paging import parse_cursor
from nightshift_crds.cluster.port import BATCH_JOB, Propagation
from nightshift_crds.errors import Rejected
from nightshift_crds.models import FilePhase
from nightshift_crds.names import IdKind
from tests.api.given import add_file, an_id
from tests.api.harness import Api, batch_name, error_of
from tests.builders import NAMESPACE, T0

UUID4_ID = "batch_5f0e6d5a-6f0c-4f0b-9d43-0a6a3f1c2b7e"


def no_more(_: str) -> None:
    """Know no id, as a list does whose objects are gone."""


def test_a_cursor_that_is_still_there_is_where_its_object_is() -> None:
    assert parse_cursor(IdKind.FILE, "any", {"any": Row(7, "any", b"{}", "any")}.get) == (7, "any")


def test_a_cursor_that_is_gone_is_where_its_id_says() -> None:
    gone = an_id(IdKind.FILE, T0)
    assert parse_cursor(IdKind.FILE, gone, no_more) == (int(T0.timestamp()), gone)


@pytest.mark.parametrize("after", ["", "x", UUID4_ID, an_id(IdKind.FILE, T0), an_id(IdKind.BATCH, T0).upper()])
def test_a_cursor_that_tells_no_time_is_refused(after: str) -> None:
    with pytest.raises(Rejected):
        parse_cursor(IdKind.BATCH, after, no_more)


# --- over HTTP --------------------------------------------------------------------------------------------------------


@dataclass
class Walk:
    """What a client sees that follows `has_more`, as SDKs do."""

    api: Api
    path: str
    query: dict[str, Any]
    seen: list[str] = field(default_factory=list)

    async def step(self) -> bool:
        after = {"after": self.seen[-1]} if self.seen else {}
        page = await self.api.get(self.path, **self.query, **after)
        ids = [item["id"] for item in page["data"]]
        assert (page["first_id"], page["last_id"]) == ((ids[0], ids[-1]) if ids else (None, None))
        self.seen += ids
        return bool(page["has_more"])


@pytest.mark.parametrize(("query", "step"), [({}, -1), ({"order": "desc"}, -1), ({"order": "asc"}, 1)])
@pytest.mark.parametrize("limit", [1, 2, 5, 6])
async def test_files_are_read_in_pages_in_the_order_that_was_asked_for(
    api: Api, query: dict[str, str], step: int, limit: int
) -> None:
    ids = [(await api.upload())["id"] for _ in range(5)]
    walk = Walk(api, "files", query | {"limit": limit})
    pages = 1
    while await walk.step():
        pages += 1
    assert walk.seen == ids[::step]
    assert pages == -(-5 // limit)


async def test_batches_are_read_newest_first(api: Api) -> None:
    file_id = (await api.upload())["id"]
    ids = [(await api.create_batch(input_file_id=file_id))["id"] for _ in range(3)]
    walk = Walk(api, "batches", {"limit": 2})
    assert await walk.step()
    assert not await walk.step()
    assert walk.seen == ids[::-1]


async def test_a_page_of_batches_has_20_if_nothing_is_said(api: Api) -> None:
    file_id = (await api.upload())["id"]
    for _ in range(21):
        await api.create_batch(input_file_id=file_id)
    page = await api.get("batches")
    assert (len(page["data"]), page["has_more"]) == (20, True)


async def test_a_client_that_deletes_each_file_that_it_lists_misses_none(api: Api) -> None:
    ids = [(await api.upload())["id"] for _ in range(4)]
    walk = Walk(api, "files", {"limit": 1})
    while await walk.step():
        await api.client.delete(f"files/{walk.seen[-1]}")
    assert walk.seen == ids[::-1]


async def test_a_file_whose_resource_came_late_hides_no_other_when_it_is_deleted(api: Api) -> None:
    """A long upload, and a result of a batch that had to wait, have ids that are much older."""
    ids = [an_id(IdKind.FILE, api.clock.now - timedelta(minutes=minutes)) for minutes in (30, 20, 10)]
    for file_id in reversed(ids):
        await add_file(api, file_id, FilePhase.READY)
    created = [file["created_at"] for file in (await api.get("files"))["data"]]
    assert created == sorted(created, reverse=True)
    walk = Walk(api, "files", {"limit": 1})
    while await walk.step():
        await api.client.delete(f"files/{walk.seen[-1]}")
    assert walk.seen == ids[::-1]


async def test_a_batch_that_was_deleted_is_still_a_cursor(api: Api) -> None:
    ids = [(await api.create_batch())["id"] for _ in range(3)]
    await api.cluster.delete(BATCH_JOB, NAMESPACE, batch_name(ids[1]), propagation=Propagation.BACKGROUND)
    assert await api.ids("batches", after=ids[2]) == [ids[0]]
    assert ids[2] not in await api.ids("batches", after=ids[1])


async def test_the_last_page_is_empty_behind_the_oldest(api: Api) -> None:
    oldest = (await api.upload())["id"]
    page = await api.get("files", after=oldest)
    assert page == {"object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False}


async def test_a_cursor_of_another_list_is_refused(api: Api) -> None:
    batch = await api.create_batch()
    for path, after in (("files", batch["id"]), ("batches", batch["input_file_id"])):
        assert error_of(await api.client.get(path, params={"after": after}), 400) == ("invalid_value", "after")
