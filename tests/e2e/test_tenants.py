"""Two tenants who try each other's ids with every call there is: each sees what one sees of an id that never was.

HAMMER_S says for how many seconds; `make fuzz` has it go on for a minute.
"""

import asyncio
import os
import random
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import httpx2
import pytest

from nightshift_crds import names
from nightshift_crds.names import IdKind
from tests.e2e.conftest import Starter
from tests.e2e.installation import Installation, a_chat_line

HAMMER_S = float(os.environ.get("HAMMER_S", "4"))
LEAST_CALLS_S = 20
"""What the slowest machine should manage, so that no run passes by doing nothing."""
KEYS = {"sk-of-team-a": "team-a", "sk-of-team-b": "team-b"}
LINE = a_chat_line("row-1", "hammer")
Call = Callable[[httpx2.AsyncClient, str], Awaitable[httpx2.Response]]


def a_form(name: str) -> dict[str, tuple[str, bytes]]:
    return {name: ("a.jsonl", LINE)}


def a_batch_of(file_id: str) -> dict[str, str]:
    return {"input_file_id": file_id, "endpoint": "/v1/chat/completions", "completion_window": "24h"}


CALLS: dict[IdKind, dict[str, Call]] = {
    IdKind.FILE: {
        "get a file": lambda client, id_: client.get(f"files/{id_}"),
        "get a file's content": lambda client, id_: client.get(f"files/{id_}/content"),
        "delete a file": lambda client, id_: client.delete(f"files/{id_}"),
        "create a batch": lambda client, id_: client.post("batches", json=a_batch_of(id_)),
        "create a batch once": lambda client, id_: client.post(
            "batches", json=a_batch_of(id_), headers={"Idempotency-Key": f"key-{random.random()}"}
        ),
    },
    IdKind.BATCH: {
        "get a batch": lambda client, id_: client.get(f"batches/{id_}"),
        "cancel a batch": lambda client, id_: client.post(f"batches/{id_}/cancel"),
        "run a batch again": lambda client, id_: client.post(f"batches/{id_}/rerun"),
        "suspend a batch": lambda client, id_: client.post(f"batches/{id_}/suspend"),
        "resume a batch": lambda client, id_: client.post(f"batches/{id_}/resume"),
        "get a batch as a file": lambda client, id_: client.get(f"files/{id_}"),
    },
    IdKind.UPLOAD: {
        "add a part": lambda client, id_: client.post(f"uploads/{id_}/parts", files=a_form("data")),
        "complete an upload": lambda client, id_: client.post(f"uploads/{id_}/complete", json={"part_ids": ["part_x"]}),
        "cancel an upload": lambda client, id_: client.post(f"uploads/{id_}/cancel"),
    },
}


def absent_twin(id_: str) -> str:
    """An id of the same moment that never was."""
    kind = IdKind(id_.partition("_")[0])
    value = names.parse_id(kind, id_)
    assert value is not None
    return names.make_id(kind, names.make_uuid7(names.uuid7_ms(value) or 0, os.urandom(10)))


@dataclass
class Tenant:
    """One of the two: what it has made, and what lists have shown it."""

    client: httpx2.AsyncClient
    made: dict[IdKind, list[str]] = field(default_factory=lambda: {kind: [] for kind in IdKind})
    kept: list[str] = field(default_factory=list)
    shown: set[str] = field(default_factory=set)
    calls: Counter[str] = field(default_factory=Counter)
    took_ms: defaultdict[tuple[str, str], list[float]] = field(default_factory=lambda: defaultdict(list))

    async def make(self, kind: IdKind, path: str, **body: Any) -> str:
        answer = await self.client.post(path, **body)
        assert answer.status_code == 200, answer.text
        self.made[kind].append(answer.json()["id"])
        return self.made[kind][-1]

    async def make_file(self, line: bytes) -> str:
        return await self.make(
            IdKind.FILE, "files", data={"purpose": "batch"}, files={"file": ("a.jsonl", line, "text/plain")}
        )

    async def make_upload(self) -> str:
        announced = {"bytes": len(LINE), "filename": "a.jsonl", "mime_type": "x", "purpose": "batch"}
        return await self.make(IdKind.UPLOAD, "uploads", json=announced)

    async def look(self, path: str, **query: str | int) -> None:
        answer = await self.client.get(path, params=query)
        assert answer.status_code == 200, answer.text
        self.shown |= {item["id"] for item in answer.json()["data"]}

    async def live(self, n: int) -> None:
        """Do what a user does, once: some of it stays, some is taken away again."""
        file, unused = await self.make_file(LINE.replace(b"stub:1", b"nobody")), await self.make_file(LINE)
        batch = await self.make(IdKind.BATCH, "batches", json=a_batch_of(file))
        upload, given_up = await self.make_upload(), await self.make_upload()
        sent = await self.client.post(f"uploads/{upload}/parts", files=a_form("data"))
        assert (await self.client.post(f"uploads/{given_up}/cancel")).json()["status"] == "cancelled"
        assert (await self.client.get(f"batches/{batch}")).json()["input_file_id"] == file
        if n % 2:
            ended = await self.client.post(f"uploads/{upload}/complete", json={"part_ids": [sent.json()["id"]]})
            self.made[IdKind.FILE].append(ended.json()["file"]["id"])
            assert (await self.client.delete(f"files/{unused}")).status_code == 200
        else:
            self.kept.append(unused)
        await self.look("files", limit=50)
        await self.look("batches", after=batch)

    async def try_one(self, victim: "Tenant") -> None:
        """Name an id of the other's, and one that never was: the answers are the same."""
        kind = random.choice(list(CALLS))
        name, call = random.choice(list(CALLS[kind].items()))
        theirs = random.choice(victim.made[kind][-40:])
        answers = {}
        for whose, id_ in random.sample([("foreign", theirs), ("absent", absent_twin(theirs))], 2):
            began = time.perf_counter()
            answers[whose] = await call(self.client, id_)
            self.took_ms[name, whose].append((time.perf_counter() - began) * 1000)
        foreign, absent = answers["foreign"], answers["absent"]
        assert (name, foreign.status_code, foreign.json()) == (name, 404, absent.json())
        assert absent.status_code == 404
        assert what_is_told(foreign) == what_is_told(absent)
        self.calls[name] += 2
        if kind is not IdKind.UPLOAD:
            await self.look({IdKind.FILE: "files", IdKind.BATCH: "batches"}[kind], after=theirs, limit=5)
            self.calls["list after"] += 1


def what_is_told(answer: httpx2.Response) -> dict[str, str]:
    """The headers, but for those that differ from any answer to the next."""
    return {name: value for name, value in answer.headers.items() if name not in {"date", "x-request-id"}}


async def hammer(one: Tenant, other: Tenant) -> None:
    """Have both live, and try each other's ids, until the time is over."""
    ends_at = time.monotonic() + HAMMER_S

    async def repeat(act: Callable[[int], Awaitable[None]]) -> None:
        n = 0
        while time.monotonic() < ends_at:
            await act(n)
            n += 1

    async with asyncio.TaskGroup() as tasks:
        for tenant, victim in ((one, other), (other, one)):
            tasks.create_task(repeat(tenant.live))
            for _ in range(4):
                tasks.create_task(repeat(lambda _, t=tenant, v=victim: t.try_one(v)))  # type: ignore[misc]


def report(tenants: list[Tenant]) -> str:
    """Show how long answers took, foreign beside absent: a reading, for whoever wonders what time tells."""
    taken: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
    for tenant in tenants:
        for key, values in tenant.took_ms.items():
            taken[key] += values
    rows = [
        f"{name:<24}{len(taken[name, 'foreign']):>7}"
        f"{statistics.median(taken[name, 'foreign']):>10.1f}{statistics.median(taken[name, 'absent']):>10.1f}"
        for name in sorted({name for name, _ in taken})
    ]
    return "\n".join([f"{'call':<24}{'tried':>7}{'foreign':>10}{'absent':>10}  (median ms)", *rows])


@pytest.mark.timeout(HAMMER_S + 240)
async def test_tenants_who_hammer_each_others_ids_see_only_what_never_was(start: Starter) -> None:
    options = [option for key, namespace in KEYS.items() for option in ("--api-key", f"{key}={namespace}")]
    installation = start(*options)
    async with AsyncExitStack() as stack:
        one, other = [Tenant(await stack.enter_async_context(a_client(installation, key))) for key in KEYS]
        running = []
        for tenant in (one, other):
            file = await tenant.make_file(a_chat_line("row-1", "slow:3000"))
            running.append(await tenant.make(IdKind.BATCH, "batches", json=a_batch_of(file)))
            await tenant.live(0)
        await hammer(one, other)
        print(f"\n{sum((one.calls + other.calls).values())} calls: {dict(one.calls + other.calls)}")
        print(report([one, other]))
        for tenant, stranger, batch in ((one, other, running[0]), (other, one, running[1])):
            assert not tenant.shown & {id_ for ids in stranger.made.values() for id_ in ids}
            assert tenant.shown & set(tenant.made[IdKind.FILE])
            assert tenant.shown & set(tenant.made[IdKind.BATCH])
            assert tenant.calls.total() >= HAMMER_S * LEAST_CALLS_S / 2
            assert set(tenant.calls) == {name for calls in CALLS.values() for name in calls} | {"list after"}
            found = (await tenant.client.get(f"batches/{batch}")).json()
            assert found["status"] in {"validating", "in_progress"}, "nobody has cancelled it"
            for id_ in tenant.kept:
                assert (await tenant.client.get(f"files/{id_}/content")).content == LINE


def a_client(installation: Installation, key: str) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(
        base_url=f"{installation.base_url}/", headers={"Authorization": f"Bearer {key}"}, timeout=60
    )
