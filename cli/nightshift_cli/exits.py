"""Exit codes of the command, for scripts: documented in docs/cli.md, which is generated from here. Pure."""

from collections.abc import Iterable
from enum import IntEnum

from nightshift_crds.errors import NightshiftError, Rejected, TooMany, Unavailable


class Exit(IntEnum):
    """How the command ended."""

    DONE = 0
    """What was asked is done; where it was waited for a batch, the batch is `completed`."""
    REFUSED = 1
    """`check`: a batch of the file would be refused. Otherwise a bug: there is a traceback."""
    USAGE = 2
    """An option, an argument, a file or what the server was asked is wrong: the message says what to change."""
    NOT_FOUND = 3
    """There is no such batch, file or model, or no result yet."""
    UNAUTHORISED = 4
    """The key is not accepted, or its owner may not do this."""
    UNAVAILABLE = 5
    """No answer, or none yet: wrong address, a server that is down or busy. The same command may succeed later."""
    CONFLICT = 6
    """The batch is in a state that rules this out: cancelling one that is `completed`, for instance."""
    FAILED = 10
    """The batch that was waited for is `failed`."""
    EXPIRED = 11
    """The batch that was waited for is `expired`."""
    CANCELLED = 12
    """The batch that was waited for is `cancelled`."""
    INTERRUPTED = 130
    """Ctrl-C. Batches go on."""


ENDS = {
    "completed": Exit.DONE,
    "failed": Exit.FAILED,
    "expired": Exit.EXPIRED,
    "cancelled": Exit.CANCELLED,
}
"""Every status in which a batch has ended, and what that is to a script."""
_OF_STATUS = {401: Exit.UNAUTHORISED, 403: Exit.UNAUTHORISED, 404: Exit.NOT_FOUND, 409: Exit.CONFLICT}


def of_statuses(statuses: Iterable[str]) -> Exit:
    """Sum up how batches ended: the first code that is not that of `completed`."""
    return min((ENDS[status] for status in statuses if ENDS[status]), default=Exit.DONE)


def of_error(error: NightshiftError) -> Exit:
    """Tell the exit code of an error."""
    if isinstance(error, Unavailable | TooMany):
        return Exit.UNAVAILABLE
    return _OF_STATUS.get(error.status, Exit.USAGE) if isinstance(error, Rejected) else Exit.USAGE
