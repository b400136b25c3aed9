"""What the operator refuses to be told."""

import pytest

from nightshift_crds.errors import Rejected
from nightshift_operator.settings import Settings

NEEDED = {"NIGHTSHIFT_CLUSTER": "kubernetes://", "NIGHTSHIFT_BUCKET": "gs://bucket"}


def test_variables_of_processors_are_pairs() -> None:
    settings = Settings.load(NEEDED | {"NIGHTSHIFT_PROCESSOR_ENV": "A=1, B_2=x=y,C="})
    assert settings.processor_env == ("A=1", "B_2=x=y", "C=")


@pytest.mark.parametrize("text", ["A", "=1", "A=1,B", "a b=1"])
def test_what_is_no_pair_is_refused_by_the_name_of_its_setting(text: str) -> None:
    with pytest.raises(Rejected, match=r"NIGHTSHIFT_PROCESSOR_ENV: .*NAME=VALUE"):
        Settings.load(NEEDED | {"NIGHTSHIFT_PROCESSOR_ENV": text})
