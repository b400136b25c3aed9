"""`nightshift-api`: read the settings, open the ports, serve until SIGTERM."""

import asyncio
import os
import socket
import sys
from functools import partial
from typing import TYPE_CHECKING, cast

import structlog
import uvicorn
import uvloop
from starlette.types import ASGIApp

from nightshift_api.app import build_app
from nightshift_api.auth import Keyring
from nightshift_api.connection import Connection
from nightshift_api.context import Context
from nightshift_api.lists import following
from nightshift_api.metrics import Metrics
from nightshift_api.ownership import claim_bucket
from nightshift_api.settings import Settings
from nightshift_api.tls import keeping_certificate
from nightshift_crds.bucket import open_bucket
from nightshift_crds.cluster import open_cluster
from nightshift_crds.errors import Rejected
from nightshift_crds.logs import configure_logs
from nightshift_crds.metering import MeteredBucket, MeteredCluster
from nightshift_crds.metrics import showing
from nightshift_crds.parent import end_with_parent
from nightshift_crds.tracing import open_tracing

if TYPE_CHECKING:
    from nightshift_crds.otel import Tracing

_log = structlog.get_logger()


def main() -> None:
    """Run the role; exits with 2 if a setting is wrong."""
    configure_logs("api")
    end_with_parent(os.environ)
    try:
        settings = Settings.load(os.environ)
        with open_tracing("api", os.environ) as tracing:
            uvloop.run(serve(settings, tracing))
    except Rejected as error:
        sys.stderr.write(f"nightshift-api: {error.message}\n")
        sys.exit(2)


async def serve(settings: Settings, tracing: "Tracing | None" = None) -> None:
    """Serve until SIGTERM or SIGINT, which uvicorn handles: it stops listening and lets requests end."""
    metrics = Metrics()
    async with open_cluster(settings.cluster) as cluster, open_bucket(settings.bucket) as plain:
        bucket = MeteredBucket(plain, metrics.page)
        await claim_bucket(bucket, settings)
        async with following(MeteredCluster(cluster, metrics.page), settings) as lists:
            context = Context(lists, bucket, settings, metrics=metrics, tracing=tracing)
            config = build_config(build_app(context, Keyring(settings.api_keys_file)), settings, metrics)
            async with keeping_certificate(config.ssl, settings):
                _log.info("api.started", port=settings.port)
                with showing(metrics.page, settings):
                    await Server(config, context.closing).serve(sockets=inherited_sockets(settings))


class Server(uvicorn.Server):
    """uvicorn's, which says that it is about to end before it waits for answers to: a stream of events has no end."""

    def __init__(self, config: uvicorn.Config, closing: asyncio.Event) -> None:
        super().__init__(config)
        self._closing = closing

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let requests end."""
        self._closing.set()
        await super().shutdown(sockets)


def build_config(app: ASGIApp, settings: Settings, metrics: Metrics) -> uvicorn.Config:
    """Tell uvicorn how to serve."""
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        lifespan="off",
        http=cast(type[asyncio.Protocol], partial(Connection, settings=settings, metrics=metrics)),
        ws="none",
        timeout_keep_alive=settings.keep_alive_s,
        timeout_graceful_shutdown=settings.shutdown_grace_s,
        server_header=False,
        ssl_certfile=settings.tls_cert_file,
        ssl_keyfile=settings.tls_key_file,
    )
    config.load()
    return config


def inherited_sockets(settings: Settings) -> list[socket.socket] | None:
    """Take over the socket that was handed down, if one was, as the TCP socket that it is.

    Uvicorn's own `fd` takes it for a Unix socket, whose connections keep Nagle's algorithm: every answer on a
    connection that is kept alive would wait for the client's delayed acknowledgement, 40 ms.
    """
    return None if settings.listen_fd is None else [socket.socket(fileno=settings.listen_fd)]
