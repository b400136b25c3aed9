"""`nightshift check`: the verdict of the API and the operator, without either."""

import io
import os
import sys
import tracemalloc
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from nightshift_api.settings import Settings as ApiSettings
from nightshift_cli.check import STDIN, Check, CheckSettings, check, render_error
from nightshift_cli.main import cli
from nightshift_cli.progress import showing_bytes
from nightshift_crds.errors import Rejected
from nightshift_crds.inspection import Inspection, Limits, fit_verdict
from nightshift_crds.lifecycle import Phase
from nightshift_crds.lines import CHAT, EMBEDDINGS
from nightshift_crds.models import MAX_ERRORS, BatchError
from nightshift_operator.decide import decide
from nightshift_operator.settings import Settings as OperatorSettings
from nightshift_operator.view import Policy
from tests.builders import MODEL, a_line, a_model, jsonl
from tests.operator.builders import NOW, observed

OTHER = "org/other"
GOOD = jsonl(a_line("a"), a_line("b"))
BOTH = {
    "NIGHTSHIFT_MAX_LINES": "12",
    "NIGHTSHIFT_MAX_LINE_BYTES": "400",
    "NIGHTSHIFT_MAX_FILE_BYTES": "3000",
    "NIGHTSHIFT_MAX_EMBEDDING_INPUTS": "8",
}
INSTALLATION = BOTH | {
    "NIGHTSHIFT_CLUSTER": "sqlite:///c",
    "NIGHTSHIFT_BUCKET": "file:///b",
    "NIGHTSHIFT_API_KEYS_FILE": "/keys.json",
}


def told(
    file: Path, *models: str, endpoint: str | None = None, environ: dict[str, str] | None = None
) -> tuple[int, list[str]]:
    """Give the exit code and what is printed."""
    with redirect_stdout(io.StringIO()) as printed:
        code = check(Check(file, endpoint, models), environ or {})
    return code, printed.getvalue().splitlines()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "in.jsonl"
    path.write_bytes(GOOD)
    return path


# --- what is told -----------------------------------------------------------------------------------------------------


def test_a_file_that_can_run_is_0_and_summed_up_in_a_line(file: Path) -> None:
    summary = f"{file}: accepted: 2 lines, {len(GOOD)} bytes, model {MODEL}, endpoint {CHAT}"
    assert told(file) == (0, [summary])


def test_every_error_is_a_line_with_its_code_and_param_and_makes_it_1(file: Path) -> None:
    file.write_bytes(jsonl(a_line("a"), a_line("a")) + b"{\n")
    code, (duplicate, broken, summary) = told(file)
    assert code == 1
    assert duplicate == "line 2: Expected a 'custom_id' that no line above has. [duplicate_custom_id] (custom_id)"
    assert broken == "line 3: Expected this line to be valid JSON in UTF-8. [invalid_json_line]"
    assert summary.startswith(f"{file}: refused: 3 lines, ")


def test_an_error_of_the_whole_file_names_no_line() -> None:
    assert render_error(BatchError(code="empty_file", message="Empty.")) == "Empty. [empty_file]"


def test_more_errors_than_a_batch_would_list_end_with_how_many_there_are(file: Path) -> None:
    file.write_bytes(GOOD + b"{\n" * (MAX_ERRORS + 7))
    code, lines = told(file)
    assert (code, len(lines)) == (1, MAX_ERRORS + 2)
    assert lines[-2] == "7 more lines have errors and are not listed. [too_many_errors]"


def test_a_model_that_is_not_among_those_named_is_unknown(file: Path) -> None:
    assert told(file, OTHER, MODEL)[0] == 0
    code, lines = told(file, OTHER)
    assert code == 1
    assert [line.partition(":")[0] for line in lines[:-1]] == ["line 1", "line 2"]
    assert all(line.endswith("[model_not_found] (body.model)") for line in lines[:-1])


def test_without_models_every_one_is_known_but_two_are_still_one_too_many(file: Path) -> None:
    file.write_bytes(jsonl(a_line("a"), a_line("b", model=OTHER)))
    code, (error, summary) = told(file)
    assert code == 1
    assert error.startswith("line 2: ")
    assert error.endswith("[mismatched_model] (body.model)")
    assert f"model {MODEL}, {OTHER}, " in summary


def test_a_name_in_a_file_does_not_steer_the_terminal(file: Path) -> None:
    file.write_bytes(jsonl(a_line("a", model="m\x1b[2J\n")))
    assert "model m?[2J?, " in told(file)[1][-1]


def test_a_file_of_one_line_that_is_no_request_has_no_model(file: Path) -> None:
    file.write_bytes(b"7")
    assert told(file, endpoint=CHAT)[1][-1] == f"{file}: refused: 1 line, 1 byte, model none, endpoint {CHAT}"


# --- the endpoint -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", [b"", b"\n \r\n", b"\xef\xbb\xbf", b"\xef\xbb\xbf\n"])
def test_the_endpoint_is_that_of_the_first_request_line(file: Path, start: bytes) -> None:
    file.write_bytes(start + jsonl(a_line(url=EMBEDDINGS, input="x")))
    code, (summary,) = told(file)
    assert code == 0
    assert summary.endswith(f"endpoint {EMBEDDINGS}")


def test_an_endpoint_that_is_named_is_held_against_every_line(file: Path) -> None:
    code, lines = told(file, endpoint=EMBEDDINGS)
    assert code == 1
    assert all("[invalid_url]" in line for line in lines[:2])


@pytest.mark.parametrize("content", [b"", b"\n\n", b"not json\n" + GOOD, b"{}", b"\xff", b"[" * 100_000])
def test_a_file_that_names_no_endpoint_is_refused_as_submit_refuses_it(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    with pytest.raises(Rejected, match="names no 'url'"):
        told(file)


def test_a_file_whose_blank_start_is_longer_than_a_line_may_be_is_not_searched_further(file: Path) -> None:
    file.write_bytes(b"\n" * 500 + GOOD)
    with pytest.raises(Rejected, match="names no 'url'"):
        told(file, environ=BOTH)
    assert told(file, endpoint=CHAT, environ=BOTH)[0] == 0


def test_an_endpoint_that_no_batch_may_name_is_refused_with_those_that_it_may(file: Path) -> None:
    with pytest.raises(Rejected, match=f"one of {CHAT}, {EMBEDDINGS}, got '/v1/completions'"):
        told(file, endpoint="/v1/completions")
    file.write_bytes(jsonl(a_line(url="/v1/completions", prompt="Once")))
    assert told(file, environ={"NIGHTSHIFT_ENDPOINTS": "/v1/completions"})[0] == 0


# --- limits -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("MAX_LINES", GOOD, "too_many_tasks"),
        ("MAX_FILE_BYTES", GOOD, "file_too_large"),
        ("MAX_EMBEDDING_INPUTS", jsonl(a_line(url=EMBEDDINGS, input=["x", "y"])), "too_many_embedding_inputs"),
    ],
)
def test_a_limit_is_that_of_its_variable(file: Path, name: str, content: bytes, code: str) -> None:
    file.write_bytes(content)
    assert told(file)[0] == 0
    exit_code, lines = told(file, environ={f"NIGHTSHIFT_{name}": "1"})
    assert exit_code == 1
    assert f"[{code}]" in lines[0]


def test_a_line_over_the_limit_is_refused_unread(file: Path) -> None:
    environ = {"NIGHTSHIFT_MAX_LINE_BYTES": "20"}
    _, lines = told(file, endpoint=CHAT, environ=environ)
    assert lines[0] == "line 1: Expected this line to have at most 20 bytes. [invalid_request]"


def test_its_settings_are_those_of_api_and_operator() -> None:
    for name, info in CheckSettings.model_fields.items():
        for role in (ApiSettings, OperatorSettings):
            if theirs := role.model_fields.get(name):
                assert theirs.default == info.default
                assert theirs.annotation == info.annotation


def test_memory_does_not_grow_with_the_file(file: Path) -> None:
    content = jsonl(*(a_line(f"row-{n}", content="x" * 4_000) for n in range(1_000)))
    peaks = []
    for times in (2, 8):
        file.write_bytes(content * times)
        tracemalloc.start()
        told(file)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]


# --- as a command -----------------------------------------------------------------------------------------------------


def test_standard_input_is_read_and_its_endpoint_found() -> None:
    shown = CliRunner().invoke(cli, ["check", "-", "--model", MODEL], input=b"\n" + GOOD)
    assert shown.exit_code == 0
    assert shown.output.startswith("standard input: accepted: 2 lines")


def test_errors_are_the_exit_code_of_the_command(file: Path) -> None:
    assert CliRunner().invoke(cli, ["check", str(file), "--model", OTHER]).exit_code == 1


def test_a_file_that_fails_while_it_is_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(Rejected, match="cannot be read: Is a directory"):
        told(tmp_path)


def test_an_interrupted_check_is_130_and_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupted(io.BytesIO):
        def read(self, _size: int | None = -1) -> bytes:
            raise KeyboardInterrupt

    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(Interrupted()))
    assert told(STDIN, endpoint=CHAT) == (130, [])


# --- how it is shown --------------------------------------------------------------------------------------------------


class Clock:
    """Moves when a test says so."""

    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def shown_after(seconds: float, console: Console, total: int | None) -> None:
    clock = Clock()
    with showing_bytes(console, total, clock) as show:
        show(1_000)
        clock.now_s += seconds
        show(2_000)


@pytest.mark.parametrize("total", [4_000, None])
def test_a_bar_is_shown_on_a_terminal_once_it_takes_longer_than_a_second(total: int | None) -> None:
    screen = io.StringIO()
    shown_after(1.0, Console(file=screen, force_terminal=True), total)
    assert screen.getvalue() == ""
    shown_after(1.1, Console(file=screen, force_terminal=True), total)
    assert "2.0" in screen.getvalue()


def test_elsewhere_than_on_a_terminal_no_bar_is_shown() -> None:
    screen = io.StringIO()
    shown_after(60, Console(file=screen, force_terminal=False), 4_000)
    assert screen.getvalue() == ""


# --- the same verdict -------------------------------------------------------------------------------------------------


def verdict_of_installation(content: bytes, endpoint: str, models: tuple[str, ...]) -> list[BatchError]:
    """Judge bytes as a batch of them is judged: inspected by the API on their way, decided about by the operator."""
    api, operator = ApiSettings.load(INSTALLATION), OperatorSettings.load(INSTALLATION)
    inspection = Inspection(api.endpoints, Limits(api.max_lines, api.max_line_bytes))
    for start in range(0, len(content), 100):
        inspection.feed(content[start : start + 100])
    verdict = fit_verdict(inspection.finish())
    catalogue = tuple(a_model(name, endpoints=[CHAT, EMBEDDINGS]) for name in models)
    seen = observed(spec={"endpoint": endpoint}, verdict=verdict, models=catalogue)
    status = decide(seen, NOW, Policy.of(operator)).status
    assert status is not None
    assert (status.phase is Phase.FAILED) == bool(status.errors)
    return status.errors


def a_file_of(kinds: list[str]) -> Iterator[bytes]:
    for number, kind in enumerate(kinds):
        line = {
            "good": a_line(f"row-{number}"),
            "other model": a_line(f"row-{number}", model=OTHER),
            "unknown model": a_line(f"row-{number}", model="nobody"),
            "embedding": a_line(f"row-{number}", url=EMBEDDINGS, input=["a", "b", "c"]),
            "again": a_line("again"),
            "stream": a_line(f"row-{number}", stream=True),
            "long": a_line(f"row-{number}", content="x" * 500),
        }.get(kind)
        yield jsonl(line) if line else {"blank": b" \r\n", "broken": b"{\n", "bytes": b"\xff\n"}[kind]


KINDS = [
    "good", "other model", "unknown model", "embedding", "again", "stream", "long", "blank", "broken", "bytes",
]  # fmt: skip
COMMON = st.sampled_from(["good", "good", "good", "embedding", "blank"])


@given(
    st.lists(COMMON | st.sampled_from(KINDS), max_size=16),
    st.sampled_from([CHAT, EMBEDDINGS]),
    st.sampled_from([(MODEL,), (MODEL, OTHER), (OTHER,)]),
)
def test_the_verdict_is_that_of_api_and_operator_for_the_same_bytes(
    kinds: list[str], endpoint: str, models: tuple[str, ...]
) -> None:
    content = b"".join(a_file_of(kinds))
    with TemporaryDirectory() as folder:
        file = Path(folder) / "in.jsonl"
        file.write_bytes(content)
        code, lines = told(file, *models, endpoint=endpoint, environ=BOTH)
    expected = verdict_of_installation(content, endpoint, models)
    assert lines[:-1] == [render_error(error) for error in expected]
    assert code == bool(expected)
    assert f" {len(content)} byte" in lines[-1]
    assert os.linesep not in lines[-1]
