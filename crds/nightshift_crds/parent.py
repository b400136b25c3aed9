"""End with one's parent: what keeps `nightshift local` from leaving processes behind, however it dies.

The parent gives each child the read end of a pipe whose write end it alone holds. When the parent is gone, even by
SIGKILL, the read ends: the child takes that as a SIGTERM, and after a grace period ends whatever happens.
"""

import os
import signal
import threading
import time
from collections.abc import Mapping

FD_VARIABLE = "NIGHTSHIFT_PARENT_FD"
_GRACE_S = 10.0
_INTERRUPTED = 75


def end_with_parent(environ: Mapping[str, str]) -> None:
    """Start watching the pipe that the environment names; without one there is no parent to watch."""
    descriptor = environ.get(FD_VARIABLE)
    if descriptor:
        threading.Thread(target=_wait, args=(int(descriptor),), name="parent", daemon=True).start()


def _wait(descriptor: int) -> None:
    while os.read(descriptor, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_GRACE_S)
    os._exit(_INTERRUPTED)
