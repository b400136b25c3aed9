"""Real processes: a stub model server, and installations of `nightshift local` in folders of their own."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.installation import Installation, Stub, running_stub

Starter = Callable[..., Installation]


@pytest.fixture(scope="session")
def stub() -> Iterator[Stub]:
    """A model that takes 20 ms."""
    with running_stub(latency_s=0.02) as started:
        yield started


@pytest.fixture
def start(tmp_path: Path, stub: Stub) -> Iterator[Starter]:
    """Start installations; whatever still runs at the end is stopped, and must leave no process behind."""
    started: list[Installation] = []

    def start_one(*options: str, name: str = "data", **environ: Any) -> Installation:
        installation = Installation(tmp_path / name, stub.url, list(options), {k: str(v) for k, v in environ.items()})
        started.append(installation)
        installation.start()
        return installation

    yield start_one
    for installation in started:
        if installation.process is not None:
            assert installation.stop() == 0
        assert not installation.pids()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, stub: Stub) -> Iterator[Installation]:
    """One installation for the tests of a module that leave it as they found it."""
    installation = Installation(tmp_path_factory.mktemp("shared") / "data", stub.url)
    installation.start()
    yield installation
    assert installation.stop() == 0
    assert not installation.pids()
