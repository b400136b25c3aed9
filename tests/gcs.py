"""A Google Cloud Storage for tests: fake-gcs-server, in memory, on this machine."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import IO

from tests.ports import free_port


@contextmanager
def running_gcs(program: Path) -> Iterator[str]:
    """Run fake-gcs-server on a free port; gives its URL, as STORAGE_EMULATOR_HOST takes it."""
    port = free_port()
    where = ("-scheme=http", "-host=127.0.0.1", f"-port={port}", "-backend=memory")
    with subprocess.Popen([program, *where], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        assert process.stderr
        try:
            _wait_for_start(process.stderr)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.kill()


def _wait_for_start(log: IO[bytes]) -> None:
    said = []
    for line in log:
        said.append(line)
        if b"server started" in line:
            Thread(target=lambda: [None for _ in log], daemon=True).start()  # a full pipe would stop it
            return
    raise RuntimeError(f"fake-gcs-server did not start: {b''.join(said).decode()}")
