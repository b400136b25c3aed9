"""The shell on Kubernetes, without one: how kopf is set up, and how it ends when there is nothing to watch."""

import asyncio
import logging
import time
from pathlib import Path

import kopf
import pytest
import yaml

from nightshift_operator.controller import Key
from nightshift_operator.follow import batch_of_job, key_of_batch
from nightshift_operator.kopf_shell import KopfShell, build_settings, check_age, log_in, see
from nightshift_operator.queue import WorkQueue

OWN = ("nightshift.dev", "v1alpha1", "batchjobs")
JOBS = ("batch", "v1", "jobs")


def test_kopf_writes_nothing_to_the_cluster() -> None:
    settings = build_settings()
    assert settings.posting.enabled is False
    assert settings.persistence.finalizer.startswith("nightshift.dev/")
    assert isinstance(settings.persistence.progress_storage, kopf.AnnotationsProgressStorage)
    assert isinstance(settings.persistence.diffbase_storage, kopf.AnnotationsDiffBaseStorage)
    assert settings.persistence.progress_storage.prefix == "nightshift.dev"
    assert settings.persistence.diffbase_storage.prefix == "nightshift.dev"


def test_only_open_batches_and_our_own_jobs_are_watched_and_nothing_else_is_looked_for() -> None:
    settings = build_settings()
    assert settings.watching.field_selectors[OWN] == "status.settled!=true"
    assert settings.watching.label_selectors[JOBS] == (
        "app.kubernetes.io/managed-by=nightshift,app.kubernetes.io/component=processor"
    )
    assert settings.scanning.disabled is True


def test_a_list_comes_in_pages_and_no_call_is_waited_for_endlessly() -> None:
    settings = build_settings()
    assert settings.watching.chunk_size == 500
    assert (settings.watching.server_timeout, settings.watching.connect_timeout) == (300, 10)
    assert (settings.networking.request_timeout, settings.process.ultimate_exiting_timeout) == (30, 60)


@pytest.mark.parametrize(("luck", "backoffs"), [(0.0, (0.75, 1.5, 3.75, 7.5)), (0.5, (1, 2, 5, 10))])
def test_retries_are_few_and_spread(luck: float, backoffs: tuple[float, ...]) -> None:
    assert build_settings(lambda: luck).networking.error_backoffs == backoffs


def test_the_probe_fails_once_a_name_has_waited_for_longer_than_any_pass_takes() -> None:
    assert check_age(0.04) == 0.0
    assert check_age(300) == 300
    with pytest.raises(kopf.PermanentError, match="waiting for 301 s"):
        check_age(301)


async def test_an_object_puts_its_batch_on_the_queue_and_a_stranger_puts_nothing_there() -> None:
    queue: WorkQueue[Key] = WorkQueue(time.monotonic)
    owner = {"kind": "BatchJob", "name": "b"}
    await see(queue, key_of_batch, {"metadata": {"namespace": "team-a", "name": "a"}}, event={}, type="ADDED")
    await see(queue, batch_of_job, {"metadata": {"namespace": "team-a", "name": "x"}})
    await see(queue, batch_of_job, {"metadata": {"namespace": "team-a", "name": "x", "ownerReferences": [owner]}})
    assert [await queue.take(), await queue.take()] == [Key("team-a", "a"), Key("team-a", "b")]
    assert queue.oldest_s() == 0


# --- with nobody at the other end -------------------------------------------------------------------------------------


@pytest.fixture
def nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kubeconfig for a server that is not there."""
    config = {
        "current-context": "test",
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        "clusters": [{"name": "test", "cluster": {"server": "http://127.0.0.1:1"}}],
        "users": [{"name": "test", "user": {"token": "t0ken"}}],
    }
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(config))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))


def test_outside_of_a_cluster_the_kubeconfig_says_where_it_is(nobody: None) -> None:
    found = log_in(logger=logging.getLogger("test"), settings=build_settings())
    assert found
    assert (found.server, found.token) == ("http://127.0.0.1:1", "t0ken")


async def probed(port: int) -> int:
    """Give the HTTP status of the probe; 0 if nobody listens."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return 0
    writer.write(b"GET /healthz HTTP/1.0\r\n\r\n")
    status = (await reader.readline()).split()[1]
    writer.close()
    await writer.wait_closed()
    return int(status)


async def test_a_probe_fails_when_nobody_takes_names_and_a_shell_that_is_cancelled_ends_kopf_first(
    nobody: None, unused_tcp_port: int
) -> None:
    times = iter([0.0])
    queue: WorkQueue[Key] = WorkQueue(lambda: next(times, 301))
    queue.add(Key("team-a", "a"))
    following = asyncio.create_task(KopfShell(queue, ("team-a",), unused_tcp_port).follow())
    async with asyncio.timeout(30):
        while not (status := await probed(unused_tcp_port)):  # noqa: ASYNC110 - kopf does not tell when it listens
            await asyncio.sleep(0.01)
        following.cancel()
        with pytest.raises(asyncio.CancelledError):
            await following
    assert status == 500
    assert await probed(unused_tcp_port) == 0
    assert asyncio.all_tasks() == {asyncio.current_task()}
