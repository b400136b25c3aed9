"""The port over the resources, without any API: BatchJobs are created, read and patched as kubectl would.

It needs a kubeconfig and the rights of the chart's Role `nightshift-tenant`. No manifest holds bytes: uploads and
downloads are refused, with the ways that there are.
"""

import asyncio
import os
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from kubernetes.aio.config import list_kube_config_contexts
from kubernetes.aio.config.config_exception import ConfigException
from pydantic import ValidationError

from nightshift_cli.manifests import (
    build_batch,
    build_rerun,
    parse_ref,
    view_of_manifest,
    view_of_model,
)
from nightshift_cli.port import Content, NewBatch, Page, Wanted
from nightshift_cli.views import BatchView, Document, ModelView
from nightshift_crds import names
from nightshift_crds.asking import ask_to_cancel, ask_to_resume, ask_to_suspend
from nightshift_crds.cluster.kube import Kubeconfig, open_kube
from nightshift_crds.cluster.port import BATCH_JOB, HOSTED_MODEL, Cluster, Kind, Manifest, Selector, each
from nightshift_crds.errors import (
    Conflict,
    Denied,
    Missing,
    NotFound,
    Refused,
    Rejected,
    Stale,
    Unauthenticated,
    Unavailable,
)
from nightshift_crds.lifecycle import is_terminal
from nightshift_crds.logs import configure_logs
from nightshift_crds.models import BatchJob
from nightshift_crds.names import IdKind
from nightshift_crds.reruns import find_obstacle

_T = TypeVar("_T")
_REQUESTS_PER_S = 50.0
_TRIES = 10
_DEFAULT_NAMESPACE = "default"
_POD_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


class OverKubernetes:
    """The `Service` port over a cluster; see `open_kubernetes`."""

    has_bytes = False

    def __init__(self, runner: asyncio.Runner, cluster: Cluster, namespace: str) -> None:
        self._runner = runner
        self._cluster = cluster
        self._namespace = namespace

    def list(self, wanted: Wanted) -> Page:
        """See the port."""
        found = [view_of_manifest(manifest) for manifest in self._all(BATCH_JOB)]
        found.sort(key=lambda batch: (batch.created_at, batch.ref), reverse=True)
        if wanted.after:
            refs = [batch.ref for batch in found]
            after, _ = parse_ref(wanted.after)
            if after not in refs:
                raise self._unknown(wanted.after)
            found = found[refs.index(after) + 1 :]
        chosen = [batch for batch in found if not wanted.statuses or batch.status in wanted.statuses]
        return Page(tuple(chosen[: wanted.limit]), has_more=wanted.limit is not None and len(chosen) > wanted.limit)

    def get(self, ref: str) -> BatchView:
        """See the port."""
        return view_of_manifest(self._find(ref))

    def create(self, new: NewBatch) -> BatchView:
        """See the port."""
        try:
            manifest = build_batch(_make_name(), self._namespace, new)
        except ValidationError as error:
            found = error.errors()[0]
            where = ".".join(str(part) for part in found["loc"])
            raise Rejected(f"This cannot be a batch: {where}: {found['msg']}.") from None
        return view_of_manifest(self._run(self._cluster.create(BATCH_JOB, manifest)))

    def cancel(self, ref: str) -> BatchView:
        """See the port."""
        return self._ask(ref, partial(ask_to_cancel, now=datetime.now(UTC)))

    def suspend(self, ref: str) -> BatchView:
        """See the port."""
        return self._ask(ref, ask_to_suspend)

    def resume(self, ref: str) -> BatchView:
        """See the port."""
        return self._ask(ref, ask_to_resume)

    def _ask(self, ref: str, patch_for: Callable[[BatchJob], Manifest | None]) -> BatchView:
        """Patch a spec as a batch allows it; somebody may write in between, and then it is read again."""
        for _ in range(_TRIES):
            manifest = self._find(ref)
            batch = BatchJob.parse(manifest)
            patch, metadata = patch_for(batch), batch.metadata
            if patch is None:
                return view_of_manifest(manifest)
            with suppress(Stale):
                return view_of_manifest(
                    self._run(self._cluster.patch(BATCH_JOB, metadata.namespace, metadata.name, patch))
                )
        raise Unavailable("The batch changes faster than it can be patched. Try again.")

    def rerun(self, ref: str, metadata: Mapping[str, str]) -> BatchView:
        """See the port."""
        batch = BatchJob.parse(self._find(ref))
        if not is_terminal(batch.phase):
            raise Conflict(f"A batch that is {batch.visible_phase.lower()} cannot be run again: wait for its end.")
        if obstacle := find_obstacle(batch):
            raise Conflict(obstacle.message)
        return view_of_manifest(self._run(self._cluster.create(BATCH_JOB, build_rerun(_make_name(), batch, metadata))))

    def models(self) -> Sequence[ModelView]:
        """See the port."""
        return sorted(map(view_of_model, self._all(HOSTED_MODEL)), key=lambda model: model.name)

    def upload(self, path: Path, show: Callable[[int], None]) -> str:
        """Refuse: see the port."""
        del show
        raise Rejected(
            f"No manifest holds bytes, so {path} cannot be sent this way. Upload it through the API:\n"
            f"{self._way_to_the_api}\n  nightshift submit {path}\n"
            "Or name what is there already: an uploaded file by --file-id, or an object of the bucket by --uri."
        )

    def open_content(self, file_id: str, start: int = 0, etag: str | None = None) -> AbstractContextManager[Content]:
        """Refuse: see the port."""
        del start, etag
        raise Rejected(
            f"No manifest holds bytes, so {file_id} cannot be fetched this way. Fetch it through the API:\n"
            f"{self._way_to_the_api}\n  nightshift download {file_id}\n"
            f"Or, once the batch has ended, read the object {names.file_key(file_id)} of the installation's bucket, "
            "with rights of your own there."
        )

    @property
    def _way_to_the_api(self) -> str:
        return (
            "  kubectl port-forward svc/nightshift 8080:443 -n NAMESPACE_OF_NIGHTSHIFT &\n"
            "  export OPENAI_BASE_URL=http://localhost:8080/openai/v1\n"
            f"  export OPENAI_API_KEY=...  # a key of {self._namespace}, or: "
            f"$(kubectl create token SERVICEACCOUNT -n {self._namespace})"
        )

    def wrap(self, documents: Sequence[Document]) -> Document:
        """See the port."""
        return {"apiVersion": "v1", "kind": "List", "items": [*documents]}

    def _all(self, kind: Kind) -> Sequence[Manifest]:
        async def read() -> Sequence[Manifest]:
            return [manifest async for manifest in each(self._cluster, kind, Selector(self._namespace))]

        return self._run(read())

    def _find(self, ref: str) -> Manifest:
        """Find a BatchJob by name, or by the id under which the API shows it."""
        name, uid = parse_ref(ref)
        with suppress(Missing):
            return self._run(self._cluster.get(BATCH_JOB, self._namespace, name))
        found = (manifest for manifest in self._all(BATCH_JOB) if uid and manifest["metadata"]["uid"] == uid)
        if manifest := next(found, None):
            return manifest
        raise self._unknown(ref)

    def _unknown(self, ref: str) -> NotFound:
        return NotFound(
            f"There is no batch {ref} in the namespace {self._namespace}. Name another by -n, or see "
            "'kubectl nightshift list'."
        )

    def _run(self, call: Coroutine[Any, Any, _T]) -> _T:
        """Wait for a call, and say in words what went wrong."""
        try:
            return self._runner.run(call)
        except Denied as error:
            raise Rejected(f"{error}. Ask for the Role nightshift-tenant of the chart.", status=403) from None
        except Unauthenticated as error:
            raise Rejected(f"{error}. Log in to the cluster again: kubectl auth whoami", status=401) from None
        except Refused as error:
            raise Rejected(f"The cluster refuses this: {error}") from None
        except Unavailable as error:
            raise Unavailable(f"{error}. Is the context right? kubectl cluster-info", delay_s=error.delay_s) from None


@contextmanager
def open_kubernetes(kubeconfig: Kubeconfig, namespace: str | None) -> Iterator[OverKubernetes]:
    """Talk to the cluster of a kubeconfig; without a namespace, in that of its context.

    Raises:
        Rejected: there is no such kubeconfig, or no such context in it.
    """
    configure_logs("cli")
    where = namespace or find_namespace(kubeconfig)
    opening = open_kube((where,), _REQUESTS_PER_S, kubeconfig)
    with asyncio.Runner() as runner:
        cluster = runner.run(opening.__aenter__())
        try:
            yield OverKubernetes(runner, cluster, where)
        finally:
            runner.run(opening.__aexit__(None, None, None))


def find_namespace(kubeconfig: Kubeconfig) -> str:
    """Tell which namespace is meant where none is named, as kubectl does: that of the context, or of this pod."""
    path = kubeconfig.path or os.environ.get("KUBECONFIG")
    try:
        contexts, active = list_kube_config_contexts(path)  # type: ignore[no-untyped-call]
    except (ConfigException, OSError, TypeError):  # none: this is a pod, or opening says what is missing
        return _POD_NAMESPACE.read_text().strip() if _POD_NAMESPACE.exists() else _DEFAULT_NAMESPACE
    chosen = kubeconfig.context or (active or {}).get("name")
    named = (context["context"].get("namespace") for context in contexts if context["name"] == chosen)
    return str(next(named, None) or _DEFAULT_NAMESPACE)


def _make_name() -> str:
    """Name a BatchJob as the API does, so that its id follows from its name."""
    return names.resource_name(IdKind.BATCH, names.make_uuid7(time.time_ns() // 1_000_000, os.urandom(10)))
