"""What the API counts: requests by the template of their route, bytes, times, and limits that somebody has met."""

import re
from collections.abc import Iterable, Sequence

from starlette.routing import compile_path

from nightshift_crds.metrics import OTHER, Page

_METHODS = frozenset({"GET", "HEAD", "POST", "DELETE", "PUT", "PATCH", "OPTIONS"})
_TIMES = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


class Templates:
    """Names a path by the route that it is of, however the request ends: most never come as far as the route."""

    def __init__(self, prefixes: Sequence[str], paths: Iterable[str]) -> None:
        self._prefixes = tuple(prefixes)
        self._routes: list[tuple[re.Pattern[str], str]] = [
            (compile_path(path)[0], path.replace(":path", "")) for path in dict.fromkeys(paths)
        ]

    def of(self, path: str) -> str:
        """Give the template of a path, without its prefix; `other` for a path that is none of ours. Pure."""
        prefix = next((prefix for prefix in self._prefixes if path.startswith(f"{prefix}/")), "")
        rest = path.removeprefix(prefix)
        return next((template for shape, template in self._routes if shape.match(rest)), OTHER)


class Metrics:
    """The API's page, and what it counts."""

    def __init__(self) -> None:
        self.page = page = Page()
        self.in_flight = 0
        self._requests = page.counter(
            "http_requests_total", "Requests by the template of their route.", "method", "route", "status"
        )
        self._times = page.histogram(
            "http_request_seconds",
            "From a request to the end of its answer, uploads and downloads among them.",
            _TIMES,
            "method",
            "route",
        )
        self._received = page.counter("http_received_bytes_total", "Bytes of bodies that were received.", "route")
        self._sent = page.counter("http_sent_bytes_total", "Bytes of bodies that were sent.", "route")
        self._limits = page.counter(
            "http_limits_total", "Requests that were refused by a limit, by the setting that it is.", "limit"
        )
        page.level_of("http_requests_in_flight", "Requests that are being served.", (), lambda: [((), self.in_flight)])

    def served(self, method: str, route: str, status: int, took_s: float) -> None:
        """Count a request that has been answered."""
        method = method if method in _METHODS else OTHER
        self._requests.labels(method, route, str(status)).inc()
        self._times.labels(method, route).observe(took_s)

    def refused(self, status: int) -> None:
        """Count what was refused before it was a request."""
        self._requests.labels(OTHER, OTHER, str(status)).inc()

    def carried(self, route: str, received: int, sent: int) -> None:
        """Count the bytes of bodies."""
        self._received.labels(route).inc(received)
        self._sent.labels(route).inc(sent)

    def limited(self, limit: str) -> None:
        """Count a request that a limit has refused."""
        self._limits.labels(limit).inc()
