"""The console in a real Chromium, before a running installation: what a person does there, and that it is live."""

import json
from pathlib import Path
from typing import Any

import pytest

from nightshift_crds.keys import render_keys
from tests.console.browser import Tab
from tests.console.conftest import LEAVER, Opener
from tests.e2e.installation import KEY, MODEL, Installation, a_chat_line, chat_lines, wait_until

PROBE = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"


def drop(tab: Tab, name: str, content: bytes) -> None:
    """Drop a file onto the page, as an explorer of files does."""
    transfer = tab.page.evaluate_handle(
        """([name, text]) => {
            const transfer = new DataTransfer();
            transfer.items.add(new File([text], name));
            return transfer;
        }""",
        [name, content.decode()],
    )
    tab.page.dispatch_event("body", "dragover", {"dataTransfer": transfer})
    tab.page.dispatch_event("body", "drop", {"dataTransfer": transfer})


def mark(tab: Tab) -> None:
    """Leave something behind that a reload would take away."""
    tab.page.evaluate("window.isSame = true")


def assert_not_reloaded(tab: Tab) -> None:
    assert tab.page.evaluate("window.isSame") is True


def wait_for_status(tab: Tab, status: str) -> None:
    tab.page.locator("#detail .pill", has_text=status).wait_for()


def act(tab: Tab, name: str) -> None:
    """Choose from the menu of the detail."""
    tab.page.get_by_role("button", name="Actions").click()
    tab.page.locator(".menu .items").get_by_role("button", name=name).click()


def named(name: str) -> dict[str, Any]:
    return {"metadata": {"cast.ai/batch-name": name}}


def test_a_file_that_is_dropped_becomes_a_batch_that_moves_before_ones_eyes(tab: Opener) -> None:
    opened = tab()
    mark(opened)
    lines, ids = chat_lines([f"dropped {n}" for n in range(60)] + ["slow:3 dropped"])
    drop(opened, "spring.jsonl", lines)
    page = opened.page
    page.get_by_text("Ready: 61 requests").wait_for()
    page.get_by_label("Name optional").fill("Dropped from a folder")
    page.get_by_role("button", name="Create batch").click()
    page.locator("#detail").get_by_role("heading", name="Dropped from a folder").wait_for()
    seen = page.evaluate_handle(
        """() => {
            const seen = new Set();
            const look = () => seen.add(document.querySelector("#detail .bar")?.getAttribute("aria-valuenow"));
            new MutationObserver(look).observe(document.body, {subtree: true, childList: true, attributes: true});
            return seen;
        }"""
    )
    wait_for_status(opened, "Completed")
    assert page.evaluate("seen => [...seen].some(at => 0 < at && at < 61)", seen), "progress was shown on the way"
    with page.expect_download() as download:
        page.get_by_role("link", name="Download output file").click()
    rows = [json.loads(line) for line in Path(download.value.path()).read_text().splitlines()]
    assert sorted(row["custom_id"] for row in rows) == sorted(ids)
    assert download.value.suggested_filename.endswith("_output.jsonl")
    page.keyboard.press("Escape")
    assert opened.row("Dropped from a folder").locator(".progress").inner_text().split() == [
        *["61", "of", "61"],
        "100%",
    ]
    assert_not_reloaded(opened)


def test_the_list_shows_what_others_do_as_they_do_it(tab: Opener, installation: Installation) -> None:
    opened = tab()
    mark(opened)
    batch = installation.submit(a_chat_line("row", "from elsewhere"), **named("From elsewhere"))
    opened.row("From elsewhere").wait_for()
    installation.wait(batch.id)
    opened.row("From elsewhere").locator(".pill", has_text="Completed").wait_for()
    assert_not_reloaded(opened)


def test_a_batch_is_cancelled_after_a_question(tab: Opener, installation: Installation) -> None:
    lines, _ = chat_lines([f"quick {n}" for n in range(20)] + [f"slow:300 {n}" for n in range(20)])
    batch = installation.submit(lines, **named("To be cancelled"))
    opened = tab()
    opened.show("To be cancelled")
    wait_for_status(opened, "In progress")
    act(opened, "Cancel batch")
    opened.page.get_by_role("button", name="Keep it running").click()
    assert installation.client().batches.retrieve(batch.id).status == "in_progress"
    act(opened, "Cancel batch")
    opened.page.locator("#confirm").get_by_role("button", name="Cancel batch").click()
    wait_for_status(opened, "Cancelled")
    assert installation.client().batches.retrieve(batch.id).status == "cancelled"


def test_what_failed_is_run_again_in_a_new_batch(tab: Opener, installation: Installation) -> None:
    lines, ids = chat_lines(["fine", "also fine", "fail-once:400 then fine"])
    first = installation.wait(installation.submit(lines, **named("With a failure")).id)
    assert first.request_counts is not None
    assert first.request_counts.failed == 1
    opened = tab()
    mark(opened)
    detail = opened.show("With a failure")
    detail.get_by_role("button", name="Rerun what failed").first.click()
    detail.get_by_text("A new batch runs what failed").wait_for()
    detail.locator(".rows div", has_text="Rerun of").get_by_role("link", name=first.id).wait_for()
    wait_for_status(opened, "Completed")
    with opened.page.expect_download() as download:
        detail.get_by_role("link", name="Download output file").click()
    rows = [json.loads(line) for line in Path(download.value.path()).read_text().splitlines()]
    assert sorted(row["custom_id"] for row in rows) == sorted(ids), "what had succeeded is in it too"
    assert opened.page.locator("tr[data-batch]", has_text="With a failure").count() == 2
    assert_not_reloaded(opened)


def test_a_batch_is_suspended_and_resumed(tab: Opener, installation: Installation) -> None:
    lines, _ = chat_lines([f"slow:1 {n}" for n in range(12)])
    batch = installation.submit(lines, **named("To be suspended"))
    opened = tab()
    opened.show("To be suspended")
    wait_for_status(opened, "In progress")
    act(opened, "Suspend")
    wait_for_status(opened, "Suspended")
    opened.page.locator(".banner", has_text="Nothing runs until it is resumed").wait_for()
    act(opened, "Resume")
    wait_for_status(opened, "Completed")
    assert installation.client().batches.retrieve(batch.id).status == "completed"


def test_errors_are_grouped_by_what_they_are(tab: Opener, installation: Installation) -> None:
    lines, _ = chat_lines(["fine", *(f"fail:400 {n}" for n in range(3)), "not-json"])
    installation.wait(installation.submit(lines, **named("Some go wrong")).id)
    detail = tab().show("Some go wrong")
    groups = detail.locator(".groups li")
    groups.first.wait_for()
    assert [text.split()[0] for text in groups.all_inner_texts()] == ["3\u00d7", "1\u00d7"]
    assert "All 4 lines of the error file." in detail.inner_text()


def test_the_checks_before_sending_say_what_the_server_would(tab: Opener, installation: Installation) -> None:
    other = {"custom_id": "x", "method": "POST", "url": "/v1/embeddings", "body": {"model": MODEL, "input": "x"}}
    bad = [
        a_chat_line("good", "x"),
        b"\n",
        b"{oops\n",
        b"[1]\n",
        b'{"custom_id": "no-body", "method": "POST", "url": "/v1/chat/completions"}\n',
        a_chat_line("good", "twice"),
        a_chat_line("other-model", "x", model="nobody:1"),
        json.dumps(other).encode() + b"\n",
        b'{"custom_id": 7, "method": "POST", "url": "/v1/chat/completions", "body": {}}\n',
        a_chat_line("", "x"),
        a_chat_line("s", "x").replace(b'"messages"', b'"stream": true, "messages"'),
        a_chat_line("n", "x").replace(b'"messages"', b'"massages"'),
        a_chat_line("g", "x").replace(b'"POST"', b'"GET"'),
        a_chat_line("nan", "x").replace(b'"messages"', b'"t": NaN, "messages"'),
    ]
    content = b"".join(bad)
    batch = installation.wait(installation.submit(content).id)
    assert batch.errors is not None
    served = {(error.line, error.code) for error in batch.errors.data or []}
    opened = tab()
    drop(opened, "bad.jsonl", content)
    problems = opened.page.locator(".verdict.bad li")
    problems.first.wait_for()
    told = {(int(line.split()[1]), code) for line, code in (texts(problem) for problem in problems.all())}
    assert told == served
    assert opened.page.get_by_role("button", name="Create batch").is_disabled()


def texts(problem: Any) -> tuple[str, str]:
    return problem.locator(".line-no").inner_text(), problem.locator("code").inner_text()


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("in.csv", b"a,b", "The name ends in .csv; a batch is a .jsonl file"),
        ("in.jsonl", b"", "The file is empty."),
        ("in.jsonl", b"\n\n", "There is no request in the file."),
    ],
)
def test_a_file_that_can_be_no_batch_is_told_so_at_once(tab: Opener, name: str, content: bytes, told: str) -> None:
    opened = tab()
    drop(opened, name, content)
    opened.page.get_by_text(told).wait_for()


def test_a_large_file_is_checked_piece_by_piece_and_the_page_draws_in_between(tab: Opener) -> None:
    opened = tab()
    steps = opened.page.evaluate_handle(
        """model => {
            const steps = new Set();
            const look = () => steps.add(document.querySelector(".checking span")?.textContent);
            new MutationObserver(look).observe(document.body, {subtree: true, childList: true, characterData: true});
            const line = n => JSON.stringify({custom_id: `row-${n}`, method: "POST", url: "/v1/chat/completions",
                body: {model, messages: [{role: "user", content: "x".repeat(1000)}]}});
            const transfer = new DataTransfer();
            transfer.items.add(new File(Array.from({length: 40_000}, (_, n) => line(n) + "\\n"), "large.jsonl"));
            document.body.dispatchEvent(new DragEvent("drop", {dataTransfer: transfer, bubbles: true}));
            return steps;
        }""",
        MODEL,
    )
    opened.page.get_by_text("Ready: 40,000 requests").wait_for()
    assert opened.page.evaluate("steps => steps.size", steps) > 3


def test_text_of_models_and_of_people_is_text(tab: Opener, installation: Installation) -> None:
    lines = a_chat_line(f"row {PROBE}", PROBE) + a_chat_line("bad", f"fail:400 {PROBE}")
    client = installation.client()
    uploaded = client.files.create(file=(f"{PROBE}.jsonl".replace("/", ":"), lines), purpose="batch")
    batch = client.batches.create(
        input_file_id=uploaded.id, endpoint="/v1/chat/completions", completion_window="24h", **named(f"Probe {PROBE}")
    )
    installation.wait(batch.id)
    opened = tab()
    detail = opened.show("Probe <script>")
    detail.locator(".results").wait_for()
    detail.locator(".groups").wait_for()
    shown = detail.inner_text()
    assert f"echo {PROBE}" in shown
    assert f"row {PROBE}" in shown
    assert PROBE.replace("/", ":") in shown
    assert opened.page.locator("img, body script").count() == 0
    assert "owned" not in opened.page.title().replace(PROBE, "")


def test_the_way_from_sign_in_to_a_cancel_needs_no_mouse(tab: Opener, installation: Installation) -> None:
    lines, _ = chat_lines([f"slow:300 {n}" for n in range(4)])
    installation.submit(lines, **named("By keyboard"))
    opened = tab(None)
    page, keyboard = opened.page, opened.page.keyboard
    page.get_by_label("API key").wait_for()
    press_until(opened, "Tab", "API key")
    keyboard.type(KEY)
    keyboard.press("Enter")
    opened.row("By keyboard").wait_for()
    press_until(opened, "Tab", "By keyboard")
    keyboard.press("Enter")
    wait_for_status(opened, "In progress")
    press_until(opened, "Tab", "Actions")
    keyboard.press("Enter")
    press_until(opened, "Tab", "Cancel batch…")
    keyboard.press("Enter")
    press_until(opened, "Tab", "Cancel batch")
    keyboard.press("Enter")
    wait_for_status(opened, "Cancelled")
    keyboard.press("Escape")
    page.locator("#detail:not([open])").wait_for(state="attached")
    assert focused(opened) == "By keyboard"


def focused(tab: Tab) -> str:
    """Name what has the focus, as a screen reader would."""
    said: str = tab.page.evaluate(
        """() => {
            const at = document.activeElement;
            return at.getAttribute("aria-label") ?? (at.labels?.[0] ?? at).textContent.trim();
        }"""
    )
    return said


def press_until(tab: Tab, key: str, name: str, most: int = 60) -> None:
    for _ in range(most):
        if focused(tab) == name:
            return
        tab.page.keyboard.press(key)
    raise AssertionError(f"{name} was not reached; the focus is on {focused(tab)}")


def test_signing_out_takes_everything_away(tab: Opener, installation: Installation) -> None:
    installation.wait(installation.submit(a_chat_line("row", "secret"), **named("Not for others")).id)
    opened = tab()
    opened.show("Not for others")
    opened.page.keyboard.press("Escape")
    opened.page.get_by_role("button", name="Sign out").click()
    opened.page.get_by_role("heading", name="Sign in").wait_for()
    assert opened.page.context.cookies() == []
    opened.page.go_back()
    opened.page.get_by_role("heading", name="Sign in").wait_for()
    assert "Not for others" not in opened.page.content()
    assert opened.page.evaluate("sessionStorage.length") == 0


def test_the_cookie_is_out_of_reach_for_scripts_and_holds_no_key(tab: Opener) -> None:
    opened = tab()
    (cookie,) = opened.page.context.cookies()
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
    assert KEY not in cookie["value"]
    assert opened.page.evaluate("document.cookie") == ""


def test_a_revoked_key_loses_access_at_once(tab: Opener, installation: Installation) -> None:
    opened = tab(LEAVER)
    keys = installation.data_dir / "api-keys.json"
    before = keys.read_text()
    left = json.loads(before)
    left["keys"] = [
        key for key in left["keys"] if key["sha256"] != json.loads(render_keys({LEAVER: "x"}))["keys"][0]["sha256"]
    ]
    try:
        keys.write_text(json.dumps(left))
        opened.page.get_by_text("Your session has ended").wait_for(timeout=5_000)
        assert opened.page.evaluate("fetch('/v1/batches').then(r => r.status)") == 401
        assert opened.page.evaluate("fetch('/console/events').then(r => r.status)") == 401
    finally:
        keys.write_text(before)


def test_a_restart_of_the_api_is_got_over_without_signing_in_again(tab: Opener, installation: Installation) -> None:
    opened = tab()
    mark(opened)
    installation.kill_part("bin/nightshift-api")
    opened.page.get_by_text("Reconnecting").wait_for()
    opened.page.locator(".live", has_text="Live").wait_for()
    batch = installation.submit(a_chat_line("row", "afterwards"), **named("After a restart"))
    opened.row("After a restart").wait_for()
    installation.wait(batch.id)
    assert_not_reloaded(opened)


def test_whoever_has_no_batch_is_told_how_to_begin(tab: Opener) -> None:
    opened = tab("sk-new")
    opened.page.get_by_role("heading", name="Let it run overnight").wait_for()
    opened.page.get_by_role("button", name="Create your first batch").click()
    opened.page.get_by_text("Drop a file here, or choose one").wait_for()


def test_a_wrong_key_is_told_and_a_server_that_fails_can_be_asked_again(tab: Opener) -> None:
    opened = tab(None)
    opened.page.get_by_label("API key").fill("sk-wrong")
    opened.page.keyboard.press("Enter")
    opened.page.get_by_text("Incorrect API key provided.").wait_for()
    opened.page.route("**/v1/batches?*", lambda route: route.fulfill(status=503, body="{}"))
    opened.page.get_by_label("API key").fill(KEY)
    opened.page.keyboard.press("Enter")
    opened.page.get_by_text("The server answered with 503.").wait_for()
    opened.page.unroute("**/v1/batches?*")
    opened.page.get_by_role("button", name="Try again").click()
    wait_until(lambda: opened.page.locator("tr[data-batch], .empty").count(), "the list")
