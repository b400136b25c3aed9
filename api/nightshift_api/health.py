"""Tell whether the API, and in a local installation everything behind it, is ready."""

from starlette.requests import Request
from starlette.responses import Response

from nightshift_api.context import Context
from nightshift_api.responses import respond
from nightshift_api.wire import Health
from nightshift_crds.cluster.lease import is_held
from nightshift_crds.cluster.port import HOSTED_MODEL, LEASE
from nightshift_crds.errors import Missing, Unavailable


class Healthz:
    """`GET /healthz`, without a key."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def get(self, _: Request) -> Response:
        """Answer 200 once the cluster answers, the lists are filled and each part waited for holds its lease."""
        await self._context.cluster.list(HOSTED_MODEL, limit=1)
        self._context.lists.check_ready()
        for lease in self._context.settings.ready_leases:
            namespace, name = lease.split("/")
            try:
                manifest = await self._context.cluster.get(LEASE, namespace, name)
            except Missing:
                raise Unavailable(f"{name} has not started yet", delay_s=1) from None
            if not is_held(manifest, self._context.now()):
                raise Unavailable(f"{name} does not answer", delay_s=1)
        return respond(Health())
