"""How the command shows what takes long.

A batch that `submit --wait` follows: a live bar on a terminal, a plain line now and then elsewhere. A file that `check`
reads: a bar on a terminal, once it has taken a second.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Self

from openai.types import Batch
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TransferSpeedColumn,
)

_QUIET_S = 300.0
_SHORT_S = 1.0
_PARTS = 20


@dataclass(frozen=True)
class Look:
    """What one look at a batch tells."""

    status: str
    done: int
    failed: int
    total: int

    @classmethod
    def of(cls, batch: Batch) -> Self:
        """Read a batch; one that is being validated has no counts yet."""
        counts = batch.request_counts
        if counts is None:
            return cls(batch.status, 0, 0, 0)
        return cls(batch.status, counts.completed + counts.failed, counts.failed, counts.total)


@dataclass
class Pace:
    """How fast lines end, counted from the last look before any could."""

    _first: tuple[float, int] = (0.0, 0)

    def render(self, look: Look, now_s: float) -> str:
        """Say the rate, and what the rest takes at it."""
        if self._first == (0.0, 0) or look.status == "validating":
            self._first = (now_s, look.done)
        since_s, before = self._first
        if look.done <= before or now_s <= since_s:
            return ""
        rate = (look.done - before) / (now_s - since_s)
        shown = f"{rate:.1f}/s" if rate >= 1 else f"{rate * 60:.1f}/min"
        is_running = look.status == "in_progress"
        return f"{shown}, {render_span((look.total - look.done) / rate)} left" if is_running else shown


def render_span(seconds: float) -> str:
    """Write a time span for people. Pure."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


@dataclass
class Lines:
    """Writes a line when the status changes, at every twentieth of the lines, and after five minutes of silence."""

    write: Callable[[str], None]
    pace: Pace = field(default_factory=Pace)
    _told: tuple[str, int] = ("", 0)
    _told_s: float = 0.0

    def show(self, look: Look, now_s: float) -> None:
        """Tell of a look, if it says enough."""
        pace = self.pace.render(look, now_s)
        told = (look.status, look.done * _PARTS // max(look.total, 1))
        if told == self._told and now_s - self._told_s < _QUIET_S:
            return
        self._told, self._told_s = told, now_s
        words = (look.status, f"{look.done}/{look.total}", f"{look.failed} failed", pace)
        self.write(", ".join(word for word in words if word))


@contextmanager
def showing(console: Console) -> Iterator[Callable[[Batch], None]]:
    """Give a function that shows a batch as it is now."""
    if not console.is_terminal:
        lines = Lines(lambda text: console.print(text, soft_wrap=True, markup=False, highlight=False))
        yield lambda batch: lines.show(Look.of(batch), time.monotonic())
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.fields[status]}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[failed]} failed {task.fields[pace]}"),
        TimeElapsedColumn(),
    )
    pace = Pace()
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("batch", total=None, status="", failed=0, pace="")

        def show(batch: Batch) -> None:
            look = Look.of(batch)
            said = pace.render(look, time.monotonic())
            total = look.total or None
            progress.update(task, total=total, completed=look.done, status=look.status, failed=look.failed, pace=said)

        yield show


@contextmanager
def showing_bytes(console: Console, total: int | None, clock: Callable[[], float]) -> Iterator[Callable[[int], None]]:
    """Give a function that shows how many bytes of a file are done; `total` is None where nobody knows its size."""
    if not console.is_terminal:
        yield lambda _: None
        return
    begun_s = clock()
    progress = Progress(BarColumn(), DownloadColumn(), TransferSpeedColumn(), console=console, transient=True)
    task = progress.add_task("check", total=total)

    def show(done: int) -> None:
        if clock() - begun_s > _SHORT_S:
            progress.start()
        progress.update(task, completed=done)

    try:
        yield show
    finally:
        if progress.live.is_started:
            progress.stop()
