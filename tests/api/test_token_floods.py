"""Tokens that somebody makes up, many at once: what they cost the API server is bounded, and who it knows is let in."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from nightshift_crds.cluster.port import TOKEN_REVIEW
from tests.api.harness import error_of
from tests.api.test_tokens import TOKEN, USER, WRONG, Guarded, open_guarded

MAX_PER_S = 3


@pytest.fixture
async def guarded(tmp_path: Path) -> AsyncIterator[Guarded]:
    async with open_guarded(tmp_path, max_reviews_per_s=MAX_PER_S) as opened:
        yield opened


async def flood(guarded: Guarded, count: int, name: str = "x") -> list[int]:
    """Send tokens that nobody has seen before; gives the statuses of the answers."""
    statuses = []
    for n in range(count):
        async with guarded.with_key(f"{TOKEN}{name}{n}") as client:
            statuses.append((await client.get("files")).status_code)
    return statuses


async def test_so_many_unknown_tokens_a_second_are_reviewed_and_the_others_told_to_come_back(guarded: Guarded) -> None:
    assert await flood(guarded, 10) == [401] * MAX_PER_S + [503] * (10 - MAX_PER_S)
    assert guarded.reviewers.count(TOKEN_REVIEW) == MAX_PER_S
    guarded.clock.advance(seconds=1)
    assert await flood(guarded, 4, "y") == [401] * MAX_PER_S + [503]
    async with guarded.with_key(f"{TOKEN}z") as client:
        answer = await client.get("files")
    assert error_of(answer, 503) == (None, None)
    assert answer.headers["retry-after"] == "1"


async def test_a_token_that_was_refused_lately_costs_nothing(guarded: Guarded) -> None:
    for _ in range(3):
        assert await flood(guarded, MAX_PER_S) == [401] * MAX_PER_S


async def test_who_was_let_in_a_while_ago_is_not_held_up(guarded: Guarded) -> None:
    assert (await guarded.robot.get("files")).status_code == 200
    for minute in range(3):
        guarded.clock.advance(seconds=60)
        assert 503 in await flood(guarded, MAX_PER_S + 1, f"of-{minute}-")
        assert (await guarded.robot.get("files")).status_code == 200


async def test_who_lost_its_rights_is_a_stranger_again(guarded: Guarded) -> None:
    assert (await guarded.robot.get("files")).status_code == 200
    guarded.reviewers.users = {}
    guarded.clock.advance(seconds=60)
    await flood(guarded, MAX_PER_S)
    assert error_of(await guarded.robot.get("files"), 401) == WRONG
    guarded.reviewers.users = {TOKEN: USER}
    guarded.clock.advance(seconds=60)
    await flood(guarded, MAX_PER_S, "y")
    assert (await guarded.robot.get("files")).status_code == 503


async def test_keys_are_not_held_up(guarded: Guarded) -> None:
    await flood(guarded, MAX_PER_S + 1)
    assert (await guarded.person.get("files")).status_code == 200


async def test_0_is_no_limit(tmp_path: Path) -> None:
    async with open_guarded(tmp_path, max_reviews_per_s=0) as guarded:
        assert await flood(guarded, 50) == [401] * 50
