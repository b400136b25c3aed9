"""Read resources of which one may be odd, written by another version or by hand: it is left alone, the others go on."""

from typing import TypeVar

import structlog
from pydantic import ValidationError

from nightshift_crds.cluster.port import Manifest
from nightshift_crds.models import Resource

R = TypeVar("R", bound=Resource)
_log = structlog.get_logger()


def parse_known(model: type[R], manifest: Manifest) -> R | None:
    """Read a manifest; None, and a warning, if it is not one that this version understands."""
    try:
        return model.parse(manifest)
    except ValidationError as error:
        metadata = manifest["metadata"]
        where = {"kind": model.__name__, "namespace": metadata.get("namespace"), "name": metadata["name"]}
        _log.warning("resource.not_understood", **where, problems=error.error_count())
        return None
