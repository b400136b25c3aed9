"""The sweep of what the API keeps for hours: by the age of each object alone, and only in a bucket of ours."""

from datetime import timedelta
from typing import Any

import pytest

from nightshift_crds import names
from tests.operator.world import World

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
LITTLE = timedelta(minutes=1)
KEPT_FOR_HOURS = {
    names.idempotency_key("team-a", "k"): DAY,
    names.session_key("team-a", "upload_1"): 2 * HOUR,
    names.outcome_key("team-a", "upload_1"): 2 * HOUR,
    f"{names.parts_prefix('team-a', 'upload_1')}part_1": 2 * HOUR,
}


async def put(world: World, *keys: str) -> None:
    for key in keys:
        await world.bucket.put(key, b"x", create_only=True)


async def own(world: World) -> None:
    await world.bucket.put(names.OWNER_KEY, b"nightshift", create_only=True)


async def sweep_passed(world: World, **settings: Any) -> int:
    """Make a pass; gives how many such objects went."""
    return (await world.sweep(**settings).run_once(world.clock())).passed


@pytest.mark.parametrize(("key", "life"), KEPT_FOR_HOURS.items())
async def test_it_goes_by_its_age_and_not_before(world: World, key: str, life: timedelta) -> None:
    await own(world)
    await put(world, key)
    world.clock.offset += life - LITTLE
    assert await sweep_passed(world) == 0
    assert key in await world.keys()
    world.clock.offset += 2 * LITTLE
    assert await sweep_passed(world) == 1
    assert await world.keys() == [names.OWNER_KEY]


async def test_it_is_no_orphan_though_nothing_owns_it(world: World) -> None:
    await own(world)
    await put(world, *KEPT_FOR_HOURS)
    world.clock.offset += 2 * DAY
    sweep = world.sweep(idempotency_life_s=10**6, upload_life_s=10**6)
    for _ in range(2):
        swept = await sweep.run_once(world.clock())
        assert (swept.passed, swept.orphans) == (0, 0)
        world.clock.offset += HOUR
    assert set(KEPT_FOR_HOURS) < set(await world.keys())


async def test_settings_say_how_long_it_stays(world: World) -> None:
    await own(world)
    await put(world, *KEPT_FOR_HOURS)
    world.clock.offset += HOUR + 2 * LITTLE
    assert await sweep_passed(world, upload_life_s=60, idempotency_life_s=60) == len(KEPT_FOR_HOURS)


async def test_it_stays_in_a_bucket_that_is_not_ours(world: World) -> None:
    await put(world, *KEPT_FOR_HOURS)
    world.clock.offset += 365 * DAY
    assert await sweep_passed(world) == 0
    assert set(KEPT_FOR_HOURS) == set(await world.keys())


async def test_a_dry_run_counts_it_and_lets_it_stay(world: World) -> None:
    await own(world)
    await put(world, *KEPT_FOR_HOURS)
    world.clock.offset += 365 * DAY
    assert await sweep_passed(world, sweep_dry_run=True) == len(KEPT_FOR_HOURS)
    assert set(KEPT_FOR_HOURS) < set(await world.keys())
