"""A batch on real processes, and what a Prometheus, a Grafana and a reader of logs see of it."""

import json
import re
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError

import pytest
from openai.types import Batch
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.conftest import Starter
from tests.e2e.installation import MODEL, Installation, Stub, audit, chat_lines, wait_until
from tests.layout.sources import ROOT
from tests.monitoring.conftest import Promtool
from tests.monitoring.queries import Use, expressions, uses
from tests.ports import free_port

PROMPTS = [f"secret prompt {n}" for n in range(40)]
FAULTY = ["secret fail:400 prompt", "secret fail-once:503 prompt", "secret drop prompt", "secret slow:20 prompt"]
SECRET = "secret"
NOT_ABOUT_A_BATCH = re.compile(r"operator\.|sweep\.done|sweep\.passed|resync\.|watch\.|cluster\.")
HISTOGRAM = re.compile(r"_(?:bucket|count|sum)$")
ROLES = ["nightshift-api", "nightshift-operator", "nightshift-processor run"]


def scrape(port: int) -> str:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            return str(answer.read().decode())
    except URLError:
        return ""


def value_of(page: str, metric: str) -> float:
    """Add up the samples of a metric."""
    found = re.findall(rf"^{metric}(?:{{.*}})? (\S+)$", page, re.MULTILINE)
    return sum(map(float, found))


@dataclass(frozen=True)
class Seen:
    """What was seen of one batch that has been run."""

    batch: Batch
    pages: dict[str, str]
    log: list[dict[str, object]]
    text: str


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory, stub: Stub) -> Iterator[Seen]:
    port = free_port(beside=7)
    environ = {"NIGHTSHIFT_METRICS_PORT": str(port), "NIGHTSHIFT_FLUSH_INTERVAL_S": "0.1"}
    installation = Installation(tmp_path_factory.mktemp("seen") / "data", stub.url, environ=environ)
    installation.start()
    try:
        yield see(installation, port)
    finally:
        assert installation.stop() == 0


def see(installation: Installation, port: int) -> Seen:
    lines, ids = chat_lines([*PROMPTS, *FAULTY])
    batch = installation.submit(lines)

    def page_of_run() -> str:  # while its last line is slow
        page = scrape(port + 2)
        return page if value_of(page, "nightshift_processor_rows_total") >= len(ids) - 1 else ""

    run = str(wait_until(page_of_run, "a processor with all rows but the slow one"))
    ended = installation.wait(batch.id)
    audit(installation, ended, ids)
    installation.client().batches.list()

    def page_of_operator() -> str:
        page = scrape(port + 1)
        return page if value_of(page, "nightshift_batch_ends_total") else ""

    operator = str(wait_until(page_of_operator, "an operator that has counted the end"))
    pages = dict(zip(ROLES, (scrape(port), operator, run), strict=True))
    text = installation.log
    log = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    assert len(log) == len(text.splitlines()), "every line is an object"
    return Seen(ended, pages, log, text)


def told_metrics() -> dict[str, dict[str, tuple[str, set[str]]]]:
    """Read the page of the documentation: type and labels by metric, by role."""
    told: dict[str, dict[str, tuple[str, set[str]]]] = {}
    for line in (ROOT / "docs" / "metrics.md").read_text().splitlines():
        if line.startswith("## "):
            told[line[3:]] = {}
        elif row := re.match(r"\| `(\w+)` \| (\w+) \| (.*?) \|", line):
            told[list(told)[-1]][row[1]] = (row[2], set(re.findall(r"`(\w+)`", row[3])))
    return told


TOLD = told_metrics()


# --- metrics ----------------------------------------------------------------------------------------------------------


def test_roles_are_told_apart_by_the_page_of_metrics() -> None:
    assert list(TOLD) == ROLES


@pytest.mark.parametrize("role", ROLES)
def test_what_a_role_shows_is_what_prometheus_reads(seen: Seen, promtool: Promtool, role: str) -> None:
    assert promtool("check", "metrics", given=seen.pages[role]) == ""


@pytest.mark.parametrize("role", ROLES)
def test_a_role_shows_what_the_documentation_says_and_no_more(seen: Seen, role: str) -> None:
    shown = re.findall(r"^# TYPE (nightshift_\w+) (\w+)$", seen.pages[role], re.MULTILINE)
    assert dict(shown) == {name: kind for name, (kind, _) in TOLD[role].items()}
    for family in text_string_to_metric_families(seen.pages[role]):
        for sample in family.samples:
            name = sample.name if sample.name in TOLD[role] else HISTOGRAM.sub("", sample.name)
            if name.startswith("nightshift_"):
                assert set(sample.labels) - {"le"} == TOLD[role][name][1]


def test_labels_hold_nothing_that_a_user_has_written_and_no_id(seen: Seen) -> None:
    pages = "".join(seen.pages.values())
    assert SECRET not in pages
    assert "row-" not in pages
    assert seen.batch.id.removeprefix("batch_") not in pages
    assert str(seen.batch.input_file_id) not in pages


def test_the_figures_are_those_of_the_batch(seen: Seen) -> None:
    counts, usage = seen.batch.request_counts, seen.batch.usage
    assert counts
    assert usage
    operator, run, api = (seen.pages[role] for role in ("nightshift-operator", "nightshift-processor run", ROLES[0]))
    of_model = f'model="{MODEL}"'
    assert f'nightshift_batch_rows_total{{{of_model},outcome="completed"}} {counts.completed:.1f}' in operator
    assert f'nightshift_batch_rows_total{{{of_model},outcome="failed"}} {counts.failed:.1f}' in operator
    assert f'nightshift_batch_tokens_total{{kind="input",{of_model}}} {usage.input_tokens:.1f}' in operator
    assert f'nightshift_batch_ends_total{{{of_model},phase="COMPLETED"}} 1.0' in operator
    assert f'nightshift_processor_retries_total{{{of_model},result="503"}} 1.0' in run
    assert f'nightshift_processor_retries_total{{{of_model},result="broken"}} 1.0' in run
    assert f'nightshift_processor_requests_total{{{of_model},result="4xx"}} 1.0' in run
    assert 'nightshift_http_requests_total{method="POST",route="/batches",status="200"} 1.0' in api


# --- dashboard and alerts ---------------------------------------------------------------------------------------------


def test_every_expression_names_a_metric() -> None:
    assert {where for where, _ in expressions()} - {use.where for use in uses()} == set()


@pytest.mark.parametrize("use", [*uses()], ids=lambda use: f"{use.where}: {use.metric}")
def test_an_expression_names_only_what_a_role_really_shows(seen: Seen, use: Use) -> None:
    name = use.metric if any(use.metric in metrics for metrics in TOLD.values()) else HISTOGRAM.sub("", use.metric)
    showing = [role for role in ROLES if re.search(rf"^# TYPE {name} ", seen.pages[role], re.MULTILINE)]
    assert showing
    for role in showing:
        kind, labels = TOLD[role][name]
        assert use.labels <= labels | ({"le"} if kind == "histogram" else set())


def test_every_metric_of_a_role_is_on_the_dashboard_or_in_an_alert() -> None:
    used = {use.metric for use in uses()} | {HISTOGRAM.sub("", use.metric) for use in uses()}
    assert {name for metrics in TOLD.values() for name in metrics} - used == set()


# --- logs -------------------------------------------------------------------------------------------------------------


def test_no_line_holds_what_a_user_has_written(seen: Seen) -> None:
    assert SECRET not in seen.text
    assert "row-" not in seen.text


def test_every_line_of_a_processor_has_the_batch(seen: Seen) -> None:
    lines = [line for line in seen.log if line["role"] == "processor"]
    assert {line["step"] for line in lines} == {"run", "seal"}
    assert [line for line in lines if line.get("batch") != seen.batch.id] == []


def test_every_line_of_the_operator_about_a_batch_has_it(seen: Seen) -> None:
    lines = [line for line in seen.log if line["role"] == "operator"]
    about = [line for line in lines if not NOT_ABOUT_A_BATCH.match(str(line["event"]))]
    assert {"batch.phase_changed", "job.created", "job.deleted"} <= {line["event"] for line in about}
    assert [line for line in about if line.get("batch") != seen.batch.id] == []
    assert [line for line in lines if line not in about and "batch" in line] == []


def test_lines_of_the_api_about_a_batch_have_it(seen: Seen) -> None:
    lines = [line for line in seen.log if line["event"] == "http.request" and "/batches" in str(line["path"])]
    assert {line.get("batch") for line in lines} == {seen.batch.id, None}
    assert [line for line in lines if not line.get("batch") and line["method"] != "GET"] == []


# --- off --------------------------------------------------------------------------------------------------------------


def test_without_a_port_nothing_listens_and_nothing_is_said(start: Starter) -> None:
    installation = start()
    listening = {int(port) for pid in installation.pids() for port in ports_of(pid)}
    assert listening == {installation.port}
    assert "metrics" not in installation.log


def ports_of(pid: int) -> list[str]:
    """Tell on which ports a process listens."""
    sockets = {str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir() if link.is_symlink()}
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return [str(int(row[1].split(":")[1], 16)) for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in sockets]
