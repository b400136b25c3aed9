"""Other programs, each held to one core: ours on the first, whoever it talks to on the second."""

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.bench.harness import Sample
from tests.e2e.installation import ROOT, wait_until

OURS, THEIRS = 0, 1
ANSWER = (
    b'{"id":"chatcmpl-0123456789abcdef0123456789abcdef","object":"chat.completion","created":1711652795,"model":"m",'
    b'"choices":[{"index":0,"message":{"role":"assistant","content":"The night shift sorts what the day has left '
    b'behind, line by line, and in the morning all is in its place.","refusal":null,"tool_calls":[]},"logprobs":null,'
    b'"finish_reason":"stop","stop_reason":null}],"usage":{"prompt_tokens":220,"total_tokens":246,'
    b'"completion_tokens":26,"prompt_tokens_details":null},"prompt_logprobs":null}'
)
"""As vLLM answers."""
_NGINX = """\
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/nginx.log;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 1000000000; sendfile on; client_max_body_size 0;
  client_body_temp_path {folder}/nginx-body; proxy_temp_path {folder}/nginx-proxy;
  fastcgi_temp_path {folder}/nginx-fastcgi; uwsgi_temp_path {folder}/nginx-uwsgi; scgi_temp_path {folder}/nginx-scgi;
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location /v1/ {{ default_type application/json; return 200 '{answer}'; }}
    location /files/ {{ alias {folder}/; dav_methods PUT; create_full_put_path on; }}
  }}
}}
"""
_WRK = 'wrk.method = "POST"\nwrk.headers["Content-Type"] = "application/json"\nwrk.body = [==[{body}]==]\n'
_WRK_RATE = re.compile(r"Requests/sec: +([\d.]+)")


def on_core(core: int, *command: str | Path) -> list[str]:
    """Write a command that runs on one core."""
    return ["taskset", "-c", str(core), *map(str, command)]


@contextmanager
def running(command: Sequence[str], port: int, environ: Mapping[str, str]) -> Iterator[None]:
    """Run a server until it is no longer needed."""
    process = subprocess.Popen(
        command, cwd=ROOT, env=os.environ | environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        wait_until(lambda: _listens(port), "a server to listen")
        yield
    finally:
        process.terminate()
        process.wait()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def running_nginx(folder: Path, port: int) -> Iterator[str]:
    """Run one nginx worker that answers every POST at once, takes files and gives them; gives its URL."""
    config = folder / "nginx.conf"
    user = "user root;\n" if os.geteuid() == 0 else ""  # else its worker is somebody who may not write here
    config.write_text(user + _NGINX.format(folder=folder, port=port, answer=ANSWER.decode()))
    with running(on_core(THEIRS, "nginx", "-p", folder, "-c", config), port, {}):
        yield f"http://127.0.0.1:{port}"


def measured(command: Sequence[str], environ: Mapping[str, str]) -> Sample:
    """Run a program to its end; gives seconds on the clock and of CPU, and its peak memory."""
    launched = [sys.executable, "-m", "tests.bench.launch", *command]
    found = subprocess.run(launched, cwd=ROOT, env=os.environ | environ, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    sample: Sample = json.loads(found.stdout.splitlines()[-1])
    return sample


def run_wrk(folder: Path, url: str, connections: int, body: bytes, duration_s: int) -> Sample:
    """Have wrk send one body again and again from one thread; gives requests a second, and CPU of one."""
    script = folder / "wrk.lua"
    script.write_text(_WRK.format(body=body.decode()))
    options = ["-t1", f"-c{connections}", f"-d{duration_s}s", "-s", str(script)]
    launched = [sys.executable, "-m", "tests.bench.launch", *on_core(OURS, "wrk", *options, url)]
    found = subprocess.run(launched, cwd=ROOT, capture_output=True, text=True, check=True)
    rate = _WRK_RATE.search(found.stderr)
    assert rate, found.stderr
    assert "Non-2xx" not in found.stderr, found.stderr
    took = json.loads(found.stdout)
    return {"rate": float(rate[1]), "cpu_us": took["cpu_s"] / (float(rate[1]) * duration_s) * 1e6}
