"""An installation whose parts die often: the programs of `nightshift local`, started again at once, and its user.

`nightshift local`'s own supervisor waits longer after each death; this one does not, and tells what ended how. Whoever
asks the API here asks again until an answer comes, as SDKs do, but at once.
"""

import asyncio
import json
import os
import signal
import socket
import threading
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

from nightshift_crds import names
from nightshift_crds.bucket import open_bucket
from nightshift_crds.bucket.port import Bucket
from nightshift_crds.cluster import open_cluster
from nightshift_crds.cluster.port import HOSTED_MODEL, Cluster
from nightshift_crds.keys import render_keys
from nightshift_crds.lines import CHAT
from nightshift_crds.models import HostedModel, HostedModelSpec, ModelService
from nightshift_crds.names import IdKind, Step
from tests.crash import zygote as zygotes
from tests.crash.failpoints import DIR_VARIABLE
from tests.e2e.installation import ENDS, KEY, MODEL, wait_until
from tests.receiver import Receiver

NAMESPACE = "default"
CONCURRENCY = 4
PATIENCE_S = 60.0
_T = TypeVar("_T")
SHORT_TIMES = {
    "NIGHTSHIFT_FLUSH_INTERVAL_S": "0.05",
    "NIGHTSHIFT_PROGRESS_INTERVAL_S": "0.1",
    "NIGHTSHIFT_BACKOFF_LIMIT": "1000",
    "NIGHTSHIFT_GRACE_S": "10",
}


@dataclass
class User:
    """Whoever uses the API of an installation."""

    port: int
    shown: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: defaultdict(list))
    """Every answer about a batch, in order."""

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, bytes]:
        """Send a request until it is answered: with anything but what says that it may be sent again."""
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"} | headers
        give_up_at = time.monotonic() + PATIENCE_S
        while True:
            with suppress(OSError, HTTPException):
                status, answer = self._try(method, path, data, headers)
                if status < 500:
                    return status, answer
                assert status == 503, answer
            assert time.monotonic() < give_up_at, f"{method} {path} was never answered"
            time.sleep(0.02)

    def _try(self, method: str, path: str, data: bytes | None, headers: Mapping[str, str]) -> tuple[int, bytes]:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        try:
            connection.request(method, f"/v1/{path}", data, headers)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> dict[str, Any]:
        """Send a request that must succeed."""
        status, answer = self.call(method, path, body, **headers)
        assert status == 200, answer
        found: dict[str, Any] = json.loads(answer)
        return found

    def send_form(self, path: str, name: str, content: bytes, **fields: str) -> tuple[int, bytes]:
        """Send a form with a file in it, and the fields behind the file."""
        mark = "boundary-of-the-crash-tests"
        file = f'--{mark}\r\nContent-Disposition: form-data; name="{name}"; filename="in.jsonl"\r\n\r\n'
        plain = "".join(
            f'\r\n--{mark}\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}'
            for key, value in fields.items()
        )
        body = file.encode() + content + plain.encode() + f"\r\n--{mark}--\r\n".encode()
        return self.call("POST", path, body, **{"Content-Type": f"multipart/form-data; boundary={mark}"})

    def upload(self, content: bytes) -> str:
        """Upload a file; gives its id."""
        status, answer = self.send_form("files", "file", content, purpose="batch")
        assert status == 200, answer
        return str(json.loads(answer)["id"])

    def create(self, file_id: str) -> str:
        """Create a batch, once however often it is asked; gives its id."""
        body = {"input_file_id": file_id, "endpoint": CHAT, "completion_window": "24h"}
        return str(self.ask("POST", "batches", body, **{"Idempotency-Key": uuid4().hex})["id"])

    def look(self, batch_id: str) -> dict[str, Any]:
        """Look at a batch."""
        batch = self.ask("GET", f"batches/{batch_id}")
        self.shown[batch_id].append(batch)
        return batch

    def wait(self, batch_id: str, holds: Callable[[dict[str, Any]], Any] | None = None) -> dict[str, Any]:
        """Look at a batch until it has ended, or something is true of it."""
        is_over = holds or (lambda batch: batch["status"] in ENDS)

        def look() -> dict[str, Any] | None:
            batch = self.look(batch_id)
            return batch if is_over(batch) else None

        found: dict[str, Any] = wait_until(look, f"batch {batch_id}", PATIENCE_S)
        return found

    def content(self, file_id: str | None) -> bytes:
        """Download a file; nothing if there is none."""
        if file_id is None:
            return b""
        status, answer = self.call("GET", f"files/{file_id}/content")
        assert status == 200, answer
        return answer


@dataclass
class Rig:
    """A running installation."""

    folder: Path
    zygote: str
    environ: dict[str, str]
    listener: socket.socket
    user: User
    receiver: Receiver | None = None
    """Who is told of the end of batches, in installations that tell."""
    ended: list[tuple[str, int]] = field(default_factory=list)
    """What ended, and how, before it was started again."""
    when_begun: Callable[[], None] = lambda: None
    """What a story calls that goes on from something it must have made before: what follows is what it is about."""
    _lines: list[dict[str, Any]] = field(default_factory=list)
    _read: int = 0
    _processors: dict[int, tuple[str, str]] = field(default_factory=dict)
    """Step and batch by pid, of all that were started and not seen dead."""
    _parts: dict[str, zygotes.Started] = field(default_factory=dict)
    _keepers: list[threading.Thread] = field(default_factory=list)
    _is_stopping: threading.Event = field(default_factory=threading.Event)

    def start(self) -> None:
        for command in ("nightshift-api", "nightshift-operator", zygotes.RUNNER):
            keeper = threading.Thread(target=self._keep, args=(command,), name=command, daemon=True)
            keeper.start()
            self._keepers.append(keeper)

    def _keep(self, command: str) -> None:
        while not self._is_stopping.is_set():
            part = self.start_one(command)
            self._parts[command] = part
            if self._is_stopping.is_set():
                part.connection.close()
                os.kill(part.pid, signal.SIGTERM)
                return
            code = part.wait()
            if not self._is_stopping.is_set():
                self.ended.append((command, code))

    def start_one(self, command: str, **environ: str) -> zygotes.Started:
        """Start a program."""
        lease = "nightshift-runner" if command == zygotes.RUNNER else "nightshift-operator"
        given = self.environ | {"NIGHTSHIFT_LEASE": f"nightshift/{lease}"} | environ
        fds = (self.listener.fileno(),) if command == "nightshift-api" else ()
        return zygotes.start(self.zygote, command.split(), given, fds)

    def stop(self) -> None:
        """Stop all, gently."""
        self._is_stopping.set()
        for part in list(self._parts.values()):
            with suppress(ProcessLookupError):
                os.kill(part.pid, signal.SIGTERM)
        for keeper in self._keepers:
            keeper.join(timeout=30)
            assert not keeper.is_alive(), f"{keeper.name} does not end"

    def pid(self, command: str) -> int:
        """The pid of one of the three parts."""
        return int(wait_until(lambda: self._parts.get(command), command).pid)

    def processors(self, batch_uid: str = "") -> dict[int, str]:
        """The steps of the processors that run, by pid; only those of a batch if one is named."""
        self.trace()
        self._processors = {pid: found for pid, found in self._processors.items() if _is_alive(pid)}
        return {pid: step for pid, (step, uid) in self._processors.items() if batch_uid in uid}

    def trace(self) -> list[dict[str, Any]]:
        """What the processes have written so far; it grows."""
        path = self.folder / "trace"
        if path.exists():
            with path.open("rb") as file:
                file.seek(self._read)
                whole = file.read().rpartition(b"\n")
            self._read += len(whole[0]) + len(whole[1])
            for line in map(json.loads, whole[0].splitlines()):
                self._lines.append(line)
                step = line["effect"].partition(" ")[0]
                if line["moment"] == "start" and step in set(Step):
                    self._processors[line["pid"]] = (step, line["about"][0])
        return self._lines

    def in_cluster(self, work: Callable[[Cluster], Awaitable[_T]]) -> _T:
        """Do something with the resources, as people do with kubectl."""

        async def do() -> _T:
            async with open_cluster(self.environ["NIGHTSHIFT_CLUSTER"]) as cluster:
                return await work(cluster)

        return asyncio.run(do())

    def in_bucket(self, work: Callable[[Bucket], Awaitable[_T]]) -> _T:
        """Do something with the bytes."""

        async def do() -> _T:
            async with open_bucket(self.environ["NIGHTSHIFT_BUCKET"]) as bucket:
                return await work(bucket)

        return asyncio.run(do())

    def path_of(self, key: str) -> Path:
        """Where an object lies."""
        return self.folder / "bucket" / key


def _is_alive(pid: int) -> bool:
    """Tell whether a process runs; one that waits to be buried does not."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] not in "ZX"
    return False


@contextmanager
def running_rig(folder: Path, zygote_path: str, model_url: str, **settings: str) -> Iterator[Rig]:
    """Run an installation in a folder; `settings` are those of the roles, in small letters."""
    for name in ("armed", "fired", "work"):
        (folder / name).mkdir(parents=True)
    (folder / "keys.json").write_text(render_keys({KEY: NAMESPACE}))
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    environ = SHORT_TIMES | {f"NIGHTSHIFT_{name.upper()}": value for name, value in settings.items()}
    environ |= {
        "PATH": os.environ["PATH"],
        "NIGHTSHIFT_CLUSTER": f"sqlite://{folder / 'cluster.db'}",
        "NIGHTSHIFT_BUCKET": f"file://{folder / 'bucket'}",
        "NIGHTSHIFT_API_KEYS_FILE": str(folder / "keys.json"),
        "NIGHTSHIFT_LISTEN_FD": str(listener.fileno()),
        "NIGHTSHIFT_MARKS_LEASE": "nightshift/nightshift-api",
        "NIGHTSHIFT_WORK_DIR": str(folder / "work"),
        "NIGHTSHIFT_INSTALLATION": "crash",
        DIR_VARIABLE: str(folder),
        zygotes.SOCKET_VARIABLE: zygote_path,
    }
    rig = Rig(folder, zygote_path, environ, listener, User(listener.getsockname()[1]))
    rig.in_cluster(lambda cluster: cluster.create(HOSTED_MODEL, _build_model(model_url)))
    rig.start()
    try:
        rig.user.ask("GET", "models")
        yield rig
    finally:
        rig.stop()
        listener.close()


def _build_model(url: str) -> dict[str, Any]:
    service = ModelService(url=url, max_concurrency=CONCURRENCY)
    return HostedModel.build({"name": "stub", "namespace": NAMESPACE}, HostedModelSpec(name=MODEL, service=service))


def resource_of(batch_id: str) -> str:
    """Name the resource of a batch that was made through the API."""
    value = names.parse_id(IdKind.BATCH, batch_id)
    assert value is not None
    return names.resource_name(IdKind.BATCH, value)
