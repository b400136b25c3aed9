"""The pages of the documentation, and the shell commands in them with what the page says of running them.

A fence of shell commands follows a comment that readers do not see: `<!-- runs: local -->` (a machine with a model
server on port 8000), `<!-- runs: cluster -->` (a Kubernetes with the tools), both with `, until it says "WORDS"` for a
program that stays, or `<!-- not run: REASON -->`. All fences of a page that run in the same place are one session.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("docs/decisions/*.md")])
REASONS = {
    "needs Google's cloud": "gcloud and Terraform",
    "needs Docker": "kind",
    "needs the Prometheus operator": "its resources; that the chart makes them is tested by their schemas",
}
"""Why a command may stand in a page though no test runs it."""
_FENCE = re.compile(
    r"(?:<!-- (?P<says>[^\n]*) -->\n+)?^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)
_RUNS = re.compile(r'runs: (?P<where>local|cluster)(?:, until it says "(?P<words>[^"]+)")?')
_NOT_RUN = re.compile(r"not run: (?P<reason>.+)")


@dataclass(frozen=True)
class Fence:
    """A piece of code in a page.

    Attributes:
        says: the comment above it.
        line: where it begins.
    """

    page: Path
    line: int
    language: str
    text: str
    says: str

    @property
    def where(self) -> str | None:
        """Where a test runs it, if one does."""
        return found["where"] if (found := _RUNS.fullmatch(self.says)) else None

    @property
    def words(self) -> str | None:
        """What it prints when it is ready, if it stays."""
        return found["words"] if (found := _RUNS.fullmatch(self.says)) else None

    @property
    def reason(self) -> str | None:
        """Why no test runs it, if none does."""
        return found["reason"] if (found := _NOT_RUN.fullmatch(self.says)) else None

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def fences(page: Path) -> Iterator[Fence]:
    """Give all code of a page."""
    text = page.read_text()
    for found in _FENCE.finditer(text):
        line = text.count("\n", 0, found.start("language")) + 1
        yield Fence(page, line, found["language"], found["text"], found["says"] or "")


def sessions(where: str) -> dict[Path, list[Fence]]:
    """Give the commands that run in a place, by page."""
    found = {page: [fence for fence in fences(page) if fence.where == where] for page in PAGES}
    return {page: some for page, some in found.items() if some}
