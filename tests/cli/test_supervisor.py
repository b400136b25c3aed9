"""The parent of `nightshift local`: what it takes for itself, what it prints, how it ends when something is wrong."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from nightshift_cli.local.setup import DataDir, ServedModel
from nightshift_cli.local.supervisor import Installation, _programs, lock_data_dir, render_welcome
from nightshift_crds.errors import Rejected

NIGHTSHIFT = Path(sys.executable).parent / "nightshift"
URL = "http://127.0.0.1:9"


def run_local(
    data_dir: Path, port: int = 0, environ: Mapping[str, str] | None = None
) -> "subprocess.CompletedProcess[str]":
    """Run an installation that is to end by itself."""
    command = [str(NIGHTSHIFT), "local", "--port", str(port), "--data-dir", str(data_dir), "--model", f"m={URL}"]
    told = {**os.environ, **(environ or {})}
    return subprocess.run(command, env=told, capture_output=True, text=True, timeout=30, check=False)


def told_of(ran: "subprocess.CompletedProcess[str]") -> str:
    """What a person sees whose installation did not start."""
    assert ran.returncode == 2, ran.stderr
    assert "Traceback" not in ran.stderr
    assert "is ready" not in ran.stdout
    return ran.stderr


# --- what is wrong ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("NIGHTSHIFT_MAX_BODY_BYTES", "many"),  # the API alone reads it
        ("NIGHTSHIFT_SWEEP_MAX_SHARE", "7"),  # the operator
        ("NIGHTSHIFT_MAX_LINES", "many"),  # both
    ],
)
def test_a_setting_that_a_part_refuses_ends_all_of_them_and_is_named(tmp_path: Path, variable: str, value: str) -> None:
    assert variable in told_of(run_local(tmp_path / "data", environ={variable: value}))


def test_a_data_directory_that_is_a_file_is_told_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("not yours")
    assert f"{tmp_path / 'data'} cannot be used" in told_of(run_local(tmp_path / "data"))
    assert (tmp_path / "data").read_text() == "not yours"


def test_a_cluster_file_that_is_none_is_told_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "cluster.db").write_text("this is no database " * 100)
    assert "file is not a database" in told_of(run_local(tmp_path))


@pytest.mark.parametrize("port", [-1, 65_536])
def test_a_port_out_of_range_is_told_in_a_sentence(tmp_path: Path, port: int) -> None:
    assert "0<=x<=65535" in told_of(run_local(tmp_path / "data", port=port))


def told_as_nobody(code: str) -> str:
    """Run code as somebody without rights; gives the sentence of the refusal that it ends with."""
    drop = "import os\nif os.geteuid() == 0: os.setuid(65534)"
    imports = (
        "from pathlib import Path\nfrom nightshift_cli.local import supervisor\n"
        "from nightshift_cli.local.setup import DataDir\nfrom nightshift_crds.errors import Rejected"
    )
    lines = ["try:", f"    {code}", "except Rejected as refusal:", "    print(refusal.message)"]
    command = [sys.executable, "-c", "\n".join([imports, drop, *lines])]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout


def test_a_data_directory_that_cannot_be_written_is_told_in_a_sentence(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    told = told_as_nobody(f"supervisor.lock_data_dir(DataDir(Path({str(tmp_path)!r}) / 'data'))")
    assert f"{tmp_path / 'data'} cannot be used: Permission denied" in told


def test_a_port_that_only_root_may_use_is_told_in_a_sentence_and_at_once() -> None:
    since = time.monotonic()
    assert "Port 80 cannot be used: Permission denied" in told_as_nobody("supervisor._listening(80)")
    assert time.monotonic() - since < 10


# --- the directory ----------------------------------------------------------------------------------------------------


def test_a_directory_is_locked_for_one_installation(tmp_path: Path) -> None:
    lock = lock_data_dir(DataDir(tmp_path))
    with pytest.raises(Rejected, match="Another 'nightshift local' runs on"):
        lock_data_dir(DataDir(tmp_path))
    os.close(lock)
    os.close(lock_data_dir(DataDir(tmp_path)))


def test_a_predecessor_that_is_about_to_end_is_waited_for(tmp_path: Path) -> None:
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom nightshift_cli.local import supervisor\n"
        "from nightshift_cli.local.setup import DataDir\n"
        "supervisor.lock_data_dir(DataDir(Path(sys.argv[1])))\nprint(flush=True)\ntime.sleep(0.3)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE) as predecessor:
        assert predecessor.stdout is not None
        predecessor.stdout.readline()
        os.close(lock_data_dir(DataDir(tmp_path)))


# --- what people are told ---------------------------------------------------------------------------------------------


def an_installation(root: Path, **keys: str) -> Installation:
    return Installation(DataDir(root), 8080, keys, (ServedModel("m:1", URL, 8),))


def test_people_are_told_where_it_is_and_what_it_serves(tmp_path: Path) -> None:
    told = render_welcome(an_installation(tmp_path, key="default"), 8080)
    assert told == [
        f"Nightshift is ready at http://127.0.0.1:8080/openai/v1 (data in {tmp_path})",
        f"  model m:1 at {URL}",
        "  console at http://127.0.0.1:8080/console",
    ]


def test_a_key_that_was_made_is_shown_while_it_is_in_force(tmp_path: Path) -> None:
    (tmp_path / "api-key").write_text("made")
    shown = ["  export OPENAI_BASE_URL=http://127.0.0.1:1/openai/v1", "  export OPENAI_API_KEY=made"]
    assert render_welcome(an_installation(tmp_path, made="default"), 1)[1:3] == shown
    assert not any("made" in line for line in render_welcome(an_installation(tmp_path, given="default"), 1)[1:])


# --- ports ------------------------------------------------------------------------------------------------------------


def test_each_part_has_a_port_of_its_own_for_metrics_or_none_has(tmp_path: Path) -> None:
    with socket.socket() as listener:
        for first, expected in ((9_700, ["9700", "9701", "9702"]), (0, ["0", "0", "0"])):
            installation = replace(an_installation(tmp_path), metrics_port=first)
            given = [environ for _, environ, _ in _programs(installation, {"NIGHTSHIFT_METRICS_PORT": "1"}, listener)]
            assert [environ["NIGHTSHIFT_METRICS_PORT"] for environ in given] == expected
            assert {environ["NIGHTSHIFT_METRICS_HOST"] for environ in given} == {"127.0.0.1"}


# --- a life -----------------------------------------------------------------------------------------------------------


def test_it_is_ready_then_stops_at_sigterm_with_0_and_leaves_no_socket(tmp_path: Path) -> None:
    command = [str(NIGHTSHIFT), "local", "--port", "0", "--data-dir", str(tmp_path), "--model", f"m={URL}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline().split("/openai")[0].rsplit(":", 1)[1])
        with socket.create_connection(("127.0.0.1", port)):
            process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
