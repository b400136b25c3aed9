"""API keys as they are stored: by SHA-256, each bound to a namespace.

Pure. The API checks keys against the file, `nightshift local` writes it; on Kubernetes it is a mounted Secret.
"""

import hashlib
from collections.abc import Mapping
from typing import Annotated

from pydantic import BaseModel, Field


class ApiKey(BaseModel):
    """A key as the file holds it."""

    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    namespace: str


class KeyFile(BaseModel):
    """The file."""

    keys: list[ApiKey]


def hash_key(key: str) -> str:
    """Hash a key as the file holds it. Keys are long and random, so a plain digest is enough."""
    return hashlib.sha256(key.encode()).hexdigest()


def render_keys(keys: Mapping[str, str]) -> str:
    """Write a key file for keys by their text, each with its namespace."""
    return KeyFile(
        keys=[ApiKey(sha256=hash_key(key), namespace=namespace) for key, namespace in keys.items()]
    ).model_dump_json(indent=1)


def parse_keys(data: bytes) -> dict[str, str]:
    """Read a key file: namespace by hash. Raises pydantic.ValidationError."""
    return {key.sha256: key.namespace for key in KeyFile.model_validate_json(data).keys}
