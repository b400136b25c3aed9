"""How the command shows what takes long.

Batches that are followed: live bars on a terminal, plain lines now and then elsewhere. Files that are read, sent or
fetched: a bar on a terminal, once it has taken a second.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Self

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

from nightshift_cli.tables import render_cost, render_rate, render_span, render_status
from nightshift_cli.views import BatchView

_QUIET_S = 300.0
_SHORT_S = 1.0
_PARTS = 20


@dataclass(frozen=True)
class Look:
    """What one look at a batch tells; `rate` and `eta_s` are the server's own, where it has any."""

    status: str
    done: int
    failed: int
    total: int
    rate: float | None = None
    eta_s: float | None = None
    cost: str = ""

    @classmethod
    def of(cls, batch: BatchView) -> Self:
        """Take from a batch what is shown of it while it runs."""
        cost = render_cost(batch.cost) if batch.cost else ""
        return cls(render_status(batch), batch.done, batch.failed, batch.total, batch.rate, batch.eta_s, cost)


@dataclass
class Pace:
    """How fast lines end: as the server says, or else counted from the last look before any could."""

    _first: tuple[float, int] = (0.0, 0)

    def render(self, look: Look, now_s: float) -> str:
        """Say the rate, and what the rest takes at it."""
        is_running = look.status == "in_progress"
        rate = look.rate if look.rate and is_running else self._count(look, now_s)
        if not rate:
            return ""
        left_s = (look.total - look.done) / rate if look.eta_s is None else look.eta_s
        return f"{render_rate(rate)}, {render_span(left_s)} left" if is_running else render_rate(rate)

    def _count(self, look: Look, now_s: float) -> float | None:
        if self._first == (0.0, 0) or look.status == "validating":
            self._first = (now_s, look.done)
        since_s, before = self._first
        return None if look.done <= before or now_s <= since_s else (look.done - before) / (now_s - since_s)


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
        words = (look.status, f"{look.done}/{look.total}", f"{look.failed} failed", pace, look.cost)
        self.write(", ".join(word for word in words if word))


@contextmanager
def showing(console: Console, refs: Sequence[str]) -> Iterator[Callable[[BatchView], None]]:
    """Give a function that shows one of some batches as it is now."""
    if console.is_terminal:
        with _bars(console, refs) as show:
            yield show
        return

    def write(ref: str) -> Callable[[str], None]:
        before = f"{ref}: " if len(refs) > 1 else ""
        return lambda text: console.print(before + text, soft_wrap=True, markup=False, highlight=False)

    lines = {ref: Lines(write(ref)) for ref in refs}
    yield lambda batch: lines[batch.ref].show(Look.of(batch), time.monotonic())


@contextmanager
def _bars(console: Console, refs: Sequence[str]) -> Iterator[Callable[[BatchView], None]]:
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        TextColumn("{task.fields[status]}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[said]}", markup=False),
        TimeElapsedColumn(),
    )
    paces = {ref: Pace() for ref in refs}
    with Progress(*columns, console=console) as progress:
        tasks = {ref: progress.add_task(ref if len(refs) > 1 else "", total=None, status="", said="") for ref in refs}

        def show(batch: BatchView) -> None:
            look = Look.of(batch)
            words = (f"{look.failed} failed", paces[batch.ref].render(look, time.monotonic()), look.cost)
            said = " ".join(word for word in words if word)
            task = tasks[batch.ref]
            progress.update(task, total=look.total or None, completed=look.done, status=look.status, said=said)
            if batch.has_ended:
                progress.stop_task(task)

        yield show


@contextmanager
def showing_bytes(console: Console, total: int | None, clock: Callable[[], float]) -> Iterator[Callable[[int], None]]:
    """Give a function that shows how many bytes of a file are done; `total` is None where nobody knows its size."""
    if not console.is_terminal:
        yield lambda _: None
        return
    begun_s = clock()
    progress = Progress(BarColumn(), DownloadColumn(), TransferSpeedColumn(), console=console, transient=True)
    task = progress.add_task("bytes", total=total)

    def show(done: int) -> None:
        if clock() - begun_s > _SHORT_S:
            progress.start()
        progress.update(task, completed=done)

    try:
        yield show
    finally:
        if progress.live.is_started:
            progress.stop()
