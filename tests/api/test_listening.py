"""The socket that the API serves: a port of its own, or one that `nightshift local` hands down."""

import asyncio
import socket
from pathlib import Path

import httpx2
import uvicorn
import uvloop

from nightshift_api.main import build_config, inherited_sockets
from nightshift_api.metrics import Metrics
from tests.api.harness import make_settings, open_api


def test_without_a_socket_handed_down_the_api_opens_its_own(tmp_path: Path) -> None:
    assert inherited_sockets(make_settings(tmp_path)) is None


async def find_delays(folder: Path, listening: socket.socket) -> list[bool]:
    """Serve a socket that was handed down; tells of each connection whether small answers may be held back."""
    settings = make_settings(folder, listen_fd=listening.detach())
    async with open_api(folder) as api:
        server = uvicorn.Server(build_config(api.app, settings, Metrics()))
        serving = asyncio.create_task(server.serve(sockets=inherited_sockets(settings)))
        async with httpx2.AsyncClient() as client:
            await client.get(f"http://127.0.0.1:{port_of(settings.listen_fd)}/healthz")
            sockets = [connection.transport.get_extra_info("socket") for connection in server.server_state.connections]
            delays = [not found.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) for found in sockets]
        server.should_exit = True
        await serving
        return delays


def port_of(descriptor: int | None) -> int:
    assert descriptor is not None
    with socket.fromfd(descriptor, socket.AF_INET, socket.SOCK_STREAM) as found:
        return int(found.getsockname()[1])


def test_an_answer_on_a_kept_connection_is_not_held_back(tmp_path: Path) -> None:
    """Nagle's algorithm and a client's delayed acknowledgement together cost 40 ms a request."""
    assert uvloop.run(find_delays(tmp_path, socket.create_server(("127.0.0.1", 0)))) == [False]
