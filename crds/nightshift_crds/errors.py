"""What can go wrong, as one tree drawn by whose fault it is.

    NightshiftError
    |-- Rejected       the caller's fault: says what to change, never worth a retry as it is
    |   |-- NotFound       nothing of that name for this caller
    |   `-- Conflict       true, but not in this state
    |-- TooMany        the caller's fault for now: more than its share, the same request may succeed later
    |-- Unavailable    nobody's fault now: the same request may succeed later
    |   `-- Unauthenticated  the cluster does not know who we are, or not yet: a token may just be replaced
    |-- Missing        a port looked for an object that is not there
    |-- AlreadyExists  a create-only write found the object there
    |-- Stale          a guarded write saw another version than it was told to change
    `-- Refused        the cluster's own rules forbid the write: a bug of ours, or a bad manifest
        `-- Denied         the cluster does not let us do this: a right is missing, or a quota is used up

Anything else is a bug and propagates. Pure: HTTP and kopf turn these into their own in one place each.
"""


class NightshiftError(Exception):
    """The root; raised only through a leaf."""


class Rejected(NightshiftError):
    """The caller must change the request. Carries what contract 1.4 puts on the wire.

    Attributes:
        code: OpenAI's code, or None where contract 14 gives none.
        param: the dotted path of the offending input, or None.
        status: the HTTP status to answer with.
    """

    def __init__(self, message: str, *, code: str | None = None, param: str | None = None, status: int = 400) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.param = param
        self.status = status


class NotFound(Rejected):
    """Nothing of that name exists for this caller; another tenant's object looks the same."""

    def __init__(self, message: str, *, code: str | None = None, param: str | None = None) -> None:
        super().__init__(message, code=code, param=param, status=404)


class Conflict(Rejected):
    """The object is in a state that rules the request out for good, so clients must not retry it."""

    def __init__(self, message: str, *, code: str | None = None, param: str | None = None) -> None:
        super().__init__(message, code=code, param=param, status=409)


class TooMany(NightshiftError):
    """The caller asks for more than its share.

    Attributes:
        limit: the setting that says how much that is.
        delay_s: when to ask again, in seconds.
    """

    def __init__(self, message: str, *, limit: str = "", delay_s: float = 1.0) -> None:
        super().__init__(message)
        self.message = message
        self.limit = limit
        self.delay_s = delay_s


class Unavailable(NightshiftError):
    """Something that is needed does not answer. `delay_s` is when to ask again, in seconds."""

    def __init__(self, message: str, *, delay_s: float = 5.0) -> None:
        super().__init__(message)
        self.delay_s = delay_s


class Unauthenticated(Unavailable):
    """The cluster does not know who we are, however often it was asked."""


class Missing(NightshiftError):
    """A port looked for a resource or an object that is not there."""


class AlreadyExists(NightshiftError):
    """A create or a create-only write found the name taken."""


class Stale(NightshiftError):
    """A write was guarded by a resourceVersion or a uid that is no longer the current one."""


class Refused(NightshiftError):
    """Schema or rules of the cluster forbid the object; the message says which and where."""


class Denied(Refused):
    """Who we are may not do this; the message says who we are and what it was."""
