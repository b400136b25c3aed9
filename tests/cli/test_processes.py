"""Child processes: they end with their parent, they end when told, and a lock tells whether one is alive."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from nightshift_cli.local import processes

TIMEOUT_S = 20
WATCHING = """
import os, sys, time
from nightshift_crds.parent import end_with_parent
end_with_parent(os.environ)
print(os.getpid(), flush=True)
time.sleep(60)
"""
PARENT = """
import asyncio, os, sys
from nightshift_cli.local import processes
async def main():
    child = await processes.start([sys.executable, "-c", sys.argv[1]], os.environ)
    await child.wait()
asyncio.run(main())
"""
STUBBORN = """
import signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
open(sys.argv[1], "w").close()
time.sleep(60)
"""


async def start_python(code: str, *arguments: str, fds: tuple[int, ...] = ()) -> processes.Child:
    return await processes.start([sys.executable, "-c", code, *arguments], os.environ, fds)


def open_files() -> set[str]:
    return {file.name for file in Path("/proc/self/fd").iterdir()}


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_child_ends_when_its_parent_is_gone(how: signal.Signals) -> None:
    command = [sys.executable, "-c", PARENT, WATCHING]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        assert int(parent.stdout.readline()) != parent.pid
        parent.send_signal(how)
        assert parent.stdout.read() == ""  # the child holds the pipe as well: its end is the end of the output


async def test_a_child_tells_how_it_ended() -> None:
    child = await start_python("import sys; sys.exit(3)")
    assert child.pid != os.getpid()
    assert await child.wait() == 3


async def test_a_program_without_a_parent_to_watch_is_left_alone() -> None:
    code = "import os; os.environ.pop('NIGHTSHIFT_PARENT_FD');" + WATCHING.replace("60", "0.1")
    child = await start_python(code)
    assert await child.wait() == 0


async def test_an_end_by_signal_is_told_as_a_shell_does() -> None:
    child = await start_python("import time; time.sleep(60)")
    child.kill()
    assert await child.wait() == 128 + signal.SIGKILL


async def test_stopping_asks_first() -> None:
    child = await start_python("import time; time.sleep(60)")
    assert await child.stop(TIMEOUT_S) == 128 + signal.SIGTERM


async def test_stopping_ends_what_does_not_listen(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    child = await start_python(STUBBORN, str(ready))
    while not ready.exists():  # noqa: ASYNC110 - a file tells nothing by itself
        await asyncio.sleep(0.01)
    assert await child.stop(0.2) == 128 + signal.SIGKILL


async def test_what_has_ended_can_still_be_told_to_end() -> None:
    child = await start_python("")
    assert await child.wait() == 0
    child.terminate()
    child.kill()
    assert await child.stop(1) == 0


async def test_nothing_is_left_open_by_children_that_ended_or_never_started() -> None:
    await (await start_python("")).wait()  # the first one opens what the event loop keeps
    before = open_files()
    await (await start_python("")).wait()
    with pytest.raises(FileNotFoundError):
        await processes.start(["no-such-program-of-nightshift"], os.environ)
    assert open_files() == before


async def test_a_child_gets_no_lifeline_but_its_own() -> None:
    watcher = await start_python("import sys; sys.stdin.read(); import time; time.sleep(60)")
    shown = "import os, sys; sys.exit(len([f for f in os.listdir('/proc/self/fd') if int(f) > 2]))"
    other = await start_python(shown)
    assert await other.wait() == 2  # its pipe and the folder that it lists
    await watcher.stop(TIMEOUT_S)


def test_a_program_beside_our_python_comes_before_one_on_the_path(tmp_path: Path) -> None:
    assert Path(processes.find_program("nightshift-api")) == Path(sys.executable).parent / "nightshift-api"
    assert processes.find_program("sh").endswith("/sh")
    assert processes.find_program("no-such-program-of-nightshift") == "no-such-program-of-nightshift"


# --- locks ------------------------------------------------------------------------------------------------------------


def test_a_lock_is_held_once_and_free_again_when_it_is_closed(tmp_path: Path) -> None:
    held = processes.try_lock(tmp_path / "lock")
    assert held is not None
    assert processes.try_lock(tmp_path / "lock") is None
    os.close(held)
    again = processes.try_lock(tmp_path / "lock")
    assert again is not None
    os.close(again)


async def test_a_lock_is_held_by_the_process_that_inherited_it_until_that_ends(tmp_path: Path) -> None:
    lock = processes.try_lock(tmp_path / "lock")
    assert lock is not None
    child = await start_python("import time; time.sleep(60)", fds=(lock,))
    os.close(lock)
    assert processes.try_lock(tmp_path / "lock") is None
    child.kill()
    await child.wait()
    free = processes.try_lock(tmp_path / "lock")
    assert free is not None
    os.close(free)


async def test_a_lock_that_is_not_handed_on_is_not_inherited(tmp_path: Path) -> None:
    lock = processes.try_lock(tmp_path / "lock")
    assert lock is not None
    child = await start_python("import time; time.sleep(60)")
    os.close(lock)
    free = processes.try_lock(tmp_path / "lock")
    assert free is not None
    os.close(free)
    await child.stop(TIMEOUT_S)
