"""TLS on the API's own port: the certificate is served as its files are now, so that a renewal needs no restart."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog

from nightshift_api.settings import Settings

_log = structlog.get_logger()
_LOOK_S = 60.0
"""Certificates are renewed days before their end."""


@asynccontextmanager
async def keeping_certificate(context: ssl.SSLContext | None, settings: Settings) -> AsyncIterator[None]:
    """Read the certificate again from time to time while this runs; without a context there is none."""
    if context is None:
        yield
        return
    keeping = asyncio.create_task(_keep(context, settings), name="certificate")
    try:
        yield
    finally:
        keeping.cancel()


async def _keep(context: ssl.SSLContext, settings: Settings) -> None:
    while True:
        await asyncio.sleep(_LOOK_S)
        read_certificate(context, settings)


def read_certificate(context: ssl.SSLContext, settings: Settings) -> None:
    """Serve new connections with what the files hold; one that cannot be read leaves the last good one in force."""
    assert settings.tls_cert_file is not None, "a context is made of a certificate"
    try:
        context.load_cert_chain(settings.tls_cert_file, settings.tls_key_file)
    except (OSError, ssl.SSLError) as error:
        _log.error("certificate.unreadable", path=str(settings.tls_cert_file), problem=type(error).__name__)
