"""The cookie of a session: nobody makes one up, and it ends."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightshift_api.console.cookies import Session, cookie_name, parse_session, render_cookie, render_session
from nightshift_crds.keys import hash_key

SECRET = b"s" * 32
SESSION = Session(hash_key("sk-1"), expires_at=1_000)


def test_a_session_is_read_as_it_was_written() -> None:
    assert parse_session(render_session(SESSION, SECRET), SECRET, now=999.9) == SESSION


def test_a_session_does_not_show_the_key() -> None:
    assert "sk-1" not in render_session(SESSION, SECRET)


def test_a_session_ends_with_its_time() -> None:
    assert parse_session(render_session(SESSION, SECRET), SECRET, now=1_000) is None


def test_a_session_of_another_secret_is_none() -> None:
    assert parse_session(render_session(SESSION, b"t" * 32), SECRET, now=0) is None


@given(st.integers(0, 200), st.characters(min_codepoint=33, max_codepoint=126))
def test_a_session_that_was_changed_anywhere_is_none(at: int, other: str) -> None:
    text = render_session(SESSION, SECRET)
    changed = text[: at % len(text)] + other + text[at % len(text) + 1 :]
    assert changed == text or parse_session(changed, SECRET, now=0) is None


@pytest.mark.parametrize("text", ["", "1", "1..", "2.a.1.b", f"1.{hash_key('x')}.5", "\0", "1.é.5.é"])
def test_what_is_no_session_is_none(text: str) -> None:
    assert parse_session(text, SECRET, now=0) is None


def test_scripts_and_other_sites_do_not_get_the_cookie() -> None:
    parts = render_cookie("x", 60, is_secure=False).split("; ")
    assert parts[0] == "nightshift_session=x"
    assert {"HttpOnly", "SameSite=Strict", "Path=/", "Max-Age=60"} == set(parts[1:])


def test_over_tls_the_cookie_goes_over_tls_only_and_belongs_to_one_host() -> None:
    parts = render_cookie("x", 60, is_secure=True).split("; ")
    assert parts[0] == f"{cookie_name(is_secure=True)}=x" == "__Host-nightshift_session=x"
    assert "Secure" in parts
    assert not any(part.startswith("Domain") for part in parts)
