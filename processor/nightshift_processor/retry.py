"""Whether a line is sent again, and when (contract 10.3).

Pure. What says "nobody can serve this now" is tried until the deadline; what may be the line's own fault is tried a
few times, because a poison row must not hold a GPU for a day. Delays have full jitter. A line that only it cannot be
served must not keep others from being sent: it lets them go first now and then.
"""

from msgspec import Struct

from nightshift_processor.client import Answer, Failure, Result

_BASE_S = 0.5
_CAP_S = 30.0
_TURN = 5
"""Failures after which another line goes first: few enough that nobody waits long, and so many that a server which is
down is asked with long delays, not by every line of the input in turn."""
_ALWAYS = frozenset({429, 503})
_SOMETIMES = frozenset({408, 425})


class Tries(Struct, frozen=True, gc=False):
    """What a line has been through.

    Attributes:
        sent: how often it was sent.
        suspect: how often the failure may have been its own fault.
    """

    sent: int = 0
    suspect: int = 0

    def after(self, result: Result) -> "Tries":
        """Count one more."""
        return Tries(self.sent + 1, self.suspect + _is_suspect(result))


def is_served(result: Result) -> bool:
    """Tell whether a result stands that nothing is wrong with, as nearly all do."""
    return isinstance(result, Answer) and result.status < 400


def next_delay(result: Result, tries: Tries, max_tries: int, luck: float) -> float | None:
    """Give the seconds until a line is sent again; None if its last result stands.

    `tries` includes the last one; `luck` is a random number in [0, 1).
    """
    if not (_is_nobodys_fault(result) or (_is_suspect(result) and tries.suspect < max_tries)):
        return None
    backoff_s = luck * min(_CAP_S, _BASE_S * 2.0 ** min(tries.sent, 10))
    asked_s = result.retry_after_s if isinstance(result, Answer) else None
    return max(backoff_s, asked_s or 0.0)


def is_turn_over(tries: Tries) -> bool:
    """Tell whether a line that will be sent again lets others go first."""
    return tries.sent % _TURN == 0


def _is_nobodys_fault(result: Result) -> bool:
    if isinstance(result, Failure):
        return result is Failure.NOT_CONNECTED
    return result.status in _ALWAYS


def _is_suspect(result: Result) -> bool:
    if isinstance(result, Failure):
        return result in {Failure.BROKEN, Failure.TIMEOUT}
    return result.status in _SOMETIMES or (result.status >= 500 and result.status not in _ALWAYS)
