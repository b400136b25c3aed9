"""The cluster of an installation on Kubernetes: the port's calls as requests to the API server.

It sends and gives manifests as they are: what an administrator's pod template says goes through, whether this client's
version knows the field or not. An installation serves the namespaces that its URL names, or all of them.
"""

import asyncio
import json
import os
import random
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote
from uuid import uuid4

from kubernetes.aio.client import ApiClient, Configuration
from kubernetes.aio.config import load_incluster_config, load_kube_config
from kubernetes.aio.config.config_exception import ConfigException

from nightshift_crds.cluster.apiserver import MERGE_PATCH, TRIES, ApiServer, Call, RateLimit, Reply, delay_s, unrepeated
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
from nightshift_crds.errors import Missing, Refused, Rejected, Stale, Unavailable
from nightshift_crds.lines import LineSplitter

_MANAGER = "nightshift"
_WATCH_S = 300
_MAX_CHANGE_BYTES = 1 << 26
_GONE = 410
_MAX_MESSAGE_CHARS = 1024
_CALLS = 100
"""Requests at once, besides watches."""
_WATCHES = 4
"""Connections that a role may hold open in each namespace all the time, one for each kind that it follows."""


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
        """See the port. A cursor names the namespace that it is in, and the version of the first page."""
        here, since, token = (after or f"{self._scopes(selector)[0]}||").split("|")
        query = (*_selection(selector), ("limit", str(limit)), *((("continue", token),) if token else ()))
        reply = await self._server.send(Call("GET", _path(kind, here), query))
        if reply.is_of_no_kind:
            raise Missing(f"the cluster does not know {kind.plural}")
        try:
            found = reply.accepted()
        except Stale as error:  # a page that was asked for too late: the caller begins again
            raise Unavailable(f"a list took too long: {error}", delay_s=1) from error
        items = [_clean(item | {"apiVersion": kind.api_version, "kind": kind.kind}) for item in found["items"]]
        since = since or found["metadata"]["resourceVersion"]
        return Page(items, self._next(selector, here, since, found["metadata"].get("continue", "")), since)

    def _scopes(self, selector: Selector) -> tuple[str, ...]:
        """Name the namespaces to ask for; the empty one is all of them."""
        return (selector.namespace,) if selector.namespace is not None else self._namespaces or ("",)

    def _next(self, selector: Selector, here: str, since: str, token: str) -> str | None:
        if token:
            return f"{here}|{since}|{token}"
        scopes = self._scopes(selector)
        following = scopes[scopes.index(here) + 1 :]
        return f"{following[0]}|{since}|" if following else None

    async def create(self, kind: Kind, manifest: Manifest) -> Manifest:
        """See the port."""
        metadata = manifest["metadata"]
        namespace = metadata.get("namespace", "")
        path = _path(kind, namespace)
        reply = await self._server.send(Call("POST", path, (("fieldManager", _MANAGER),), manifest))
        if reply.is_taken and reply.repeated:
            found = await self._find(kind, namespace, metadata["name"], _asked(manifest))
            if found and "deletionTimestamp" not in found["metadata"]:
                return found
        try:
            return _clean(reply.accepted())
        except Missing as error:
            raise Refused(f"there is no such namespace: {error}") from error

    async def patch(self, kind: Kind, namespace: str, name: str, patch: Manifest) -> Manifest:
        """See the port."""
        reply = await self._patch(_path(kind, namespace, name), patch)
        if reply.is_stale and reply.repeated and (found := await self._find(kind, namespace, name, _asked(patch))):
            return found
        return _clean(reply.accepted())

    async def patch_status(self, kind: Kind, namespace: str, name: str, patch: Manifest) -> Manifest:
        """See the port."""
        reply = await self._patch(f"{_path(kind, namespace, name)}/status", patch)
        asked = {"status": patch.get("status", {})}
        if reply.is_stale and reply.repeated and (found := await self._find(kind, namespace, name, asked)):
            return found
        return _clean(reply.accepted())

    async def _patch(self, path: str, patch: Manifest) -> Reply:
        return await self._server.send(Call("PATCH", path, (("fieldManager", _MANAGER),), patch, MERGE_PATCH))

    async def _find(self, kind: Kind, namespace: str, name: str, asked: Manifest) -> Manifest | None:
        """Look whether a write whose answer was lost has done what was asked."""
        try:
            found = await self.get(kind, namespace, name)
        except Missing:
            return None
        return found if holds(found, asked) else None

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
        try:
            reply.accepted()
        except Missing:
            if not reply.repeated:  # else it was most likely we who deleted it
                raise

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
            async with aclosing(self._changes(kind, scope, selector, since)) as told:
                async for change in told:
                    await changes.put(change)
        except Exception as error:  # noqa: BLE001 - raised by whoever reads the queue
            await changes.put(error)

    async def _changes(self, kind: Kind, scope: str, selector: Selector, since: str) -> AsyncGenerator[Change, None]:
        """Follow one namespace over as many connections as it takes, as long as they tell something."""
        silent = 0
        while True:
            problem = Unavailable("a watch ends as soon as it begins", delay_s=0)
            try:
                async with aclosing(self._watch_once(kind, scope, selector, since)) as seen:
                    async for version, change in seen:
                        since, silent = version, 0
                        if change:
                            yield change
            except Unavailable as error:
                problem = error
            silent += 1
            if silent == TRIES:
                raise problem
            await asyncio.sleep(max(problem.delay_s, delay_s(silent, None, random.random())))  # noqa: S311 - jitter

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


def _asked(write: Manifest) -> Manifest:
    """Say what a create or a patch asks for: no status, and a guard is a condition."""
    metadata = {key: value for key, value in write.get("metadata", {}).items() if key != "resourceVersion"}
    return {key: value for key, value in write.items() if key != "status"} | {"metadata": metadata}


def holds(found: Any, asked: Any) -> bool:
    """Tell whether an object has all that was asked; the server adds defaults, and leaves out what is empty."""
    if isinstance(asked, dict) and isinstance(found or {}, dict):
        return all(holds((found or {}).get(key), value) for key, value in asked.items())
    if isinstance(asked, list) and isinstance(found, list):
        return len(found) == len(asked) and all(map(holds, found, asked))
    return bool(found == asked or (found is None and not asked))


# --- opening ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Kubeconfig:
    """What a person names on a command line instead of the environment; None is what KUBECONFIG and the file say."""

    path: str | None = None
    context: str | None = None


@asynccontextmanager
async def open_kube(
    namespaces: tuple[str, ...], requests_per_s: float, kubeconfig: Kubeconfig = Kubeconfig()
) -> AsyncIterator[KubeCluster]:
    """Talk to the cluster that the arguments or KUBECONFIG name, or else to that which this pod runs in.

    Raises:
        Rejected: neither says where the API server is.
    """
    configuration = Configuration()
    try:
        named, context = kubeconfig.path or os.environ.get("KUBECONFIG"), kubeconfig.context
        if "KUBERNETES_SERVICE_HOST" in os.environ and not (named or context):
            load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
        else:
            await load_kube_config(named, context, client_configuration=configuration)  # type: ignore[no-untyped-call]
    except (ConfigException, OSError, TypeError) as error:  # TypeError: of an empty file
        raise Rejected(f"There is no Kubernetes to talk to: {error}") from None
    configuration.connection_pool_maxsize = _CALLS + _WATCHES * len(namespaces)
    configuration.client_session_kwargs = {"middlewares": (unrepeated,)}
    async with ApiClient(configuration) as client:
        client.user_agent = _MANAGER
        yield KubeCluster(ApiServer(client, RateLimit(requests_per_s, asyncio.get_running_loop().time)), namespaces)
