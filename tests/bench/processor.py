"""Rows: a batch through `nightshift-processor run`, with all that it has, against wrk and against run-batch's pattern.

What is timed is the whole process, less one that has a single line to do: neither Python's start nor ours is a matter
of lines. Promises are kept while it is timed: records and their fsync, the ledger, flow control, the prefix order.
"""

import asyncio
import json
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from google_crc32c import value as crc32c_of

from nightshift_crds.bucket import open_bucket
from nightshift_crds.lines import CHAT
from nightshift_crds.records import RecordKind
from nightshift_crds.slicelog import read_tails
from tests.bench.harness import Contest, Read, Row, Sample, Samples, constant, figure
from tests.bench.processes import OURS, THEIRS, measured, on_core, run_wrk, running, running_nginx
from tests.builders import BATCH_UID
from tests.e2e.installation import BIN, ROOT
from tests.ports import free_port

FULL, FEW = 50_000, 5_000
_OF_PATTERN = 3_000
"""Lines: it takes a second for two thousand of them, and the same for each."""
CONNECTIONS = 128
BODY_BYTES = (500, 2_000)
_INPUT = "openai/files/input.jsonl"
_SYSTEMS = 20
_WORDS = "The night shift sorts what the day has left behind. "
MAX_PEAK_MB, MAX_GROWTH_MB = 80.0, 3.0


def write_lines(lines: int, seed: int = 1) -> bytes:
    """Write an input whose bodies are of 500 to 2,000 bytes, with one of several system prompts each."""
    luck = random.Random(seed)
    return b"".join(_line(n, luck) for n in range(lines))


def _line(n: int, luck: random.Random) -> bytes:
    line = {"custom_id": f"row-{n:06d}", "method": "POST", "url": CHAT, "body": json.loads(write_body(luck))}
    return json.dumps(line).encode() + b"\n"


def write_body(luck: random.Random) -> bytes:
    """Write a body of a length that is drawn."""
    system = f"You are clerk {luck.randrange(_SYSTEMS)} of the night shift. {_WORDS * 3}"
    messages = [{"role": "system", "content": system}, {"role": "user", "content": ""}]
    body = {"model": "m", "messages": messages, "temperature": 0.7, "max_tokens": luck.randrange(100, 1_000)}
    missing = luck.randint(*BODY_BYTES) - len(json.dumps(body))
    messages[1]["content"] = f"{luck.randrange(10**6)} {_WORDS * 40}"[:missing]
    return json.dumps(body).encode()


@dataclass(frozen=True)
class Batches:
    """Batches on a bucket in a folder, which is there while one runs."""

    folder: Path
    url: str
    concurrency: int
    is_shared: bool = True

    def run(self, content: bytes) -> Sample:
        """Run one, see that every line has its result, and give what it took."""
        bucket = self.folder / "bucket-of-batches"
        path = bucket / _INPUT
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
        sample = measured(on_core(OURS, BIN / "nightshift-processor", "run"), self._environ(bucket, content))
        asyncio.run(_check(bucket, content.count(b"\n")))
        shutil.rmtree(bucket)
        return sample

    def _environ(self, bucket: Path, content: bytes) -> dict[str, str]:
        values = {
            "bucket": f"file://{bucket}",
            "batch_uid": BATCH_UID,
            "input_key": _INPUT,
            "input_crc32c": crc32c_of(content),
            "scratch_dir": self.folder / "scratch",
            "endpoint": CHAT,
            "model_url": self.url,
            "max_concurrency": self.concurrency,
            "model_is_shared": self.is_shared,
            "deadline": (datetime.now(UTC) + timedelta(hours=1)).isoformat(),
            "attempt": 1,
            "order": "prefix",
        }
        return {f"NIGHTSHIFT_{name.upper()}": str(value) for name, value in values.items()}


async def _check(bucket: Path, lines: int) -> None:
    async with open_bucket(f"file://{bucket}") as opened:
        tails = await read_tails(opened, BATCH_UID)
    last = tails[0].header
    assert (last.kind, last.state.completed, last.state.failed) == (RecordKind.END, lines, 0)


def run_pattern(folder: Path, url: str, lines: int) -> Sample:
    """Run a batch in the pattern of run-batch; it times itself, without what it imports."""
    source, target = folder / "pattern-in.jsonl", folder / "pattern-out.jsonl"
    source.write_bytes(write_lines(lines))
    script = [sys.executable, "-m", "tests.bench.run_batch", source, target, url, CONNECTIONS]
    found = subprocess.run(on_core(OURS, *map(str, script)), cwd=ROOT, capture_output=True, text=True, check=True)
    assert target.read_bytes().count(b"\n") == lines
    sample: Sample = json.loads(found.stdout)
    return sample


def rate_of(side: str, lines: int = FULL) -> Read:
    """Read lines a second, of all but one line and without what one line alone takes."""
    return lambda samples: (lines - 1) / (samples[side]["s"] - samples["start"]["s"])


def cpu_us(samples: Samples) -> float:
    """Read the processor's CPU for a line."""
    return (samples["processor"]["cpu_s"] - samples["start"]["cpu_s"]) / (FULL - 1) * 1e6


def _rate_of_pattern(samples: Samples) -> float:
    return _OF_PATTERN / samples["run-batch"]["s"]


def dollars_of(cpu_us: float, core_hour: float) -> float:
    """Say what a million lines cost in CPU, in dollars, at that much for an hour of a core. Pure."""
    return cpu_us * 1e6 / 1e6 / 3600 * core_hour


def contests_of(folder: Path, core_hour: float) -> Iterator[Contest]:
    """Give the contests, with their servers running."""
    with running_nginx(folder, free_port()) as url:
        yield Contest(_sides_of(folder, url), _rows_of(core_hour))
    yield from _slow_contests(folder)


def _sides_of(folder: Path, url: str) -> Mapping[str, Callable[[], Sample]]:
    batches = Batches(folder, url, CONNECTIONS)
    full, few, one = write_lines(FULL), write_lines(FEW), write_lines(1)
    body = _body_of_mean_length()
    return {
        "wrk": lambda: run_wrk(folder, url + CHAT, CONNECTIONS, body, 2),
        "processor": lambda: batches.run(full),
        "start": lambda: batches.run(one),
        "few": lambda: batches.run(few),
        "run-batch": lambda: run_pattern(folder, url, _OF_PATTERN),
    }


def _body_of_mean_length() -> bytes:
    luck = random.Random(1)
    return min((write_body(luck) for _ in range(100)), key=lambda body: abs(len(body) - sum(BODY_BYTES) / 2))


def _rows_of(core_hour: float) -> tuple[Row, ...]:
    rate, pattern = rate_of("processor"), _rate_of_pattern
    mean = f"{FULL:,} lines, {CONNECTIONS} connections"
    return (
        Row(f"processor, {mean}, against wrk", figure("wrk", "rate"), rate, 0.25, 0.30, "/s"),
        Row(f"processor, {mean}, against the pattern of run-batch", pattern, rate, 15, 20, "/s"),
        Row("CPU for a line, against wrk's for a request", figure("wrk", "cpu_us"), cpu_us, 6, 4, "µs"),
        Row(
            "CPU for a million lines, against the pattern of run-batch",
            lambda samples: dollars_of(samples["run-batch"]["cpu_s"] / _OF_PATTERN * 1e6, core_hour),
            lambda samples: dollars_of(cpu_us(samples), core_hour),
            unit="$",
        ),
        Row(f"start and end of a processor, against one of {FULL:,} lines", figure("processor"), figure("start")),
        Row(f"peak memory, {FULL:,} lines", constant(MAX_PEAK_MB), figure("processor", "peak_mb"), 1, 0.9, "MB"),
        Row(
            f"peak memory, growth from {FEW:,} to {FULL:,} lines",
            constant(MAX_GROWTH_MB),
            lambda samples: samples["processor"]["peak_mb"] - samples["few"]["peak_mb"],
            1,
            0.5,
            "MB",
        ),
    )


def _slow_contests(folder: Path) -> Iterator[Contest]:
    full, one = write_lines(FULL), write_lines(1)
    for connections, latency_s in ((256, 0.05), (1_000, 0.2)):
        with running_delayed(latency_s) as url:
            shared, own = (Batches(folder, url, connections, is_shared=shared) for shared in (True, False))
            sides = {
                "wrk": lambda: run_wrk(folder, url + CHAT, connections, _body_of_mean_length(), 3),  # noqa: B023
                "start": lambda: shared.run(one),  # noqa: B023 - called before the next one comes
                "own": lambda: own.run(full),  # noqa: B023
                "shared": lambda: shared.run(full),  # noqa: B023
            }
            yield Contest(sides, _slow_rows_of(connections, latency_s), rounds=3, is_warmed_up=False)


@contextmanager
def running_delayed(latency_s: float) -> Iterator[str]:
    """Run a model server that takes its time; gives its URL."""
    port = free_port()
    script = [sys.executable, "-m", "tests.bench.delayed", str(port), str(latency_s)]
    with running(on_core(THEIRS, *script), port, {}):
        yield f"http://127.0.0.1:{port}"


def _slow_rows_of(connections: int, latency_s: float) -> tuple[Row, ...]:
    ideal, what = constant(connections / latency_s), f"{connections:,} connections at {latency_s * 1000:.0f} ms"
    # Of 50,000 lines, sent by a server's share of seconds: what growing from 8 requests on takes is seen only here.
    floor = 0.95 if latency_s < 0.1 else None
    return (
        Row(f"the stub itself, {what}: wrk against the ideal", ideal, figure("wrk", "rate"), 0.95, 0.98, "/s"),
        Row(f"{what}, a server of its own, against the ideal", ideal, rate_of("own"), 0.95, 0.97, "/s"),
        Row(
            f"{what}, a server that others may use, against the ideal",
            ideal,
            rate_of("shared"),
            floor,
            floor and 0.97,
            "/s",
        ),
    )
