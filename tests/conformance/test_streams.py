"""Long uploads: as a stream in flat memory, and broken off without a trace."""

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conformance.clients import start
from tests.conformance.local import Inside, a_local_target
from tests.conformance.raw import Part
from tests.conformance.target import Target
from tests.e2e.installation import Installation, Stub, wait_until
from tests.e2e.test_memory import MIB, only_pid, peak_bytes

DAY_S = 86_400
UNRECORDED, RECENT = (f"file_0192f0c2-0000-7000-8000-00000000000{n}" for n in range(2))


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory, stub: Stub) -> Iterator[Target]:
    """An installation that sweeps all the time, however small the bucket."""
    settings = {"NIGHTSHIFT_SWEEP_INTERVAL_S": 0.2, "NIGHTSHIFT_SWEEP_MAX_SHARE": 1}
    with a_local_target(tmp_path_factory.mktemp("streams"), stub.url, **settings) as made:
        yield made


@pytest.fixture
def installation(target: Target) -> Installation:
    assert isinstance(target.inside, Inside)
    return target.inside.installation


def stored(installation: Installation) -> dict[Path, int]:
    """All files and drafts of files in the bucket, with their sizes."""
    bucket = installation.data_dir / "bucket"
    found = [*bucket.glob("openai/files/*"), *bucket.glob(".unfinished/*")]
    return {path: path.stat().st_size for path in found}


def run_js(target: Target, scenario: str) -> str | None:
    """Run one scenario of the JavaScript SDK; gives what went wrong."""
    told: dict[str, str | None] = json.loads(start("js", target, scenario).communicate(timeout=120)[0])
    return told["problem"]


def listed(target: Target) -> list[str]:
    return [file["id"] for file in target.raw.get("/files").ok["data"]]


@contextmanager
def half_an_upload(target: Target, installation: Installation, size: int) -> Iterator[None]:
    """Announce twice as many bytes as are sent, and wait until some have arrived; whoever leaves hangs up."""
    before = sum(stored(installation).values())
    lines = target.lines("x" * 1_000) * (size // 1_000)
    connection = target.raw.connect()
    connection.putrequest("POST", "/openai/v1/files")
    for name, value in (
        ("Authorization", f"Bearer {target.key}"),
        ("Content-Type", "multipart/form-data; boundary=x"),
        ("Content-Length", str(2 * size)),
    ):
        connection.putheader(name, value)
    connection.endheaders(b"--x\r\n" + Part("file", lines, "half.jsonl").head() + lines)
    wait_until(lambda: sum(stored(installation).values()) > before + MIB, "some of it to arrive")
    yield
    connection.close()


def test_a_stream_of_100_mb_from_javascript_takes_the_api_less_than_16_mb(
    target: Target, installation: Installation
) -> None:
    pid = only_pid(installation, "nightshift-api")
    target.a_file()
    before = peak_bytes(pid)
    assert run_js(target, "upload_100_mb_as_a_stream") is None
    grown = peak_bytes(pid) - before
    print(f"API: {before / MIB:.1f} MiB, and {grown / MIB:.1f} MiB more for a stream of 99 MiB")
    assert grown < 16 * MIB
    assert max(stored(installation).values()) >= 99 * MIB


def test_an_upload_that_javascript_breaks_off_leaves_nothing(target: Target, installation: Installation) -> None:
    before = stored(installation), listed(target)
    assert run_js(target, "break_an_upload_off") is None
    wait_until(lambda: '"status": 499' in installation.log, "the API to notice")
    assert (stored(installation), listed(target)) == before


def test_an_upload_that_loses_its_connection_leaves_nothing(target: Target, installation: Installation) -> None:
    before = stored(installation), listed(target)
    with half_an_upload(target, installation, 10 * MIB):
        pass
    wait_until(lambda: stored(installation) == before[0], "the bytes to go")
    assert listed(target) == before[1]


def test_an_upload_that_dies_with_the_api_leaves_nothing_once_that_is_there_again(
    target: Target, installation: Installation
) -> None:
    before = stored(installation), listed(target)
    with half_an_upload(target, installation, 10 * MIB):
        installation.kill_part("nightshift-api")
    wait_until(lambda: stored(installation) == before[0], "the bytes to go")
    assert listed(target) == before[1]


def test_bytes_of_an_upload_that_was_never_recorded_go_with_the_sweep(
    target: Target, installation: Installation
) -> None:
    """As a kill leaves them between the last byte and the record; they count as left behind after a day."""
    kept = {target.a_file()["id"], *listed(target)}
    folder = installation.data_dir / "bucket" / "openai" / "files"
    for name, age_s in ((UNRECORDED, 2 * DAY_S), (RECENT, 60)):
        left = folder / f"{name}.jsonl"
        left.write_bytes(target.lines("never recorded"))
        os.utime(left, (time.time() - age_s,) * 2)
    wait_until(lambda: not (folder / f"{UNRECORDED}.jsonl").exists(), "the sweep")
    assert {path.stem for path in stored(installation)} == {*kept, RECENT}
    assert {*listed(target)} == kept
