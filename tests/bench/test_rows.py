"""What the rows are made of: inputs, prices, servers that are as quick and as slow as they say."""

import json
import random
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from nightshift_crds.lines import parse_line
from tests.bench.processes import ANSWER, measured
from tests.bench.processor import BODY_BYTES, dollars_of, rate_of, run_pattern, running_delayed, write_body, write_lines

LINES = 20


def test_lines_of_the_input_are_sound_and_their_bodies_of_the_lengths_that_are_told() -> None:
    lines = write_lines(LINES).splitlines()
    assert len({parse_line(line).custom_id for line in lines}) == LINES
    luck = random.Random(2)
    lengths = [len(write_body(luck)) for _ in range(300)]
    assert BODY_BYTES[0] <= min(lengths) < 600
    assert 1_900 < max(lengths) <= BODY_BYTES[1]


def test_the_same_input_is_written_each_time() -> None:
    assert write_lines(3) == write_lines(3)


def test_what_one_line_takes_is_no_matter_of_lines() -> None:
    assert rate_of("processor", 1_001)({"processor": {"s": 3.0}, "start": {"s": 1.0}}) == 500


def test_a_core_second_a_line_costs_what_a_core_hour_does_by_its_part() -> None:
    assert dollars_of(cpu_us=3_600.0, core_hour=0.04) == pytest.approx(0.04)


def test_a_child_is_measured_by_itself() -> None:
    held = b"x" * (64 << 20)  # memory that a fork of ours would begin with
    sample = measured([sys.executable, "-S", "-c", "sum(range(3_000_000))"], {})
    assert len(held) / 1e6 > sample["peak_mb"] > 2
    assert 0.01 < sample["cpu_s"] <= sample["s"] + 0.05


def test_a_command_that_fails_is_told() -> None:
    with pytest.raises(AssertionError, match="no good"):
        measured([sys.executable, "-c", "import sys; sys.exit('no good')"], {})


def test_a_delayed_server_answers_after_its_time_and_tells_when_it_was_asked() -> None:
    with running_delayed(0.05) as url:
        before = time.time()
        request = urllib.request.Request(f"{url}/v1/chat/completions", data=b"{}")
        with urllib.request.urlopen(request) as response:
            assert response.read() == ANSWER
        took = time.time() - before
        with urllib.request.urlopen(f"{url}/arrivals") as response:
            [arrival] = json.load(response)
    assert took >= 0.05
    assert before <= arrival <= before + took


def test_the_pattern_of_run_batch_answers_every_line_in_the_order_of_the_file(tmp_path: Path) -> None:
    with running_delayed(0) as url:
        sample = run_pattern(tmp_path, url, LINES)
    outputs = [json.loads(line) for line in (tmp_path / "pattern-out.jsonl").read_text().splitlines()]
    assert [output["custom_id"] for output in outputs] == [f"row-{n:06d}" for n in range(LINES)]
    assert {output["response"]["body"]["usage"]["total_tokens"] for output in outputs} == {246}
    assert sample["s"] > 0
