"""Webhooks beside the reconcile loop, on a real cluster: what is sent, what the status says, who waits for whom."""

import asyncio
import json
import os
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from nightshift_crds.cluster.port import BATCH_JOB, Propagation
from nightshift_crds.errors import Rejected
from nightshift_crds.lifecycle import Phase
from nightshift_crds.models import BatchJob, DeliveryState, WebhookDelivery
from nightshift_operator.controller import Controller, Key
from nightshift_operator.courier import Courier, Endpoints
from nightshift_operator.facts import Answer, Attempt
from tests.builders import a_batch
from tests.operator.builders import a_status
from tests.operator.test_webhooks import an_endpoint
from tests.operator.world import Crash, Fuse, Receivers, World

NO = Answer("HTTP 500")
Writer = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Writer:
    """Write the file of endpoints, as Kubernetes updates a mounted Secret: another file in the place of the old."""

    def write_endpoints(*endpoints: dict[str, Any]) -> Path:
        path, draft = tmp_path / "webhooks.json", tmp_path / "draft"
        draft.write_text(json.dumps({"webhooks": endpoints}))
        draft.replace(path)
        return path

    return write_endpoints


@pytest.fixture
def told(world: World, write: Writer) -> World:
    """The world with an endpoint."""
    return replace(world, settings=world.settings.model_copy(update={"webhooks_file": write(an_endpoint())}))


async def ended(world: World) -> Key:
    """A batch that was refused: nothing but its webhooks is left to do."""
    key = await world.add_batch()
    await world.operator().reconcile(key)
    assert (await world.batch(key)).phase is Phase.FAILED
    return key


async def deliveries(world: World, key: Key) -> list[WebhookDelivery]:
    return (await world.batch(key)).status.webhooks


async def look(operator: Controller, key: Key) -> float | None:
    """Make a pass, and wait for the answers to all that it has sent."""
    wait_s = await operator.reconcile(key)
    await asyncio.gather(*operator.applier.courier._tasks)
    return wait_s


async def test_an_event_is_sent_and_its_answer_brings_the_batch_up_again(told: World) -> None:
    key = await ended(told)
    operator = told.operator()
    assert await operator.reconcile(key) == 300
    assert [d.state for d in await deliveries(told, key)] == [DeliveryState.PENDING]
    async with asyncio.timeout(10):
        assert await operator.queue.take() == key
    assert await operator.reconcile(key) is None
    batch = await told.batch(key)
    assert [(d.state, d.last_answer) for d in batch.status.webhooks] == [(DeliveryState.DELIVERED, "HTTP 200")]
    assert batch.status.settled
    await operator.reconcile(key)
    assert len(told.receivers.heard) == 1
    assert operator.applier.courier._attempts == {}


async def test_an_endpoint_that_is_down_gets_the_same_event_until_it_takes_it(told: World) -> None:
    told.receivers.answers["billing"] = [NO, NO, NO]
    key, operator = await ended(told), told.operator()
    waits = []
    for _ in range(3):
        await look(operator, key)
        waits.append(await operator.reconcile(key))
        told.clock.offset += timedelta(seconds=waits[-1] or 0)
    assert [round(wait or 0) for wait in waits] == [5, 15, 45]
    await look(operator, key)
    await operator.reconcile(key)
    assert [(d.state, d.attempts) for d in await deliveries(told, key)] == [(DeliveryState.DELIVERED, 4)]
    assert len(told.receivers.heard) == 4
    assert len(set(told.receivers.heard)) == 1


async def test_a_receiver_that_hangs_holds_up_neither_the_pass_nor_another_receiver(told: World, write: Writer) -> None:
    write(an_endpoint(), an_endpoint(name="audit"))
    told.receivers.gate = asyncio.Event()
    key, operator = await ended(told), told.operator()
    async with asyncio.timeout(10):
        await operator.reconcile(key)
        await operator.reconcile(key)
    told.receivers.gate.set()
    await asyncio.gather(*operator.applier.courier._tasks)
    await operator.reconcile(key)
    assert sorted(name for name, _ in told.receivers.heard) == ["audit", "billing"]
    assert {d.state for d in await deliveries(told, key)} == {DeliveryState.DELIVERED}


@pytest.mark.parametrize("loses_answer", [False, True])
async def test_an_operator_that_dies_at_any_call_loses_no_event_and_makes_no_other(
    told: World, loses_answer: bool
) -> None:
    key = await ended(told)
    for calls in range(100):
        operator = told.operator(Fuse(calls, loses_answer))
        try:
            for _ in range(3):
                await look(operator, key)
        except Crash:
            continue
        break
    assert (await told.batch(key)).status.settled
    assert [d.state for d in await deliveries(told, key)] == [DeliveryState.DELIVERED]
    assert len(set(told.receivers.heard)) == 1


async def test_an_answer_outlives_a_status_write_that_somebody_else_was_quicker_than(told: World) -> None:
    key, operator = await ended(told), told.operator()
    await look(operator, key)
    batch = await told.batch(key)
    for _ in range(2):
        assert operator.applier.courier.attempts(batch) == {"billing": Attempt(1, Answer("HTTP 200", is_taken=True))}


async def test_a_bug_of_ours_is_an_answer_too(told: World) -> None:
    told.receivers.answers["billing"] = [TypeError("with the URL in it")]
    key, operator = await ended(told), told.operator()
    await look(operator, key)
    await operator.reconcile(key)
    assert [d.last_answer for d in await deliveries(told, key)] == ["the operator failed: TypeError"]


async def test_a_batch_that_is_deleted_while_it_is_told_of_leaves_nothing_behind(told: World) -> None:
    told.receivers.gate = asyncio.Event()
    key, operator = await ended(told), told.operator()
    await operator.reconcile(key)
    await told.cluster.delete(BATCH_JOB, *key, propagation=Propagation.BACKGROUND)
    told.receivers.gate.set()
    await asyncio.gather(*operator.applier.courier._tasks)
    assert await operator.reconcile(key) is None


# --- alone ------------------------------------------------------------------------------------------------------------


def a_courier(path: Path | None, receivers: Receivers, concurrency: int = 2) -> Courier:
    return Courier(Endpoints(path), receivers, concurrency, lambda *_: None)


def an_ended_batch(n: int) -> BatchJob:
    return a_batch(status=a_status(Phase.COMPLETED), metadata={"uid": f"uid-{n}"})


async def test_one_endpoint_gets_only_so_many_at_once(write: Writer) -> None:
    receivers = Receivers(gate=asyncio.Event())
    courier = a_courier(write(an_endpoint(), an_endpoint(name="audit")), receivers)
    for n in range(5):
        courier.send(an_ended_batch(n), "billing", 1)
    courier.send(an_ended_batch(0), "audit", 1)
    for _ in range(5):
        await asyncio.sleep(0)
    assert [name for name, _ in receivers.heard] == ["billing", "billing", "audit"]
    assert receivers.gate
    receivers.gate.set()
    await asyncio.gather(*courier._tasks)
    assert len(receivers.heard) == 6


async def test_an_endpoint_that_is_gone_is_not_sent_to(write: Writer) -> None:
    courier = a_courier(write(), Receivers())
    courier.send(an_ended_batch(1), "billing", 1)
    assert courier._tasks == set()


async def test_an_answer_that_nobody_waits_for_any_more_is_dropped(write: Writer) -> None:
    told = []
    courier = Courier(Endpoints(write(an_endpoint())), Receivers(), 1, lambda *batch: told.append(batch))
    batch = an_ended_batch(1)
    courier.send(batch, "billing", 1)
    settled = batch.model_copy(update={"status": batch.status.model_copy(update={"settled": True})})
    courier.attempts(settled)
    await asyncio.gather(*courier._tasks)
    assert (told, courier._attempts) == ([], {})


# --- the file ---------------------------------------------------------------------------------------------------------


def test_an_endpoint_hears_of_its_namespaces_or_of_all(write: Writer) -> None:
    path = write(an_endpoint(), an_endpoint(name="audit", namespaces=["team-a", "team-b"]))
    courier = a_courier(path, Receivers())
    assert courier.listeners("team-a") == ("billing", "audit")
    assert courier.listeners("team-c") == ("billing",)
    assert a_courier(None, Receivers()).listeners("team-a") == ()


def test_the_file_is_read_again_when_it_changes_and_a_bad_one_changes_nothing(
    write: Writer, capsys: pytest.CaptureFixture[str]
) -> None:
    endpoints = Endpoints(path := write(an_endpoint()))
    write(an_endpoint(name="other"))
    assert [e.name for e in endpoints.all()] == ["other"]
    write(an_endpoint(url="http://hooks.example/?token=hidden"))
    assert [e.name for e in endpoints.all()] == ["other"]
    path.unlink()
    assert [e.name for e in endpoints.all()] == ["other"]
    assert "hidden" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "No such file"),
        ('{"webhooks": [{"name": "x", "url": "http://h/?token=hidden"}]}', "webhooks.0.url: URL scheme should be"),
        ("hidden", "Invalid JSON"),
    ],
)
def test_at_start_a_file_that_cannot_be_used_is_refused_in_words(
    tmp_path: Path, content: str | None, words: str
) -> None:
    path = tmp_path / "webhooks.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(Rejected, match=words) as refused:
        Endpoints(path)
    assert "hidden" not in str(refused.value)


def test_an_error_without_words_is_told_by_its_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> os.stat_result:
        raise PermissionError

    monkeypatch.setattr(Path, "stat", fail)
    with pytest.raises(Rejected, match="PermissionError"):
        Endpoints(tmp_path / "webhooks.json")
