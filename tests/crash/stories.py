"""What a user may do to an installation, each told to its end: together they reach every effect that there is.

A story may be interrupted by a kill anywhere, and must end as it would have without. It gives every file and batch a
fresh name, so that stories share an installation.
"""

import json
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

from standardwebhooks import Webhook

from nightshift_crds import names
from nightshift_crds.cluster.port import (
    BATCH_JOB,
    JOB,
    LEASE,
    STORED_FILE,
    Cluster,
    Kind,
    Manifest,
    Propagation,
)
from nightshift_crds.errors import Missing
from nightshift_crds.lines import CHAT
from nightshift_crds.names import IdKind, ResultKind, Step
from tests.crash.audit import Ended, count_begun, find_wrong_batch
from tests.crash.rig import CONCURRENCY, NAMESPACE, Rig, resource_of
from tests.e2e.installation import a_chat_line, wait_until
from tests.receiver import SECRET

LONG_AGO_S = 7 * 86_400
URI_FOLDER = "inputs"
CLOSED = "/closed"
"""Where a receiver of webhooks says that it wants no more."""


def rows_of(*words: str) -> list[str]:
    """Give prompts that nobody else has, for a word each; they are the custom_ids too."""
    tag = uuid4().hex[:8]
    return [f"{word} {tag} {n}" for n, word in enumerate(words)]


def lines_of(rows: list[str]) -> bytes:
    return b"".join(a_chat_line(row, row) for row in rows)


PLAIN = ("row",) * 8
SLOW = ("slow:30",) * CONCURRENCY
"""As many as there may be in flight: whatever stands behind them never runs."""


def finish(rig: Rig, batch_id: str, rows: list[str], status: str, taken: int = 0) -> None:
    """Wait for the end of a batch, audit it, and wait until nothing is left to do for it."""
    batch = rig.user.wait(batch_id)
    assert batch["status"] == status, batch
    content = rig.user.content
    output, error = content(batch["output_file_id"]), content(batch["error_file_id"])
    ended = Ended(rig.user.shown[batch_id], rows, output, error, taken)
    assert find_wrong_batch(ended) == []
    wait_until(lambda: _find(rig, BATCH_JOB, _name_of(rig, batch_id))["status"].get("settled"), "the batch to settle")


def _name_of(rig: Rig, batch_id: str) -> str:
    """Name the resource of a batch, whoever has made it."""
    page = rig.in_cluster(lambda cluster: cluster.list(BATCH_JOB))
    name = resource_of(batch_id)
    return next((str(m["metadata"]["name"]) for m in page.items if m["metadata"]["uid"] in batch_id), name)


def _find(rig: Rig, kind: Kind, name: str, namespace: str = NAMESPACE) -> Manifest:
    return rig.in_cluster(lambda cluster: cluster.get(kind, namespace, name))


def _is_gone(rig: Rig, kind: Kind, name: str) -> bool:
    try:
        _find(rig, kind, name)
    except Missing:
        return True
    return False


# --- batches ----------------------------------------------------------------------------------------------------------


def completed(rig: Rig) -> None:
    """Some lines fail, so that there are two files."""
    rows = rows_of(*PLAIN, "fail:400", "slow:0.25", "slow:0.25", "row")
    finish(rig, rig.user.create(rig.user.upload(lines_of(rows))), rows, "completed")


def succeeded(rig: Rig) -> None:
    """No line fails, so that the file for errors goes again."""
    rows = rows_of(*PLAIN)
    finish(rig, rig.user.create(rig.user.upload(lines_of(rows))), rows, "completed")


def cancelled(rig: Rig) -> None:
    rows = rows_of(*PLAIN, "fail:400", *SLOW, "row")
    batch_id = rig.user.create(rig.user.upload(lines_of(rows)))
    rig.user.wait(batch_id, lambda batch: batch["request_counts"]["completed"] >= len(PLAIN))
    rig.user.ask("POST", f"batches/{batch_id}/cancel")
    finish(rig, batch_id, rows, "cancelled")


def expired(rig: Rig) -> None:
    rows = rows_of("row", "row", *SLOW, "row")
    finish(rig, rig.user.create(rig.user.upload(lines_of(rows))), rows, "expired")


def failed(rig: Rig) -> None:
    """The input vanishes after it was accepted."""
    rows = rows_of(*PLAIN)
    file_id = rig.user.upload(lines_of(rows))
    rig.path_of(names.file_key(file_id)).unlink()
    finish(rig, rig.user.create(file_id), rows, "failed")


def refused(rig: Rig) -> None:
    finish(rig, rig.user.create(rig.user.upload(b"not a line\n")), [], "failed")


def rerun(rig: Rig) -> None:
    """A batch is run again of which some lines had failed; they alone are sent."""
    rows = rows_of(*PLAIN, "fail-once:400", "fail-once:400", "fail-once:400 slow:0.25", "fail:400")
    origin = rig.user.create(rig.user.upload(lines_of(rows)))
    finish(rig, origin, rows, "completed")
    rig.when_begun()
    before = len(rig.trace())
    again = rig.user.ask("POST", f"batches/{origin}/rerun", {}, **{"Idempotency-Key": uuid4().hex})["id"]
    finish(rig, again, rows, "completed", taken=len(PLAIN))
    assert set(count_begun(rig.trace()[before:])) == set(rows[len(PLAIN) :])


def suspended(rig: Rig) -> None:
    rows = rows_of("row", "row", "slow:3")
    batch_id = rig.user.create(rig.user.upload(lines_of(rows)))
    rig.user.wait(batch_id, lambda batch: batch["request_counts"]["completed"] >= 2)
    rig.user.ask("POST", f"batches/{batch_id}/suspend")
    job = names.job_name(_find(rig, BATCH_JOB, resource_of(batch_id))["metadata"]["uid"], Step.RUN, 1)
    wait_until(lambda: _is_gone(rig, JOB, job), "the Job to go")
    rig.user.ask("POST", f"batches/{batch_id}/resume")
    finish(rig, batch_id, rows, "completed")


def inspected(rig: Rig) -> None:
    """A batch over an object that somebody has put into the bucket, as kubectl creates it."""
    rows = rows_of(*PLAIN)
    name = f"inspected-{uuid4().hex[:8]}"
    key = f"{URI_FOLDER}/{name}.jsonl"
    _write(rig, key, lines_of(rows), age_s=0)
    uri = f"{rig.environ['NIGHTSHIFT_BUCKET']}/{key}"
    spec = {"input": {"uri": uri}, "endpoint": CHAT}
    created = rig.in_cluster(lambda cluster: cluster.create(BATCH_JOB, _manifest(BATCH_JOB, name, spec)))
    batch_id = f"batch_{created['metadata']['uid']}"
    wait_until(lambda: rig.user.call("GET", f"batches/{batch_id}")[0] == 200, "the API to see it")
    finish(rig, batch_id, rows, "completed")


def vanished(rig: Rig) -> None:
    """Somebody deletes the Job of a batch that runs."""
    rows = rows_of("row", "row", "slow:0.5")
    batch_id = rig.user.create(rig.user.upload(lines_of(rows)))
    uid = _find(rig, BATCH_JOB, resource_of(batch_id))["metadata"]["uid"]
    name = names.job_name(uid, Step.RUN, 1)
    rig.user.wait(batch_id, lambda batch: batch["request_counts"]["completed"] >= 2)
    with suppress(Missing):
        rig.in_cluster(lambda cluster: cluster.delete(JOB, NAMESPACE, name, propagation=Propagation.BACKGROUND))
    finish(rig, batch_id, rows, "completed")


def lost(rig: Rig) -> None:
    """The node of a run does not answer while its batch is cancelled, and comes back."""
    rows = rows_of("row", "row", *SLOW)
    batch_id = rig.user.create(rig.user.upload(lines_of(rows)))
    rig.user.wait(batch_id, lambda batch: batch["request_counts"]["completed"] >= 2)
    uid = _find(rig, BATCH_JOB, resource_of(batch_id))["metadata"]["uid"]
    node = [rig.pid("runner"), *rig.processors(uid)]
    for pid in node:
        os.kill(pid, signal.SIGSTOP)
    rig.user.ask("POST", f"batches/{batch_id}/cancel")
    job = names.job_name(uid, Step.RUN, 1)
    wait_until(lambda: _is_gone(rig, JOB, job), "the Job to be given up")
    for pid in reversed(node):
        os.kill(pid, signal.SIGCONT)
    finish(rig, batch_id, rows, "cancelled")


def told(rig: Rig) -> None:
    """Two endpoints want to know of an end; one of them wants no more."""
    batch_id = rig.user.create(rig.user.upload(b"not a line\n"))
    finish(rig, batch_id, [], "failed")
    assert rig.receiver is not None
    heard = [heard for heard in rig.receiver.heard if heard.event["data"]["id"] == batch_id]
    assert {each.path for each in heard} == {"/hook", CLOSED}
    assert len({each.id for each in heard}) == 1
    for each in heard:
        assert Webhook(SECRET).verify(each.body, each.headers)["type"] == "batch.failed"
    deliveries = _find(rig, BATCH_JOB, _name_of(rig, batch_id))["status"]["webhooks"]
    assert {d["name"]: d["state"] for d in deliveries} == {"billing": "Delivered", "closed": "GivenUp"}


# --- files ------------------------------------------------------------------------------------------------------------


def deleted(rig: Rig) -> None:
    file_id = rig.user.upload(lines_of(rows_of("row")))
    status, _ = rig.user.call("DELETE", f"files/{file_id}")
    assert status in {200, 404}, "a delete whose answer was lost finds nothing any more"
    assert rig.user.call("GET", f"files/{file_id}")[0] == 404


def taken_back(rig: Rig) -> None:
    """The bytes are there before the form turns out to be wrong."""
    status, answer = rig.user.send_form("files", "file", b"{}\n", purpose="nonsense")
    assert status == 400, answer


def uploaded_by_parts(rig: Rig) -> None:
    rows = rows_of("row", "row")
    content = lines_of(rows)
    session = _announce(rig, len(content))
    half = len(content) // 2
    parts = [_send_part(rig, session, piece) for piece in (content[:half], content[half:])]
    body = {"part_ids": parts}
    first = rig.user.ask("POST", f"uploads/{session}/complete", body)
    again = rig.user.ask("POST", f"uploads/{session}/complete", body)
    assert first == again
    assert rig.user.content(first["file"]["id"]) == content


def given_up_by_parts(rig: Rig) -> None:
    session = _announce(rig, 1)
    _send_part(rig, session, b"{")
    assert rig.user.send_form(f"uploads/{session}/parts", "nonsense", b"{")[0] == 400
    assert rig.user.ask("POST", f"uploads/{session}/cancel", {})["status"] == "cancelled"
    assert rig.user.call("POST", f"uploads/{session}/complete", {"part_ids": []})[0] == 400


def _announce(rig: Rig, size: int) -> str:
    body = {"filename": "in.jsonl", "bytes": size, "mime_type": "application/jsonl", "purpose": "batch"}
    return str(rig.user.ask("POST", "uploads", body)["id"])


def _send_part(rig: Rig, session: str, piece: bytes) -> str:
    status, answer = rig.user.send_form(f"uploads/{session}/parts", "data", piece)
    assert status == 200, answer
    return str(json.loads(answer)["id"])


# --- the installation -------------------------------------------------------------------------------------------------


def restarted(rig: Rig) -> None:
    """Every part is stopped; then again, after what it had said of itself was cleared away."""
    for clears in (False, True):
        if clears:
            rig.in_cluster(_delete_leases)
            rig.path_of(names.OWNER_KEY).unlink(missing_ok=True)
        for part in ("nightshift-api", "nightshift-operator", "runner"):
            old = rig.pid(part)
            with suppress(ProcessLookupError):
                os.kill(old, signal.SIGKILL if clears and part != "nightshift-api" else signal.SIGTERM)
            wait_until(partial(_is_another, rig, part, old), f"another {part}")
        for name in ("nightshift-operator", "nightshift-runner"):
            wait_until(partial(_is_held, rig, name), name)
        rig.user.upload(b"{}\n")
    assert rig.path_of(names.OWNER_KEY).read_bytes() == rig.environ["NIGHTSHIFT_INSTALLATION"].encode()


async def _delete_leases(cluster: Cluster) -> None:
    for name in ("nightshift-api", "nightshift-operator", "nightshift-runner"):
        with suppress(Missing):
            await cluster.delete(LEASE, "nightshift", name, propagation=Propagation.BACKGROUND)


def _is_another(rig: Rig, part: str, old: int) -> bool:
    return rig.pid(part) != old


def _is_held(rig: Rig, name: str) -> bool:
    with suppress(Missing):
        return _find(rig, LEASE, name, "nightshift")["spec"].get("holderIdentity") is not None
    return False


def outlived(rig: Rig) -> None:
    """A Job that has nothing to do and nobody to own it: the runner ends it and takes it away, as Kubernetes would."""
    name = f"outlived-{uuid4().hex[:8]}-{Step.SEAL}"
    spec = {"completions": 0, "ttlSecondsAfterFinished": 0, "template": {"spec": {}}}
    rig.in_cluster(lambda cluster: cluster.create(JOB, _manifest(JOB, name, spec)))
    wait_until(lambda: _is_gone(rig, JOB, name), "the Job to go")


def swept(rig: Rig) -> None:
    """What is past its time goes, and nothing else."""
    kept = rig.user.upload(lines_of(rows_of("row")))
    keys = _add_old_objects(rig)
    files = rig.in_cluster(_add_old_files)
    spec = {"input": {"fileId": names.make_id(IdKind.FILE, uuid4())}, "endpoint": CHAT}
    batch = f"swept-{uuid4().hex[:8]}"
    rig.in_cluster(lambda cluster: cluster.create(BATCH_JOB, _manifest(BATCH_JOB, batch, spec)))
    wait_until(lambda: not [key for key in keys if rig.path_of(key).exists()], "old objects to go")
    wait_until(lambda: all(_is_gone(rig, STORED_FILE, name) for name in files), "old files to go")
    wait_until(lambda: _is_gone(rig, BATCH_JOB, batch), "a batch that ended to go")
    assert rig.user.content(kept)


def _add_old_objects(rig: Rig) -> list[str]:
    uid, upload = str(uuid4()), names.make_id(IdKind.UPLOAD, uuid4())
    keys = [
        names.file_key(names.make_id(IdKind.FILE, uuid4())),
        names.record_key(uid, 0, 0),
        names.progress_key(uid, 0, 0),
        names.manifest_key(uid),
        names.verdict_key(uid),
        names.rest_key(uid),
        names.reused_key(uid),
        names.idempotency_key(NAMESPACE, uid),
        names.session_key(NAMESPACE, upload),
        names.outcome_key(NAMESPACE, upload),
        f"{names.parts_prefix(NAMESPACE, upload)}part",
    ]
    for key in keys:
        _write(rig, key, b"{}", age_s=LONG_AGO_S)
    return keys


def _write(rig: Rig, key: str, content: bytes, age_s: float) -> None:
    path = rig.path_of(key)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(f"{path}.new") if age_s == 0 else rig.folder / uuid4().hex
    draft.write_bytes(content)
    os.utime(draft, times=(time.time() - age_s,) * 2)
    draft.rename(path)


async def _add_old_files(cluster: Cluster) -> list[str]:
    """Make a file whose time is over, and a result file whose batch is gone."""
    found = []
    yesterday = datetime.now(UTC).replace(microsecond=0) - timedelta(days=1)
    expired_status = {"phase": "Ready", "expiresAt": yesterday.isoformat().replace("+00:00", "Z")}
    expired_status["expiresDay"] = yesterday.date().isoformat()
    source = {"batchName": "gone", "batchUid": str(uuid4()), "kind": ResultKind.OUTPUT.value}
    for more, status in (({}, expired_status), ({"source": source}, {"phase": "Writing"})):
        name = names.resource_name(IdKind.FILE, uuid4())
        spec = {"filename": "old.jsonl", "purpose": "batch", **more}
        await cluster.create(STORED_FILE, _manifest(STORED_FILE, name, spec))
        with suppress(Missing):
            await cluster.patch_status(STORED_FILE, NAMESPACE, name, {"status": status})
        found.append(name)
    return found


def _manifest(kind: Kind, name: str, spec: dict[str, Any]) -> Manifest:
    metadata = {"name": name, "namespace": NAMESPACE}
    return {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata, "spec": spec}


Story = Callable[[Rig], None]
