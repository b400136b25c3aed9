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


def test_what_the_api_keeps_for_hours_is_kept_as_long_as_the_contract_says() -> None:
    settings = Settings.load(NEEDED)
    assert (settings.idempotency_life_s, settings.upload_life_s) == (86_400, 3_600)


@pytest.mark.parametrize("name", ["IDEMPOTENCY_LIFE_S", "UPLOAD_LIFE_S"])
def test_a_minute_is_the_least_that_it_is_kept(name: str) -> None:
    with pytest.raises(Rejected, match=f"NIGHTSHIFT_{name}"):
        Settings.load(NEEDED | {f"NIGHTSHIFT_{name}": "59"})
