"""A shell that runs the commands of a page, one fence after the other, as a reader would type them."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.docs.pages import ROOT, Fence
from tests.e2e.installation import wait_until

_DONE = "-- the fence is done --"


@dataclass(frozen=True)
class Shell:
    """One session of bash: variables and folder live on from fence to fence, and the first failure ends it."""

    process: "subprocess.Popen[str]"
    folder: Path

    def run(self, fence: Fence) -> str:
        """Run a fence; gives what it printed. A program that stays is left in the background once it says its words."""
        return self._leave(fence, fence.words) if fence.words else self._run(fence)

    def _run(self, fence: Fence) -> str:
        assert self.process.stdout
        self._type(f"{_typed(fence)}\nprintf '\\n%s\\n' '{_DONE}'\n")
        printed: list[str] = []
        for line in self.process.stdout:
            if line.rstrip() == _DONE:
                return "".join(printed)
            printed.append(line)
        raise AssertionError(f"{fence} failed:\n{''.join(printed)}")

    def _leave(self, fence: Fence, words: str) -> str:
        log = self.folder / f"line-{fence.line}.log"
        log.touch()
        self._type(f"{{ ( {fence.text.strip()}\n) || kill $$; }} >{log} 2>&1 &\n")
        wait_until(lambda: words in log.read_text() or self.process.poll() is not None, f"{fence} to say {words!r}")
        assert words in log.read_text(), log.read_text()
        return log.read_text()

    def _type(self, text: str) -> None:
        assert self.process.stdin
        self.process.stdin.write(text)
        self.process.stdin.flush()


def _typed(fence: Fence) -> str:
    return f"python - <<'END OF PYTHON'\n{fence.text}END OF PYTHON\n" if fence.language == "python" else fence.text


@contextlib.contextmanager
def shell(folder: Path, environ: Mapping[str, str]) -> Iterator[Shell]:
    """Begin a session in a folder that looks like the checkout; all that it has started ends with it."""
    for path in ROOT.iterdir():
        if path.name not in {".git", "build"}:
            (folder / path.name).symlink_to(path)
    with subprocess.Popen(
        ["bash", "-euo", "pipefail"],
        cwd=folder,
        env=os.environ | {"HOME": str(folder), **environ},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield Shell(process, folder)
        finally:
            wait_until(lambda: _is_over(process), "what the page has started to end")


def _is_over(process: "subprocess.Popen[str]") -> bool:
    """Ask all processes of a session to end; True once there is none."""
    process.poll()  # or its own would stay as a zombie
    try:
        os.killpg(process.pid, signal.SIGTERM)
    except ProcessLookupError:
        return True
    return False
