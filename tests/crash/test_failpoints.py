"""Promise 1, at every single point: SIGKILL before, in the middle of and after each effect of each role.

Each time one process dies at one point, is started again, the story is told to its end and audited.
"""

import inspect
from collections import defaultdict
from collections.abc import Iterator
from functools import partial

import pytest

from nightshift_crds.bucket.port import Bucket
from nightshift_crds.cluster.port import Cluster
from nightshift_operator.poster import Poster
from nightshift_processor.client import ModelClient
from tests.crash.audit import find_unexplained, find_wrong_asks
from tests.crash.conftest import Rigs
from tests.crash.failpoints import (
    Moment,
    WatchedBucket,
    WatchedClient,
    WatchedCluster,
    WatchedPoster,
    arm,
    disarm,
    slug,
)
from tests.crash.rig import CONCURRENCY, Rig
from tests.crash.stories import Story
from tests.crash.table import CONTINUED, EFFECTS, FENCED, STORIES, moments_of, rig_of
from tests.e2e.installation import Stub

READS = {"url", "get", "read", "head", "checksum", "list", "watch"}
WATCHED = {"put", "delete", "create", "patch", "patch_status", "record_event", "post", "send"}
BUGS = ("reconcile.failed", "sweep.failed", "operator.failed", "seal.conflict", "Traceback")
"""What no log may say, whatever was killed."""


def tell(story: Story, rig: Rig, stub: Stub) -> None:
    """Tell a story, then audit what was asked of the model meanwhile, how parts ended and what they have logged."""
    before, ended, log = len(rig.trace()), len(rig.ended), (rig.folder / "log").stat().st_size
    story(rig)
    trace = rig.trace()[before:]
    assert find_wrong_asks(trace, CONCURRENCY, fenced=story in FENCED) == []
    rows = {row for line in trace if line["effect"] == "run model.send" for row in line["about"]}
    assert find_unexplained(trace, {row: times for row, times in stub.show()["asked"].items() if row in rows}) == []
    assert {code for _, code in rig.ended[ended:]} <= {0, 137, 143}
    said = (rig.folder / "log").read_bytes()[log:].decode()
    assert [line for line in said.splitlines() if any(bug in line for bug in BUGS)] == []


def every_failpoint() -> Iterator[tuple[str, Moment, Story]]:
    for effect, told in EFFECTS.items():
        for moment in moments_of(effect):
            for story in told:
                yield effect, moment, story


def name_of(value: object) -> str:
    return getattr(value, "__name__", str(value)).replace(" ", "-")


def test_no_call_of_a_port_escapes_the_watch() -> None:
    for port, watched in (
        (Bucket, WatchedBucket),
        (Cluster, WatchedCluster),
        (ModelClient, WatchedClient),
        (Poster, WatchedPoster),
    ):
        calls = {name for name, _ in inspect.getmembers(port) if not name.startswith("_")}
        assert calls <= READS | WATCHED, "is it a read or an effect?"
        assert calls == {name for name, _ in inspect.getmembers(watched) if not name.startswith("_")}


def test_the_table_names_every_effect_and_every_moment_of_it(rigs: Rigs, stub: Stub) -> None:
    for story in STORIES:
        tell(story, rigs(rig_of(story)), stub)
    found = defaultdict[str, set[str]](set)
    for name in {rig_of(story) for story in STORIES}:
        for line in rigs(name).trace():
            if line["moment"] in set(Moment):
                found[line["effect"]].add(line["moment"])
    assert found.keys() - EFFECTS.keys() == set(), "new effects: add them to the table"
    assert EFFECTS.keys() - found.keys() == set(), "no story reaches them any more"
    assert found == {effect: set(moments_of(effect)) for effect in EFFECTS}


@pytest.mark.parametrize(("effect", "moment", "story"), [*every_failpoint()], ids=name_of)
def test_a_role_may_be_killed_at(rigs: Rigs, stub: Stub, effect: str, moment: Moment, story: Story) -> None:
    rig = rigs(rig_of(story))
    fired = rig.folder / "fired" / slug(effect, moment)
    fired.unlink(missing_ok=True)
    rig.when_begun = partial(arm, rig.folder, effect, moment)
    if story not in CONTINUED:
        rig.when_begun()
    try:
        tell(story, rig, stub)
    finally:
        disarm(rig.folder, effect, moment)
        rig.when_begun = lambda: None
    assert fired.exists(), f"{name_of(story)} does not reach it"
