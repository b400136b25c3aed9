"""Who asks: the namespace whose objects a request may see, and what its sender may do there.

`auth` notes it in the request's scope, the endpoints read it there.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from starlette.requests import Request
from starlette.types import Scope

from nightshift_api.access import Access

_CALLER = "nightshift.caller"


@dataclass(frozen=True)
class Caller:
    """Somebody who was let in.

    Attributes:
        authorise: returns if the caller may do that in its namespace. Raises `Rejected` (403) if not.
    """

    namespace: str
    authorise: Callable[[Access], Awaitable[None]]


async def _allow(_: Access) -> None:
    """Let everything through."""


def key_holder(namespace: str) -> Caller:
    """Make the caller of an API key: it may do all that the API can in one namespace."""
    return Caller(namespace, _allow)


def set_caller(scope: Scope, caller: Caller) -> None:
    """Note who sent a request."""
    scope[_CALLER] = caller


def caller_of(request: Request) -> Caller:
    """Tell who sent a request."""
    caller: Caller = request.scope[_CALLER]
    return caller


def namespace_of(request: Request) -> str:
    """Name the namespace whose objects a request may see."""
    return caller_of(request).namespace
