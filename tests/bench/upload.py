"""Rows: an upload to a real API process and a download from it, against what does less.

The API's work is the form, the checksum, every check of every line and an fsync; no reference does any of it.
"""

import http.client
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from nightshift_crds.keys import render_keys
from tests.bench.harness import Contest, Row, Sample, figure, seconds
from tests.bench.processes import OURS, on_core, running, running_nginx
from tests.bench.validation import WORDS, size_of, write_file
from tests.e2e.installation import BIN, KEY
from tests.ports import free_port

_BLOCK_BYTES = 1 << 20
_BYTES = "application/octet-stream"
BOUNDARY = "bench"
HEAD = (
    f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
    f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="in.jsonl"\r\n\r\n'
).encode()
TAIL = f"\r\n--{BOUNDARY}--\r\n".encode()


def send(port: int, method: str, path: str, content_type: str, pieces: list[bytes | Path]) -> bytes:
    """Send a body piece by piece; files go from the disk straight into the socket."""
    sizes = [len(piece) if isinstance(piece, bytes) else piece.stat().st_size for piece in pieces]
    connection = http.client.HTTPConnection("127.0.0.1", port)
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": content_type, "Content-Length": str(sum(sizes))}
    connection.putrequest(method, path)
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
    assert answer.status in {200, 201}, content
    return content


def fetch(port: int, path: str) -> int:
    """Take a body and let it go; gives its length."""
    connection, block, found = http.client.HTTPConnection("127.0.0.1", port), bytearray(_BLOCK_BYTES), 0
    connection.request("GET", path, headers={"Authorization": f"Bearer {KEY}"})
    with connection.getresponse() as answer:
        assert answer.status == 200, answer.read()
        while taken := answer.readinto(block):
            found += taken
    connection.close()
    return found


def copy(source: Path, target: Path) -> None:
    """Copy to a new file: writing over an old one is slower."""
    target.unlink(missing_ok=True)
    subprocess.run(["cp", "--reflink=never", source, target], check=True)


def contests_of(folder: Path) -> Iterator[Contest]:
    """Give the contest, with all servers running."""
    path, ports = write_file(folder, WORDS["ASCII"]), [free_port() for _ in range(3)]
    keys = folder / "api-keys.json"
    keys.write_text(render_keys({KEY: "default"}))
    api = {
        "NIGHTSHIFT_CLUSTER": f"sqlite://{folder / 'cluster.db'}",
        "NIGHTSHIFT_BUCKET": f"file://{folder / 'bucket'}",
        "NIGHTSHIFT_API_KEYS_FILE": str(keys),
        "NIGHTSHIFT_HOST": "127.0.0.1",
        "NIGHTSHIFT_PORT": str(ports[1]),
    }
    raw = on_core(OURS, sys.executable, "-m", "tests.bench.raw_server", str(ports[0]), folder / "raw")
    with (
        running(raw, ports[0], {}),
        running(on_core(OURS, BIN / "nightshift-api"), ports[1], api),
        running_nginx(folder, ports[2]),
    ):
        yield Contest(_sides_of(path, ports), _rows_of(size_of(path)))


def _sides_of(path: Path, ports: list[int]) -> dict[str, Callable[[], Sample]]:
    raw, api, nginx = ports
    form: list[bytes | Path] = [HEAD, path, TAIL]
    kind = f"multipart/form-data; boundary={BOUNDARY}"
    file_id = json.loads(send(api, "POST", "/v1/files", kind, form))["id"]
    return {
        "cp": seconds(lambda: copy(path, path.with_name("copied"))),
        "raw": seconds(lambda: send(raw, "POST", "/", _BYTES, [path])),
        "put": seconds(lambda: _put_anew(nginx, path)),
        "upload": seconds(lambda: send(api, "POST", "/v1/files", kind, form)),
        "sendfile": seconds(lambda: fetch(nginx, f"/files/{path.name}")),
        "download": seconds(lambda: fetch(api, f"/v1/files/{file_id}/content")),
    }


def _put_anew(port: int, path: Path) -> None:
    path.with_name("put").unlink(missing_ok=True)
    send(port, "PUT", "/files/put", _BYTES, [path])


def _rows_of(size: str) -> tuple[Row, ...]:
    upload, limits = figure("upload"), _with_checks
    return (
        Row(f"upload with all checks, {size}, against the raw body", figure("raw"), upload, *limits(0.65, 0.85)),
        Row("the same against cp", figure("cp"), upload, *limits(0.20, 0.28)),
        Row("the same against a PUT to nginx", figure("put"), upload, *limits(0.30, 0.38)),
        Row(f"download, {size}, against nginx with sendfile", figure("sendfile"), figure("download"), 1 / 0.7, 1.0),
    )


def _with_checks(floor: float, aim: float) -> tuple[float, float]:
    """Turn parts of a speed without checks into multiples of a time with them: they leave 30 %, at best 42 % of it."""
    return 1 / (floor * 0.30), 1 / (aim * 0.42)
