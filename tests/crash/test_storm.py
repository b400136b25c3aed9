"""A hundred random kills; `make crash` has thousands."""

from pathlib import Path

from tests.crash.rig import running_rig
from tests.crash.storm import rage
from tests.e2e.installation import Stub

KILLS = 100
SEED = 20260101


def test_a_storm_of_kills_does_no_harm(tmp_path: Path, zygote: str, stub: Stub) -> None:
    with running_rig(tmp_path / "rig", zygote, stub.url) as rig:
        tally = rage(rig, stub, KILLS, SEED)
    assert tally.wrong == []
    assert tally.kills >= KILLS
    assert {"api", "operator", "run", "seal"} <= tally.killed.keys()
    assert {"completed", "cancelled", "failed"} <= tally.ended.keys()
