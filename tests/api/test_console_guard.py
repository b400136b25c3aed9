"""Which requests are taken to be our page's, of all that a browser would sign with its cookie."""

import pytest

from nightshift_api.console.guard import HEADER, find_forgery

OWN = {HEADER: "1", "sec-fetch-site": "same-origin", "origin": "http://api:8080", "host": "api:8080"}
NO_METADATA = {name: value for name, value in OWN.items() if name != "sec-fetch-site"}


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "DELETE"])
def test_our_own_page_may_do_all(method: str) -> None:
    assert find_forgery(method, OWN) is None


def test_a_person_may_open_an_address_and_save_a_file() -> None:
    assert find_forgery("GET", {"sec-fetch-site": "none", "host": "api"}) is None


@pytest.mark.parametrize("method", ["POST", "DELETE", "PUT", "PATCH"])
def test_a_form_cannot_send_the_header(method: str) -> None:
    assert find_forgery(method, {name: value for name, value in OWN.items() if name != HEADER}) is not None


@pytest.mark.parametrize("site", ["cross-site", "same-site", "something-new"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_another_site_may_do_nothing_not_even_another_port(method: str, site: str) -> None:
    assert find_forgery(method, OWN | {"sec-fetch-site": site}) is not None


def test_nobody_writes_by_opening_an_address() -> None:
    assert find_forgery("POST", OWN | {"sec-fetch-site": "none"}) is not None


@pytest.mark.parametrize("origin", ["http://evil", "http://api", "http://api:80", "null", ""])
def test_where_a_browser_tells_no_site_the_origin_must_be_ours(origin: str) -> None:
    assert find_forgery("POST", NO_METADATA) is None
    assert find_forgery("POST", NO_METADATA | {"origin": origin}) is not None


def test_without_either_nothing_is_written() -> None:
    assert find_forgery("POST", {HEADER: "1", "host": "api:8080"}) is not None
