"""`POST /batches/{id}/cancel`: a promise that is kept, or a refusal for good (contract 4.5, design 5)."""

from functools import partial
from typing import Any

import pytest

from nightshift_crds.cluster.port import BATCH_JOB, Propagation
from nightshift_crds.errors import Stale, Unavailable
from nightshift_crds.lifecycle import TERMINAL, Phase, Sealing
from nightshift_crds.models import BatchJob
from tests.api.faults import Weak, failing
from tests.api.given import SliceLog, a_batch_in, move
from tests.api.harness import Api, error_of, json_of
from tests.builders import NAMESPACE

ASKABLE = (Phase.VALIDATING, Phase.IN_PROGRESS, Phase.FINALIZING)
ENDED = sorted(TERMINAL - {Phase.CANCELLED})
STALE = failing(Stale("somebody was faster"))


async def cancel(api: Api, batch: BatchJob, **how: Any) -> dict[str, Any]:
    return json_of(await api.client.post(f"batches/{batch.id}/cancel", **how), 200)


async def read(api: Api, batch: BatchJob) -> BatchJob:
    return BatchJob.parse(await api.cluster.get(BATCH_JOB, NAMESPACE, batch.metadata.name))


async def delete(api: Api, batch: BatchJob) -> None:
    await api.cluster.delete(BATCH_JOB, NAMESPACE, batch.metadata.name, propagation=Propagation.BACKGROUND)


@pytest.mark.parametrize("phase", ASKABLE)
async def test_a_batch_that_runs_is_cancelling_from_the_cancel_on(api: Api, phase: Phase) -> None:
    batch = await a_batch_in(api, phase)
    asked_at = int(api.clock.advance(seconds=5).timestamp())
    shown = await cancel(api, batch)
    assert (shown["status"], shown["cancelling_at"], shown["cancelled_at"]) == ("cancelling", asked_at, None)
    assert await api.get(f"batches/{batch.id}") == shown
    assert [item["status"] for item in (await api.get("batches"))["data"]] == ["cancelling"]
    spec = (await read(api, batch)).spec
    assert (spec.cancel_requested, spec.cancel_requested_at) == (True, api.clock.now.replace(microsecond=0))


@pytest.mark.parametrize("phase", [*ASKABLE, Phase.CANCELLING, Phase.CANCELLED])
async def test_a_cancel_that_is_repeated_changes_nothing(api: Api, phase: Phase) -> None:
    batch = await a_batch_in(api, phase)
    first = await cancel(api, batch)
    api.clock.advance(seconds=5)
    again = await cancel(api, batch)
    again["x_details"]["duration_s"] = first["x_details"]["duration_s"]  # it runs on until the end
    assert again == first


@pytest.mark.parametrize("phase", ENDED)
async def test_a_batch_that_has_ended_otherwise_stays_as_it_is(api: Api, phase: Phase) -> None:
    batch = await a_batch_in(api, phase)
    before = await api.get(f"batches/{batch.id}")
    answer = await api.client.post(f"batches/{batch.id}/cancel")
    assert error_of(answer, 409) == (None, None)
    assert answer.headers["x-should-retry"] == "false"
    assert await api.get(f"batches/{batch.id}") == before


@pytest.mark.parametrize("reason", [Sealing.EXPIRED, Sealing.FAILED])
async def test_a_batch_whose_other_end_is_decided_cannot_be_cancelled(api: Api, reason: Sealing) -> None:
    batch = await a_batch_in(api, Phase.IN_PROGRESS, sealing=reason)
    assert error_of(await api.client.post(f"batches/{batch.id}/cancel"), 409) == (None, None)


@pytest.mark.parametrize("reason", [Sealing.COMPLETED, Sealing.CANCELLED])
async def test_a_batch_that_is_being_sealed_may_still_be_cancelled(api: Api, reason: Sealing) -> None:
    batch = await a_batch_in(api, Phase.FINALIZING, sealing=reason)
    assert (await cancel(api, batch))["status"] == "cancelling"


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"content": b"", "headers": {"content-type": "application/json"}},
        {"json": {}},
        {"content": b"\xff{", "headers": {"content-type": "application/json"}},
        {"content": b"x" * 2_000_000},
    ],
)
async def test_the_body_of_a_cancel_is_not_read(api: Api, how: dict[str, Any]) -> None:
    batch = await a_batch_in(api, Phase.IN_PROGRESS)
    assert (await cancel(api, batch, **how))["status"] == "cancelling"


async def test_a_batch_that_is_cancelling_shows_what_goes_on_to_become_durable(api: Api) -> None:
    batch = await a_batch_in(api, Phase.IN_PROGRESS, counts={"total": 5})
    log = SliceLog(api.bucket, batch.metadata.uid)
    await log.append([b"{}\n"])
    assert (await cancel(api, batch))["request_counts"]["completed"] == 1
    await log.append([b"{}\n"])
    await move(api, batch.id, Phase.CANCELLING)
    assert (await api.get(f"batches/{batch.id}"))["request_counts"]["completed"] == 2


# --- races ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (Phase.VALIDATING, Phase.IN_PROGRESS),
        (Phase.VALIDATING, Phase.FAILED),
        (Phase.IN_PROGRESS, Phase.FINALIZING),
        (Phase.IN_PROGRESS, Phase.EXPIRED),
        (Phase.IN_PROGRESS, Phase.FAILED),
        (Phase.FINALIZING, Phase.COMPLETED),
        (Phase.FINALIZING, Phase.CANCELLING),
    ],
)
async def test_a_cancel_that_loses_a_race_is_decided_by_where_the_batch_then_is(
    weak: Weak, before: Phase, after: Phase
) -> None:
    batch = await a_batch_in(weak.api, before)
    weak.cluster.before("patch", partial(move, weak.api, batch.id, after))
    answer = await weak.api.client.post(f"batches/{batch.id}/cancel")
    has_ended = after in TERMINAL
    assert answer.status_code == (409 if has_ended else 200)
    assert (await read(weak.api, batch)).spec.cancel_requested is (not has_ended and after is not Phase.CANCELLING)


async def test_a_cancel_is_refused_if_the_batch_is_sealed_as_expired_in_between(weak: Weak) -> None:
    batch = await a_batch_in(weak.api, Phase.IN_PROGRESS)
    seal = {"status": {"sealing": Sealing.EXPIRED}}
    weak.cluster.before(
        "patch", partial(weak.api.cluster.patch_status, BATCH_JOB, NAMESPACE, batch.metadata.name, seal)
    )
    assert error_of(await weak.api.client.post(f"batches/{batch.id}/cancel"), 409) == (None, None)
    assert not (await read(weak.api, batch)).spec.cancel_requested


async def test_of_two_cancels_at_once_the_first_one_gives_the_time(weak: Weak) -> None:
    batch = await a_batch_in(weak.api, Phase.IN_PROGRESS)
    asked_at = int(weak.api.clock.now.timestamp())

    async def be_faster() -> None:
        await cancel(weak.api, batch)
        weak.api.clock.advance(seconds=5)

    weak.cluster.before("patch", be_faster)
    assert (await cancel(weak.api, batch))["cancelling_at"] == asked_at


async def test_a_batch_that_is_deleted_while_it_is_cancelled_is_gone(weak: Weak) -> None:
    batch = await a_batch_in(weak.api, Phase.IN_PROGRESS)
    weak.cluster.before("patch", partial(delete, weak.api, batch))
    assert error_of(await weak.api.client.post(f"batches/{batch.id}/cancel"), 404) == (None, None)


async def test_a_cancel_gets_through_however_busy_the_batch_is_for_a_while(weak: Weak) -> None:
    batch = await a_batch_in(weak.api, Phase.IN_PROGRESS)
    weak.cluster.before("patch", *[STALE] * 5)
    assert (await cancel(weak.api, batch))["status"] == "cancelling"


async def test_a_cancel_that_never_gets_through_is_to_be_repeated(weak: Weak) -> None:
    batch = await a_batch_in(weak.api, Phase.IN_PROGRESS)
    weak.cluster.before("patch", *[STALE] * 100)
    assert error_of(await weak.api.client.post(f"batches/{batch.id}/cancel"), 503) == (None, None)
    assert not (await read(weak.api, batch)).spec.cancel_requested


@pytest.mark.parametrize("call", ["get", "patch"])
async def test_a_cancel_that_the_cluster_does_not_take_is_to_be_repeated(weak: Weak, call: str) -> None:
    batch = await a_batch_in(weak.api, Phase.IN_PROGRESS)
    weak.cluster.before(call, failing(Unavailable("down")))
    assert error_of(await weak.api.client.post(f"batches/{batch.id}/cancel"), 503) == (None, None)
    assert (await weak.api.get(f"batches/{batch.id}"))["status"] == "in_progress"
    assert (await cancel(weak.api, batch))["status"] == "cancelling"
