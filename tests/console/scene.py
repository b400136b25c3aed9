"""A namespace as it looks after a few busy days, for the pictures: batches in every state, at any time of the past.

Nothing moves in it: only the API runs, on a SQLite cluster that is filled as operator and processor would have.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from subprocess import Popen
from typing import Any
from urllib.request import urlopen

from pydantic.alias_generators import to_camel

from nightshift_crds import names
from nightshift_crds.bucket import open_bucket
from nightshift_crds.bucket.port import Bucket
from nightshift_crds.cluster.local import _Key, _Store
from nightshift_crds.cluster.port import BATCH_JOB, HOSTED_MODEL, STORED_FILE, Kind, Manifest
from nightshift_crds.keys import render_keys
from nightshift_crds.lifecycle import TIMESTAMPS, Phase
from nightshift_crds.lines import CHAT, EMBEDDINGS, Usage
from nightshift_crds.names import IdKind, ResultKind
from nightshift_crds.records import Header, Progress, RecordKind, State, encode_progress, encode_record
from tests.api.given import WAYS
from tests.builders import timestamp
from tests.e2e.installation import BIN, wait_until
from tests.ports import free_port

KEY = "sk-scene"
TEAM = "search-quality"
LLAMA, BGE, QWEN = "llama3.3:70b", "bge-m3", "qwen3:32b"
PER_GPU_HOUR = 2.1
PRICING = {"currency": "USD", "perGpuHour": PER_GPU_HOUR}


@dataclass(frozen=True)
class Story:
    """What became of a batch; times in seconds, `ago` from its creation to now."""

    name: str | None
    phase: Phase
    ago: float
    total: int = 0
    completed: int = 0
    failed: int = 0
    took: float = 0
    model: str = LLAMA
    tokens: tuple[int, int] = (612, 148)
    gpu: tuple[str, str] | None = ("nvidia-h100-80gb", "a3-highgpu-1g")
    conditions: Sequence[tuple[str, str, str, str]] = ()
    errors: Sequence[tuple[str, str, int]] = ()
    answers: Sequence[tuple[str, str]] = ()
    failures: Sequence[tuple[str, str, str]] = ()
    spec: dict[str, Any] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)


RUNNING = (("Validated", "True", "InputAccepted", ""), ("Scheduled", "True", "Running", ""))
NO_NODE = "0/9 nodes are available: 3 Insufficient nvidia.com/gpu, 6 node(s) didn't match Pod's node affinity/selector."
TIMED_OUT = "The model server did not answer within 600 s, 5 times."
TOO_LONG = "This model's maximum context length is 131072 tokens; the prompt has 148211."
FAILURES = [
    *((f"sku-{105000 + n * 7}", "context_length_exceeded", TOO_LONG) for n in range(29)),
    *((f"sku-{118000 + n * 3}", "request_timeout", TIMED_OUT) for n in range(12)),
]
ANSWERS = [
    (
        "sku-104882",
        "A light rain jacket in recycled nylon, cut long enough to cycle in, with a hood that stays put in the wind.",
    ),
    ("sku-104883", "Merino base layer for cold starts: fine enough to wear alone, warm enough under a shell."),
    ("sku-104885", "Eine wasserdichte Rolltasche mit 25 Litern, die einrastet und ohne Werkzeug wieder abgeht."),
]
REFUSALS = [
    ("model_not_found", "The model 'llama3.3-70b' does not exist.", 1),
    ("duplicate_custom_id", "The custom_id was used before.", 211),
    ("duplicate_custom_id", "The custom_id was used before.", 698),
    ("invalid_json_line", "This line is not valid JSON.", 3_044),
]
WAITING = (RUNNING[0], ("Scheduled", "False", "NoNode", NO_NODE))
L4 = ("nvidia-l4", "g2-standard-8")
TICKET = {"team": "catalogue", "ticket": "CAT-2291"}
DONE = Phase.COMPLETED
STORIES = (
    Story(
        "Product descriptions, spring catalogue", Phase.IN_PROGRESS, 2_460, 48_000, 30_912, 41, 2_340,
        conditions=RUNNING, metadata=TICKET, answers=ANSWERS, failures=FAILURES,
    ),
    Story("Ticket triage, last 24 h", Phase.VALIDATING, 38, model=QWEN, gpu=None),
    Story(
        "Nightly embeddings, docs corpus", Phase.IN_PROGRESS, 900, 25_000, model=BGE, took=860, gpu=None,
        tokens=(410, 0), conditions=WAITING,
    ),
    Story("Review sentiment, Q3", DONE, 9_400, 50_000, 49_988, 12, 5_120),
    Story("Judge: answer quality, run 14", DONE, 15_800, 4_000, 4_000, 0, 1_034, model=QWEN),
    Story("Legal clauses, extraction", Phase.FAILED, 20_500, model=LLAMA, gpu=None, errors=REFUSALS),
    Story("Synthetic dialogues, es-MX", Phase.CANCELLED, 31_000, 20_000, 7_421, 3, 1_866),
    Story(None, DONE, 52_300, 1_200, 1_200, 0, 64, model=BGE, tokens=(380, 0), gpu=L4),
    Story("Ticket triage, last 24 h", DONE, 86_500, 11_640, 11_640, 0, 1_490, model=QWEN),
    Story("Nightly embeddings, docs corpus", DONE, 87_300, 24_870, 24_870, 0, 418, model=BGE, tokens=(410, 0), gpu=L4),
    Story("Long-form rewrites, trial", Phase.EXPIRED, 172_000, 50_000, 38_200, 310, 86_000),
    Story("Translation, help centre", DONE, 176_000, 8_200, 8_196, 4, 2_211),
)  # fmt: skip


class Stage:
    """Fills a cluster and a bucket."""

    def __init__(self, store: _Store, bucket: Bucket, now: datetime) -> None:
        self._store = store
        self._bucket = bucket
        self._now = now

    async def add(self, story: Story) -> str:
        """Make a batch be what its story says; gives its id."""
        created = self._now - timedelta(seconds=story.ago)
        value = names.make_uuid7(int(created.timestamp() * 1000), names_of(story))
        name = names.resource_name(IdKind.BATCH, value)
        lines = b"".join(b"%b\n" % json.dumps({"custom_id": str(n)}).encode() for n in range(story.total or 900))
        slug = (story.name or "batch").split(",")[0].lower().replace(" ", "-").replace(":", "")
        input_id = await self._add_file(created, f"{slug}.jsonl", "batch", lines)
        metadata = ({"cast.ai/batch-name": story.name} if story.name else {}) | story.metadata
        endpoint = EMBEDDINGS if story.model == BGE else CHAT
        spec = {"input": {"fileId": input_id}, "endpoint": endpoint, "metadata": metadata} | story.spec
        made = self._create(BATCH_JOB, name, spec, created)
        await self._play(story, made, created)
        return names.make_id(IdKind.BATCH, value)

    async def _play(self, story: Story, made: Manifest, created: datetime) -> None:
        started = created + timedelta(seconds=21)
        ended = started + timedelta(seconds=story.took)
        way = WAYS[story.phase]
        for phase in way:
            at = started if phase is Phase.IN_PROGRESS else ended if phase is way[-1] else ended - timedelta(seconds=6)
            self._write(BATCH_JOB, made, {"phase": phase, to_camel(TIMESTAMPS[phase]): timestamp(at)})
        self._write(BATCH_JOB, made, self._status(story, started, created) | await self._results(story, made, created))

    def _status(self, story: Story, started: datetime, created: datetime) -> Manifest:
        gpu_type, instance_type = story.gpu or (None, None)
        held = int(story.took) if story.gpu else None
        total = story.completed * sum(story.tokens)
        cost = f"{PER_GPU_HOUR * (held or 0) / 3600:.6f}"
        conditions = [
            {
                "type": kind,
                "status": status,
                "reason": reason,
                "message": text,
                "lastTransitionTime": timestamp(started),
            }
            for kind, status, reason, text in story.conditions
        ]
        status = {
            "deadline": timestamp(created + timedelta(days=1)),
            "counts": {"total": story.total, "completed": story.completed, "failed": story.failed},
            "usage": usage_of(story) if total else None,
            "model": None if story.phase is Phase.VALIDATING else story.model,
            "attempt": int(bool(story.took)), "conditions": conditions, "gpuType": gpu_type,
            "instanceType": instance_type, "gpuSeconds": held, "pricing": PRICING if held else None,
            "cost": {"currency": "USD", "total": cost} if held else None,
            "errors": [{"code": code, "message": text, "line": line} for code, text, line in story.errors],
        }  # fmt: skip
        return {key: value for key, value in status.items() if value not in (None, [])}

    async def _results(self, story: Story, made: Manifest, created: datetime) -> Manifest:
        """Make the result files: of a batch that runs as its log, else whole."""
        answers = [answer_line(*answer) for answer in story.answers or [("row-1", "An answer.")]]
        failures = [failure_line(*failure) for failure in story.failures]
        if story.phase is Phase.IN_PROGRESS:
            await self._add_log(story, made, answers if story.completed else [], failures)
            return {}
        ids = {}
        for kind, lines, count in (("output", answers, story.completed), ("error", failures, story.failed)):
            if count:
                filename = names.result_filename(
                    names.id_of(IdKind.BATCH, made["metadata"]["name"], ""), ResultKind(kind)
                )
                line = b"".join(lines) or failure_line("row-7", "invalid_response", "Not JSON.")
                content = line * (count // max(len(lines), 1))
                ids[f"{kind}FileId"] = await self._add_file(created, filename, "batch_output", content)
        return ids

    async def _add_log(self, story: Story, made: Manifest, answers: list[bytes], failures: list[bytes]) -> None:
        uid = made["metadata"]["uid"]
        written, lost = len(b"".join(answers)), len(b"".join(failures))
        used = Usage(**{to_snake(key): value for key, value in usage_of(story).items()})
        state = State(
            completed=story.completed, failed=story.failed, usage=used, output_bytes=written, error_bytes=lost
        )
        header = Header(
            kind=RecordKind.PART,
            writer="w",
            state=state,
            output_length=written,
            error_length=lost,
        )
        await self._bucket.put(
            names.record_key(uid, 0, 0), encode_record(header, [*answers, *failures]), create_only=True
        )
        progress = Progress(seq=0, state=state, rate=(story.completed + story.failed) / story.took * 1.06)
        await self._bucket.put(names.progress_key(uid, 0, 0), encode_progress(progress), create_only=True)
        for kind, size in ((ResultKind.OUTPUT, written), (ResultKind.ERROR, lost)):
            if size:
                self._add_growing(made, kind)

    def _add_growing(self, made: Manifest, kind: ResultKind) -> None:
        metadata = made["metadata"]
        created = datetime.fromisoformat(metadata["creationTimestamp"])
        value = names.result_file_uuid(int(created.timestamp() * 1000), metadata["uid"], kind)
        source = {"batchName": metadata["name"], "batchUid": metadata["uid"], "kind": kind}
        filename = names.result_filename(names.id_of(IdKind.BATCH, metadata["name"], ""), kind)
        spec = {"filename": filename, "purpose": "batch_output", "source": source}
        file = self._create(STORED_FILE, names.resource_name(IdKind.FILE, value), spec, created)
        self._write(STORED_FILE, file, {"phase": "Writing"})

    async def _add_file(self, created: datetime, filename: str, purpose: str, content: bytes) -> str:
        value = names.make_uuid7(int(created.timestamp() * 1000), sha256(filename.encode()).digest()[:10])
        file = self._create(
            STORED_FILE, names.resource_name(IdKind.FILE, value), {"filename": filename, "purpose": purpose}, created
        )
        file_id = names.make_id(IdKind.FILE, value)
        expires_at = timestamp(created + timedelta(days=30))
        self._write(STORED_FILE, file, {"phase": "Ready", "bytes": len(content), "expiresAt": expires_at})
        await self._bucket.put(names.file_key(file_id), content, create_only=False)
        return file_id

    def add_model(self, name: str) -> None:
        spec = {"name": name, "service": {"url": "http://127.0.0.1:9"}}
        self._create(HOSTED_MODEL, name.replace(":", "-").replace(".", "-"), spec, self._now)

    def _create(self, kind: Kind, name: str, spec: Manifest, created: datetime) -> Manifest:
        metadata = {"name": name, "namespace": TEAM}
        manifest = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata, "spec": spec}
        return self._store.create(kind, manifest, created)

    def _write(self, kind: Kind, made: Manifest, status: Manifest) -> None:
        key = _Key.of(kind, TEAM, made["metadata"]["name"])
        self._store.patch_status(kind, key, {"status": json.loads(json.dumps(status))})


def usage_of(story: Story) -> dict[str, int]:
    went_in, came_out = (count * story.completed for count in story.tokens)
    return {"inputTokens": went_in, "outputTokens": came_out, "totalTokens": went_in + came_out}


def to_snake(text: str) -> str:
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in text)


def names_of(story: Story) -> bytes:
    """Ten bytes that differ from story to story, for an id."""
    return sha256(f"{story.name} {story.ago}".encode()).digest()[:10]


def answer_line(custom_id: str, text: str) -> bytes:
    body = {"choices": [{"message": {"role": "assistant", "content": text}}]}
    return (
        json.dumps({"custom_id": custom_id, "response": {"status_code": 200, "body": body}, "error": None}).encode()
        + b"\n"
    )


def failure_line(custom_id: str, code: str, message: str) -> bytes:
    error = {"code": code, "message": message, "status_code": 400}
    return json.dumps({"custom_id": custom_id, "response": None, "error": error}).encode() + b"\n"


async def fill(folder: Path, stories: Sequence[Story] = STORIES) -> list[str]:
    """Write cluster, bucket and keys; gives the ids of the batches."""
    (folder / "keys.json").write_text(render_keys({KEY: TEAM}))
    store = _Store(folder / "cluster.db")
    async with open_bucket(f"file://{folder / 'bucket'}") as bucket:
        stage = Stage(store, bucket, datetime.now(UTC).replace(microsecond=0))
        for model in (LLAMA, BGE, QWEN):
            stage.add_model(model)
        ids = [await stage.add(story) for story in stories]
    store.close()
    return ids


@contextmanager
def serving_api(folder: Path, **environ: str) -> Iterator[str]:
    """Run the API alone over a folder; gives its URL."""
    port = free_port()
    told = {
        "NIGHTSHIFT_CLUSTER": f"sqlite://{folder / 'cluster.db'}", "NIGHTSHIFT_BUCKET": f"file://{folder / 'bucket'}",
        "NIGHTSHIFT_API_KEYS_FILE": str(folder / "keys.json"), "NIGHTSHIFT_PORT": str(port),
        "NIGHTSHIFT_HOST": "127.0.0.1",
    }  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    command = [BIN / "nightshift-api"]
    with (folder / "api.log").open("w") as log, Popen(command, env=told | environ, stdout=log, stderr=log) as process:
        try:
            wait_until(lambda: is_ready(url), "the API to be ready")
            yield url
        finally:
            process.terminate()


def is_ready(url: str) -> bool:
    try:
        with urlopen(f"{url}/healthz") as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
