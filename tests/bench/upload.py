"""Row: an upload through a real API process, against the same server writing the raw body to a file.

The API's work is the form, the checksum, every check of every line and an fsync; the reference does none of it.
"""

import http.client
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nightshift_crds.keys import render_keys
from tests.bench.harness import Row, seconds
from tests.bench.validation import WORDS, size_of, write_file
from tests.e2e.installation import BIN, KEY, free_port, wait_until

BOUNDARY = "bench"
HEAD = (
    f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
    f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="in.jsonl"\r\n\r\n'
).encode()
TAIL = f"\r\n--{BOUNDARY}--\r\n".encode()


@contextmanager
def running(command: list[str], port: int, environ: dict[str, str]) -> Iterator[None]:
    """Run a server until it is no longer needed."""
    process = subprocess.Popen(command, env=os.environ | environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: _listens(port), "a server to listen")
        yield
    finally:
        process.terminate()
        process.wait()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def send(port: int, path: str, content_type: str, pieces: list[bytes | Path]) -> bytes:
    """Send a body piece by piece; files go from the disk straight into the socket."""
    sizes = [len(piece) if isinstance(piece, bytes) else piece.stat().st_size for piece in pieces]
    connection = http.client.HTTPConnection("127.0.0.1", port)
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": content_type, "Content-Length": str(sum(sizes))}
    connection.putrequest("POST", path)
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders()
    for piece in pieces:
        if isinstance(piece, bytes):
            connection.send(piece)
        else:
            with piece.open("rb") as file:
                connection.sock.sendfile(file)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    assert answer.status == 200, content
    return content


def rows_of(folder: Path) -> Iterator[Row]:
    """Give the row, with both servers running."""
    path, ports = write_file(folder, WORDS["ASCII"]), (free_port(), free_port())
    keys = folder / "api-keys.json"
    keys.write_text(render_keys({KEY: "default"}))
    api = {
        "NIGHTSHIFT_CLUSTER": f"sqlite://{folder / 'cluster.db'}",
        "NIGHTSHIFT_BUCKET": f"file://{folder / 'bucket'}",
        "NIGHTSHIFT_API_KEYS_FILE": str(keys),
        "NIGHTSHIFT_HOST": "127.0.0.1",
        "NIGHTSHIFT_PORT": str(ports[1]),
    }
    form: list[bytes | Path] = [HEAD, path, TAIL]
    raw = [sys.executable, "-m", "tests.bench.raw_server", str(ports[0]), str(folder / "raw")]
    with running(raw, ports[0], {}), running([str(BIN / "nightshift-api")], ports[1], api):
        yield Row(
            f"upload with all checks, {size_of(path)}, against the raw body",
            seconds(lambda: send(ports[0], "/", "application/octet-stream", [path])),
            seconds(lambda: send(ports[1], "/v1/files", f"multipart/form-data; boundary={BOUNDARY}", form)),
            floor=1 / (0.65 * 0.30),
            aim=1 / (0.85 * 0.42),
        )
