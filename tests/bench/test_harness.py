"""The harness of `make bench` judges what it should, and nothing on a machine that is busy."""

import multiprocessing
import subprocess
import sys

import pytest

from tests.bench.harness import (
    BUSY,
    HOLDS,
    MAX_BUSY,
    MISSED,
    READ,
    TRIES,
    Contest,
    Result,
    Round,
    Row,
    Sample,
    _Cpu,
    constant,
    exit_code,
    figure,
    run,
    seconds,
)


def a_row(floor: float | None = 1.5, aim: float | None = 1.1, ratio: float = 1.0) -> Row:
    return Row("a row", constant(2.0), constant(2.0 * ratio), floor, aim)


def a_result(row: Row, ratio: float, busy: float = 0.0) -> Result:
    return Result(row, [Round(1.0, ratio, busy), Round(2.0, 2 * ratio, 0.0), Round(1.0, 99.0, 0.0)][:2])


@pytest.mark.parametrize(
    ("row", "ratio", "verdict"),
    [
        (a_row(1.5, 1.1), 1.5, HOLDS),
        (a_row(1.5, 1.1), 1.51, MISSED),
        (a_row(0.15, 0.25), 0.15, HOLDS),
        (a_row(0.15, 0.25), 0.14, MISSED),
        (a_row(None, None), 99.0, READ),
    ],
)
def test_a_floor_is_held_from_the_side_on_which_the_aim_lies(row: Row, ratio: float, verdict: str) -> None:
    assert a_result(row, ratio).verdict == verdict


def test_nothing_is_judged_while_others_are_busy() -> None:
    result = a_result(a_row(), 9.0, busy=MAX_BUSY + 0.01)
    assert result.verdict == BUSY
    assert a_result(a_row(), 9.0, busy=MAX_BUSY).verdict == MISSED


def test_a_run_fails_if_a_floor_is_missed_and_otherwise_if_it_could_not_be_judged() -> None:
    holds, missed, busy = a_result(a_row(), 1.0), a_result(a_row(), 9.0), a_result(a_row(), 1.0, busy=0.5)
    assert [exit_code(found) for found in ([holds], [holds, busy], [busy, missed])] == [0, 3, 1]


def test_all_sides_are_measured_in_turn_and_once_before_it_counts() -> None:
    asked: list[str] = []

    def measure(side: str) -> Sample:
        asked.append(side)
        return {"s": float(len(asked))}

    sides = {"reference": lambda: measure("reference"), "subject": lambda: measure("subject")}
    rows = (Row("a row", figure("reference"), figure("subject")), a_row())
    first, second = run(Contest(sides, rows), rounds=2)
    assert len(first.rounds) == len(second.rounds) == 2
    assert {found.subject - found.reference for found in first.rounds} == {1.0}
    assert min(found.reference for found in first.rounds) >= 3
    assert asked == ["reference", "subject"] * (len(asked) // 2)


def test_a_contest_says_how_many_rounds_are_enough_and_whether_one_is_for_warming_up() -> None:
    asked: list[int] = []
    sides = {"subject": seconds(lambda: asked.append(1))}
    [result] = run(Contest(sides, (a_row(),), rounds=1, is_warmed_up=False))
    assert len(result.rounds) == 1
    assert len(asked) <= TRIES


WORKER = """
import sys, time
while time.process_time() < 0.5:
    pass
print(flush=True)
sys.stdin.read()
"""


def test_work_of_processes_that_were_started_here_is_ours() -> None:
    before = _Cpu.now()
    command = [sys.executable, "-c", WORKER]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.readline()
        after = _Cpu.now()
        process.kill()
    assert after.ours - before.ours >= 0.45


def test_what_others_take_is_a_share_of_all_cores() -> None:
    cores = multiprocessing.cpu_count()
    assert _Cpu(0, 0, 0).busy_until(_Cpu(10, 5 * cores, 3 * cores)) == pytest.approx(0.2)
