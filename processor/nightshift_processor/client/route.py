"""The way to the model server: whom to connect to, what TLS must prove, and how each request begins.

Read once out of the endpoint and the environment, whose proxies are those that urllib knows: `http_proxy`,
`https_proxy`, `no_proxy`. A proxy that wants TLS itself is left out, as aiohttp leaves it out.
"""

import ssl
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import structlog

from nightshift_processor.client.port import Endpoint

_log = structlog.get_logger()
_PORTS = {"http": 80, "https": 443}
_Header = tuple[str, str]


@dataclass(frozen=True)
class Route:
    """See above.

    Attributes:
        host: whom to connect to, the proxy if there is one.
        tls: None for plain HTTP; `server_name` is who must stand in the certificate.
        tunnel: what a proxy is told before TLS begins.
        head: of every request, up to the length of its body.
    """

    host: str
    port: int
    tls: ssl.SSLContext | None
    server_name: str | None
    tunnel: bytes | None
    head: bytes


def find_route(endpoint: Endpoint) -> Route:
    """Find the way that the environment wants for an endpoint."""
    url = urlsplit(endpoint.url)
    proxy, is_secure = _find_proxy(url), url.scheme == "https"
    connected = proxy or url
    authority = f"{_host_of(url, brackets=True)}:{_port_of(url)}"
    to_proxy = _credentials("Proxy-Authorization", proxy) if proxy else {}
    target = f"{url.path or '/'}{'?' if url.query else ''}{url.query}"
    through_proxy = proxy is not None and not is_secure
    return Route(
        host=_host_of(connected),
        port=_port_of(connected),
        tls=_trust() if is_secure else None,
        server_name=_host_of(url).rstrip(".") if is_secure else None,
        tunnel=_write("CONNECT", authority, {"Host": authority} | to_proxy) + b"\r\n" if proxy and is_secure else None,
        head=_write(
            "POST",
            f"http://{authority}{target}" if through_proxy else target,
            {
                "Host": _written_host(url),
                "Accept": "*/*",
                **_credentials("Authorization", url),
                **endpoint.headers,
                **(to_proxy if through_proxy else {}),
            },
        ),
    )


def _find_proxy(url: SplitResult) -> SplitResult | None:
    text = getproxies().get(url.scheme)
    if not text or proxy_bypass(_host_of(url)):
        return None
    proxy = urlsplit(text if "://" in text else f"http://{text}")
    if proxy.scheme != "http" or not proxy.hostname:
        _log.warning("proxy.ignored", scheme=proxy.scheme)
        return None
    return proxy


def _trust() -> ssl.SSLContext:
    """Trust what OpenSSL trusts, which SSL_CERT_FILE adds to."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


def _write(method: str, target: str, headers: Mapping[str, str]) -> bytes:
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {text}" for name, text in headers.items())]
    if any(set(line) & {"\r", "\n", "\0"} for line in lines):
        raise ValueError("a header is one line")
    return "".join(f"{line}\r\n" for line in lines).encode()


def _credentials(name: str, url: SplitResult) -> dict[str, str]:
    if url.username is None:
        return {}
    pair = f"{unquote(url.username)}:{unquote(url.password or '')}"
    return {name: f"Basic {b64encode(pair.encode()).decode()}"}


def _host_of(url: SplitResult, *, brackets: bool = False) -> str:
    host = url.hostname or ""
    return f"[{host}]" if brackets and ":" in host else host


def _port_of(url: SplitResult) -> int:
    return url.port or _PORTS[url.scheme]


def _written_host(url: SplitResult) -> str:
    host = _host_of(url, brackets=True)
    return host if _port_of(url) == _PORTS[url.scheme] else f"{host}:{url.port}"
