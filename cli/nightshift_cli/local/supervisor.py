"""The parent of `nightshift local`: starts the three programs, restarts what dies, stops all of them.

It holds what must outlive any of them: the lock of the data directory, and the listening socket, so that while the
API restarts connections wait instead of being refused.
"""

import asyncio
import errno
import signal
import socket
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPConnection

import structlog

from nightshift_cli.local import processes
from nightshift_cli.local.setup import SYSTEM_NAMESPACE, DataDir, ServedModel, forget_leases, write_catalogue
from nightshift_crds.cluster import open_cluster
from nightshift_crds.errors import Rejected
from nightshift_crds.parent import FD_VARIABLE

_log = structlog.get_logger()
_HOST = "127.0.0.1"
_TAKE_OVER_S = 15.0
_STOP_GRACE_S = 12.0
_RESTART_S = 0.1
_RESTART_CAP_S = 5.0
_STABLE_S = 10.0
_READY_POLL_S = 0.1
_WRONG_SETTINGS = 2
_OPERATOR_LEASE = f"{SYSTEM_NAMESPACE}/nightshift-operator"
_RUNNER_LEASE = f"{SYSTEM_NAMESPACE}/nightshift-runner"


@dataclass(frozen=True)
class Installation:
    """What `nightshift local` was told."""

    data_dir: DataDir
    port: int
    keys: Mapping[str, str]
    models: tuple[ServedModel, ...]
    metrics_port: int = 0


async def supervise(installation: Installation, environ: Mapping[str, str]) -> None:
    """Run everything until SIGTERM or SIGINT.

    Raises:
        Rejected: the port cannot be used, or a part refuses its settings.
    """
    stop = asyncio.Event()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signal_number, stop.set)
    with _listening(installation.port) as listener:
        await _prepare(installation)
        port = listener.getsockname()[1]
        parts = [
            asyncio.create_task(_keep(command, environ, fds, stop), name=command[0])
            for command, environ, fds in _programs(installation, environ, listener)
        ]
        announcing = asyncio.create_task(_announce(installation, port), name="announce")
        await stop.wait()
        announcing.cancel()
        await asyncio.wait(parts)
        for part in parts:
            part.result()


def lock_data_dir(data_dir: DataDir) -> int:
    """Take a data directory for this process; a dying predecessor is waited for.

    Raises:
        Rejected: another installation runs on it, or it cannot be written.
    """
    give_up_at = time.monotonic() + 1.0
    try:
        data_dir.create()
        while (lock := processes.try_lock(data_dir.lock)) is None:
            if time.monotonic() > give_up_at:
                raise Rejected(
                    f"Another 'nightshift local' runs on {data_dir.root}. Stop it, or name another --data-dir."
                )
            time.sleep(0.05)
    except OSError as error:
        raise Rejected(f"{data_dir.root} cannot be used: {error.strerror}. Name another --data-dir.") from None
    return lock


def _listening(port: int) -> socket.socket:
    """Listen, and wait for the children of a predecessor that was killed to let go of the port."""
    give_up_at = time.monotonic() + _TAKE_OVER_S
    while True:
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((_HOST, port))
            listener.listen(1024)
        except OSError as error:
            listener.close()
            if error.errno != errno.EADDRINUSE or time.monotonic() > give_up_at:
                raise Rejected(f"Port {port} cannot be used: {error.strerror}. Name another --port.") from None
            time.sleep(0.1)
        else:
            return listener


async def _prepare(installation: Installation) -> None:
    async with open_cluster(installation.data_dir.cluster_url) as cluster:
        await forget_leases(cluster)
        namespaces = set(installation.keys.values())
        await write_catalogue(cluster, namespaces, installation.models)


def _programs(
    installation: Installation, environ: Mapping[str, str], listener: socket.socket
) -> list[tuple[list[str], dict[str, str], tuple[int, ...]]]:
    """List the programs with their environments and the descriptors that they inherit."""
    data_dir = installation.data_dir
    common = {key: value for key, value in environ.items() if key != FD_VARIABLE}
    common |= {
        "NIGHTSHIFT_CLUSTER": data_dir.cluster_url,
        "NIGHTSHIFT_BUCKET": data_dir.bucket_url,
        "NIGHTSHIFT_INSTALLATION": "nightshift-local",
        "NIGHTSHIFT_METRICS_HOST": _HOST,
    }
    api_port, operator_port, runner_port = _metrics_ports(installation.metrics_port)
    api = common | {
        "NIGHTSHIFT_API_KEYS_FILE": str(data_dir.keys_file),
        "NIGHTSHIFT_LISTEN_FD": str(listener.fileno()),
        "NIGHTSHIFT_READY_LEASES": f"{_OPERATOR_LEASE},{_RUNNER_LEASE}",
        "NIGHTSHIFT_MARKS_LEASE": f"{SYSTEM_NAMESPACE}/nightshift-api",
        "NIGHTSHIFT_METRICS_PORT": api_port,
    }
    operator = {"NIGHTSHIFT_PROGRESS_INTERVAL_S": "2"} | common
    operator |= {"NIGHTSHIFT_LEASE": _OPERATOR_LEASE, "NIGHTSHIFT_METRICS_PORT": operator_port}
    runner = common | {"NIGHTSHIFT_WORK_DIR": str(data_dir.work_dir), "NIGHTSHIFT_LEASE": _RUNNER_LEASE}
    runner |= {"NIGHTSHIFT_METRICS_PORT": runner_port}
    return [
        (["nightshift-api"], api, (listener.fileno(),)),
        (["nightshift-operator"], operator, ()),
        ([sys.executable, "-m", "nightshift_cli.local.runner"], runner, ()),
    ]


def _metrics_ports(first: int) -> tuple[str, ...]:
    """Give API, operator and the processors ports of their own, or none of them. Pure."""
    return tuple(str(first and first + n) for n in range(3))


async def _keep(command: list[str], environ: Mapping[str, str], fds: tuple[int, ...], stop: asyncio.Event) -> None:
    """Start a program, and start it again whenever it ends, until all is to stop.

    Raises:
        Rejected: it refuses its settings, as it has told on standard error; all is then to stop.
    """
    delay_s = _RESTART_S
    try:
        while not stop.is_set():
            started = time.monotonic()
            code = await _run_until(command, environ, fds, stop)
            if stop.is_set():
                return
            if code == _WRONG_SETTINGS:
                raise Rejected("A part refuses its settings, as it says above.")
            _log.error("part.ended", part=command[-1], exit_code=code)
            delay_s = _RESTART_S if time.monotonic() - started > _STABLE_S else min(delay_s * 2, _RESTART_CAP_S)
            with suppress(TimeoutError):
                async with asyncio.timeout(delay_s):
                    await stop.wait()
    finally:
        stop.set()  # without one part the others are of no use


async def _run_until(command: list[str], environ: Mapping[str, str], fds: tuple[int, ...], stop: asyncio.Event) -> int:
    """Run a program until it ends or all is to stop; gives its exit code."""
    child = await processes.start(command, environ, fds)
    ended = asyncio.create_task(child.wait())
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({ended, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not ended.done():
        await child.stop(_STOP_GRACE_S)
    return await ended


async def _announce(installation: Installation, port: int) -> None:
    """Tell people where it is, once it answers."""
    while not await asyncio.to_thread(_is_ready, port):  # noqa: ASYNC110 - HTTP tells nothing by itself
        await asyncio.sleep(_READY_POLL_S)
    print("\n".join(render_welcome(installation, port)), flush=True)


def render_welcome(installation: Installation, port: int) -> list[str]:
    """Say how to use it; a key is shown only if it was made here, and is in force."""
    url = f"http://{_HOST}:{port}/openai/v1"
    own_key = installation.data_dir.own_key
    made = own_key.read_text().strip() if own_key.exists() else ""
    exports = [f"  export OPENAI_BASE_URL={url}", f"  export OPENAI_API_KEY={made}"]
    return [
        f"Nightshift is ready at {url} (data in {installation.data_dir.root})",
        *(exports if made in installation.keys else []),
        *(f"  model {model.name} at {model.url}" for model in installation.models),
        f"  console at http://{_HOST}:{port}/console",
    ]


def _is_ready(port: int) -> bool:
    connection = HTTPConnection(_HOST, port, timeout=5)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()
