"""Read the resources of a namespace: one that its schema does not allow must not break a list for everybody."""

from typing import TypeVar

import structlog
from pydantic import ValidationError

from nightshift_crds.cluster.port import KINDS, Cluster, Manifest, Selector, each
from nightshift_crds.models import Resource

_R = TypeVar("_R", bound=Resource)
_log = structlog.get_logger()


async def read_all(cluster: Cluster, model: type[_R], selector: Selector) -> list[_R]:
    """Read all selected resources but those that do not parse."""
    found = [parse_readable(model, manifest) async for manifest in each(cluster, KINDS[model.__name__], selector)]
    return [resource for resource in found if resource is not None]


def parse_readable(model: type[_R], manifest: Manifest) -> _R | None:
    """Read a manifest; None, told in the log, if it does not parse."""
    try:
        return model.parse(manifest)
    except ValidationError as error:
        name = manifest["metadata"]["name"]
        _log.error("resource.unreadable", kind=model.__name__, name=name, fields=_fields(error))
        return None


def _fields(error: ValidationError) -> list[str]:
    return [".".join(map(str, problem["loc"])) for problem in error.errors(include_input=False)]
