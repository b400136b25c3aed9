"""What people feel of a batch at the same model server, with flow control and without: played on a clock of its own.

The server has room for 8 requests a second, of which people take 2.4. `docs/performance.md` has the same scenes.
"""

from dataclasses import replace

import pytest

from nightshift_processor.flow import Rules
from tests.processor.flow_figures import PAGE, SCENES, read_page
from tests.processor.queueing import Figures, Scene, play

NOBODY = Scene()
LEFT_PER_S = 32 / 4 - 2.4
FLAT_OUT = Rules(96, is_shared=False)
CONTROLLED = Rules(96)


@pytest.fixture(scope="module")
def alone() -> Figures:
    return play(NOBODY)


@pytest.fixture(scope="module")
def flat_out() -> Figures:
    return play(replace(NOBODY, batches=(FLAT_OUT,)))


def test_without_control_people_wait_for_the_batch(alone: Figures, flat_out: Figures) -> None:
    assert flat_out.p95_s > 2 * alone.p95_s


def test_latency_alone_tells_a_batch_to_leave_room(flat_out: Figures) -> None:
    figures = play(replace(NOBODY, batches=(CONTROLLED,)))
    assert figures.p95_s < 0.65 * flat_out.p95_s
    assert figures.lines_per_s[0] > 0.9 * LEFT_PER_S


def test_beside_a_server_that_tells_its_queue_people_hardly_feel_a_batch(alone: Figures, flat_out: Figures) -> None:
    figures = play(replace(NOBODY, batches=(CONTROLLED,), polls_s=2.0))
    assert figures.p95_s < 0.5 * flat_out.p95_s
    assert figures.p95_s < 1.1 * alone.p95_s
    assert figures.lines_per_s[0] > 0.8 * LEFT_PER_S


def test_a_server_that_refuses_is_kept_full_but_not_begged(alone: Figures, flat_out: Figures) -> None:
    figures = play(replace(NOBODY, batches=(CONTROLLED,), queue_limit=16))
    assert figures.p95_s < 0.5 * flat_out.p95_s
    assert figures.lines_per_s[0] > 0.8 * LEFT_PER_S


def test_a_share_keeps_a_batch_small_for_as_long_as_there_are_people(alone: Figures) -> None:
    small = replace(NOBODY, batches=(Rules(96, share=0.125),), polls_s=2.0)
    figures = play(small)
    assert figures.p95_s < 1.05 * alone.p95_s
    assert figures.lines_per_s[0] == pytest.approx(12 / 4, rel=0.1)
    at_night = play(replace(small, people_per_s=0.01))
    assert at_night.lines_per_s[0] > 2 * figures.lines_per_s[0]


def test_a_server_that_takes_all_at_once_but_gets_slow_is_not_crowded() -> None:
    crowd = Scene(slots=256, crowding=32, batches=(Rules(256, is_shared=False),))
    without, controlled = play(crowd), play(replace(crowd, batches=(Rules(256),)))
    assert controlled.p95_s < 0.5 * without.p95_s
    assert controlled.lines_per_s[0] > 0.6 * without.lines_per_s[0]


@pytest.mark.parametrize(
    "scene",
    [Scene(polls_s=2.0), Scene(queue_limit=16)],
    ids=["a server that tells its queue", "a server that refuses"],
)
def test_two_batches_come_to_equal_parts_though_one_began_long_before_the_other(scene: Scene) -> None:
    first, second = play(replace(scene, people_per_s=0.5, batches=(CONTROLLED, CONTROLLED))).lines_per_s
    assert 0.67 < first / second < 1.5
    assert first + second > 0.8 * (8 - 0.5)


def test_the_page_says_what_the_scenes_come_to() -> None:
    said = read_page(PAGE)
    assert list(said) == list(SCENES)
    for name, scene in SCENES.items():
        figures = play(scene)
        assert said[name] == pytest.approx((figures.p95_s, sum(figures.lines_per_s)), rel=0.1, abs=0.1), name
