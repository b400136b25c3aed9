"""Start and stop child processes that cannot outlive their parent.

Each child is in a session of its own, so that Ctrl-C reaches the parent alone, and watches a pipe that the parent
holds (`nightshift_crds.parent`): whoever kills the parent, by whatever signal, ends the children within seconds.
"""

import asyncio
import fcntl
import os
import shutil
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from nightshift_crds.parent import FD_VARIABLE


class Child:
    """A process and the end of the pipe that keeps it alive."""

    def __init__(self, process: asyncio.subprocess.Process, lifeline: int) -> None:
        self._process = process
        self._lifeline = lifeline

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def terminate(self) -> None:
        """Ask it to end."""
        with suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it."""
        with suppress(ProcessLookupError):
            self._process.kill()

    async def wait(self) -> int:
        """Wait for its end; gives the exit code as a shell does, 128 and more for a signal."""
        code = await self._process.wait()
        if self._lifeline >= 0:
            os.close(self._lifeline)
            self._lifeline = -1
        return code if code >= 0 else 128 - code

    async def stop(self, grace_s: float) -> int:
        """Ask it to end, and end it when it takes too long."""
        self.terminate()
        try:
            async with asyncio.timeout(grace_s):
                return await self.wait()
        except TimeoutError:
            self.kill()
            return await self.wait()


async def start(command: Sequence[str], environ: Mapping[str, str], pass_fds: Sequence[int] = ()) -> Child:
    """Start a program of this installation, or one that the PATH names."""
    child_end, lifeline = os.pipe()
    try:
        process = await asyncio.create_subprocess_exec(
            find_program(command[0]),
            *command[1:],
            env={**environ, FD_VARIABLE: str(child_end)},
            pass_fds=(child_end, *pass_fds),
            start_new_session=True,
            stdin=asyncio.subprocess.DEVNULL,
        )
    except BaseException:
        os.close(lifeline)
        raise
    finally:
        os.close(child_end)
    return Child(process, lifeline)


def find_program(name: str) -> str:
    """Find a command beside the Python that runs, then on the PATH."""
    beside = Path(sys.executable).parent / name
    return str(beside) if beside.exists() else shutil.which(name) or name


def try_lock(path: Path) -> int | None:
    """Lock a file; gives its descriptor, or None while a process that inherited an earlier lock is alive."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor
