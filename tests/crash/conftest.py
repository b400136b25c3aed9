"""Installations whose parts may be killed at any time; every start is a fork."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.crash.rig import Rig, running_rig
from tests.crash.slices import ROWS, Slice
from tests.crash.stories import CLOSED, lines_of, rows_of
from tests.crash.table import SETTINGS
from tests.crash.zygote import running_zygote
from tests.e2e.installation import Stub, running_stub
from tests.processor.certificates import Authority
from tests.processor.given import INPUT_KEY
from tests.receiver import SECRET, Receiver, serving, write_endpoints

Rigs = Callable[[str], Rig]


@pytest.fixture(scope="session")
def stub() -> Iterator[Stub]:
    """A model that takes 20 ms."""
    with running_stub(latency_s=0.02) as started:
        yield started


@pytest.fixture(scope="session")
def zygote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_zygote(tmp_path_factory.mktemp("zygote")) as path:
        yield path


@pytest.fixture(scope="module")
def rigs(tmp_path_factory: pytest.TempPathFactory, zygote: str, stub: Stub) -> Iterator[Rigs]:
    """Give an installation by its name; it is started when it is first asked for, and serves the whole module."""
    folder, started = tmp_path_factory.mktemp("rigs"), dict[str, Rig]()
    with ExitStack() as stack:

        def find(name: str) -> Rig:
            if name not in started:
                receiver = _listen(folder, stack) if name == "telling" else None
                told = {"webhooks_file": str(folder / "webhooks.json")} if receiver else {}
                authorities = {"webhook_ca_file": str(receiver.authority.ca_file)} if receiver else {}
                rig = running_rig(folder / name, zygote, stub.url, **SETTINGS[name], **told, **authorities)
                started[name] = stack.enter_context(rig)
                started[name].receiver = receiver
            return started[name]

        yield find


def _listen(folder: Path, stack: ExitStack) -> Receiver:
    """Start a receiver of webhooks that takes everything at one path and wants nothing at another."""
    receiver = Receiver(Authority(folder), always={CLOSED: 410})
    stack.enter_context(serving(receiver))
    one = {"name": "billing", "url": receiver.url, "secrets": [SECRET]}
    write_endpoints(folder / "webhooks.json", one, one | {"name": "closed", "url": receiver.url_of(CLOSED)})
    return receiver


@pytest.fixture
def slice_(tmp_path: Path, zygote: str, stub: Stub) -> Slice:
    for name in ("armed", "fired"):
        (tmp_path / name).mkdir()
    content = lines_of(rows_of(*ROWS))
    path = tmp_path / "bucket" / INPUT_KEY
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    return Slice(tmp_path, zygote, stub.url, content)
