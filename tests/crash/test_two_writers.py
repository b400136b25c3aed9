"""An old attempt comes back from a partition while a new one runs, or after: it must not add a byte that counts.

The old one stops itself at an exact point (a failpoint that sends SIGSTOP), the new one claims the log and works, the
old one goes on from that point. Both are real processes on one log.
"""

import os
import signal

import pytest

from nightshift_crds.exits import Exit
from tests.crash.failpoints import Moment
from tests.crash.slices import POINTS, Slice, audit_all
from tests.e2e.installation import wait_until


@pytest.mark.parametrize(("effect", "moment"), POINTS)
async def test_two_writers_at_once_make_one_log(slice_: Slice, effect: str, moment: Moment) -> None:
    old = slice_.start_partitioned(effect, moment)
    new = slice_.start("run")
    wait_until(lambda: slice_.has_said(new.pid, "run bucket.put record claim", "after"), "the new one to claim")
    os.kill(old.pid, signal.SIGCONT)
    ends = {old.wait(), new.wait()}
    assert Exit.DONE in ends, "one of them ends the slice"
    assert ends <= {Exit.DONE, Exit.INTERRUPTED}
    assert slice_.start("seal").wait() == Exit.DONE
    await audit_all(slice_)


@pytest.mark.parametrize(("effect", "moment"), POINTS)
async def test_a_writer_that_comes_back_behind_the_seal_changes_nothing(
    slice_: Slice, effect: str, moment: Moment
) -> None:
    old = slice_.start_partitioned(effect, moment)
    assert slice_.start("run").wait() == Exit.DONE
    assert slice_.start("seal").wait() == Exit.DONE
    sealed = slice_.objects()
    os.kill(old.pid, signal.SIGCONT)
    assert old.wait() in {Exit.DONE, Exit.INTERRUPTED}
    assert slice_.objects() == sealed
    await audit_all(slice_)
