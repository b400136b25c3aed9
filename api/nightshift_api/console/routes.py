"""Put the console together: its page, its files, sign-in and the stream of events."""

from starlette.routing import BaseRoute, Mount, Route

from nightshift_api.console.events import Events
from nightshift_api.console.pages import Pages
from nightshift_api.console.sessions import Sessions
from nightshift_api.context import Context


def build_console(context: Context, sessions: Sessions) -> list[BaseRoute]:
    """List the routes of the console."""
    pages, events = Pages(), Events(context, sessions)
    return [
        Route("/console", pages.page),
        Mount(
            "/console",
            routes=[
                Route("/", pages.page),
                Route("/batches/{batch_id}", pages.page),
                Route("/static/{path:path}", pages.asset),
                Route("/session", sessions.show),
                Route("/session", sessions.sign_in, methods=["POST"]),
                Route("/session", sessions.sign_out, methods=["DELETE"]),
                Route("/events", events.stream),
            ],
        ),
    ]
