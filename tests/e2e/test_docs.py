"""The commands of the documentation that need one machine, page by page, as they are printed."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, sessions
from tests.docs.shell import shell
from tests.e2e.installation import BIN, chat_lines, running_stub

SESSIONS = sessions("local")


@pytest.fixture
def model() -> Iterator[None]:
    """The model server that the pages speak of."""
    with running_stub(latency_s=0.02, port=8000):
        yield


@pytest.mark.parametrize("page", SESSIONS, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_commands_of_a_page_work_as_printed(page: Path, model: None, tmp_path: Path) -> None:
    (tmp_path / "my_batch_input.jsonl").write_bytes(chat_lines(["one", "two", "fail:400"], "llama3.2:1b")[0])
    with shell(tmp_path, {"PATH": f"{BIN}:{os.environ['PATH']}"}) as session:
        for fence in SESSIONS[page]:
            session.run(fence)
