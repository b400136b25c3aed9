"""Kill at random, again and again, while batches come and go; then audit every one of them.

`make crash` runs it as a program. A kill comes after so many further effects, not after a time, so that a slow machine
sees the same storm: half of them are SIGKILLs of whoever runs, half are failpoints that somebody comes across. What is
drawn is drawn from the seed; how the processes interleave is not, so a seed does not replay a storm exactly.
"""

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.crash import stories
from tests.crash.audit import Ended, count_begun, find_unexplained, find_wrong_asks, find_wrong_batch
from tests.crash.failpoints import Moment, arm, disarm, slug
from tests.crash.rig import CONCURRENCY, PATIENCE_S, Rig, running_rig
from tests.crash.table import EFFECTS, moments_of
from tests.crash.zygote import running_zygote
from tests.e2e.installation import ENDS, Stub, running_stub

OPEN_BATCHES = 8
ARMED = 12
_MOST_EFFECTS = 150
"""Between two kills there are at most so many lines of the trace."""
_IDLE_S = 1.0
_PROCESSORS = 0.4
"""Share of processors among those that get a signal, while there are any."""
_GENTLE = 0.1
"""Share of SIGTERMs among the signals to processors; they are no kills and are not counted."""
_PARTS = ("nightshift-api", "nightshift-operator", "runner")
_ROLES = ("api", "operator", "run", "seal", "runner")
_REACHED = (
    stories.completed,
    stories.succeeded,
    stories.cancelled,
    stories.refused,
    stories.uploaded_by_parts,
    stories.deleted,
)
FAILPOINTS = [
    (effect, moment) for effect, told in EFFECTS.items() if set(told) & set(_REACHED) for moment in moments_of(effect)
]


@dataclass
class Tally:
    """What a storm came to."""

    killed: Counter[str] = field(default_factory=Counter)
    """Kills by role."""
    ended: Counter[str] = field(default_factory=Counter)
    """Batches by how they ended."""
    rows: int = 0
    asked: int = 0
    asked_again: int = 0
    wrong: list[str] = field(default_factory=list)

    @property
    def kills(self) -> int:
        return self.killed.total()


class Killer:
    """Kills until it has killed so often."""

    def __init__(self, rig: Rig, kills: int, seed: int, tally: Tally) -> None:
        self._rig = rig
        self._kills = kills
        self._random = random.Random(f"{seed} killer")
        self._tally = tally
        self._armed: list[tuple[str, Moment]] = []

    def run(self) -> None:
        try:
            while self._tally.kills < self._kills:
                self._await_effects(self._random.randint(1, _MOST_EFFECTS))
                self._arm_one()
                self._kill_one()
        finally:
            for failpoint in self._armed:
                disarm(self._rig.folder, *failpoint)

    def _await_effects(self, count: int) -> None:
        until = len(self._rig.trace()) + count
        give_up_at = time.monotonic() + _IDLE_S
        while len(self._rig.trace()) < until and time.monotonic() < give_up_at:
            time.sleep(0.002)

    def _arm_one(self) -> None:
        """Count failpoints that have killed, and arm another one unless too many wait."""
        armed = self._rig.folder / "armed"
        for failpoint in [f for f in self._armed if not (armed / slug(*f)).exists()]:
            self._armed.remove(failpoint)
            self._tally.killed[failpoint[0].partition(" ")[0]] += 1
        role = self._random.choice(_ROLES)
        failpoint = self._random.choice([f for f in FAILPOINTS if f[0].startswith(f"{role} ")])
        if len(self._armed) < ARMED and failpoint not in self._armed:
            self._armed.append(failpoint)
            arm(self._rig.folder, *failpoint)

    def _kill_one(self) -> None:
        processors = self._rig.processors()
        is_processor = bool(processors) and self._random.random() < _PROCESSORS
        parts = {self._rig.pid(part): part.removeprefix("nightshift-") for part in _PARTS}
        pid, role = self._random.choice(sorted((processors if is_processor else parts).items()))
        is_gentle = is_processor and self._random.random() < _GENTLE
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM if is_gentle else signal.SIGKILL)
            self._tally.killed[role] += not is_gentle


class Users:
    """Make batches, cancel some, and audit what they end with."""

    def __init__(self, rig: Rig, seed: int, tally: Tally) -> None:
        self._rig = rig
        self._random = random.Random(f"{seed} users")
        self._tally = tally
        self._open: dict[str, list[str]] = {}
        self._cancel_at: dict[str, int] = defaultdict(lambda: sys.maxsize)

    def run(self, is_over: threading.Event) -> None:
        """Keep batches open until told that it is over, then see them to their ends."""
        quiet_since: float | None = None
        while self._open or not is_over.is_set():
            if is_over.is_set():
                quiet_since = quiet_since or time.monotonic()
                assert time.monotonic() < quiet_since + 2 * PATIENCE_S, f"these never end: {list(self._open)}"
            elif len(self._open) < OPEN_BATCHES:
                self._begin()
            for batch_id in list(self._open):
                self._look(batch_id)

    def _begin(self) -> None:
        rows = stories.rows_of(*self._random.choices(("row", "row", "row", "fail:400"), k=self._random.randint(1, 24)))
        kind = self._random.choice(("plain", "plain", "plain", "cancel", "cancel", "refuse", "story"))
        if kind == "story":
            self._random.choice((stories.uploaded_by_parts, stories.given_up_by_parts, stories.deleted))(self._rig)
        content = b"not a line\n" if kind == "refuse" else stories.lines_of(rows)
        batch_id = self._rig.user.create(self._rig.user.upload(content))
        self._open[batch_id] = [] if kind == "refuse" else rows
        if kind == "cancel":
            self._cancel_at[batch_id] = self._random.randint(0, len(rows))

    def _look(self, batch_id: str) -> None:
        user = self._rig.user
        batch = user.look(batch_id)
        if batch["status"] in ENDS:
            self._audit(batch_id)
        elif batch["request_counts"]["completed"] >= self._cancel_at[batch_id]:
            status, answer = user.call("POST", f"batches/{batch_id}/cancel")
            assert status in {200, 409}, answer
            self._cancel_at.pop(batch_id)

    def _audit(self, batch_id: str) -> None:
        rows, shown = self._open.pop(batch_id), self._rig.user.shown.pop(batch_id)
        output, error = shown[-1]["output_file_id"], shown[-1]["error_file_id"]
        content = self._rig.user.content
        ended = Ended(shown, rows, content(output), content(error))
        self._tally.wrong += [f"{batch_id}: {wrong}" for wrong in find_wrong_batch(ended)]
        self._tally.ended[shown[-1]["status"]] += 1
        self._tally.rows += len(rows)


def rage(rig: Rig, stub: Stub, kills: int, seed: int) -> Tally:
    """Let a storm go over an installation."""
    tally, is_over = Tally(), threading.Event()
    killer = Killer(rig, kills, seed, tally)
    with _running(killer, is_over):
        Users(rig, seed, tally).run(is_over)
    trace = rig.trace()
    begun = count_begun(trace)
    asked = {row: times for row, times in stub.show()["asked"].items() if row in begun}
    tally.asked, tally.asked_again = sum(asked.values()), sum(asked.values()) - len(asked)
    tally.wrong += find_wrong_asks(trace, CONCURRENCY)
    tally.wrong += find_unexplained(trace, asked)
    tally.wrong += [f"{part} ended with {code}" for part, code in rig.ended if code not in {0, 137, 143}]
    return tally


@contextmanager
def _running(killer: Killer, is_over: threading.Event) -> Iterator[None]:
    def run() -> None:
        try:
            killer.run()
        finally:
            is_over.set()

    thread = threading.Thread(target=run, name="killer")
    thread.start()
    try:
        yield
    finally:
        thread.join()


def main() -> int:
    """Run a storm as a program; 1 if anything was wrong."""
    parser = argparse.ArgumentParser(description="Kill parts of a running installation at random, then audit.")
    parser.add_argument("--kills", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    began = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="nightshift-crash-"))
    print(f"{options.kills} kills, seed {options.seed}, in {folder}", flush=True)
    with (
        running_stub(latency_s=0.02) as stub,
        running_zygote(folder) as zygote,
        running_rig(folder / "rig", zygote, stub.url) as rig,
    ):
        tally = rage(rig, stub, options.kills, options.seed)
    print(f"{tally.kills} kills in {time.monotonic() - began:.0f} s, seed {options.seed}: {dict(tally.killed)}")
    print(f"{tally.ended.total()} batches of {tally.rows} rows: {dict(tally.ended)}")
    print(f"{tally.asked} requests, {tally.asked_again} of them again after a kill")
    print(f"{len(tally.wrong)} violations", *tally.wrong[:50], sep="\n  ")
    if tally.wrong:
        return 1
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
