"""`GET /healthz`: whether what is behind the API is ready."""

from pathlib import Path

import pytest

from nightshift_crds.cluster.port import LEASE
from nightshift_crds.errors import Unavailable
from tests.api.faults import Weak, failing
from tests.api.harness import BASE, Api, client_of, error_of, json_of, open_api
from tests.builders import timestamp

HEALTHZ = f"{BASE}/healthz"


async def hold(api: Api, name: str, holder: str | None = "operator-1") -> None:
    spec = {"holderIdentity": holder, "leaseDurationSeconds": 15, "renewTime": timestamp(api.clock.now)}
    metadata = {"name": name, "namespace": "system"}
    await api.cluster.create(
        LEASE, {"apiVersion": LEASE.api_version, "kind": "Lease", "metadata": metadata, "spec": spec}
    )


async def test_an_api_whose_cluster_answers_is_ready_and_needs_no_key_to_say_so(api: Api) -> None:
    async with client_of(api.app) as client:
        assert json_of(await client.get(HEALTHZ), 200) == {"status": "ok"}


async def test_an_api_whose_cluster_does_not_answer_is_not_ready(weak: Weak) -> None:
    weak.cluster.before("list", failing(Unavailable("down")))
    assert error_of(await weak.api.client.get(HEALTHZ), 503) == (None, None)


async def test_it_is_ready_once_all_that_it_waits_for_hold_their_leases(tmp_path: Path) -> None:
    async with open_api(tmp_path, ready_leases=("system/operator", "system/runner")) as api:
        await hold(api, "operator")
        assert error_of(await api.client.get(HEALTHZ), 503) == (None, None)
        await hold(api, "runner")
        assert json_of(await api.client.get(HEALTHZ), 200) == {"status": "ok"}


async def test_it_is_not_ready_once_a_lease_is_old(tmp_path: Path) -> None:
    async with open_api(tmp_path, ready_leases=("system/operator",)) as api:
        await hold(api, "operator")
        api.clock.advance(seconds=14)
        assert (await api.client.get(HEALTHZ)).status_code == 200
        api.clock.advance(seconds=1)
        assert error_of(await api.client.get(HEALTHZ), 503) == (None, None)


@pytest.mark.parametrize("holder", [None, ""])
async def test_a_lease_that_was_given_up_is_not_held(tmp_path: Path, holder: str | None) -> None:
    async with open_api(tmp_path, ready_leases=("system/operator",)) as api:
        await hold(api, "operator", holder)
        assert error_of(await api.client.get(HEALTHZ), 503) == (None, None)
