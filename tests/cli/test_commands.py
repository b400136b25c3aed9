"""The commands over a small real server: what they ask, what they write, how they end."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from nightshift_cli.exits import Exit
from nightshift_cli.main import main
from tests.cli.stub_api import DROP, KEY, Content, StubApi, a_batch_object

RUNNING = a_batch_object("in_progress", (2, 1, 0))
ENDED = a_batch_object("completed", (2, 1, 1), output_file_id="file_out", error_file_id="file_err")


class Shell:
    """Runs the command in this process, in a folder of its own, with a server in the environment."""

    def __init__(self, api: StubApi, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.out = self.err = ""
        self._monkeypatch = monkeypatch
        self._capsys = capsys
        monkeypatch.setenv("OPENAI_BASE_URL", api.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", KEY)

    def __call__(self, *arguments: str) -> int:
        self._monkeypatch.setattr(sys, "argv", ["nightshift", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        self.out, self.err = self._capsys.readouterr()
        return int(ended.value.code or 0)


@pytest.fixture
def shell(api: StubApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shell:
    monkeypatch.chdir(tmp_path)
    return Shell(api, monkeypatch, capsys)


# --- list, get, models ------------------------------------------------------------------------------------------------


def test_a_list_is_filtered_and_says_whether_there_is_more(api: StubApi, shell: Shell) -> None:
    statuses = ["completed", "failed", "in_progress", "completed", "failed"]
    api.listed = [a_batch_object(status, id=f"batch_{n}") for n, status in enumerate(statuses)]
    assert shell("list", "-o", "name") == 0
    assert shell.out.split() == [f"batch_{n}" for n in range(5)]
    assert shell("list", "--status", "failed", "--status", "in_progress", "-o", "name") == 0
    assert (shell.out.split(), shell.err) == (["batch_1", "batch_2", "batch_4"], "")
    assert shell("list", "--status", "failed", "--limit", "1", "-o", "name") == 0
    assert shell.out.split() == ["batch_1"]
    assert shell.err == "There are more: go on with --after batch_1, or take --all.\n"
    assert shell("list", "--after", "batch_3", "--limit", "7") == 0
    assert "after=batch_3" in api.asked[-1]
    assert "limit=8" in api.asked[-1]


@pytest.mark.parametrize("form", ["json", "yaml", "wide", "table", "name"])
def test_nothing_is_listed_in_every_form(api: StubApi, shell: Shell, form: str) -> None:
    assert shell("list", "--all", "-o", form) == 0
    assert form != "name" or shell.out == "", "xargs has nothing to do"


def test_json_is_what_the_server_said_also_what_no_sdk_knows(api: StubApi, shell: Shell) -> None:
    api.looks = [RUNNING | {"x_details": {"rate": 1.5, "later": [1]}}]
    assert shell("get", "batch_1", "-o", "json") == 0
    assert json.loads(shell.out) == api.looks[0]
    assert shell("get", "batch_1", "batch_1", "-o", "json") == 0
    assert json.loads(shell.out) == {"object": "list", "data": [api.looks[0]] * 2}


def test_get_tells_all_and_wide_is_a_row(api: StubApi, shell: Shell) -> None:
    api.looks = [RUNNING]
    assert shell("get", "batch_1") == 0
    assert "Lines:       1 completed, 0 failed of 2" in shell.out
    assert shell("get", "batch_1", "-o", "wide") == 0
    assert len(shell.out.splitlines()) == 2


@pytest.mark.parametrize(("form", "text"), [("table", "MODEL\nm:1\n"), ("name", "m:1\n")])
def test_models_are_listed(shell: Shell, form: str, text: str) -> None:
    assert shell("models", "-o", form) == 0
    assert shell.out == text
    assert shell("models", "-o", "json") == 0
    assert [model["id"] for model in json.loads(shell.out)["data"]] == ["m:1"]


# --- cancel, suspend, resume, rerun -----------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["cancel", "suspend", "resume", "rerun"])
def test_a_verb_is_a_post_and_shows_what_the_batch_is_then(api: StubApi, shell: Shell, verb: str) -> None:
    api.looks = [RUNNING]
    assert shell(verb, "batch_1") == 0
    assert api.asked == [f"POST /openai/v1/batches/batch_1/{verb}"]
    assert "in_progress" in shell.out


@pytest.mark.parametrize(
    ("answer", "code", "hint"),
    [
        (409, Exit.CONFLICT, "The server answered 409: Not now."),
        (404, Exit.NOT_FOUND, "is older"),
        (403, Exit.UNAUTHORISED, "ask for the right"),
        (400, Exit.USAGE, "The server answered 400"),
    ],
)
def test_a_refusal_has_a_code_and_says_what_to_do(
    api: StubApi, shell: Shell, answer: int, code: Exit, hint: str
) -> None:
    api.looks = [answer]
    assert shell("suspend", "batch_1") == code
    assert hint in shell.err


def test_an_id_that_nobody_has_is_told_with_where_to_look(shell: Shell) -> None:
    assert shell("get", "batch_none") == Exit.NOT_FOUND
    assert "'list' shows the batches" in shell.err


def test_a_server_that_is_something_else_is_told(api: StubApi, shell: Shell) -> None:
    for page in (b"<html>welcome</html>", b"{}", b"[]", b""):
        api.page = page
        assert shell("get", "batch_1") == Exit.NOT_FOUND, page
        assert "is not the Batch API" in shell.err
    assert shell("get", "batch_1", "--base-url", api.base_url.replace("/openai/v1", "")) == Exit.NOT_FOUND


def test_a_server_that_is_down_is_a_code_of_its_own_and_a_key_is_never_shown(api: StubApi, shell: Shell) -> None:
    assert shell("list", "--base-url", "http://127.0.0.1:9/v1", "--api-key", "sk-secret") == Exit.UNAVAILABLE
    assert "No answer from http://127.0.0.1:9/v1" in shell.err
    assert shell("list", "--api-key", "sk-secret") == Exit.UNAUTHORISED
    assert "sk-secret" not in shell.out + shell.err


def test_nightshifts_own_variables_come_before_those_of_openai(
    api: StubApi, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    monkeypatch.setenv("NIGHTSHIFT_BASE_URL", api.base_url)
    assert shell("list") == 0
    monkeypatch.setenv("NIGHTSHIFT_API_KEY", "sk-wrong")
    assert shell("list") == Exit.UNAUTHORISED


# --- watch ------------------------------------------------------------------------------------------------------------


def test_watching_ends_with_the_code_of_the_batch(api: StubApi, shell: Shell) -> None:
    api.looks = [RUNNING, DROP, 503, 429, a_batch_object("expired", (2, 1, 0))]
    assert shell("watch", "batch_1") == Exit.EXPIRED
    assert shell.out == "batch_1 expired: 1 completed, 0 failed of 2\n"
    assert "in_progress, 1/2, 0 failed" in shell.err


def test_patience_has_an_end(api: StubApi, shell: Shell) -> None:
    api.looks = [RUNNING, 503]
    assert shell("watch", "batch_1", "--patience", "0") == Exit.UNAVAILABLE


def test_a_batch_that_vanishes_is_watched_no_more(api: StubApi, shell: Shell) -> None:
    api.looks = [RUNNING, 404]
    assert shell("watch", "batch_1") == Exit.NOT_FOUND


def test_a_rerun_can_be_watched_and_its_results_are_fetched(api: StubApi, shell: Shell, tmp_path: Path) -> None:
    api.looks = [RUNNING, ENDED]
    assert shell("rerun", "batch_1", "--watch", "--metadata", "team=a") == 0
    assert (tmp_path / "batch_1_output.jsonl").read_bytes() == b"results\n"
    assert (tmp_path / "batch_1_output_errors.jsonl").read_bytes() == b"errors\n"


# --- download ---------------------------------------------------------------------------------------------------------


def test_results_and_errors_go_where_they_are_wanted(api: StubApi, shell: Shell, tmp_path: Path) -> None:
    api.looks = [ENDED]
    assert shell("download", "batch_1") == 0
    assert (tmp_path / "batch_1_output.jsonl").read_bytes() == b"results\n"
    assert shell("download", "batch_1", "--errors", "--output", "-") == 0
    assert shell.out == "errors\n"
    assert shell("download", "file_out", "--output", "x") == 0
    assert (tmp_path / "x").read_bytes() == b"results\n"
    assert {path.name for path in tmp_path.iterdir()} == {"batch_1_output.jsonl", "x"}


@pytest.mark.parametrize(("batch", "hint"), [(RUNNING, "--follow wait for them"), (ENDED, "'get' tells more")])
def test_results_that_are_not_there_are_told(api: StubApi, shell: Shell, batch: Any, hint: str) -> None:
    api.looks = [batch | {"output_file_id": None}]
    assert shell("download", "batch_1") == Exit.NOT_FOUND
    assert hint in shell.err


def test_a_download_that_broke_off_goes_on_where_it_was(api: StubApi, shell: Shell, tmp_path: Path) -> None:
    whole = b"".join(b"line %d\n" % n for n in range(1000))
    api.looks = [ENDED]
    api.contents["file_out"] = [Content(whole, breaks_at=4000), Content(whole)]
    assert shell("download", "batch_1", "--patience", "0", "--output", "x") == Exit.UNAVAILABLE
    (part,) = tmp_path.iterdir()
    assert part.name.startswith("x.")
    assert part.stat().st_size == 4000
    assert shell("download", "batch_1", "--output", "x") == 0
    assert api.ranges[-1] == "bytes=4000-"
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("x", whole)]


@pytest.mark.parametrize("output", ["x", "-"])
def test_one_command_outlives_a_connection_that_breaks(api: StubApi, shell: Shell, tmp_path: Path, output: str) -> None:
    whole = b"".join(b"line %d\n" % n for n in range(1000))
    api.contents["file_out"] = [Content(whole, breaks_at=4001), Content(whole)]
    assert shell("download", "file_out", "--output", output) == 0
    assert api.ranges == [None, None, "bytes=4001-"]
    assert (shell.out.encode() if output == "-" else (tmp_path / "x").read_bytes()) == whole


def test_the_beginning_of_another_version_is_not_gone_on_with(api: StubApi, shell: Shell, tmp_path: Path) -> None:
    api.contents["file_out"] = [Content(b"old\nold\n", etag='"1"', breaks_at=6), Content(b"new\n", etag='"2"')]
    assert shell("download", "file_out", "--output", "x", "--patience", "0") == Exit.UNAVAILABLE
    assert shell("download", "file_out", "--output", "x") == 0
    assert (tmp_path / "x").read_bytes() == b"new\n"


def test_a_proxy_that_takes_ranges_away_costs_a_second_download(api: StubApi, shell: Shell, tmp_path: Path) -> None:
    api.contents["file_out"] = [Content(b"one\ntwo\n", breaks_at=6), Content(b"one\ntwo\n", has_ranges=False)]
    assert shell("download", "file_out", "--output", "x") == 0
    assert (tmp_path / "x").read_bytes() == b"one\ntwo\n"


def test_standard_output_gets_whole_lines_only(api: StubApi, shell: Shell) -> None:
    api.contents["file_out"] = [Content(b"one\ntwo\n", breaks_at=6)]
    assert shell("download", "file_out", "--output", "-", "--patience", "0") == Exit.UNAVAILABLE
    assert shell.out == "one\n"
    api.contents["file_out"] = [Content(b"one\ntwo\n", breaks_at=6), Content(b"one\ntwo\n", etag=None)]
    assert shell("download", "file_out", "--output", "-") == Exit.CONFLICT
    assert (shell.out, "Begin again" in shell.err) == ("one\n", True)
    api.contents["file_out"] = [Content(b"one\nlast")]
    assert shell("download", "file_out", "--output", "-") == 0
    assert shell.out == "one\nlast"


def test_a_file_that_grows_is_taken_as_it_is(api: StubApi, shell: Shell, tmp_path: Path) -> None:
    api.contents["file_out"] = [Content(b"one\n", etag=None)]
    assert shell("download", "file_out", "--output", "x") == 0
    assert "--follow takes the rest too" in shell.err
    assert (tmp_path / "x").read_bytes() == b"one\n"


def test_lines_are_followed_until_the_batch_ends_each_once(api: StubApi, shell: Shell, tmp_path: Path) -> None:
    grows = [b"a1\n", b"a1\nb1\n", b"a1\na2\nb1\n"]
    api.looks = [RUNNING, RUNNING, RUNNING | {"output_file_id": "file_out"}, ENDED]
    api.contents["file_out"] = [*(Content(body, etag=None) for body in grows), Content(b"a1\na2\na3\nb1\n")]
    assert shell("download", "batch_1", "--follow", "--output", "x") == 0
    assert (tmp_path / "x").read_bytes() == b"a1\nb1\na2\na3\n"
    assert "4 lines in x" in shell.err


def test_following_goes_on_with_the_lines_that_are_there(api: StubApi, shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"b1\na")
    api.looks = [ENDED, DROP, ENDED]
    api.contents["file_out"] = [Content(b"a1\nb1\n", breaks_at=4), Content(b"a1\nb1\n")]
    assert shell("download", "batch_1", "--follow", "--output", "x") == 0
    assert (tmp_path / "x").read_bytes() == b"b1\na1\n"


def test_following_a_batch_that_ends_without_results_ends(api: StubApi, shell: Shell) -> None:
    api.looks = [RUNNING, a_batch_object("failed")]
    assert shell("download", "batch_1", "--follow", "--output", "-") == 0
    assert "0 lines" in shell.err


# --- the programs -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("program", ["nightshift", "kubectl-nightshift"])
def test_help_needs_nothing_slow(program: str) -> None:
    """A quarter of a second on a quiet machine; what it may import is what can be tested on any."""
    slow = {"openai", "kubernetes", "pydantic", "aiohttp", "structlog", "yaml"}
    module = {"nightshift": "main", "kubectl-nightshift": "kubectl"}[program]
    show = f"import sys, nightshift_cli.{module}; print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", show], capture_output=True, text=True, check=True)
    assert slow & set(ran.stdout.split()) == set()
    helped = subprocess.run(
        [Path(sys.executable).parent / program, "--help"], capture_output=True, text=True, check=True
    )
    assert "watch" in helped.stdout
