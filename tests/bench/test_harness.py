"""The harness of `make bench` judges what it should, and nothing on a machine that is busy."""

import json
import multiprocessing
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench.harness import (
    BUSY,
    HOLDS,
    MAX_BUSY,
    MISSED,
    READ,
    Result,
    Round,
    Row,
    _Cpu,
    exit_code,
    render,
    run,
    write,
)


def a_row(floor: float | None = 1.5, aim: float | None = 1.1, ratio: float = 1.0) -> Row:
    return Row("a row", lambda: 2.0, lambda: 2.0 * ratio, floor, aim)


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


def test_both_sides_are_measured_in_turn_and_once_before_it_counts() -> None:
    asked: list[str] = []

    def measure(side: str) -> float:
        asked.append(side)
        return 1.0

    result = run(Row("a row", lambda: measure("reference"), lambda: measure("subject")), rounds=2)
    assert len(result.rounds) == 2
    assert asked[:4] == ["reference", "subject"] * 2
    assert len(asked) % 2 == 0


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


def test_results_are_written_for_people_and_for_programs(tmp_path: Path) -> None:
    results = [a_result(a_row(), 1.25), a_result(a_row(None, None), 3.0)]
    write(results, tmp_path / "new")
    assert (tmp_path / "new" / "bench.md").read_text() == render(results) + "\n"
    assert "| a row | **1.25** | 1.25-1.25 | <= 1.5 | <= 1.1 |" in render(results)
    first, second = json.loads((tmp_path / "new" / "bench.json").read_text())
    assert (first["ratio"], first["verdict"], second["floor"]) == (1.25, HOLDS, None)
