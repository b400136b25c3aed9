"""The cookie of a session: the digest of an API key and an end, signed; never the key itself.

Pure. A signature says who signed in and until when; whether the key still holds is asked of the keys at each request.
"""

import hmac
import re
from dataclasses import dataclass

_SHAPE = re.compile(r"(1\.([0-9a-f]{64})\.([0-9]{1,12}))\.([0-9a-f]{64})")


@dataclass(frozen=True)
class Session:
    """Somebody who has signed in.

    Attributes:
        key_hash: of the API key, as the file of keys has it.
        expires_at: Unix time in seconds.
    """

    key_hash: str
    expires_at: int


def render_session(session: Session, secret: bytes) -> str:
    """Write a session so that nobody without the secret can."""
    said = f"1.{session.key_hash}.{session.expires_at}"
    return f"{said}.{_sign(said, secret)}"


def parse_session(text: str, secret: bytes, now: float) -> Session | None:
    """Read a session; None if it was not signed with the secret or has ended."""
    found = _SHAPE.fullmatch(text)
    if not found or not hmac.compare_digest(found[4], _sign(found[1], secret)):
        return None
    session = Session(found[2], int(found[3]))
    return session if now < session.expires_at else None


def _sign(said: str, secret: bytes) -> str:
    return hmac.digest(secret, f"nightshift console {said}".encode(), "sha256").hex()


def cookie_name(*, is_secure: bool) -> str:
    """Name the cookie; browsers let nobody but this very host set one with the prefix."""
    return "__Host-nightshift_session" if is_secure else "nightshift_session"


def render_cookie(value: str, max_age_s: int, *, is_secure: bool) -> str:
    """Write `Set-Cookie`; an age of 0 takes the cookie away."""
    cookie = f"{cookie_name(is_secure=is_secure)}={value}; Path=/; Max-Age={max_age_s}; HttpOnly; SameSite=Strict"
    return f"{cookie}; Secure" if is_secure else cookie
