"""What one namespace may ask of this process, so that the others get their share: counts in memory, for each replica.

Asked once it is known who a request is from: `Admit` counts requests that are being served, the routes ask for reads
and uploads, and whoever creates a batch for that.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from nightshift_api.caller import namespace_of
from nightshift_api.quota import Places, Quota
from nightshift_api.settings import Settings
from nightshift_crds.errors import TooMany

_HOUR_S = 3600


class Admission:
    """The quotas of all namespaces."""

    def __init__(self, settings: Settings, now: Callable[[], datetime]) -> None:
        self._settings = settings
        self._now = now
        self._creates = Quota(settings.max_creates_per_hour, _HOUR_S)
        self._uploads = Quota(settings.max_uploads_per_hour, _HOUR_S)
        self._reads = Quota(settings.max_reads_per_s, 1)
        self._requests_at_once = Places(settings.max_concurrent_requests)
        self._uploads_at_once = Places(settings.max_concurrent_uploads)

    @contextmanager
    def serving(self, namespace: str) -> Iterator[None]:
        """Count a request until it is answered whole. Raises `TooMany`."""
        most = self._settings.max_concurrent_requests
        too_many = f"At most {most} requests at once are served for a namespace."
        with self._requests_at_once.hold(namespace, "max_concurrent_requests", too_many):
            yield

    def read(self, namespace: str) -> None:
        """Count a read. Raises `TooMany`."""
        most = self._settings.max_reads_per_s
        self._draw(self._reads, namespace, "max_reads_per_s", f"At most {most} reads are served in a second.")

    @contextmanager
    def uploading(self, namespace: str) -> Iterator[None]:
        """Count a call that stores bytes of a client's while it does. Raises `TooMany`."""
        settings = self._settings
        too_many = f"At most {settings.max_concurrent_uploads} uploads at once are taken of a namespace."
        with self._uploads_at_once.hold(namespace, "max_concurrent_uploads", too_many):
            too_many = f"At most {settings.max_uploads_per_hour} uploads are taken an hour."
            self._draw(self._uploads, namespace, "max_uploads_per_hour", too_many)
            yield

    @contextmanager
    def creating(self, namespace: str) -> Iterator[None]:
        """Count a batch; one that does not come to be counts for nothing. Raises `TooMany`."""
        most = self._settings.max_creates_per_hour
        self._draw(self._creates, namespace, "max_creates_per_hour", f"At most {most} batches are created an hour.")
        try:
            yield
        except BaseException:
            self._creates.give_back(namespace, self._now().timestamp())
            raise

    def _draw(self, quota: Quota, namespace: str, limit: str, message: str) -> None:
        delay_s = quota.take(namespace, self._now().timestamp())
        if delay_s:
            raise TooMany(message, limit=limit, delay_s=delay_s)


class Admit:
    """Let so many requests of a namespace through at once; stands behind `Authenticate`."""

    def __init__(self, app: ASGIApp, admission: Admission) -> None:
        self._app = app
        self._admission = admission

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        with self._admission.serving(namespace_of(Request(scope))):
            await self._app(scope, receive, send)
