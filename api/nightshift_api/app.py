"""Put the API together: routes under both prefixes, keys in front, one error shape around everything."""

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route, Router
from starlette.types import ASGIApp

from nightshift_api.access import access_of
from nightshift_api.accounts import ServiceAccounts
from nightshift_api.admission import Admission, Admit
from nightshift_api.auth import Authenticate, Keyring
from nightshift_api.caller import caller_of
from nightshift_api.console.routes import build_console
from nightshift_api.console.sessions import Sessions
from nightshift_api.context import Context
from nightshift_api.errors import on_bug, on_disconnect, on_http, on_rejected, on_too_many, on_unavailable
from nightshift_api.health import Healthz
from nightshift_api.metrics import Templates
from nightshift_api.openapi import build_openapi
from nightshift_api.pace import Pace
from nightshift_api.routes import Operation, build_operations
from nightshift_api.tracing import Trace
from nightshift_crds.errors import Rejected, TooMany, Unavailable

PREFIXES = ("/openai/v1", "/v1")
_HEALTHZ, _OPENAPI = "/healthz", "/openapi.json"


def build_app(context: Context, keyring: Keyring) -> ASGIApp:
    """Build the ASGI application of a context."""
    operations = build_operations(context)
    admission = context.admission
    sessions = Sessions(keyring, context.settings, context.now) if context.settings.console else None
    middleware = [
        Middleware(Authenticate, keyring=keyring, accounts=ServiceAccounts.of(context), signed_in=sessions),
        Middleware(Admit, admission=admission),
    ]
    console = build_console(context, sessions) if sessions else []
    description = build_openapi(operations, PREFIXES[0], context.settings)

    async def show_openapi(_: Request) -> Response:
        return JSONResponse(description)

    def on_limit(request: Request, error: Exception) -> Response:
        assert isinstance(error, TooMany)
        context.metrics.limited(error.limit)
        return on_too_many(request, error)

    app = Starlette(
        routes=[
            Route(_HEALTHZ, Healthz(context).get),
            Route(_OPENAPI, show_openapi),
            *(_mount(prefix, operations, middleware, admission) for prefix in PREFIXES),
            *console,
        ],
        exception_handlers={
            Rejected: on_rejected,
            TooMany: on_limit,
            Unavailable: on_unavailable,
            HTTPException: on_http,
            ClientDisconnect: on_disconnect,
            Exception: on_bug,
        },
    )
    app.router.redirect_slashes = False
    paths = [_HEALTHZ, _OPENAPI, *(operation.path for operation in operations), *(route.path for route in console)]
    templates = Templates(PREFIXES, paths)
    return Trace(Pace(app, context.settings), context.metrics, templates, context.tracing)


def _mount(prefix: str, operations: list[Operation], middleware: list[Middleware], admission: Admission) -> BaseRoute:
    routes: dict[str, dict[str, Operation]] = {}
    for operation in operations:
        routes.setdefault(operation.path, {})[operation.method] = operation
    router = Router([_route(path, by_method, admission) for path, by_method in routes.items()], redirect_slashes=False)
    return Mount(prefix, router, middleware=middleware)


def _route(path: str, by_method: dict[str, Operation], admission: Admission) -> Route:
    """Serve all methods of a path, so that any other is a 405 and not a 404."""
    access = {method: access_of(method, path) for method in by_method}

    async def endpoint(request: Request) -> Response:
        method = "GET" if request.method == "HEAD" else request.method
        operation, caller = by_method[method], caller_of(request)
        await caller.authorise(access[method])
        if method == "GET":
            admission.read(caller.namespace)
        if not operation.stores:
            return await operation.endpoint(request)
        with admission.uploading(caller.namespace):
            return await operation.endpoint(request)

    return Route(path, endpoint, methods=list(by_method))
