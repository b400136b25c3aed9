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
    """The file.

    Attributes:
        session_secret: what sessions of the console are signed with; a new one ends them all.
    """

    keys: list[ApiKey]
    session_secret: Annotated[str | None, Field(min_length=32, repr=False)] = None

    @property
    def namespaces(self) -> dict[str, str]:
        """Give the namespace of each key, by the key's hash."""
        return {key.sha256: key.namespace for key in self.keys}


def hash_key(key: str) -> str:
    """Hash a key as the file holds it. Keys are long and random, so a plain digest is enough."""
    return hashlib.sha256(key.encode()).hexdigest()


def render_keys(keys: Mapping[str, str], session_secret: str | None = None) -> str:
    """Write a key file for keys by their text, each with its namespace."""
    held = [ApiKey(sha256=hash_key(key), namespace=namespace) for key, namespace in keys.items()]
    return KeyFile(keys=held, session_secret=session_secret).model_dump_json(indent=1, exclude_none=True)


def parse_keys(data: bytes) -> KeyFile:
    """Read a key file. Raises pydantic.ValidationError."""
    return KeyFile.model_validate_json(data)
