"""How a batch is shown while it is waited for: the rate, the time left, and how much is written where."""

import io

import pytest
from openai.types import Batch
from rich.console import Console

from nightshift_cli.progress import Lines, Look, Pace, render_span, showing
from tests.cli.stub_api import a_batch_object

DAY_S = 86_400


def a_look(done: int, *, status: str = "in_progress", failed: int = 0, total: int = 100) -> Look:
    return Look(status, done, failed, total)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (90, "2 min"),
        (3_569, "59 min"),
        (3_599, "1 h 0 min"),
        (7_500, "2 h 5 min"),
        (DAY_S, "24 h 0 min"),
    ],
)
def test_a_time_span_is_as_exact_as_people_want_it(seconds: float, text: str) -> None:
    assert render_span(seconds) == text


def test_the_rate_is_what_was_done_while_we_looked() -> None:
    pace = Pace()
    assert pace.render(a_look(50), 1_000) == ""
    assert pace.render(a_look(60), 1_005) == "2.0/s, 20 s left"


def test_a_slow_rate_is_told_by_the_minute() -> None:
    pace = Pace()
    pace.render(a_look(0), 1)
    assert pace.render(a_look(1), 121) == "0.5/min, 3 h 18 min left"


def test_validation_is_not_part_of_the_rate() -> None:
    pace = Pace()
    for now_s in (1, 50, 100):
        assert pace.render(a_look(0, status="validating", total=0), now_s) == ""
    assert pace.render(a_look(50), 110) == "5.0/s, 10 s left"


def test_a_batch_that_is_done_has_no_time_left() -> None:
    pace = Pace()
    pace.render(a_look(0), 1)
    assert pace.render(a_look(100, status="completed"), 11) == "10.0/s"


def test_a_batch_without_counts_can_be_looked_at() -> None:
    assert Look.of(Batch.model_validate(a_batch_object())) == Look("validating", 0, 0, 0)
    counted = Batch.model_validate(a_batch_object("in_progress", (9, 3, 2)))
    assert Look.of(counted) == Look("in_progress", 5, 2, 9)


def test_lines_are_few_however_long_a_batch_takes() -> None:
    written: list[str] = []
    lines = Lines(written.append)
    for second in range(DAY_S):
        lines.show(a_look(second * 50_000 // DAY_S, total=50_000), second)
    assert 20 <= len(written) <= 400


def test_a_line_is_written_for_each_status_and_each_twentieth() -> None:
    written: list[str] = []
    lines = Lines(written.append)
    lines.show(a_look(0, status="validating", total=0), 1)
    for done in (0, 1, 4, 5, 9):
        lines.show(a_look(done, failed=1), 1 + done)
    lines.show(a_look(100, status="completed", failed=1), 11)
    assert written == [
        "validating, 0/0, 0 failed",
        "in_progress, 0/100, 1 failed",
        "in_progress, 5/100, 1 failed, 1.0/s, 2 min left",
        "completed, 100/100, 1 failed, 10.0/s",
    ]


def test_a_silence_of_five_minutes_is_broken() -> None:
    written: list[str] = []
    lines = Lines(written.append)
    for now_s in (1, 200, 301, 500):
        lines.show(a_look(1), now_s)
    assert len(written) == 2


def test_a_bar_on_a_terminal_shows_how_far_and_how_many_failed() -> None:
    terminal = io.StringIO()
    with showing(Console(file=terminal, force_terminal=True, width=150)) as show:
        show(Batch.model_validate(a_batch_object("in_progress", (9, 3, 2))))
    assert "in_progress" in terminal.getvalue()
    assert "5/9" in terminal.getvalue()
    assert "2 failed" in terminal.getvalue()


def test_where_there_is_no_terminal_there_are_no_escapes() -> None:
    log = io.StringIO()
    with showing(Console(file=log, width=20)) as show:
        show(Batch.model_validate(a_batch_object("in_progress", (9_000_000, 3, 2))))
    assert log.getvalue() == "in_progress, 5/9000000, 2 failed\n"
