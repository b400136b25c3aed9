"""Who is asking: API keys, each bound to a namespace, tokens of ServiceAccounts (`accounts`), sessions of the console.

A key is known by its SHA-256 only. The file is read again whenever it changes, so a revoked key stops at once and no
restart is needed; one that cannot be read leaves the last good one in force.
"""

import secrets
from pathlib import Path
from typing import Protocol

import structlog
from pydantic import ValidationError
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from nightshift_api.accounts import ServiceAccounts
from nightshift_api.caller import Caller, key_holder, set_caller
from nightshift_api.errors import on_rejected
from nightshift_crds.errors import Rejected
from nightshift_crds.keys import hash_key, parse_keys

_log = structlog.get_logger()


class Keyring:
    """The keys of the file, as fresh as the file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._version: tuple[int, int] | None = None
        self._namespaces: dict[str, str] = {}
        self._own_secret = secrets.token_hex(32)
        self._session_secret: str | None = None
        self._refresh()

    def namespace_of(self, key: str) -> str | None:
        """Name the namespace that a key opens; None for an unknown one."""
        return self.namespace_by_hash(hash_key(key))

    def namespace_by_hash(self, key_hash: str) -> str | None:
        """Name the namespace that a key opens, told by its hash; None for one that is unknown or revoked."""
        self._refresh()
        return self._namespaces.get(key_hash)

    @property
    def session_secret(self) -> bytes:
        """What sessions are signed with; of this process alone where the file has none."""
        self._refresh()
        return (self._session_secret or self._own_secret).encode()

    def _refresh(self) -> None:
        try:
            found = self._path.stat()
            version = (found.st_mtime_ns, found.st_ino)
            if version == self._version:
                return
            found_keys = parse_keys(self._path.read_bytes())
        except (OSError, ValidationError) as error:
            _log.error("keys.unreadable", path=str(self._path), problem=type(error).__name__)
            return
        self._version, self._namespaces = version, found_keys.namespaces
        self._session_secret = found_keys.session_secret


class SignedIn(Protocol):
    """Those who have signed in in a browser."""

    def find_caller(self, request: Request) -> Caller | None:
        """Find who sent a request without a key; None if nobody has signed in. Raises `Rejected`."""


class Authenticate:
    """Let a request through if its key is known, and note whose it is."""

    def __init__(
        self, app: ASGIApp, keyring: Keyring, accounts: ServiceAccounts | None, signed_in: SignedIn | None
    ) -> None:
        self._app = app
        self._keyring = keyring
        self._accounts = accounts
        self._signed_in = signed_in

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        try:
            set_caller(scope, await self._authenticate(Request(scope)))
        except Rejected as error:
            await on_rejected(Request(scope), error)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    async def _authenticate(self, request: Request) -> Caller:
        key = _key_of(request.headers)
        if not key:
            return self._find_signed_in(request)
        namespace = self._keyring.namespace_of(key)
        if namespace is not None:
            return key_holder(namespace)
        caller = await self._accounts.find_caller(key) if self._accounts else None
        if caller is None:
            raise Rejected("Incorrect API key provided.", code="invalid_api_key", status=401)
        return caller

    def _find_signed_in(self, request: Request) -> Caller:
        caller = self._signed_in.find_caller(request) if self._signed_in else None
        if caller is None:
            message = "You didn't provide an API key. Send it as 'Authorization: Bearer YOUR_KEY'."
            raise Rejected(message, status=401)
        return caller


def _key_of(headers: Headers) -> str:
    scheme, _, credentials = headers.get("authorization", "").partition(" ")
    bearer = credentials.strip() if scheme.lower() == "bearer" else ""
    return bearer or headers.get("api-key", "")
