"""What the exit code of a processor says: it ends with these; a Job's failure policy and the operator read them.

Pure. Never 0 on SIGTERM: Kubernetes would count the pod as succeeded (kubernetes.md 5.2).
"""

from enum import IntEnum


class Exit(IntEnum):
    """Codes from 40 to 49 are final: trying again would end the same way."""

    DONE = 0
    """The step's last write is durable."""
    BAD_INPUT = 40
    """The input is gone, or not the bytes that were validated."""
    BAD_SETTINGS = 41
    """The environment of the container is wrong."""
    DEADLINE = 42
    """The batch's time is over; what is durable is kept."""
    CONFLICT = 43
    """A sealed file or manifest differs from what the logs say: a bug, never overwritten."""
    INTERRUPTED = 75
    """SIGTERM, or another writer took over; another pod goes on where this one stopped."""


NEVER_RETRY = range(40, 50)
