"""Measure one way against another in the same run: rounds in turn, medians, and no verdict on a machine that is busy.

A row is two callables, each giving a number for one measurement (seconds, or requests a second), and what their ratio
must come to. The rows themselves stand in modules of their own; `__main__` runs them.
"""

import json
import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median

ROUNDS = 5
TRIES = 4
MAX_BUSY = 0.08
"""Share of all cores that other processes may take while a measurement runs (performance.md, Method)."""

HOLDS, MISSED, BUSY, READ = "holds", "MISSED", "not judged: busy", "no floor"

Measure = Callable[[], float]


@dataclass(frozen=True)
class Row:
    """What is measured against what.

    Attributes:
        floor: the ratio subject / reference past which the row fails; None only reads.
        aim: the ratio that is good. One below the floor means that less is better, one above that more is.
    """

    name: str
    reference: Measure
    subject: Measure
    floor: float | None = None
    aim: float | None = None

    @property
    def is_less_better(self) -> bool:
        """Which way is better."""
        return self.floor is None or self.aim is None or self.aim < self.floor

    def is_missed(self, ratio: float) -> bool:
        """Tell whether a ratio is past the floor. Pure."""
        return self.floor is not None and (ratio > self.floor if self.is_less_better else ratio < self.floor)


@dataclass(frozen=True)
class Round:
    """One measurement of each, and what share of the cores others took meanwhile."""

    reference: float
    subject: float
    busy: float

    @property
    def ratio(self) -> float:
        """How the subject compares."""
        return self.subject / self.reference


@dataclass(frozen=True)
class Result:
    """All rounds of a row."""

    row: Row
    rounds: list[Round]

    @property
    def ratio(self) -> float:
        """The middle one of the ratios: each is of measurements that stood side by side."""
        return median(found.ratio for found in self.rounds)

    @property
    def busy(self) -> float:
        """The most that others took in any round."""
        return max(found.busy for found in self.rounds)

    @property
    def verdict(self) -> str:
        """What is to be said of it."""
        if self.row.floor is None:
            return READ
        if self.busy > MAX_BUSY:
            return BUSY
        return MISSED if self.row.is_missed(self.ratio) else HOLDS

    def to_json(self) -> dict[str, object]:
        """All figures of the row."""
        return {
            "name": self.row.name,
            "floor": self.row.floor,
            "aim": self.row.aim,
            "ratio": self.ratio,
            "busy": self.busy,
            "verdict": self.verdict,
            "rounds": [vars(found) | {"ratio": found.ratio} for found in self.rounds],
        }


def seconds(act: Callable[[], object]) -> Measure:
    """Make a measurement of how long something takes."""

    def measure() -> float:
        began = time.perf_counter()
        act()
        return time.perf_counter() - began

    return measure


def run(row: Row, rounds: int = ROUNDS) -> Result:
    """Measure a row; a round in which others were busy is measured again, up to a number of times.

    Each side is measured once before, and that is not counted: files are read, modules loaded.
    """
    row.reference(), row.subject()
    return Result(row, [min(_tries(row), key=lambda found: found.busy) for _ in range(rounds)])


def _tries(row: Row) -> list[Round]:
    tried: list[Round] = []
    while len(tried) < TRIES and not any(found.busy <= MAX_BUSY for found in tried):
        before = _Cpu.now()
        reference, subject = row.reference(), row.subject()
        tried.append(Round(reference, subject, before.busy_until(_Cpu.now())))
    return tried


@dataclass(frozen=True)
class _Cpu:
    """Seconds: on the clock, of work on all cores, and of it ours and that of all that we have started."""

    wall: float
    worked: float
    ours: float

    @classmethod
    def now(cls) -> "_Cpu":
        fields = [int(field) for field in Path("/proc/stat").read_text().splitlines()[0].split()[1:]]
        idle, whole = fields[3] + fields[4], sum(fields[:8])
        tick = os.sysconf("SC_CLK_TCK")
        return cls(time.perf_counter(), (whole - idle) / tick, _ticks_of_family() / tick)

    def busy_until(self, later: "_Cpu") -> float:
        """The share of all cores that others took in between."""
        others = (later.worked - self.worked) - (later.ours - self.ours)
        return max(0.0, others / ((later.wall - self.wall) * (os.cpu_count() or 1)))


def _ticks_of_family() -> int:
    """Add up what this process, its descendants, and those of them that have ended, have taken."""
    parents, ticks = {}, {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended meanwhile
            fields = stat.read_text().rpartition(")")[2].split()
            parents[int(stat.parent.name)] = int(fields[1])
            ticks[int(stat.parent.name)] = sum(map(int, fields[11:15]))
    return sum(ticks[pid] for pid in ticks if _descends(pid, parents))


def _descends(pid: int, parents: Mapping[int, int]) -> bool:
    while pid not in {0, os.getpid()}:
        pid = parents.get(pid, 0)
    return pid != 0


def render(results: list[Result]) -> str:
    """Write the results as a Markdown table. Pure."""
    head = ["what", "ratio", "spread", "floor", "aim", "reference", "subject", "others", "verdict"]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    return "\n".join([*lines, *map(_render_row, results)])


def _render_row(result: Result) -> str:
    row, ratios = result.row, [found.ratio for found in result.rounds]
    sign = "<=" if row.is_less_better else ">="
    floor, aim = (f"{sign} {value:g}" if value is not None else "" for value in (row.floor, row.aim))
    sides = [median(side) for side in zip(*((r.reference, r.subject) for r in result.rounds), strict=True)]
    return (
        f"| {row.name} | **{result.ratio:.2f}** | {min(ratios):.2f}-{max(ratios):.2f} | {floor} | {aim} "
        f"| {sides[0]:.3f} | {sides[1]:.3f} | {result.busy:.0%} | {result.verdict} |"
    )


def exit_code(results: list[Result]) -> int:
    """Say how a run ends: 0 all floors hold, 1 one is missed, 3 the machine was too busy to judge. Pure."""
    verdicts = {result.verdict for result in results}
    if MISSED in verdicts:
        return 1
    return 3 if BUSY in verdicts else 0


def write(results: list[Result], folder: Path) -> None:
    """Write the results into a folder, for people and for programs."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "bench.md").write_text(render(results) + "\n")
    (folder / "bench.json").write_text(json.dumps([result.to_json() for result in results], indent=1) + "\n")
