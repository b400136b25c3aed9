"""What `nightshift local` puts in order before its parts start: the data directory, keys, the catalogue."""

import base64
import hashlib
import os
import re
import secrets
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import AnyHttpUrl, Field, ValidationError

from nightshift_crds.cluster.port import (
    HOSTED_MODEL,
    LEASE,
    SECRET,
    Cluster,
    Kind,
    Manifest,
    Propagation,
    Selector,
    each,
)
from nightshift_crds.errors import AlreadyExists, Missing, Rejected
from nightshift_crds.keys import render_keys
from nightshift_crds.lines import DEFAULT_ENDPOINTS
from nightshift_crds.models import HostedModel, HostedModelSpec, ModelService, SecretKey
from nightshift_crds.settings import Endpoints, Settings

DEFAULT_NAMESPACE = "default"
SYSTEM_NAMESPACE = "nightshift"
_NAMESPACE = re.compile("[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_LABEL = ("app.kubernetes.io/managed-by", "nightshift-local")
_KEY_OF_SECRET = "api-key"  # noqa: S105 - a name


@dataclass(frozen=True)
class DataDir:
    """Where everything of an installation lies."""

    root: Path

    @property
    def lock(self) -> Path:
        """Held while an installation runs."""
        return self.root / "lock"

    @property
    def cluster_url(self) -> str:
        """The resources."""
        return f"sqlite://{self.root / 'cluster.db'}"

    @property
    def bucket_url(self) -> str:
        """The bytes."""
        return f"file://{self.root / 'bucket'}"

    @property
    def keys_file(self) -> Path:
        """The API keys by hash."""
        return self.root / "api-keys.json"

    @property
    def own_key(self) -> Path:
        """The key that was made because none was given."""
        return self.root / "api-key"

    @property
    def session_secret(self) -> Path:
        """What sessions of the console are signed with."""
        return self.root / "session-secret"

    @property
    def work_dir(self) -> Path:
        """Scratch volumes and locks of processors."""
        return self.root / "work"

    def create(self) -> None:
        """Make the folders, for their owner only: prompts and answers lie in them."""
        for folder in (self.root, self.work_dir):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)


class LocalSettings(Settings):
    """Settings of `nightshift local` itself."""

    endpoints: Endpoints = DEFAULT_ENDPOINTS
    """Endpoints that a batch may name, separated by commas; every model is taken to serve all of them."""
    metrics_port: Annotated[int, Field(ge=0, le=65_000)] = 0
    """First of the ports on 127.0.0.1 that show metrics: that of the API, the operator has the next one, and processors
    those after it, as many as run at once (`NIGHTSHIFT_RUN_SLOTS`). 0 shows none."""


@dataclass(frozen=True)
class ServedModel:
    """A model that batches may name, and its server."""

    name: str
    url: str
    concurrency: int
    api_key: str | None = None
    endpoints: tuple[str, ...] = DEFAULT_ENDPOINTS


def parse_keys(texts: Collection[str]) -> dict[str, str]:
    """Read `KEY[=NAMESPACE]` options: namespace by key. Raises `Rejected`. Pure."""
    keys: dict[str, str] = {}
    for text in texts:
        key, separator, namespace = text.rpartition("=")
        is_bound = bool(separator and namespace)  # Base64 ends with "="
        if not (key if is_bound else text):
            raise Rejected("Expected --api-key KEY or KEY=NAMESPACE, got an empty key.")
        if is_bound and not _NAMESPACE.fullmatch(namespace):
            raise Rejected(
                f"Expected --api-key KEY=NAMESPACE with lower-case letters, digits and dashes, got {namespace!r}."
            )
        keys[key if is_bound else text] = namespace if is_bound else DEFAULT_NAMESPACE
    return keys


def parse_model_keys(texts: Collection[str], environ: Mapping[str, str]) -> dict[str, str]:
    """Read `NAME=VARIABLE` options: keys of model servers by model; keys do not go on command lines. Pure."""
    keys: dict[str, str] = {}
    for text in texts:
        name, _, variable = text.rpartition("=")
        if not name or not environ.get(variable):
            raise Rejected(f"Expected --model-api-key NAME=VARIABLE with a variable that is set, got {text!r}.")
        keys[name] = environ[variable]
    return keys


def parse_models(
    texts: Collection[str],
    api_keys: Mapping[str, str],
    concurrency: int,
    endpoints: tuple[str, ...] = DEFAULT_ENDPOINTS,
) -> tuple[ServedModel, ...]:
    """Read `NAME=URL` options; the last of a name counts. Raises `Rejected`. Pure."""
    models: dict[str, ServedModel] = {}
    for text in texts:
        found = re.fullmatch(r"(?P<name>.{1,256}?)=(?P<url>https?://\S{1,1000})", text)
        if not found or not _is_url(found["url"]):
            raise Rejected(f"Expected --model NAME=URL with an http or https URL, got {text!r}.")
        name = found["name"]
        models[name] = ServedModel(name, found["url"], concurrency, api_keys.get(name), endpoints)
    unknown = set(api_keys) - set(models)
    if unknown:
        raise Rejected(f"Expected a --model for every --model-api-key; there is none for {', '.join(sorted(unknown))}.")
    return tuple(models.values())


def _is_url(text: str) -> bool:
    try:
        AnyHttpUrl(text)
    except ValidationError:
        return False
    return True


def write_keys(data_dir: DataDir, keys: Mapping[str, str]) -> Mapping[str, str]:
    """Store the keys by hash; without any, make one for the default namespace, once. Gives the keys in force."""
    if not keys:
        if not data_dir.own_key.exists() or not data_dir.own_key.read_text().strip():
            _write_secret(data_dir.own_key, f"sk-nightshift-{secrets.token_urlsafe(24)}")
        keys = {data_dir.own_key.read_text().strip(): DEFAULT_NAMESPACE}
    if not data_dir.session_secret.exists() or not data_dir.session_secret.read_text():
        _write_secret(data_dir.session_secret, secrets.token_urlsafe(32))
    _write_secret(data_dir.keys_file, render_keys(keys, data_dir.session_secret.read_text()))
    return keys


def _write_secret(path: Path, text: str) -> None:
    """Write a file that only its owner reads, whole or not at all."""
    draft = path.with_suffix(".new")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    draft.replace(path)


async def write_catalogue(cluster: Cluster, namespaces: set[str], models: Collection[ServedModel]) -> None:
    """Make the HostedModels of each namespace be exactly the models given."""
    for namespace in namespaces:
        wanted = {_resource_name(model.name): model for model in models}
        for resource, model in wanted.items():
            if model.api_key:
                await _put(cluster, SECRET, _build_secret(namespace, resource, model.api_key))
            manifest = HostedModel.build(_build_metadata(namespace, resource), _build_spec(model, resource))
            await _put(cluster, HOSTED_MODEL, manifest)
        keyed = {resource for resource, model in wanted.items() if model.api_key}
        for kind, kept in ((HOSTED_MODEL, wanted.keys()), (SECRET, keyed)):
            async for found in each(cluster, kind, Selector(namespace, labels=(_LABEL,))):
                if found["metadata"]["name"] not in kept:
                    await _remove(cluster, kind, found)


def _resource_name(model: str) -> str:
    """Name a HostedModel: readable, and different for every model."""
    readable = re.sub("[^a-z0-9]+", "-", model.lower()).strip("-")[:40]
    return f"{readable or 'model'}-{hashlib.sha256(model.encode()).hexdigest()[:8]}"


def _build_metadata(namespace: str, name: str) -> Manifest:
    return {"namespace": namespace, "name": name, "labels": dict([_LABEL])}


def _build_spec(model: ServedModel, secret: str) -> HostedModelSpec:
    key = SecretKey(name=secret, key=_KEY_OF_SECRET) if model.api_key else None
    service = ModelService(url=model.url, api_key_secret=key, max_concurrency=model.concurrency)
    return HostedModelSpec(name=model.name, endpoints=list(dict.fromkeys(model.endpoints)), service=service)


def _build_secret(namespace: str, name: str, key: str) -> Manifest:
    data = {_KEY_OF_SECRET: base64.b64encode(key.encode()).decode()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": _build_metadata(namespace, name), "data": data}


async def _put(cluster: Cluster, kind: Kind, manifest: Manifest) -> None:
    try:
        await cluster.create(kind, manifest)
    except AlreadyExists:
        metadata = manifest["metadata"]
        old = await cluster.get(kind, metadata["namespace"], metadata["name"])
        content = {key: _replacing(old[key], manifest[key]) for key in manifest.keys() & {"spec", "data"}}
        await cluster.patch(kind, metadata["namespace"], metadata["name"], content)


def _replacing(old: Manifest, new: Manifest) -> Manifest:
    """Build the merge patch that makes one object the other: what is not in the new one goes."""
    parts = {k: _replacing(old.get(k) or {}, v) if isinstance(v, dict) else v for k, v in new.items()}
    return {key: None for key in old if key not in new} | parts


async def _remove(cluster: Cluster, kind: Kind, manifest: Manifest) -> None:
    metadata = manifest["metadata"]
    with suppress(Missing):
        await cluster.delete(kind, metadata["namespace"], metadata["name"], propagation=Propagation.BACKGROUND)


async def forget_leases(cluster: Cluster) -> None:
    """Take the Leases of an earlier run away, so that what they say is never taken for this one's readiness."""
    async for lease in each(cluster, LEASE, Selector(SYSTEM_NAMESPACE)):
        await _remove(cluster, LEASE, lease)
