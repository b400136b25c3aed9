"""Webhooks of real processes to a real HTTPS receiver that is down for a while, and an operator that is killed."""

import asyncio
import json
import os
import subprocess
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path

import pytest
from openai import OpenAI
from pydantic import SecretStr
from standardwebhooks import Webhook

from nightshift_crds.cluster import open_cluster
from nightshift_crds.cluster.port import BATCH_JOB, each
from nightshift_crds.lifecycle import Phase
from nightshift_crds.models import BatchJob
from nightshift_operator.webhooks import build_event, sign
from tests.builders import a_batch
from tests.conformance.clients import made
from tests.e2e.conftest import Starter
from tests.e2e.installation import Installation, chat_lines, wait_until
from tests.operator.builders import a_status
from tests.ports import free_port
from tests.processor.certificates import Authority
from tests.receiver import HANG, SECRET, Receiver, serving, write_endpoints


def test_a_receiver_that_was_down_gets_every_event_in_the_end_under_one_id(start: Starter, tmp_path: Path) -> None:
    receiver = Receiver(Authority(tmp_path), answers=[500, HANG], port=free_port())
    installation = start_telling(start, receiver, tmp_path)
    lines, _ = chat_lines(["plain"] * 20)
    ends = {installation.submit(lines).id: "completed", installation.submit(b"not a line\n").id: "failed"}
    for batch_id, end in ends.items():
        assert installation.wait(batch_id).status == end

    wait_until(lambda: all(said_no(b) for b in batches(installation)), "an answer for each: nobody is there")
    assert not [batch for batch in batches(installation) if batch.status.settled]
    with serving(receiver):
        wait_until(lambda: HANG in [heard.answer for heard in receiver.heard], "a request that hangs")
        installation.kill_part("nightshift-operator")
        wait_until(lambda: all(batch.status.settled for batch in batches(installation)), "all batches to settle")

    ids, client = defaultdict[str, set[str]](set), OpenAI(api_key="unused")
    for heard in receiver.heard:
        assert Webhook(SECRET).verify(heard.body, heard.headers) == heard.event
        event = client.webhooks.unwrap(heard.body, heard.headers, secret=SECRET)
        assert event.type == f"batch.{ends[event.data.id]}"  # type: ignore[union-attr]
        ids[event.data.id].add(event.id)  # type: ignore[union-attr]
        assert event.id == heard.id
    assert {batch_id: len(found) for batch_id, found in ids.items()} == dict.fromkeys(ends, 1)
    assert {heard.event["data"]["id"] for heard in receiver.taken()} == set(ends)
    for batch in batches(installation):
        assert [(d.name, d.state) for d in batch.status.webhooks] == [("billing", "Delivered")]
    assert "hidden" not in installation.log
    assert SECRET not in installation.log


def test_an_endpoint_that_is_taken_out_while_it_is_down_holds_nothing_up(start: Starter, tmp_path: Path) -> None:
    receiver = Receiver(Authority(tmp_path), port=free_port())
    installation = start_telling(start, receiver, tmp_path)
    installation.wait(installation.submit(b"not a line\n").id)
    wait_until(lambda: all(said_no(batch) for batch in batches(installation)), "an answer: nobody is there")
    write_endpoints(tmp_path / "webhooks.json")
    wait_until(lambda: all(batch.status.settled for batch in batches(installation)), "the batch to settle")
    [batch] = batches(installation)
    assert [d.state for d in batch.status.webhooks] == ["GivenUp"]


def test_a_file_of_endpoints_that_cannot_be_used_is_told_in_a_sentence(start: Starter, tmp_path: Path) -> None:
    write_endpoints(tmp_path / "webhooks.json", {"name": "billing", "url": "http://h/", "secrets": [SECRET]})
    with pytest.raises(AssertionError, match=r"webhooks\.0\.url: URL scheme should be 'https'"):
        start(NIGHTSHIFT_WEBHOOKS_FILE=tmp_path / "webhooks.json")


def start_telling(start: Starter, receiver: Receiver, folder: Path) -> Installation:
    endpoint = {"name": "billing", "url": receiver.url, "secrets": [SECRET]}
    return start(
        NIGHTSHIFT_WEBHOOKS_FILE=write_endpoints(folder / "webhooks.json", endpoint),
        NIGHTSHIFT_WEBHOOK_CA_FILE=receiver.authority.ca_file,
        NIGHTSHIFT_WEBHOOK_ALLOWED_CIDRS="127.0.0.0/8",
        NIGHTSHIFT_WEBHOOK_RETRY_S=1,
        NIGHTSHIFT_WEBHOOK_TIMEOUT_S=2,
        NIGHTSHIFT_SCRATCH_RETENTION_S=0,
    )


def batches(installation: Installation) -> list[BatchJob]:
    async def read() -> list[BatchJob]:
        async with open_cluster(f"sqlite://{installation.data_dir / 'cluster.db'}") as cluster:
            return [BatchJob.parse(manifest) async for manifest in each(cluster, BATCH_JOB)]

    return asyncio.run(read())


def said_no(batch: BatchJob) -> bool:
    return any("Connect call failed" in (d.last_answer or "") for d in batch.status.webhooks)


def test_openai_s_sdk_for_javascript_takes_an_event_too_and_no_other(tmp_path: Path) -> None:
    event = build_event(a_batch(status=a_status(Phase.COMPLETED)))
    headers = sign(event, [SecretStr(SECRET)], datetime.now(UTC))
    taken = unwrap_in_javascript(event.body.decode(), headers)
    assert json.loads(taken.stdout) == json.loads(event.body)
    refused = unwrap_in_javascript(event.body.decode() + " ", headers)
    assert refused.returncode == 1
    assert "InvalidWebhookSignatureError" in refused.stderr


def unwrap_in_javascript(body: str, headers: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    modules, program = made("openai-js"), Path(__file__).with_name("unwrap.mjs")
    given = json.dumps({"body": body, "headers": headers, "secret": SECRET})
    environ = os.environ | {"MODULES": str(modules)}
    command = [str(modules / "node"), str(program)]
    return subprocess.run(command, input=given, env=environ, capture_output=True, text=True, check=False)
