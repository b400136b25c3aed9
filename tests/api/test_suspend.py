"""`POST /batches/{id}/suspend` and `/resume`: what kubectl does by a patch of `spec.suspend`."""

from functools import partial
from typing import Any

import pytest

from nightshift_crds.cluster.port import BATCH_JOB
from nightshift_crds.errors import Stale, Unavailable
from nightshift_crds.lifecycle import TERMINAL, Phase
from nightshift_crds.models import BatchJob
from tests.api.faults import Weak, failing
from tests.api.given import a_batch_in, move
from tests.api.harness import Api, error_of, json_of
from tests.builders import NAMESPACE

CALLS = ["suspend", "resume"]
OPEN = (Phase.VALIDATING, Phase.IN_PROGRESS, Phase.FINALIZING)


async def ask(api: Api, batch: BatchJob, call: str, **how: Any) -> dict[str, Any]:
    return json_of(await api.client.post(f"batches/{batch.id}/{call}", **how), 200)


async def read(api: Api, batch: BatchJob) -> BatchJob:
    return BatchJob.parse(await api.cluster.get(BATCH_JOB, NAMESPACE, batch.metadata.name))


@pytest.mark.parametrize("phase", OPEN)
async def test_a_batch_is_suspended_and_resumed_and_its_status_stays(api: Api, phase: Phase) -> None:
    batch = await a_batch_in(api, phase)
    before = await api.get(f"batches/{batch.id}")
    for call in CALLS:
        shown = await ask(api, batch, call)
        assert shown["status"] == before["status"]
        assert (await read(api, batch)).spec.suspend is (call == "suspend")


@pytest.mark.parametrize("call", CALLS)
async def test_a_call_that_is_repeated_writes_nothing(api: Api, call: str) -> None:
    batch = await a_batch_in(api, Phase.IN_PROGRESS)
    await ask(api, batch, call)
    version = (await read(api, batch)).metadata.resource_version
    await ask(api, batch, call, content=b"\xff{")
    assert (await read(api, batch)).metadata.resource_version == version


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("phase", [Phase.CANCELLING, *sorted(TERMINAL)])
async def test_a_batch_that_ends_or_has_ended_is_left_alone(api: Api, call: str, phase: Phase) -> None:
    batch = await a_batch_in(api, phase)
    answer = await api.client.post(f"batches/{batch.id}/{call}")
    assert error_of(answer, 409) == (None, None)
    assert (await read(api, batch)).spec == batch.spec


@pytest.mark.parametrize("call", CALLS)
async def test_a_batch_whose_cancel_was_accepted_is_left_alone(api: Api, call: str) -> None:
    batch = await a_batch_in(api, Phase.IN_PROGRESS)
    await ask(api, batch, "cancel")
    assert error_of(await api.client.post(f"batches/{batch.id}/{call}"), 409) == (None, None)


@pytest.mark.parametrize("call", CALLS)
async def test_an_unknown_batch_or_another_team_s_is_404(api: Api, call: str) -> None:
    batch = await a_batch_in(api, Phase.IN_PROGRESS)
    assert error_of(await api.client.post(f"batches/nonsense/{call}"), 404) == (None, None)
    assert error_of(await api.stranger.post(f"batches/{batch.id}/{call}"), 404) == (None, None)


async def test_a_suspend_that_loses_a_race_is_decided_by_where_the_batch_then_is(weak: Weak) -> None:
    batch = await a_batch_in(weak.api, Phase.IN_PROGRESS)
    weak.cluster.before("patch", partial(move, weak.api, batch.id, Phase.EXPIRED))
    assert error_of(await weak.api.client.post(f"batches/{batch.id}/suspend"), 409) == (None, None)
    assert not (await read(weak.api, batch)).spec.suspend


async def test_a_suspend_gets_through_however_busy_the_batch_is_for_a_while(weak: Weak) -> None:
    batch = await a_batch_in(weak.api, Phase.IN_PROGRESS)
    weak.cluster.before("patch", *[failing(Stale("somebody was faster"))] * 5)
    await ask(weak.api, batch, "suspend")
    assert (await read(weak.api, batch)).spec.suspend


async def test_a_suspend_that_the_cluster_does_not_take_is_to_be_repeated(weak: Weak) -> None:
    batch = await a_batch_in(weak.api, Phase.IN_PROGRESS)
    weak.cluster.before("patch", failing(Unavailable("down")))
    assert error_of(await weak.api.client.post(f"batches/{batch.id}/suspend"), 503) == (None, None)
    await ask(weak.api, batch, "suspend")
