"""What a role logs: one JSON object a line on standard error, ours and that of libraries alike."""

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from nightshift_crds.logs import configure_logs


@pytest.fixture(autouse=True)
def logs_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def lines_of(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    captured = capsys.readouterr()
    assert captured.out == ""
    return [json.loads(line) for line in captured.err.splitlines()]


def test_an_event_is_one_line_of_json_with_role_level_and_time(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("api")
    structlog.get_logger().warning("batch.phase_changed", batch="b-1", text="two\nlines")
    (line,) = lines_of(capsys)
    assert line.pop("timestamp").endswith("Z")
    expected = {"event": "batch.phase_changed", "batch": "b-1", "text": "two\nlines", "role": "api", "level": "warning"}
    assert line == expected


def test_what_libraries_log_looks_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("api")
    logging.getLogger("some.library").info("started on %d", 80)
    logging.getLogger("some.library").debug("nobody wants to know")
    assert [(line["event"], line["role"], line["level"]) for line in lines_of(capsys)] == [
        ("started on 80", "api", "info")
    ]


def test_an_exception_is_told_in_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("api")
    try:
        int("no number")
    except ValueError:
        structlog.get_logger().exception("failed")
    (line,) = lines_of(capsys)
    assert "ValueError: invalid literal" in line["exception"]
