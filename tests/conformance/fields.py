"""State the fields of an object one by one: each stands in a table of the page, and is looked at in many objects."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.conformance.statements import SAME, Check, Place, Verdict
from tests.conformance.target import Object, Target


@dataclass(frozen=True)
class Field:
    """A field, what it holds in words, and how to see that in an object."""

    name: str
    holds: str
    is_so: Callable[[Object], bool]
    verdict: Verdict = SAME
    sdk: tuple[str, ...] = ()


def state_fields(place: Place, section: str, examples: Callable[[Target], list[Object]], *fields: Field) -> None:
    """State each field, and that there is no other one."""
    for field in fields:
        place.says(section, f"`{field.name}`: {field.holds}", field.verdict, sdk=field.sdk)(_see(field, examples))

    @place.says(section, "no other field")
    def _(target: Target) -> None:
        for example in examples(target):
            assert example.keys() == {field.name for field in fields}


def _see(field: Field, examples: Callable[[Target], list[Object]]) -> Check:
    def check(target: Target) -> None:
        found = examples(target)
        assert found
        for example in found:
            assert field.name in example
            assert field.is_so(example), (field.name, example)

    return check


def is_time(value: Any) -> bool:
    """Tell whether this is a time of these years, in whole seconds."""
    return type(value) is int and 1.7e9 < value < 1e10
