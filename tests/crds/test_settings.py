"""Settings out of an environment: all problems at once, none of them with a value."""

from typing import Annotated

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, ValidationError

from nightshift_crds.errors import Rejected
from nightshift_crds.settings import CommonSettings, Settings, Words


class Example(Settings):
    """Settings of a test."""

    needed: int
    bounded: Annotated[float, Field(gt=0)] = 0.5
    flag: bool = False
    words: Words = ("a", "b")
    choice: str | None = None


def load(**environ: str) -> Example:
    return Example.load({f"NIGHTSHIFT_{name.upper()}": text for name, text in environ.items()})


def test_a_variable_is_a_field_in_capitals_behind_the_prefix() -> None:
    assert load(needed="7", bounded="1.5", flag="true") == Example(needed=7, bounded=1.5, flag=True)


def test_what_is_absent_has_its_default_and_an_empty_variable_is_absent() -> None:
    assert load(needed="1") == load(needed="1", bounded="", words="", choice="", flag="")


def test_variables_of_others_are_none_of_ours() -> None:
    assert Example.load(
        {"NIGHTSHIFT_NEEDED": "1", "NEEDED": "2", "nightshift_needed": "3", "NIGHTSHIFT_OTHER": "x"}
    ) == load(needed="1")
    with pytest.raises(Rejected):
        Example.load({"needed": "1"})


def test_every_problem_is_told_at_once_by_variable() -> None:
    with pytest.raises(Rejected) as refusal:
        load(bounded="0", flag="perhaps")
    told = refusal.value.message
    assert all(f"NIGHTSHIFT_{name}: " in told for name in ("NEEDED", "BOUNDED", "FLAG"))
    assert "WORDS" not in told


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=6))
def test_a_problem_never_shows_a_value(secret: str) -> None:
    value = f"sk-{secret}"
    with pytest.raises(Rejected) as refusal:
        load(needed=value, bounded=value, flag=value)
    assert value not in refusal.value.message


@pytest.mark.parametrize(
    ("text", "words"),
    [("a", ("a",)), ("a,b", ("a", "b")), (" a , b ,", ("a", "b")), (",", ()), ("a,,b", ("a", "b")), ("a b", ("a b",))],
)
def test_a_list_is_separated_by_commas(text: str, words: tuple[str, ...]) -> None:
    assert load(needed="1", words=text).words == words


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        load(needed="1").needed = 2  # type: ignore[misc]


def test_a_default_that_breaks_its_own_bounds_is_no_default() -> None:
    class Wrong(Settings):
        """A slip."""

        bounded: Annotated[int, Field(ge=1)] = 0

    with pytest.raises(Rejected, match="bounded: "):
        Wrong.load({})


def test_what_every_role_is_told_is_where_things_are() -> None:
    with pytest.raises(Rejected, match=r"(?s)NIGHTSHIFT_CLUSTER.*NIGHTSHIFT_BUCKET"):
        CommonSettings.load({})
