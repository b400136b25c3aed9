"""What the pages promise exists: settings, links, targets of the Makefile."""

import re
import unicodedata
from pathlib import Path

import pytest

from nightshift_api.settings import Settings as ApiSettings
from nightshift_cli.check import CheckSettings
from nightshift_cli.local.runner import RunnerSettings
from nightshift_cli.main import PROGRAM as CLI
from nightshift_crds.settings import PREFIX, Settings
from nightshift_operator.settings import Settings as OperatorSettings
from nightshift_processor.settings import InspectSettings, RunSettings, SealSettings
from tests.layout.sources import ROOT

ROLES: list[type[Settings]] = [
    ApiSettings,
    OperatorSettings,
    RunnerSettings,
    CheckSettings,
    InspectSettings,
    RunSettings,
    SealSettings,
]
PAGES = sorted(
    page for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")]
)
FENCE = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?<!!)\[[^\]\[]*\]\(\s*<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\)")
TARGET = re.compile(r"(?:`|^\s*\$?\s*)make ([a-z][a-z-]*)", re.MULTILINE)


def prose_of(page: Path) -> str:
    return FENCE.sub("", page.read_text())


def anchors_of(page: Path) -> set[str]:
    """The anchors that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#{1,6} +(.+?) *#*$", prose_of(page), re.MULTILINE)
    return {anchor_of(heading) for heading in headings}


def anchor_of(heading: str) -> str:
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
    return "".join(c for c in text if c in " -_" or unicodedata.category(c)[0] in "LN").replace(" ", "-")


def leads_somewhere(page: Path, link: str) -> bool:
    path, _, anchor = link.partition("#")
    target = (page.parent / path).resolve() if path else page
    return target.exists() and (not anchor or target.suffix != ".md" or anchor in anchors_of(target))


@pytest.mark.parametrize("role", ROLES, ids=lambda role: f"{role.__module__}.{role.__name__}")
def test_every_setting_stands_on_its_page_with_a_meaning(role: type[Settings]) -> None:
    page = (ROOT / "docs" / "settings.md").read_text()
    for name, info in role.model_fields.items():
        variable = info.validation_alias if isinstance(info.validation_alias, str) else "JOB_COMPLETION_INDEX"
        assert re.search(rf"^\| `{variable}` \|.*\| \S.+ \|$", page, re.MULTILINE), name
        assert info.description, f"{name} says nothing of itself"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_to_ourselves_leads_somewhere(page: Path) -> None:
    links = [link for link in LINK.findall(prose_of(page)) if not re.match(r"[a-z]+:", link)]
    assert [link for link in links if not leads_somewhere(page, link)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_target_that_a_page_names_is_in_the_makefile(page: Path) -> None:
    targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(TARGET.findall(page.read_text())) - targets == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_variable_that_a_page_names_is_a_setting(page: Path) -> None:
    known = {f"{PREFIX}{name.upper()}" for role in ROLES for name in role.model_fields}
    known |= {name for option in CLI.options for name in option.envvar or ()}
    known.add("NIGHTSHIFT_TEST_KUBECONFIG")  # the tests' own
    named = set(re.findall(rf"\b{PREFIX}[A-Z0-9_]*[A-Z0-9]\b", page.read_text()))
    assert named - known == set()


@pytest.mark.parametrize(
    ("heading", "anchor"),
    [
        ("The life of a batch", "the-life-of-a-batch"),
        ("`make check`, fast", "make-check-fast"),
        ("[a](b) - c", "a---c"),
    ],
)
def test_an_anchor_is_spelt_as_github_spells_it(heading: str, anchor: str) -> None:
    assert anchor_of(heading) == anchor
