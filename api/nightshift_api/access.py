"""What a call needs of Kubernetes' own rights, for callers whose rights Kubernetes keeps (design 8).

Pure. A call is a verb on a resource in the caller's namespace, as it would be with kubectl. Every call of `routes` has
a row: one that is forgotten is found when the application is put together, and not by whoever may use it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Access:
    """A verb on a resource of our group."""

    verb: str
    resource: str

    def __str__(self) -> str:
        return f"{self.verb} {self.resource}"


_BATCHES, _FILES, _MODELS = "batchjobs", "storedfiles", "hostedmodels"
_UPLOAD = Access("create", _FILES)
_ACCESS: Mapping[str, Access] = {
    "POST /files": _UPLOAD,
    "GET /files": Access("list", _FILES),
    "GET /files/{}": Access("get", _FILES),
    "GET /files/{}/content": Access("get", _FILES),
    "DELETE /files/{}": Access("delete", _FILES),
    "POST /uploads": _UPLOAD,
    "POST /uploads/{}/parts": _UPLOAD,
    "POST /uploads/{}/complete": _UPLOAD,
    "POST /uploads/{}/cancel": _UPLOAD,
    "POST /batches": Access("create", _BATCHES),
    "GET /batches": Access("list", _BATCHES),
    "GET /batches/{}": Access("get", _BATCHES),
    "POST /batches/{}/cancel": Access("patch", _BATCHES),
    "POST /batches/{}/rerun": Access("create", _BATCHES),
    "POST /batches/{}/resume": Access("patch", _BATCHES),
    "POST /batches/{}/suspend": Access("patch", _BATCHES),
    "GET /models": Access("list", _MODELS),
    "GET /models/{}": Access("list", _MODELS),  # a model's id is no name: it is looked for among all
}


def access_of(method: str, path: str) -> Access:
    """Say what a call needs; `path` is that of its route. Raises KeyError for one that has no row."""
    return _ACCESS[f"{method} {re.sub(r'{[^}]*}', '{}', path)}"]
