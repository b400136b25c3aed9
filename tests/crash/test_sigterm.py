"""A run that is told to end, at any point, makes durable what was answered: only what was open is asked again."""

import signal

import pytest

from nightshift_crds.exits import Exit
from tests.crash.audit import find_wrong_asks
from tests.crash.failpoints import Moment, arm, read_trace, slug
from tests.crash.rig import CONCURRENCY
from tests.crash.slices import POINTS, Slice, audit_all

NEVER_S = 600
"""A flush that does not come by itself: what was answered is durable by the SIGTERM or not at all."""


@pytest.mark.parametrize(("effect", "moment"), POINTS)
async def test_what_was_answered_before_a_sigterm_is_not_asked_again(
    slice_: Slice, effect: str, moment: Moment
) -> None:
    arm(slice_.folder, effect, moment, signal.SIGTERM)
    told = slice_.start("run", flush_interval_s=NEVER_S if effect == "run model.send" else 0.05)
    end = told.wait()
    assert (slice_.folder / "fired" / slug(effect, moment)).exists()
    assert end == Exit.INTERRUPTED or effect == "run bucket.put record end"
    assert slice_.start("run").wait() == Exit.DONE
    assert slice_.start("seal").wait() == Exit.DONE
    assert find_wrong_asks(read_trace(slice_.folder), CONCURRENCY) == []
    await audit_all(slice_)
