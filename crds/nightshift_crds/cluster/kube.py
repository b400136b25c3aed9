"""The cluster of an installation on Kubernetes: the port's calls as requests to the API server.

It sends and gives manifests as they are: what an administrator's pod template says goes through, whether this client's
version knows the field or not. An installation serves the namespaces that its URL names, or all of them.
"""

import asyncio
import json
import os
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote
from uuid import uuid4

from kubernetes.aio.client import ApiClient, Configuration
from kubernetes.aio.config import load_incluster_config, load_kube_config
from kubernetes.aio.config.config_exception import ConfigException

from nightshift_crds.cluster.apiserver import MERGE_PATCH, ApiServer, Call, RateLimit
from nightshift_crds.cluster.port import (
    EVENT,
    EVERYTHING,
    PAGE_SIZE,
    Change,
    ChangeType,
    Kind,
    Manifest,
    Page,
    Propagation,
    Selector,
)
from nightshift_crds.errors import Rejected, Stale, Unavailable
from nightshift_crds.lines import LineSplitter

_MANAGER = "nightshift"
_WATCH_S = 300
_MAX_CHANGE_BYTES = 1 << 26
_GONE = 410
_MAX_MESSAGE_CHARS = 1024


class KubeCluster:
    """The `Cluster` port over an API server; see `open_kube`. `namespaces` empty means all."""

    def __init__(self, server: ApiServer, namespaces: tuple[str, ...]) -> None:
        self._server = server
        self._namespaces = namespaces

    async def get(self, kind: Kind, namespace: str, name: str) -> Manifest:
        """See the port."""
        return await self._call(Call("GET", _path(kind, namespace, name)))

    async def list(
        self, kind: Kind, selector: Selector = EVERYTHING, *, limit: int = PAGE_SIZE, after: str | None = None
    ) -> Page:
        """See the port. A cursor names the namespace that it is in, if several are served."""
        here, _, token = (after or f"{self._scopes(selector)[0]}|").partition("|")
        query = (*_selection(selector), ("limit", str(limit)), *((("continue", token),) if token else ()))
        try:
            found = await self._call(Call("GET", _path(kind, here), query))
        except Stale as error:  # a page that was asked for too late: the caller begins again
            raise Unavailable(f"a list took too long: {error}", delay_s=1) from error
        items = [_clean(item | {"apiVersion": kind.api_version, "kind": kind.kind}) for item in found["items"]]
        token = found["metadata"].get("continue", "")
        return Page(items, self._next(selector, here, token), found["metadata"]["resourceVersion"])

    def _scopes(self, selector: Selector) -> tuple[str, ...]:
        """Name the namespaces to ask for; the empty one is all of them."""
        return (selector.namespace,) if selector.namespace is not None else self._namespaces or ("",)

    def _next(self, selector: Selector, here: str, token: str) -> str | None:
        if token:
            return f"{here}|{token}"
        scopes = self._scopes(selector)
        following = scopes[scopes.index(here) + 1 :]
        return f"{following[0]}|" if following else None

    async def create(self, kind: Kind, manifest: Manifest) -> Manifest:
        """See the port."""
        metadata = manifest["metadata"]
        path = _path(kind, metadata["namespace"])
        reply = await self._server.send(Call("POST", path, (("fieldManager", _MANAGER),), manifest))
        if reply.is_taken and reply.repeated:
            found = await self.get(kind, metadata["namespace"], metadata["name"])
            if holds(found, manifest):  # the answer to our own create was lost
                return found
        return _clean(reply.accepted())

    async def patch(self, kind: Kind, namespace: str, name: str, patch: Manifest) -> Manifest:
        """See the port."""
        return await self._patch(_path(kind, namespace, name), patch)

    async def patch_status(self, kind: Kind, namespace: str, name: str, patch: Manifest) -> Manifest:
        """See the port."""
        return await self._patch(f"{_path(kind, namespace, name)}/status", patch)

    async def _patch(self, path: str, patch: Manifest) -> Manifest:
        return await self._call(Call("PATCH", path, (("fieldManager", _MANAGER),), patch, MERGE_PATCH))

    async def delete(  # noqa: PLR0913 - the port's signature
        self,
        kind: Kind,
        namespace: str,
        name: str,
        *,
        propagation: Propagation,
        uid: str = "",
        grace_s: int | None = None,
    ) -> None:
        """See the port."""
        options: Manifest = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": propagation.value}
        options |= {"preconditions": {"uid": uid}} if uid else {}
        options |= {"gracePeriodSeconds": grace_s} if grace_s is not None else {}
        reply = await self._server.send(Call("DELETE", _path(kind, namespace, name), body=options))
        is_ours = reply.repeated and reply.status == 404
        if not is_ours:
            reply.accepted()

    async def _call(self, call: Call) -> Manifest:
        return _clean((await self._server.send(call)).accepted())

    # watching

    async def watch(self, kind: Kind, selector: Selector, since: str) -> AsyncGenerator[Change, None]:
        """See the port. Several namespaces are followed side by side."""
        changes: asyncio.Queue[Change | Exception] = asyncio.Queue(maxsize=100)
        tasks = [
            asyncio.create_task(
                self._follow(kind, scope, selector, since, changes), name=f"watch {kind.plural} {scope}"
            )
            for scope in self._scopes(selector)
        ]
        try:
            while True:
                change = await changes.get()
                if isinstance(change, Exception):
                    raise change
                yield change
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _follow(
        self, kind: Kind, scope: str, selector: Selector, since: str, changes: "asyncio.Queue[Change | Exception]"
    ) -> None:
        """Put what happens in one namespace on the queue, and at last why nothing more can be told."""
        try:
            while True:
                async with aclosing(self._watch_once(kind, scope, selector, since)) as seen:
                    async for version, change in seen:
                        since = version
                        if change:
                            await changes.put(change)
        except Exception as error:  # noqa: BLE001 - raised by whoever reads the queue
            await changes.put(error)

    async def _watch_once(
        self, kind: Kind, scope: str, selector: Selector, since: str
    ) -> AsyncGenerator[tuple[str, Change | None], None]:
        """Follow one connection to its end; gives each version that has been told, with its change if it is one."""
        query = (
            ("watch", "true"),
            ("resourceVersion", since),
            ("allowWatchBookmarks", "true"),
            ("timeoutSeconds", str(_WATCH_S)),
            *_selection(selector),
        )
        splitter = LineSplitter(_MAX_CHANGE_BYTES)
        async with aclosing(self._server.stream(Call("GET", _path(kind, scope), query))) as chunks:
            async for chunk in chunks:
                for line in splitter.feed(chunk):
                    yield _read_change(json.loads(line or b"{}"))

    async def record_event(self, about: Manifest, *, warning: bool, reason: str, message: str) -> None:
        """See the port."""
        metadata = about["metadata"]
        now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        event = {
            "apiVersion": EVENT.api_version,
            "kind": EVENT.kind,
            "metadata": {"name": f"{metadata['name']}.{uuid4().hex[:16]}", "namespace": metadata["namespace"]},
            "involvedObject": {
                "apiVersion": about["apiVersion"],
                "kind": about["kind"],
                **{field: metadata[field] for field in ("namespace", "name", "uid", "resourceVersion")},
            },
            "type": "Warning" if warning else "Normal",
            "reason": reason,
            "message": message[:_MAX_MESSAGE_CHARS],
            "source": {"component": _MANAGER},
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
        await self.create(EVENT, event)


# --- requests, pure ---------------------------------------------------------------------------------------------------


def _path(kind: Kind, namespace: str, name: str = "") -> str:
    group = f"/apis/{kind.api_version}" if "/" in kind.api_version else f"/api/{kind.api_version}"
    scope = f"/namespaces/{quote(namespace, safe='')}" if namespace else ""
    return f"{group}{scope}/{kind.plural}" + (f"/{quote(name, safe='')}" if name else "")


def _selection(selector: Selector) -> tuple[tuple[str, str], ...]:
    labels = ",".join(f"{key}={value}" for key, value in selector.labels)
    return tuple((name, text) for name, text in (("labelSelector", labels), ("fieldSelector", selector.fields)) if text)


def _clean(manifest: Manifest) -> Manifest:
    """Leave out who wrote which field: most of an object's size, and nobody here asks."""
    metadata = {key: value for key, value in manifest.get("metadata", {}).items() if key != "managedFields"}
    return manifest | {"metadata": metadata}


def _read_change(event: Manifest) -> tuple[str, Change | None]:
    """Read a line of a watch. Raises `Stale` or `Unavailable` for the server's own word that it cannot go on."""
    kind, manifest = event.get("type"), event.get("object", {})
    if kind == "BOOKMARK":
        return manifest["metadata"]["resourceVersion"], None
    if kind not in set(ChangeType):
        message = str(manifest.get("message") or "the API server ended a watch")
        raise Stale(message) if manifest.get("code") == _GONE else Unavailable(message, delay_s=1)
    return manifest["metadata"]["resourceVersion"], Change(ChangeType(kind), _clean(manifest))


def holds(found: Any, wanted: Any) -> bool:
    """Tell whether an object has all that was asked of it; the server adds defaults to what it stores."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        return all(key in found and holds(found[key], value) for key, value in wanted.items() if key != "status")
    if isinstance(wanted, list) and isinstance(found, list):
        return len(found) == len(wanted) and all(map(holds, found, wanted))
    return bool(found == wanted)


# --- opening ----------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def open_kube(namespaces: tuple[str, ...], requests_per_s: float) -> AsyncIterator[KubeCluster]:
    """Talk to the cluster that this pod runs in, or outside of one to that of KUBECONFIG.

    Raises:
        Rejected: neither says where the API server is.
    """
    configuration = Configuration()
    try:
        if "KUBERNETES_SERVICE_HOST" in os.environ:
            load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
        else:
            await load_kube_config(os.environ.get("KUBECONFIG"), client_configuration=configuration)  # type: ignore[no-untyped-call]
    except (ConfigException, OSError) as error:
        raise Rejected(f"There is no Kubernetes to talk to: {error}") from None
    configuration.connection_pool_maxsize = 100
    async with ApiClient(configuration) as client:
        client.user_agent = _MANAGER
        yield KubeCluster(ApiServer(client, RateLimit(requests_per_s, asyncio.get_running_loop().time)), namespaces)
