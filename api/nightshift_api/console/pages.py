"""The files of the page, held in memory, small on the wire, and with all the headers that keep a browser strict."""

import gzip
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

STATIC = Path(__file__).parent / "static"
_TYPES: Mapping[str, str] = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".woff2": "font/woff2",
    ".txt": "text/plain; charset=utf-8",
}
_ACTIVE = frozenset({_TYPES[".html"], _TYPES[".svg"]})
"""What a browser takes for a document, if it is sent there."""
_IS_PACKED = frozenset({".woff2"})
_POLICY: Mapping[str, str] = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self'",
    "font-src": "'self'",
    "connect-src": "'self'",
    "form-action": "'none'",
    "base-uri": "'none'",
    "frame-ancestors": "'none'",
    "require-trusted-types-for": "'script'",
    "trusted-types": "lit-html",
}
"""No text can become a script: strings are refused where scripts could come from, but for the templates of lit-html."""
_OF_ALL: Mapping[str, str] = {
    "x-content-type-options": "nosniff",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-cache",
    "vary": "accept-encoding",
}
_OF_PAGE: Mapping[str, str] = {
    "content-security-policy": "; ".join(f"{name} {value}" for name, value in _POLICY.items()),
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}


@dataclass(frozen=True)
class Asset:
    """A file as it is sent; `packed` by gzip, where that makes it smaller."""

    media_type: str
    plain: bytes
    packed: bytes | None

    @property
    def headers(self) -> dict[str, str]:
        """Say how a browser is to take it, and which bytes it is."""
        of_page = _OF_PAGE if self.media_type in _ACTIVE else {}
        return {**_OF_ALL, **of_page, "etag": f'"{sha256(self.plain).hexdigest()[:32]}"'}


def load_assets(folder: Path) -> dict[str, Asset]:
    """Read all files of a folder, by their path in it."""
    found = sorted(path for path in folder.rglob("*") if path.suffix in _TYPES)
    return {path.relative_to(folder).as_posix(): _load(path) for path in found}


def _load(path: Path) -> Asset:
    plain = path.read_bytes()
    packed = None if path.suffix in _IS_PACKED else gzip.compress(plain, mtime=0)
    return Asset(_TYPES[path.suffix], plain, packed)


class Pages:
    """Serves them."""

    def __init__(self) -> None:
        self._assets = load_assets(STATIC)

    async def page(self, request: Request) -> Response:
        """Show the page; which view of it is said by the path, and read there."""
        return _answer(request, self._assets["index.html"])

    async def asset(self, request: Request) -> Response:
        """Give one of the page's files."""
        asset = self._assets.get(request.path_params["path"])
        if asset is None:
            raise HTTPException(404)
        return _answer(request, asset)


def _answer(request: Request, asset: Asset) -> Response:
    headers = asset.headers
    if request.headers.get("if-none-match") == headers["etag"]:
        return Response(status_code=304, headers=headers)
    if asset.packed and "gzip" in request.headers.get("accept-encoding", ""):
        return Response(asset.packed, headers=headers | {"content-encoding": "gzip"}, media_type=asset.media_type)
    return Response(asset.plain, headers=headers, media_type=asset.media_type)
