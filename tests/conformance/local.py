"""`nightshift local` as a target, with what can be done to it from inside."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from tests.conformance.target import Target
from tests.e2e.installation import KEY, MODEL, Installation

SLASHED, OTHER_KEY = "team/stub:1", "sk-of-another-team"


@dataclass(frozen=True)
class Inside:
    """What is done to an installation so that it answers as it seldom does."""

    installation: Installation

    @contextmanager
    def without_bucket(self) -> Iterator[None]:
        """Let nothing be written to the bucket."""
        drafts = self.installation.data_dir / "bucket" / ".unfinished"
        away = drafts.rename(drafts.with_name(".away"))
        try:
            yield
        finally:
            away.rename(drafts)

    @contextmanager
    def apart(self, **environ: int) -> Iterator[Target]:
        """Give another installation, to be hurt while others use this one."""
        folder = self.installation.data_dir.parent / f"apart-{uuid4()}"
        folder.mkdir()
        with a_local_target(folder, self.installation.model_url, **environ) as target:
            yield target


@contextmanager
def a_local_target(folder: Path, model_url: str, **environ: Any) -> Iterator[Target]:
    options = ["--api-key", f"{OTHER_KEY}=other", "--model", f"{SLASHED}={model_url}"]
    environment = {name: str(value) for name, value in environ.items()}
    installation = Installation(folder / "data", model_url, options, environment)
    installation.start()
    try:
        yield Target(installation.base_url, KEY, (MODEL, SLASHED), OTHER_KEY, Inside(installation))
    finally:
        assert installation.stop() == 0
    assert not installation.pids()
