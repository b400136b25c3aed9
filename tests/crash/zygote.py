"""Start the roles as processes within milliseconds: all is imported once, and each role is a fork that runs its `main`.

A thousand kills need thousands of starts, and a start costs a second of imports otherwise. What is started is a process
of its own, in a session of its own, with its own arguments, environment and descriptors; SIGKILL is real. Only its
interpreter was warm. One connection is one process: a line with its pid comes back at once, its exit code at its end.
"""

import asyncio
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, cast

from nightshift_crds import bucket, cluster
from nightshift_crds.parent import FD_VARIABLE
from tests.crash.failpoints import (
    DIR_VARIABLE,
    Failpoints,
    Watch,
    WatchedBucket,
    WatchedClient,
    WatchedCluster,
    WatchedPoster,
    opening_watched,
)

SOCKET_VARIABLE = "CRASH_ZYGOTE"
RUNNER = "runner"
_FIRST_FREE_FD = 200
_ROOT = Path(__file__).resolve().parents[2]


# --- asking for a process ---------------------------------------------------------------------------------------------


@dataclass
class Started:
    """A process that a zygote has forked, as whoever asked for it sees it."""

    pid: int
    connection: socket.socket
    lifeline: int

    def wait(self) -> int:
        """Wait for its end; gives the exit code as a shell does."""
        code = int(self.connection.recv(16) or b"137")  # the zygote was killed, and it with it
        self.connection.close()
        os.close(self.lifeline)
        return code


def ask(path: str, command: Sequence[str], environ: Mapping[str, str], fds: Sequence[int]) -> tuple[int, socket.socket]:
    """Have a process started; descriptors keep their numbers."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.connect(path)
    request = {"command": list(command), "environ": dict(environ), "fds": list(fds)}
    socket.send_fds(connection, [json.dumps(request).encode() + b"\n"], fds)
    return int(connection.recv(16)), connection


def start(path: str, command: Sequence[str], environ: Mapping[str, str], fds: Sequence[int] = ()) -> Started:
    """Start a process that ends when we do."""
    child_end, lifeline = os.pipe()
    try:
        pid, connection = ask(path, command, {**environ, FD_VARIABLE: str(child_end)}, (child_end, *fds))
    finally:
        os.close(child_end)
    return Started(pid, connection, lifeline)


@contextmanager
def running_zygote(folder: Path) -> Iterator[str]:
    """Start a zygote; gives the path of its socket."""
    path = str(folder / "zygote")
    command = [sys.executable, "-m", "tests.crash.zygote", path]
    with subprocess.Popen(command, cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            assert process.stdout.readline() == "ready\n"
            yield path
        finally:
            process.kill()


class _Process:
    """What the runner's `Child` needs of an asyncio process."""

    def __init__(self, pid: int, connection: socket.socket) -> None:
        self.pid = pid
        self._connection = connection
        self._connection.setblocking(False)
        self._end = asyncio.ensure_future(asyncio.get_running_loop().sock_recv(connection, 16))

    def send_signal(self, number: int) -> None:
        if self._end.done():
            raise ProcessLookupError
        os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    async def wait(self) -> int:
        code = int(await asyncio.shield(self._end))
        self._connection.close()
        return code


# --- being one --------------------------------------------------------------------------------------------------------


def _watch() -> Watch:
    assert _failpoints is not None
    return _failpoints


_failpoints: Failpoints | None = None


def _load_roles() -> dict[str, Callable[[], None]]:
    """Import the roles, with the ports watched that they open."""
    bucket.open_bucket = opening_watched(bucket.open_bucket, WatchedBucket, _watch)
    cluster.open_cluster = opening_watched(cluster.open_cluster, WatchedCluster, _watch)
    import nightshift_api.main  # noqa: PLC0415 - once the ports are watched
    import nightshift_cli.local.processes  # noqa: PLC0415
    import nightshift_cli.local.runner  # noqa: PLC0415
    import nightshift_operator.main  # noqa: PLC0415
    import nightshift_processor.main  # noqa: PLC0415
    import nightshift_processor.run  # noqa: PLC0415
    from nightshift_crds.cluster import local  # noqa: F401, PLC0415 - imported late by the roles

    run: Any = nightshift_processor.run
    run.open_client = opening_watched(run.open_client, WatchedClient, _watch)
    operator: Any = nightshift_operator.main
    operator.open_poster = opening_watched(operator.open_poster, WatchedPoster, _watch)
    processes: Any = nightshift_cli.local.processes
    processes.start = _start_pod
    return {
        "nightshift-api": nightshift_api.main.main,
        "nightshift-operator": nightshift_operator.main.main,
        "nightshift-processor": nightshift_processor.main.main,
        RUNNER: nightshift_cli.local.runner.main,
    }


async def _start_pod(command: Sequence[str], environ: Mapping[str, str], pass_fds: Sequence[int] = ()) -> Any:
    """Start a processor for the runner; see `processes.start`."""
    from nightshift_cli.local.processes import Child  # noqa: PLC0415 - see `_load_roles`

    child_end, lifeline = os.pipe()
    try:
        path = os.environ[SOCKET_VARIABLE]
        pid, connection = ask(path, command, {**environ, FD_VARIABLE: str(child_end)}, (child_end, *pass_fds))
    finally:
        os.close(child_end)
    return Child(cast("asyncio.subprocess.Process", _Process(pid, connection)), lifeline)


class Zygote:
    """Forks what it is asked for, and tells of its end."""

    def __init__(self, path: str, roles: Mapping[str, Callable[[], None]]) -> None:
        self._roles = roles
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(path)
        self._listener.listen(128)
        self._children: dict[int, tuple[int, socket.socket]] = {}
        self._selector = selectors.PollSelector()  # has no descriptor that a fork would share
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(0, selectors.EVENT_READ)

    def serve(self) -> None:
        """Work until whoever started us is gone."""
        while True:
            for key, _ in self._selector.select():
                if key.fd == 0:
                    return
                if key.fd in self._children:
                    self._bury(key.fd)
                else:
                    self._fork()

    def _fork(self) -> None:
        connection, _ = self._listener.accept()
        message, fds, _, _ = socket.recv_fds(connection, 1 << 20, 16)
        while not message.endswith(b"\n"):
            more = connection.recv(1 << 20)
            if not more:  # killed while it asked
                _close(connection, fds)
                return
            message += more
        request = json.loads(message)
        pid = os.fork()
        if pid == 0:
            self._become(request, fds, connection)
        for descriptor in fds:
            os.close(descriptor)
        pidfd = os.pidfd_open(pid)
        self._children[pidfd] = (pid, connection)
        self._selector.register(pidfd, selectors.EVENT_READ)
        with suppress(OSError):  # whoever asked was killed: the child sees it by its own lifeline
            connection.sendall(f"{pid}\n".encode())

    def _bury(self, pidfd: int) -> None:
        self._selector.unregister(pidfd)
        os.close(pidfd)
        pid, connection = self._children.pop(pidfd)
        _, status = os.waitpid(pid, 0)
        code = os.waitstatus_to_exitcode(status)
        with suppress(OSError):  # who asked for it is gone
            connection.sendall(str(code if code >= 0 else 128 - code).encode())
        connection.close()

    def _become(self, request: dict[str, Any], fds: list[int], connection: socket.socket) -> NoReturn:
        code = 1
        try:
            os.setsid()
            for held in (self._listener, connection, *(other for _, other in self._children.values())):
                held.detach()
            _take_descriptors(dict(zip(request["fds"], fds, strict=True)), Path(request["environ"][DIR_VARIABLE]))
            code = _play(self._roles, request["command"], request["environ"])
        except BaseException:  # noqa: BLE001 - nothing may return into the zygote
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)


def _close(connection: socket.socket, fds: list[int]) -> None:
    connection.close()
    for descriptor in fds:
        os.close(descriptor)


def _take_descriptors(wanted: Mapping[int, int], folder: Path) -> None:
    """Bring descriptors to their numbers and close all others."""
    parked = {target: _FIRST_FREE_FD + n for n, target in enumerate(wanted)}
    for target, spot in parked.items():
        os.dup2(wanted[target], spot)
    null, log = os.open(os.devnull, os.O_RDONLY), os.open(folder / "log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    for target, source in ((0, null), (1, log), (2, log)):
        os.dup2(source, target)
    os.closerange(3, _FIRST_FREE_FD)
    for target, spot in parked.items():
        os.dup2(spot, target)
    for spot in set(parked.values()) - set(wanted):
        os.close(spot)
    os.closerange(_FIRST_FREE_FD + len(parked), 4096)


def _play(roles: Mapping[str, Callable[[], None]], command: list[str], environ: Mapping[str, str]) -> int:
    """Be a role to its end; gives its exit code."""
    global _failpoints  # noqa: PLW0603 - one process, one role
    os.environ.clear()
    os.environ.update(environ)
    sys.argv = command
    name = " ".join(command).removeprefix("nightshift-").replace("processor ", "")
    _failpoints = Failpoints(Path(environ[DIR_VARIABLE]), name)
    _failpoints.note(f"{name} start", "start", [environ.get("NIGHTSHIFT_BATCH_UID", "")])
    code: int | str | None = 0
    try:
        roles[command[0]]()
    except SystemExit as end:
        code = end.code
    _failpoints.note(f"{name} exit", "exit", [str(code)])
    return code if isinstance(code, int) else int(code is not None)


if __name__ == "__main__":
    zygote = Zygote(sys.argv[1], _load_roles())
    print("ready", flush=True)
    zygote.serve()
