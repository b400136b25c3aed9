"""A batch of one slice, and processors that are started on it by hand, one by one."""

import json
import signal
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from google_crc32c import value as crc32c_of

from nightshift_crds.bucket import open_bucket
from nightshift_crds.bucket.port import Bucket
from nightshift_crds.lines import CHAT
from nightshift_crds.records import RecordKind
from tests.builders import BATCH_UID
from tests.crash import zygote as zygotes
from tests.crash.failpoints import DIR_VARIABLE, Moment, arm, read_trace, slug
from tests.crash.rig import CONCURRENCY
from tests.crash.table import EFFECTS, moments_of
from tests.e2e.installation import wait_until
from tests.processor.audits import audit
from tests.processor.given import ERROR_ID, INPUT_KEY, OUTPUT_ID, Record, check_log, environ_of, read_log

POINTS = [(effect, moment) for effect in EFFECTS if effect.startswith("run ") for moment in moments_of(effect)]
ROWS = ("row",) * 8 + ("fail:400", "slow:0.2", "slow:0.2", "row")


@dataclass(frozen=True)
class Slice:
    """A batch of one slice, and processors that are started on it by hand."""

    folder: Path
    zygote: str
    model_url: str
    content: bytes

    def start(self, step: str, flush_interval_s: float = 0.05) -> zygotes.Started:
        """Start a step on it."""
        values = {
            "bucket": f"file://{self.folder / 'bucket'}",
            "batch_uid": BATCH_UID,
            "input_key": INPUT_KEY,
            "input_crc32c": crc32c_of(self.content),
            "scratch_dir": self.folder / "scratch",
            "endpoint": CHAT,
            "model_url": self.model_url,
            "max_concurrency": CONCURRENCY,
            "deadline": (datetime.now(UTC) + timedelta(hours=1)).isoformat(),
            "flush_interval_s": flush_interval_s,
            "reason": "completed",
            "items": len(ROWS),
            "output_file_id": OUTPUT_ID,
            "error_file_id": ERROR_ID,
        }
        environ = environ_of(values) | {DIR_VARIABLE: str(self.folder), "JOB_COMPLETION_INDEX": "0"}
        return zygotes.start(self.zygote, ["nightshift-processor", step], environ)

    def start_partitioned(self, effect: str, moment: Moment) -> zygotes.Started:
        """Start a run that stops itself at a point, and wait until it stands still."""
        arm(self.folder, effect, moment, signal.SIGSTOP)
        started = self.start("run")
        wait_until((self.folder / "fired" / slug(effect, moment)).exists, "the point to be reached")
        wait_until(lambda: _state(started.pid) == "T", "the process to stand still")
        return started

    def has_said(self, pid: int, effect: str, moment: str) -> bool:
        """Tell whether a process has a line in the trace."""
        said = [(line["pid"], line["effect"], line["moment"]) for line in read_trace(self.folder)]
        return (pid, effect, moment) in said or (pid, "run exit", "exit") in said

    def objects(self) -> dict[str, bytes]:
        """All that has been written and counts; progress is a hint."""
        paths = (path for path in (self.folder / "bucket" / "openai").rglob("*") if path.is_file())
        return {str(path): path.read_bytes() for path in paths if "progress" not in path.parts}


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]


async def audit_all(slice_: Slice) -> None:
    """Audit the files, the log, and who wrote it."""
    async with open_bucket(f"file://{slice_.folder / 'bucket'}") as bucket:
        records = await read_log(bucket)
        assert check_log(records, len(ROWS)) == set(range(len(ROWS)))
        assert_fenced(records)
        await audit_files(bucket, slice_)


async def audit_files(bucket: Bucket, slice_: Slice) -> None:
    ids = [line["custom_id"] for line in map(json.loads, slice_.content.splitlines())]
    manifest = await audit(bucket, *ids)
    assert (manifest.completed, manifest.failed) == (len(ROWS) - 1, 1)


def assert_fenced(records: list[Record]) -> None:
    """Behind a claim stands only what its writer wrote."""
    owner = None
    for record in records:
        if record.header.kind in {RecordKind.CLAIM, RecordKind.CLOSE}:
            owner = record.header.writer
        assert record.header.writer == owner
