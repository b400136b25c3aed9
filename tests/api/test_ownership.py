"""The name on a bucket, which keeps one installation's sweep off another one's files (design 6)."""

from pathlib import Path

import pytest
from structlog.testing import capture_logs

from nightshift_api.ownership import claim_bucket
from nightshift_crds import names
from nightshift_crds.bucket import open_bucket
from nightshift_crds.bucket.port import get
from nightshift_crds.errors import Unavailable
from tests.api.faults import InterruptedBucket, failing
from tests.api.harness import make_settings


async def claim(folder: Path, name: str, *, adopt: bool = False) -> tuple[str, list[str]]:
    """Claim the bucket; gives whose it is then, and what was logged."""
    async with open_bucket(f"file://{folder / 'bucket'}") as bucket:
        with capture_logs() as logs:
            await claim_bucket(bucket, make_settings(folder, installation=name, adopt_bucket=adopt))
        return (await get(bucket, names.OWNER_KEY)).decode(), [line["event"] for line in logs]


async def test_a_bucket_without_an_owner_is_claimed_and_stays_claimed(tmp_path: Path) -> None:
    assert await claim(tmp_path, "blue") == ("blue", [])
    assert await claim(tmp_path, "blue") == ("blue", [])


async def test_a_bucket_of_another_installation_is_left_to_it_and_that_is_told(tmp_path: Path) -> None:
    await claim(tmp_path, "blue")
    assert await claim(tmp_path, "green") == ("blue", ["bucket.has_another_owner"])


async def test_a_bucket_is_taken_over_if_the_settings_say_so(tmp_path: Path) -> None:
    await claim(tmp_path, "blue")
    assert await claim(tmp_path, "green", adopt=True) == ("green", [])


async def test_a_bucket_that_does_not_answer_keeps_the_api_from_starting(tmp_path: Path) -> None:
    bucket = InterruptedBucket()
    async with open_bucket(f"file://{tmp_path / 'bucket'}") as inner:
        bucket.around(inner)
        bucket.before("put", failing(Unavailable("down")))
        with pytest.raises(Unavailable):
            await claim_bucket(bucket, make_settings(tmp_path))
