"""Whether a request that a browser signs with its cookie was meant by our own page (cross-site request forgery).

Pure. Three things stand in the way of another site: the cookie is SameSite=Strict, an unsafe request needs a header
that no form can send and no other origin may, and the browser itself says where a request comes from. Sources: OWASP's
cheat sheet on CSRF (custom headers, Fetch Metadata), W3C Fetch Metadata.
"""

from collections.abc import Mapping

HEADER = "nightshift-console"
_SAFE = frozenset({"GET", "HEAD"})


def find_forgery(method: str, headers: Mapping[str, str]) -> str | None:
    """Say why a request is not taken to be our page's; None if it is. Names of headers are in lower case."""
    if headers.get("sec-fetch-site", "same-origin") not in _sites(method):
        return "The request comes from another site."
    if method in _SAFE:
        return None
    if HEADER not in headers:
        return f"A request that is signed by a cookie needs the header '{HEADER}'."
    if "sec-fetch-site" not in headers and not _is_own(headers.get("origin"), headers.get("host")):
        return "The request comes from another origin."
    return None


def _sites(method: str) -> frozenset[str]:
    """`none` is what a person has asked of the browser itself: to open or to save something."""
    return frozenset({"same-origin", "none"}) if method in _SAFE else frozenset({"same-origin"})


def _is_own(origin: str | None, host: str | None) -> bool:
    """Browsers send no Fetch Metadata to a plain http address that is not this machine, but an origin always."""
    return host is not None and origin in {f"http://{host}", f"https://{host}"}
