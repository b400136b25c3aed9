"""Ports for the servers that tests start."""

import random
import socket
from contextlib import ExitStack

_LOWEST, _HIGHEST = 12_000, 29_000
"""Below where systems take the ports of outgoing connections from: one of those, even one that is over and waits for
stragglers, may have a port before its server does."""


def free_port(beside: int = 1) -> int:
    """Find a port that a server can have; with `beside`, the first of so many in a row."""
    while True:
        first = random.randrange(_LOWEST, _HIGHEST - beside)
        if _are_free(range(first, first + beside)):
            return first


def _are_free(ports: range) -> bool:
    with ExitStack() as bound:
        try:
            for port in ports:
                bound.enter_context(socket.socket()).bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
