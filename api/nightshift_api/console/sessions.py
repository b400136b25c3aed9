"""Sign in with an API key, be known by a cookie, sign out.

Any replica knows a session, and knows it after a restart: what signs it stands in the file of keys. A session ends with
its time, with its key, or when the secret is changed; signing out only makes the browser forget it.
"""

from collections.abc import Callable
from datetime import datetime

from starlette.requests import Request
from starlette.responses import Response

from nightshift_api.accounts import is_token
from nightshift_api.auth import Keyring
from nightshift_api.bodies import read_body
from nightshift_api.caller import Caller, key_holder
from nightshift_api.console.cookies import Session, cookie_name, parse_session, render_cookie, render_session
from nightshift_api.console.guard import find_forgery
from nightshift_api.parsing import parse_body
from nightshift_api.responses import respond
from nightshift_api.settings import Settings
from nightshift_api.wire import Wire
from nightshift_crds.errors import Rejected
from nightshift_crds.keys import hash_key

_ENDED = "Your session has ended; sign in again."


class SignIn(Wire):
    """Body of `POST /console/session`."""

    key: str


class Limits(Wire):
    """What a file may be, so that the page can tell before it is sent."""

    max_file_bytes: int
    max_lines: int
    max_line_bytes: int
    endpoints: list[str]


class SessionObject(Wire):
    """Who has signed in, and what the page must know of the installation."""

    namespace: str
    expires_at: int
    limits: Limits


class Sessions:
    """Those who have signed in."""

    def __init__(self, keyring: Keyring, settings: Settings, now: Callable[[], datetime]) -> None:
        self._keyring = keyring
        self._settings = settings
        self._now = now
        self._is_secure = settings.console_secure_cookie or settings.tls_cert_file is not None

    async def sign_in(self, request: Request) -> Response:
        """Take a key for a cookie."""
        _refuse_forged(request)
        key = parse_body(SignIn, await read_body(request, self._settings.max_body_bytes)).key.strip()
        session = Session(hash_key(key), int(self._now().timestamp()) + self._settings.console_session_s)
        if self.namespace_of(session) is None:
            raise _wrong(key)
        return self._answer(session, render_session(session, self._keyring.session_secret))

    async def show(self, request: Request) -> Response:
        """Tell who has signed in."""
        return self._answer(self.require(request))

    async def sign_out(self, request: Request) -> Response:
        """Have the browser forget the cookie."""
        _refuse_forged(request)
        return Response(status_code=204, headers={"set-cookie": render_cookie("", 0, is_secure=self._is_secure)})

    def find_caller(self, request: Request) -> Caller | None:
        """Find who sent a request by its cookie; None if it has none. Raises `Rejected`."""
        if cookie_name(is_secure=self._is_secure) not in request.cookies:
            return None
        namespace = self.namespace_of(self.require(request))
        assert namespace is not None
        return key_holder(namespace)

    def require(self, request: Request) -> Session:
        """Give the session that a request is part of. Raises `Rejected`."""
        text = request.cookies.get(cookie_name(is_secure=self._is_secure), "")
        session = parse_session(text, self._keyring.session_secret, self._now().timestamp())
        if session is None or self.namespace_of(session) is None:
            raise Rejected(_ENDED, status=401)
        _refuse_forged(request)
        return session

    def namespace_of(self, session: Session) -> str | None:
        """Name the namespace of a session; None if its time is over or its key was revoked."""
        is_over = self._now().timestamp() >= session.expires_at
        return None if is_over else self._keyring.namespace_by_hash(session.key_hash)

    def _answer(self, session: Session, cookie: str | None = None) -> Response:
        namespace = self.namespace_of(session)
        assert namespace is not None
        shown = SessionObject(namespace=namespace, expires_at=session.expires_at, limits=_limits(self._settings))
        response = respond(shown)
        response.headers["cache-control"] = "no-store"
        if cookie:
            age_s = self._settings.console_session_s
            response.headers["set-cookie"] = render_cookie(cookie, age_s, is_secure=self._is_secure)
        return response


def _limits(settings: Settings) -> Limits:
    return Limits(
        max_file_bytes=settings.max_file_bytes,
        max_lines=settings.max_lines,
        max_line_bytes=settings.max_line_bytes,
        endpoints=list(settings.endpoints),
    )


def _refuse_forged(request: Request) -> None:
    problem = find_forgery(request.method, request.headers)
    if problem:
        raise Rejected(problem, status=403)


def _wrong(key: str) -> Rejected:
    message = "Incorrect API key provided."
    if is_token(key):  # a session would outlive it, and could not be told when it is revoked
        message = "Sign in with an API key; tokens of ServiceAccounts are for the API alone."
    return Rejected(message, code="invalid_api_key", status=401)
