"""Read resources of which one may be odd, written by another version or by hand: it is left alone, the others go on."""

from typing import TypeVar

import structlog
from pydantic import ValidationError

from nightshift_crds.cluster.port import KINDS, Cluster, Manifest, Selector, each
from nightshift_crds.models import Resource

_R = TypeVar("_R", bound=Resource)
_log = structlog.get_logger()


def parse_known(model: type[_R], manifest: Manifest) -> _R | None:
    """Read a manifest; None, and a warning, if it is not one that this version understands."""
    try:
        return model.parse(manifest)
    except ValidationError as error:
        metadata = manifest["metadata"]
        where = {"kind": model.__name__, "namespace": metadata.get("namespace"), "name": metadata["name"]}
        fields = [".".join(map(str, problem["loc"])) for problem in error.errors(include_input=False)]
        _log.warning("resource.not_understood", **where, fields=fields)
        return None


async def read_known(cluster: Cluster, model: type[_R], selector: Selector) -> list[_R]:
    """Read all selected resources that this version understands."""
    found = [parse_known(model, manifest) async for manifest in each(cluster, KINDS[model.__name__], selector)]
    return [resource for resource in found if resource is not None]
