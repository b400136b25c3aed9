"""The Models API: what may be batched, and nothing else (contract 6)."""

from starlette.requests import Request
from starlette.responses import Response

from nightshift_api.caller import namespace_of
from nightshift_api.context import Context
from nightshift_api.responses import respond
from nightshift_api.wire import ModelList, ModelObject
from nightshift_crds.cluster.port import Selector
from nightshift_crds.errors import NotFound
from nightshift_crds.models import HostedModel
from nightshift_crds.reading import read_known

_OWNER = "nightshift"


def render_model(model: HostedModel) -> ModelObject:
    """Show a model. Pure."""
    return ModelObject(id=model.spec.name, created=int(model.created.timestamp()), owned_by=_OWNER)


class Models:
    """The endpoints under `/models`."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def list(self, request: Request) -> Response:
        """List the models that validation accepts."""
        return respond(ModelList(data=list((await self._catalogue(request)).values())))

    async def get(self, request: Request) -> Response:
        """Show a model."""
        wanted = request.path_params["model"]
        found = (await self._catalogue(request)).get(wanted)
        if found is None:
            raise NotFound(f"The model '{wanted}' does not exist.", code="model_not_found", param="model")
        return respond(found)

    async def _catalogue(self, request: Request) -> dict[str, ModelObject]:
        models = await read_known(self._context.cluster, HostedModel, Selector(namespace_of(request)))
        return {model.spec.name: render_model(model) for model in sorted(models, key=lambda m: m.spec.name)}
