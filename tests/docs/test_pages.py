"""The documentation holds together: links lead somewhere, and of every command it is known where it runs."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from nightshift_crds.models import RESOURCES
from tests.docs.pages import PAGES, REASONS, ROOT, Fence, fences

_LINK = re.compile(r"(?<!\!)\[[^\]]*\]\((?P<target>[^)\s]+)\)|!\[[^\]]*\]\((?P<image>[^)\s]+)\)")
_HEADING = re.compile(r"^#+ +(.*)$", re.MULTILINE)
_CODE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_KINDS = {resource.__name__: resource for resource in RESOURCES}


def _links(page: Path) -> Iterator[str]:
    for found in _LINK.finditer(_CODE.sub("", page.read_text())):
        yield found["target"] or found["image"]


def _anchors(page: Path) -> set[str]:
    """Name the headings of a page as GitHub does."""
    titles = _HEADING.findall(_CODE.sub("", page.read_text()))
    return {re.sub(r"[^\w\- ]", "", title.replace("`", "").lower()).strip().replace(" ", "-") for title in titles}


def _broken(page: Path) -> Iterator[str]:
    for link in _links(page):
        if link.startswith(("https://", "http://")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in _anchors(target)):
            yield link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    assert list(_broken(page)) == []


def test_a_broken_link_is_found(tmp_path: Path) -> None:
    (tmp_path / "there.md").write_text("# A heading, with `code`\n")
    page = tmp_path / "page.md"
    page.write_text("[a](there.md) [b](there.md#a-heading-with-code) [c](gone.md) [d](there.md#gone) ![e](gone.png)")
    assert list(_broken(page)) == ["gone.md", "there.md#gone", "gone.png"]


def _of(language: str) -> list[Fence]:
    return [fence for page in PAGES for fence in fences(page) if fence.language == language]


@pytest.mark.parametrize("fence", _of("sh"), ids=str)
def test_of_every_command_it_is_known_where_it_runs(fence: Fence) -> None:
    assert fence.where or fence.reason in REASONS, (
        f"say above {fence} where it runs, or which of {list(REASONS)} forbids it"
    )


@pytest.mark.parametrize("fence", _of("python"), ids=str)
def test_python_is_python(fence: Fence) -> None:
    ast.parse(fence.text)


@pytest.mark.parametrize("fence", _of("yaml"), ids=str)
def test_manifests_are_what_the_cluster_takes(fence: Fence) -> None:
    for document in yaml.safe_load_all(fence.text):
        if isinstance(document, dict) and (kind := _KINDS.get(document.get("kind", ""))):
            kind.parse(document)
            assert document["apiVersion"] == "nightshift.dev/v1alpha1"


def test_every_page_can_be_reached_from_the_readme() -> None:
    reached, queue = set[Path](), [ROOT / "README.md"]
    while queue:
        page = queue.pop()
        if page in reached or page.suffix != ".md" or not page.exists():
            continue
        reached.add(page)
        queue += [(page.parent / link.partition("#")[0]).resolve() for link in _links(page) if "://" not in link]
    assert [page for page in PAGES if page not in reached and page.parent != ROOT / "docs" / "decisions"] == []
