"""Measure one way against another in the same run: rounds in turn, medians, and no verdict on a machine that is busy.

A contest is several measurements that are taken in turn, round by round; a row is two figures that are read off a
round, and what their ratio must come to. The contests themselves stand in modules of their own; `__main__` runs them.
"""

import os
import sys
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

Sample = Mapping[str, float]
"""Figures of one measurement, by name."""
Samples = Mapping[str, Sample]
"""Those of one round, by who was measured."""
Read = Callable[[Samples], float]


@dataclass(frozen=True)
class Row:
    """What is compared with what.

    Attributes:
        reference: how it is read off a round, as is `subject`.
        floor: the ratio subject / reference past which the row fails; None only reads.
        aim: the ratio that is good. One below the floor means that less is better, one above that more is.
        unit: what both are counted in.
    """

    name: str
    reference: Read
    subject: Read
    floor: float | None = None
    aim: float | None = None
    unit: str = "s"

    @property
    def is_less_better(self) -> bool:
        """Which way is better."""
        return self.floor is None or self.aim is None or self.aim < self.floor

    def is_missed(self, ratio: float) -> bool:
        """Tell whether a ratio is past the floor. Pure."""
        return self.floor is not None and (ratio > self.floor if self.is_less_better else ratio < self.floor)


@dataclass(frozen=True)
class Contest:
    """Who is measured in turn, and what is read off it.

    Attributes:
        rounds: how many are enough.
        is_warmed_up: whether all are measured once before, which is not counted: files are read, modules loaded.
    """

    sides: Mapping[str, Callable[[], Sample]]
    rows: tuple[Row, ...]
    rounds: int = ROUNDS
    is_warmed_up: bool = True

    def measure(self) -> Samples:
        """Measure everybody once."""
        return {name: side() for name, side in self.sides.items()}


@dataclass(frozen=True)
class Round:
    """What a row has read off a round, and what share of the cores others took meanwhile."""

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
            "unit": self.row.unit,
            "floor": self.row.floor,
            "aim": self.row.aim,
            "is_less_better": self.row.is_less_better,
            "ratio": self.ratio,
            "busy": self.busy,
            "verdict": self.verdict,
            "rounds": [vars(found) | {"ratio": found.ratio} for found in self.rounds],
        }


def seconds(act: Callable[[], object]) -> Callable[[], Sample]:
    """Make a measurement of how long something takes."""

    def measure() -> Sample:
        began = time.perf_counter()
        act()
        return {"s": time.perf_counter() - began}

    return measure


def figure(side: str, name: str = "s") -> Read:
    """Read one figure of one side."""
    return lambda samples: samples[side][name]


def constant(value: float) -> Read:
    """Read what is the same in every round: a limit, an ideal."""
    return lambda _: value


def run(contest: Contest, rounds: int = ROUNDS) -> list[Result]:
    """Measure a contest; a round in which others were busy is measured again, up to a number of times."""
    if contest.is_warmed_up:
        contest.measure()
    found = [min(_tries(contest), key=lambda tried: tried[1]) for _ in range(min(rounds, contest.rounds))]
    return [
        Result(row, [Round(row.reference(samples), row.subject(samples), busy) for samples, busy in found])
        for row in contest.rows
    ]


def _tries(contest: Contest) -> list[tuple[Samples, float]]:
    tried: list[tuple[Samples, float]] = []
    while len(tried) < TRIES and not any(busy <= MAX_BUSY for _, busy in tried):
        before = _Cpu.now()
        samples = contest.measure()
        tried.append((samples, before.busy_until(_Cpu.now())))
        print(f"    others {tried[-1][1]:.0%}", *map(_render_sample, samples.items()), file=sys.stderr)
    return tried


def _render_sample(side: tuple[str, Sample]) -> str:
    return f"{side[0]}: {', '.join(f'{value:.4g} {name}' for name, value in side[1].items())};"


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


def exit_code(results: list[Result]) -> int:
    """Say how a run ends: 0 all floors hold, 1 one is missed, 3 the machine was too busy to judge. Pure."""
    verdicts = {result.verdict for result in results}
    if MISSED in verdicts:
        return 1
    return 3 if BUSY in verdicts else 0
