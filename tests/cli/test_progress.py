"""How a batch is shown while it is waited for: the rate, the time left, and how much is written where."""

import io

from rich.console import Console

from nightshift_cli.progress import Lines, Look, Pace, showing, showing_bytes
from nightshift_cli.views import view_of_api
from tests.cli.stub_api import a_batch_object

DAY_S = 86_400


def a_look(done: int, *, status: str = "in_progress", failed: int = 0, total: int = 100) -> Look:
    return Look(status, done, failed, total)


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
    assert Look.of(view_of_api(a_batch_object())) == Look("validating", 0, 0, 0)
    counted = view_of_api(a_batch_object("in_progress", (9, 3, 2)))
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
    with showing(Console(file=terminal, force_terminal=True, width=150), ["batch_1"]) as show:
        show(view_of_api(a_batch_object("in_progress", (9, 3, 2))))
    assert "in_progress" in terminal.getvalue()
    assert "5/9" in terminal.getvalue()
    assert "2 failed" in terminal.getvalue()


def test_where_there_is_no_terminal_there_are_no_escapes() -> None:
    log = io.StringIO()
    with showing(Console(file=log, width=20), ["batch_1"]) as show:
        show(view_of_api(a_batch_object("in_progress", (9_000_000, 3, 2))))
    assert log.getvalue() == "in_progress, 5/9000000, 2 failed\n"


def test_several_batches_are_told_apart() -> None:
    log = io.StringIO()
    with showing(Console(file=log), ["batch_1", "batch_2"]) as show:
        show(view_of_api(a_batch_object("in_progress", (9, 3, 2))))
        show(view_of_api(a_batch_object("completed", (4, 4, 0), id="batch_2")))
    assert log.getvalue() == "batch_1: in_progress, 5/9, 2 failed\nbatch_2: completed, 4/4, 0 failed\n"


def test_what_the_server_says_of_rate_time_and_cost_is_told() -> None:
    details = {"rate": 20.0, "eta_s": 90, "cost": {"currency": "EUR", "total": 1.5, "per_million_tokens": None}}
    log = io.StringIO()
    with showing(Console(file=log), ["batch_1"]) as show:
        show(view_of_api(a_batch_object("in_progress", (9, 3, 2), x_details=details)))
    assert log.getvalue() == "in_progress, 5/9, 2 failed, 20.0/s, 2 min left, 1.50 EUR\n"


def test_a_suspended_batch_has_no_time_left() -> None:
    pace = Pace()
    pace.render(a_look(0, status="in_progress,suspended"), 1)
    assert "left" not in pace.render(a_look(50, status="in_progress,suspended"), 11)


def test_a_file_has_a_bar_once_it_has_taken_a_second() -> None:
    terminal, now = io.StringIO(), [0.0]
    with showing_bytes(Console(file=terminal, force_terminal=True, width=100), 1000, lambda: now[0]) as show:
        show(10)
        assert terminal.getvalue() == ""
        now[0] = 1.1
        show(500)
    assert "500/1,000 bytes" in terminal.getvalue().replace("0.5/1.0 kB", "500/1,000 bytes")
