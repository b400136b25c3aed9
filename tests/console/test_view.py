"""What the console looks like and weighs, and who can use it: on a scene that stands still."""

from typing import Any

import pytest

from nightshift_operator.conditions import Reason
from tests.console.browser import Tab, find_violations, open_tab
from tests.console.conftest import Opener
from tests.console.scene import KEY, STORIES
from tests.e2e.installation import ROOT, wait_until

WEIGHT = 100_000
STATIC = ROOT / "api" / "nightshift_api" / "console" / "static"


def finish_animations(element: Any) -> None:
    """What fades in has no contrast yet; what pulses for ever has."""
    element.evaluate(
        """e => Promise.all(
            e.getAnimations({subtree: true})
                .filter(animation => animation.effect.getTiming().iterations === 1)
                .map(animation => animation.finished)
        )"""
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(looking: Opener, axe: str, scheme: str) -> None:
    opened = looking(color_scheme=scheme)
    assert find_violations(opened.page, axe) == []
    for story in (STORIES[0], STORIES[2], STORIES[5]):
        detail = opened.show(story.name or "")
        detail.locator(".files").wait_for()
        finish_animations(detail)
        if detail.get_by_role("button", name="Actions").count():
            detail.get_by_role("button", name="Actions").click()
        assert find_violations(opened.page, axe) == []
        opened.page.get_by_role("button", name="Close").first.click()
    opened.page.get_by_role("button", name="New batch").click()
    bad = {"name": "in.jsonl", "mimeType": "text/plain", "buffer": b"{oops\n"}
    opened.page.locator("#create input[type=file]").set_input_files(bad)
    opened.page.locator(".verdict.bad").wait_for()
    finish_animations(opened.page.locator("#create"))
    assert find_violations(opened.page, axe) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious_before_sign_in(browser: Any, stage: str, axe: str, scheme: str) -> None:
    with open_tab(browser, stage, color_scheme=scheme) as opened:
        opened.open()
        opened.page.get_by_label("API key").wait_for()
        assert find_violations(opened.page, axe) == []


def test_the_first_view_is_small(browser: Any, stage: str) -> None:
    with open_tab(browser, stage) as opened:
        sizes: list[int] = []
        session = opened.page.context.new_cdp_session(opened.page)
        session.send("Network.enable")
        session.on("Network.loadingFinished", lambda done: sizes.append(int(done["encodedDataLength"])))
        opened.sign_in(KEY)
        opened.page.locator("tr[data-batch]").first.wait_for()
        assert 20_000 < sum(sizes) < WEIGHT


@pytest.mark.parametrize("width", [320, 390, 768])
def test_nothing_is_wider_than_the_screen(looking: Opener, width: int) -> None:
    opened = looking(viewport={"width": width, "height": 800})
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= width
    assert opened.page.locator(".tabs").evaluate("e => e.scrollWidth <= e.clientWidth"), "every filter is seen"
    detail = opened.show(STORIES[0].name or "")
    detail.locator(".files").wait_for()
    finish_animations(detail)
    assert detail.locator(".drawer-body").evaluate("e => e.scrollWidth <= e.clientWidth")
    assert detail.evaluate("e => e.getBoundingClientRect().right") <= width


def wait_for_rows(tab: Tab, count: int) -> None:
    wait_until(lambda: tab.page.locator("tr[data-batch]").count() == count, f"{count} rows", timeout_s=10)


def test_a_filter_and_a_search_are_asked_of_the_server_and_stand_in_the_address(looking: Opener) -> None:
    opened = looking()
    opened.page.get_by_role("button", name="Failed").click()
    wait_for_rows(opened, 1)
    opened.row("Legal clauses").wait_for()
    opened.page.get_by_role("button", name="All").click()
    opened.page.get_by_label("Search by name, model or id").fill("TRIAGE")
    opened.page.wait_for_url("**?search=TRIAGE")
    wait_for_rows(opened, 2)
    opened.page.reload()
    wait_for_rows(opened, 2)
    opened.page.get_by_label("Search by name, model or id").fill("BGE")
    wait_for_rows(opened, 3)
    opened.page.get_by_label("Search by name, model or id").fill("no such thing")
    opened.page.get_by_role("heading", name="No batch matches").wait_for()
    opened.page.get_by_role("button", name="Show all batches").click()
    opened.row("Legal clauses").wait_for()


def test_a_detail_has_an_address_of_its_own(looking: Opener) -> None:
    opened = looking()
    opened.show("Review sentiment, Q3")
    address = opened.page.url.removeprefix(f"{opened.url}/console")
    opened.page.go_back()
    opened.page.locator("#detail:not([open])").wait_for(state="attached")
    opened.open(address)
    opened.page.locator("#detail").get_by_role("heading", name="Review sentiment, Q3").wait_for()
    opened.open("/batches/batch_00000000-0000-7000-8000-000000000000")
    opened.page.get_by_text("There is no such batch in this namespace").wait_for()


def test_the_detail_tells_what_the_guide_lists(looking: Opener) -> None:
    shown = looking().show(STORIES[0].name or "").inner_text()
    for said in (
        *("30,912", "41", "17,047", "nvidia-h100-80gb", "a3-highgpu-1g", "llama3.3:70b"),
        *("Time left", "$1.37", "Per 1M tokens", "Expires in 23 h"),
        *("18,918,144", "4,574,976", "23,493,120", "760", "Created", "Started"),
    ):  # fmt: skip
        assert said in shown, said


def test_the_list_tells_what_failed_and_how_far_it_is(looking: Opener) -> None:
    opened = looking()
    assert "41 failed \u00b7 64%" in opened.row(STORIES[0].name or "").inner_text()
    assert opened.row("Judge").locator(".progress").inner_text().split() == ["4,000", "of", "4,000", "100%"]


@pytest.mark.parametrize("width", [390, 1280])
def test_the_output_of_a_batch_that_has_ended_is_taken_without_scrolling(looking: Opener, width: int) -> None:
    opened = looking(viewport={"width": width, "height": 700})
    detail = opened.show("Review sentiment, Q3")
    finish_animations(detail)
    taken = detail.get_by_role("link", name="Download output", exact=True)
    assert taken.evaluate("e => e.getBoundingClientRect().bottom") < 100
    below = detail.get_by_role("link", name="Download output file")
    assert taken.get_attribute("href") == below.get_attribute("href")


@pytest.mark.parametrize("name", [STORIES[0].name, "Legal clauses, extraction"])
def test_there_is_no_output_to_take_of_one_that_runs_or_never_ran(looking: Opener, name: str) -> None:
    detail = looking().show(name)
    detail.locator(".files").wait_for()
    assert detail.get_by_role("link", name="Download output", exact=True).count() == 0


def test_what_has_no_cost_yet_says_so_once(looking: Opener) -> None:
    cost = looking().show(STORIES[2].name or "").get_by_role("region", name="Cost and tokens")
    assert cost.inner_text().split("\n")[-1] == "Nothing yet."


def test_why_a_batch_waits_is_told_in_words(looking: Opener) -> None:
    opened = looking()
    name = STORIES[2].name or ""
    assert "Waiting" in opened.row(name).first.inner_text()
    banner = opened.show(name).locator(".banner")
    banner.wait_for()
    assert "Waiting for a node that can take it" in banner.inner_text()
    assert "Insufficient nvidia.com/gpu" in banner.inner_text()


def test_every_reason_that_can_hold_a_batch_up_has_words() -> None:
    ends = {"Completed", "Failed", "Expired", "Cancelled"}
    goes_on = {"InputAccepted", "InputRefused", "Running", "Sealing", "TearingDown"}
    cancelling = {"SealFailed"}  # of a batch that is being cancelled the conditions tell, below
    source = (STATIC / "model.js").read_text()
    known = source[source.index("REASONS = {") : source.index("};", source.index("REASONS = {"))]
    assert {reason for reason in Reason if f"{reason}:" not in known} == ends | goes_on | cancelling


def test_a_theme_is_kept(looking: Opener) -> None:
    opened = looking(color_scheme="light")
    before = opened.page.evaluate("getComputedStyle(document.body).backgroundColor")
    opened.page.get_by_role("button", name="System theme").click()
    opened.page.get_by_role("button", name="Light theme").click()
    opened.page.reload()
    opened.page.get_by_role("button", name="Dark theme").wait_for()
    assert opened.page.evaluate("getComputedStyle(document.body).backgroundColor") != before
