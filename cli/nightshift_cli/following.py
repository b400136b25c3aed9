"""Follow batches to their ends. A server that restarts is waited for; the batches go on meanwhile."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from rich.console import Console

from nightshift_cli.port import Service
from nightshift_cli.progress import showing
from nightshift_cli.views import BatchView
from nightshift_crds.errors import Unavailable

_T = TypeVar("_T")
_FIRST_POLL_S = 0.1
_POLL_S = 1.0
DEFAULT_PATIENCE_S = 300


@dataclass
class Patience:
    """How long a server may say nothing, in seconds, before who waits for it gives up."""

    seconds: float = DEFAULT_PATIENCE_S
    _heard_s: float = field(default_factory=time.monotonic)

    def heard(self) -> None:
        """Take note of an answer."""
        self._heard_s = time.monotonic()

    def wait(self, error: Unavailable) -> None:
        """Wait for the next try. Raises the error once there is no patience left."""
        if time.monotonic() - self._heard_s >= self.seconds:
            raise error
        time.sleep(_POLL_S)

    def insist(self, call: Callable[[], _T]) -> _T:
        """Call until there is an answer. Raises `Unavailable` once there is no patience left."""
        while True:
            try:
                answer = call()
            except Unavailable as error:
                self.wait(error)
            else:
                self.heard()
                return answer


def follow(service: Service, batches: Sequence[BatchView], patience: Patience) -> list[BatchView]:
    """Look at batches until all have ended, showing how they go; gives them as they ended."""
    seen = {batch.ref: batch for batch in batches}
    patience.heard()
    with showing(Console(stderr=True), list(seen)) as show:
        for batch in seen.values():
            show(batch)
        wait_s = _FIRST_POLL_S
        while running := [ref for ref, batch in seen.items() if not batch.has_ended]:
            time.sleep(wait_s)
            wait_s = min(2 * wait_s, _POLL_S)
            for ref in running:
                seen[ref] = patience.insist(lambda ref=ref: service.get(ref))  # type: ignore[misc]  # bound at once
                show(seen[ref])
    return list(seen.values())
