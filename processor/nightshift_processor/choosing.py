"""Which slice a pod works on next, so that pods of uneven speed end at about the same time (design 5).

Pure. A slice is claimed by a create-only record, so what is chosen here may be had by another pod meanwhile: of two
that want the same slice one wins, and the other chooses again. A slice that a pod of an attempt has claimed stays that
pod's, and its replacement's, until the attempt is over.
"""

from collections.abc import Container, Mapping
from enum import Enum, auto

from nightshift_crds.records import Claimant, Header, RecordKind


class Standing(Enum):
    """What the last record of a log means to a pod."""

    FREE = auto()
    """An earlier attempt was at it, and is over."""
    OWN = auto()
    """The pod that this one replaces was at it."""
    SETTLED = auto()
    """It has ended, or another pod of this attempt is at it: it will never be for this one."""
    LOST = auto()
    """Seal has closed it, or a later attempt is at it: no slice is for this pod any more."""


def judge(last: Header, me: Claimant) -> Standing:
    """Judge a log by its last record."""
    if last.kind is RecordKind.END:
        return Standing.SETTLED
    if last.kind is RecordKind.CLOSE:
        return Standing.LOST
    if last.by is None or last.by.attempt < me.attempt:
        return Standing.FREE
    if last.by.attempt > me.attempt:
        return Standing.LOST
    return Standing.OWN if last.by.index == me.index else Standing.SETTLED


def choose(lasts: Mapping[int, Header], settled: Container[int], slices: int, me: Claimant, start: int) -> int | None:
    """Choose the next slice; None if there is none for this pod.

    First what the pod before this one has left, then the next free one from `start` on: neighbours share prefixes, and
    pods that start at different places do not want the same. `lasts` has the last records of the logs that have any.
    A slice that is lost is chosen too: claiming it tells why.
    """
    turn = [n % slices for n in range(start, start + slices)]
    open_ones = [n for n in turn if n not in settled]
    standings = {n: judge(lasts[n], me) if n in lasts else Standing.FREE for n in open_ones}
    for wanted in (Standing.LOST, Standing.OWN, Standing.FREE):
        found = next((n for n in open_ones if standings[n] is wanted), None)
        if found is not None:
            return found
    return None


def slice_of(items: int, slices: int, slice_no: int) -> slice:
    """Tell which run of the ordered items a slice is: all are equally long, or one item longer."""
    return slice(items * slice_no // slices, items * (slice_no + 1) // slices)
