"""`nightshift submit` against a small real server: what it sends, what it tells, how it ends."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from nightshift_cli.exits import Exit
from nightshift_cli.following import Patience
from nightshift_cli.over_http import open_http
from nightshift_cli.submit import Submission, submit
from nightshift_crds.errors import NotFound, Rejected, Unavailable
from tests.builders import a_line, jsonl
from tests.cli.stub_api import DROP, KEY, StubApi, a_batch_object

NIGHTSHIFT = Path(sys.executable).parent / "nightshift"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "in.jsonl"
    path.write_bytes(jsonl(a_line("a"), a_line("b")))
    return path


def environ_of(api: StubApi, key: str = KEY) -> dict[str, str]:
    return {"OPENAI_BASE_URL": api.base_url, "OPENAI_API_KEY": key}


def run(api: StubApi, file: Path | None, *, key: str = KEY, **options: Any) -> int:
    with open_http(api.base_url, key) as service:
        return submit(service, Submission(file, **options), Patience())


# --- sending ----------------------------------------------------------------------------------------------------------


def test_a_file_is_uploaded_and_a_batch_made_of_it(
    api: StubApi, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(api, file, metadata={"team": "a"}) == 0
    assert file.read_bytes() in api.uploads[0]
    (created,) = api.created
    assert (created["input_file_id"], created["endpoint"]) == ("file_in", "/v1/chat/completions")
    assert created["metadata"] == {"team": "a"}
    assert "batch_1 created" in capsys.readouterr().out


def test_without_metadata_none_is_sent(api: StubApi, file: Path) -> None:
    run(api, file)
    assert api.created[0].get("metadata") is None


@pytest.mark.parametrize(
    "content",
    [b'{"url":"/v1/x"}\n{"url":"/v1/y"}\n', b'\xef\xbb\xbf{"url":"/v1/x"}', b'\n \n{"url":"/v1/x"}\nnot json'],
)
def test_the_endpoint_is_that_of_the_first_line(api: StubApi, file: Path, content: bytes) -> None:
    file.write_bytes(content)
    run(api, file)
    assert api.created[0]["endpoint"] == "/v1/x"


@pytest.mark.parametrize("content", [b"", b"\n\n", b"not json", b"{}", b"[]", b'"url"', b"7", b"null", b"\xff\xfe{}"])
def test_a_file_that_names_no_endpoint_is_refused_before_it_is_sent(api: StubApi, file: Path, content: bytes) -> None:
    file.write_bytes(content)
    with pytest.raises(Rejected, match="names no 'url'"):
        run(api, file)
    assert api.uploads == []


def test_an_endpoint_that_is_named_needs_no_line_to_name_it(api: StubApi, file: Path) -> None:
    file.write_bytes(b"not json")
    assert run(api, file, endpoint="/v1/embeddings") == 0
    assert api.created[0]["endpoint"] == "/v1/embeddings"


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("base_url", "key", "sentence"),
    [
        ("", "", "Set OPENAI_BASE_URL and OPENAI_API_KEY, "),
        (None, KEY, "Set OPENAI_BASE_URL, "),
        ("http://a/v1", "", "Set OPENAI_API_KEY, "),
        ("localhost:8080/v1", KEY, "Expected --base-url .OPENAI_BASE_URL. to begin with http:// or https://"),
        ("http://a/v1", "sk\nsecret", "Expected --api-key .OPENAI_API_KEY. to be one line of ASCII"),
        ("http://a/v1", "sk-sécret", "Expected --api-key .OPENAI_API_KEY. to be one line of ASCII"),
    ],
)
def test_what_cannot_lead_to_a_server_is_told_and_keys_are_not(base_url: str | None, key: str, sentence: str) -> None:
    with pytest.raises(Rejected, match=sentence) as refusal, open_http(base_url, key):
        pass
    assert "cret" not in str(refusal.value)


def test_what_is_submitted_is_one_thing(api: StubApi, file: Path) -> None:
    with pytest.raises(Rejected, match="Expected one of FILE, --file-id and --uri"):
        run(api, file, file_id="file_in")
    with pytest.raises(Rejected, match="Expected one of FILE, --file-id and --uri"):
        run(api, None)
    with pytest.raises(Rejected, match="Name the --endpoint"):
        run(api, None, file_id="file_in")
    with pytest.raises(Rejected, match="The API takes no --uri"):
        run(api, None, uri="gs://b/x", endpoint="/v1/embeddings")


def test_a_file_that_is_there_already_is_not_sent(api: StubApi) -> None:
    assert run(api, None, file_id="file_old", endpoint="/v1/embeddings") == 0
    assert (api.uploads, api.created[0]["input_file_id"]) == ([], "file_old")


def test_what_the_server_says_of_a_refused_file_is_told(api: StubApi, file: Path) -> None:
    api.refusal = (413, "too large by far")
    with pytest.raises(Rejected, match="The server answered 413: too large by far"):
        run(api, file)


def test_a_wrong_key_is_told_and_not_shown(api: StubApi, file: Path) -> None:
    with pytest.raises(Rejected, match="The server answered 401") as refusal:
        run(api, file, key="sk-wrong")
    assert "sk-wrong" not in refusal.value.message
    assert refusal.value.status == 401


def test_no_server_is_told_with_its_address(api: StubApi) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        api.base_url = f"http://127.0.0.1:{closed.getsockname()[1]}/v1"
        with (
            open_http(api.base_url, KEY) as service,
            pytest.raises(Unavailable, match=f"No answer from {api.base_url}"),
        ):
            service.get("batch_1")


def test_a_folder_that_is_not_there_is_told_before_anything_is_sent(api: StubApi, file: Path) -> None:
    with pytest.raises(Rejected, match="There is no folder"):
        run(api, file, wait=True, output=file.parent / "no" / "out.jsonl")
    assert api.uploads == []


def test_results_that_cannot_be_written_are_told_with_where_they_stay(api: StubApi, file: Path) -> None:
    (file.parent / "out.jsonl").mkdir()
    with pytest.raises(Rejected, match=r"out.jsonl cannot be written: .* file_out stays there"):
        run(api, file, wait=True, output=file.parent / "out.jsonl")


# --- waiting ----------------------------------------------------------------------------------------------------------


def test_waiting_ends_with_the_results_beside_the_input(
    api: StubApi, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    api.looks = [a_batch_object("completed", (2, 1, 1), output_file_id="file_out", error_file_id="file_err")]
    assert run(api, file, wait=True) == 0
    assert (file.parent / "in_output.jsonl").read_bytes() == b"results\n"
    assert (file.parent / "in_output_errors.jsonl").read_bytes() == b"errors\n"
    shown = capsys.readouterr()
    assert "1 completed, 1 failed of 2" in shown.out
    assert "completed, 2/2, 1 failed" in shown.err


def test_results_go_where_they_are_wanted_and_nothing_half_done_is_left(api: StubApi, file: Path) -> None:
    (file.parent / "out").write_text("older")
    run(api, file, wait=True, output=file.parent / "out")
    assert (file.parent / "out").read_bytes() == b"results\n"
    assert {path.name for path in file.parent.iterdir()} == {"in.jsonl", "out"}


@pytest.mark.parametrize(
    ("status", "code"), [("failed", Exit.FAILED), ("expired", Exit.EXPIRED), ("cancelled", Exit.CANCELLED)]
)
def test_a_batch_that_ends_otherwise_says_so_by_its_code_and_what_there_is_of_it_is_kept(
    api: StubApi, file: Path, status: str, code: Exit
) -> None:
    api.looks = [a_batch_object(status, (2, 1, 0), output_file_id="file_out")]
    assert run(api, file, wait=True) == code
    assert (file.parent / "in_output.jsonl").read_bytes() == b"results\n"


def test_a_failed_batch_tells_its_first_errors(api: StubApi, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = [{"code": "bad", "message": f"problem {n}", "param": None, "line": n or None} for n in range(50)]
    api.looks = [a_batch_object("failed", (0, 0, 0), errors={"object": "list", "data": found})]
    assert run(api, file, wait=True) == Exit.FAILED
    told = capsys.readouterr().err
    assert "  problem 0 [bad]\n  line 1: problem 1 [bad]" in told
    assert told.count("[bad]") == 5


def test_a_server_that_restarts_is_waited_for(api: StubApi, file: Path) -> None:
    api.looks = [DROP, 503, 429, a_batch_object("completed", (2, 2, 0), output_file_id="file_out")]
    assert run(api, file, wait=True) == 0


def test_a_batch_that_is_gone_is_not_waited_for(api: StubApi, file: Path) -> None:
    api.looks = [404]
    with pytest.raises(NotFound, match="The server answered 404"):
        run(api, file, wait=True)


def test_ctrl_c_leaves_the_batch_alone(api: StubApi, file: Path) -> None:
    api.looks = [a_batch_object("in_progress", (2, 1, 0))]
    command = [str(NIGHTSHIFT), "submit", str(file), "--wait"]
    environ = os.environ | environ_of(api)
    with subprocess.Popen(command, env=environ, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert "validating" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        assert "batch_1 stays on the server" in process.stderr.read()
        assert process.wait() == 130
