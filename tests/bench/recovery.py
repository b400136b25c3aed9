"""Row: how soon a processor that takes the place of a killed one asks the model for something."""

import json
import os
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.bench.harness import Contest, Row, Sample, constant, figure
from tests.bench.processor import running_delayed
from tests.e2e.installation import Installation, chat_lines, wait_for_lines, wait_until

_LINES, _DURABLE = 4_000, 1_000
_LATENCY_S = 0.02
_PROGRAM = "nightshift-processor run"
MAX_S = 2.0


def recover(folder: Path, url: str) -> Sample:
    """Kill a processor amid its batch; gives the seconds to the next request, and the lines that were asked again."""
    with TemporaryDirectory(dir=folder) as place:
        installation = Installation(Path(place) / "data", url, ["--concurrency", "8"])
        installation.start()
        try:
            return _kill_amid(installation, url)
        finally:
            installation.stop()


def _kill_amid(installation: Installation, url: str) -> Sample:
    before = len(_arrivals(url))
    batch = installation.submit(chat_lines([f"recovered {n}" for n in range(_LINES)])[0])
    wait_for_lines(installation, batch.id, _DURABLE)
    killed, at = installation.kill_part(_PROGRAM), time.time()
    successor = wait_until(lambda: next((pid for pid in installation.pids(_PROGRAM) if pid != killed), 0), "another")
    started = _started_at(successor)
    first = wait_until(lambda: next((t for t in _arrivals(url) if t > started), 0.0), "a request")
    ended = installation.wait(batch.id)
    assert ended.status == "completed"
    again = len(_arrivals(url)) - before - _LINES
    return {"s": first - started, "since_kill_s": first - at, "again": again}


def _arrivals(url: str) -> list[float]:
    with urllib.request.urlopen(f"{url}/arrivals") as response:
        found: list[float] = json.load(response)
        return found


def _started_at(pid: int) -> float:
    """Tell when a process began, in seconds since 1970, as the kernel has it: to a hundredth."""
    ticks = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    age_s = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    return time.time() - age_s


def contests_of(folder: Path) -> Iterator[Contest]:
    """Give the contest, with the model server running."""
    rows = (
        Row("first request of a processor after a kill", constant(MAX_S), figure("kill"), 1, 0.5),
        Row("the same from the kill on", constant(MAX_S), figure("kill", "since_kill_s")),
        Row(
            "lines asked again after it, of 8 in flight and half a second's",
            constant(8),
            figure("kill", "again"),
            unit="lines",
        ),
    )
    with running_delayed(_LATENCY_S) as url:
        yield Contest({"kill": lambda: recover(folder, url)}, rows, is_warmed_up=False)
