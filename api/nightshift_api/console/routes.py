"""Put the console together: its page, its files, sign-in and the stream of events."""

from starlette.routing import Route

from nightshift_api.console.events import Events
from nightshift_api.console.pages import Pages
from nightshift_api.console.sessions import Sessions
from nightshift_api.context import Context


def build_console(context: Context, sessions: Sessions) -> list[Route]:
    """List the routes of the console."""
    pages, events = Pages(), Events(context, sessions)
    return [
        Route("/console", pages.page),
        Route("/console/", pages.page),
        Route("/console/batches/{batch_id}", pages.page),
        Route("/console/static/{path:path}", pages.asset),
        Route("/console/session", sessions.show),
        Route("/console/session", sessions.sign_in, methods=["POST"]),
        Route("/console/session", sessions.sign_out, methods=["DELETE"]),
        Route("/console/events", events.stream),
    ]
