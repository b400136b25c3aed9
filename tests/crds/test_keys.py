"""API keys as they lie on disk."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from nightshift_crds.keys import hash_key, parse_keys, render_keys

KEYS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
HASH = "0" * 64


@given(st.dictionaries(KEYS, st.text(st.sampled_from("abc-0"), min_size=1)))
def test_a_file_tells_the_namespace_of_every_key_and_no_key(keys: dict[str, str]) -> None:
    rendered = render_keys(keys)
    assert parse_keys(rendered.encode()).namespaces == {hash_key(key): namespace for key, namespace in keys.items()}
    assert not any(key in rendered for key in keys if len(key) > 10)


@given(KEYS, KEYS)
def test_two_keys_have_two_hashes(one: str, two: str) -> None:
    assert (hash_key(one) == hash_key(two)) is (one == two)


def test_a_hash_is_the_one_that_sha256sum_prints() -> None:
    assert hash_key("sk-1") == "0f2c10bf3d128c719c6bfa4ecbae94b7fceebaea6e4438fef38a90e5acc326f3"


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        json.dumps({"keys": [{"sha256": HASH}]}),
        json.dumps({"keys": [{"namespace": "a"}]}),
        json.dumps({"keys": [{"sha256": HASH[1:], "namespace": "a"}]}),
        json.dumps({"keys": [{"sha256": f"{HASH}0", "namespace": "a"}]}),
        json.dumps({"keys": [{"sha256": "A" * 64, "namespace": "a"}]}),
        json.dumps({"keys": [{"sha256": "sk-not-hashed", "namespace": "a"}]}),
    ],
)
def test_a_file_that_is_not_as_we_write_it_opens_nothing(content: str) -> None:
    with pytest.raises(ValidationError):
        parse_keys(content.encode())


def test_what_sessions_are_signed_with_stands_beside_the_keys() -> None:
    secret = "s" * 32
    assert parse_keys(render_keys({"sk-1": "a"}, secret).encode()).session_secret == secret
    assert parse_keys(render_keys({"sk-1": "a"}).encode()).session_secret is None
    assert secret not in repr(parse_keys(render_keys({}, secret).encode()))


def test_a_short_secret_is_refused() -> None:
    with pytest.raises(ValidationError, match="at least 32"):
        parse_keys(b'{"keys": [], "session_secret": "short"}')
