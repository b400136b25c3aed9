"""Posting over real HTTPS: what is signed arrives, and what must not be reached is not."""

import socket
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from openai import OpenAI
from pydantic import SecretStr
from standardwebhooks import Webhook

from nightshift_crds.errors import Rejected
from nightshift_crds.lifecycle import Phase
from nightshift_operator.facts import Answer
from nightshift_operator.poster import _explain, open_poster
from nightshift_operator.settings import Settings
from nightshift_operator.webhooks import Endpoint, build_event
from tests.builders import a_batch
from tests.operator.builders import SETTINGS, a_status
from tests.operator.test_webhooks import SECRET
from tests.processor.certificates import Authority
from tests.receiver import HANG, NAME, Receiver

EVENT = build_event(a_batch(status=a_status(Phase.COMPLETED)))
HERE = ("127.0.0.0/8", "::1/128")


@pytest.fixture
async def receiver(tmp_path: Path) -> AsyncIterator[Receiver]:
    made = Receiver(Authority(tmp_path))
    runner = await made.start()
    yield made
    await runner.cleanup()


async def post(url: str, ca_file: Path | None = None, allowed: tuple[str, ...] = HERE, **more: Any) -> Answer:
    settings: Settings = SETTINGS.model_copy(
        update={"webhook_ca_file": ca_file, "webhook_allowed_cidrs": allowed} | more
    )
    endpoint = Endpoint.model_validate({"name": "billing", "url": url, "secrets": [SecretStr(SECRET)]})
    async with open_poster(settings) as poster:
        return await poster.post(endpoint, EVENT)


async def test_an_event_arrives_as_it_was_signed(receiver: Receiver) -> None:
    answer = await post(receiver.url, receiver.authority.ca_file)
    assert answer == Answer("HTTP 200", is_taken=True)
    [heard] = receiver.heard
    assert (heard.path, heard.body, heard.id) == ("/hook", EVENT.body, EVENT.id)
    assert heard.headers["content-type"] == "application/json"
    assert abs(int(heard.headers["webhook-timestamp"]) - datetime.now(UTC).timestamp()) < 60
    assert Webhook(SECRET).verify(heard.body, heard.headers) == heard.event
    assert OpenAI(api_key="unused").webhooks.unwrap(heard.body, heard.headers, secret=SECRET).id == EVENT.id


@pytest.mark.parametrize(
    ("status", "answer"),
    [
        (204, Answer("HTTP 204", is_taken=True)),
        (400, Answer("HTTP 400")),
        (410, Answer("HTTP 410", is_final=True)),
        (500, Answer("HTTP 500")),
        (507, Answer("HTTP 507")),  # with a body of a megabyte, which is not read
    ],
)
async def test_the_status_says_all(receiver: Receiver, status: int, answer: Answer) -> None:
    receiver.answers = [status]
    assert await post(receiver.url, receiver.authority.ca_file) == answer


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_a_redirect_is_refused_and_not_followed(receiver: Receiver, status: int) -> None:
    receiver.answers = [status]
    answer = await post(receiver.url, receiver.authority.ca_file)
    assert answer == Answer(f"HTTP {status}; redirects are not followed")
    assert len(receiver.heard) == 1


async def test_one_that_hangs_is_left_after_a_while(receiver: Receiver) -> None:
    receiver.answers = [HANG]
    assert await post(receiver.url, receiver.authority.ca_file, webhook_timeout_s=0.5) == Answer("no answer in time")


async def test_one_that_is_not_there_is_told_in_words(receiver: Receiver, unused_tcp_port: int) -> None:
    answer = await post(f"https://{NAME}:{unused_tcp_port}/?token=hidden")
    assert answer.text.startswith("no connection: ")
    assert "hidden" not in answer.text


async def test_a_certificate_that_nobody_vouches_for_is_refused(receiver: Receiver) -> None:
    answer = await post(receiver.url)
    assert answer.text.startswith("its certificate is not trusted: ")
    assert receiver.heard == []


async def test_a_certificate_of_somebody_else_is_refused(receiver: Receiver) -> None:
    answer = await post(f"https://127.0.0.1:{receiver.port}/", receiver.authority.ca_file)
    assert "certificate is not valid for '127.0.0.1'" in answer.text
    assert receiver.heard == []


@pytest.mark.parametrize("host", [NAME, "127.0.0.1", "[::ffff:127.0.0.1]"])
async def test_an_address_that_is_not_allowed_is_not_dialled(receiver: Receiver, host: str) -> None:
    answer = await post(f"https://{host}:{receiver.port}/", receiver.authority.ca_file, allowed=("10.0.0.0/8",))
    assert "is neither public nor in a network that the operator's settings allow" in answer.text
    assert not answer.is_taken
    assert receiver.heard == []


async def test_proxies_of_the_environment_are_not_asked(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy would dial whatever it likes."""
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    assert (await post(receiver.url, receiver.authority.ca_file)).is_taken


async def test_a_name_that_nobody_knows_is_told_in_words() -> None:
    assert await post("https://hooks.invalid/?token=hidden") == Answer("its name cannot be resolved")


async def test_one_that_hangs_up_is_told_in_words(tmp_path: Path) -> None:
    assert _explain(aiohttp.ServerDisconnectedError()) == "the connection broke before an answer"
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        answer = await post(f"https://{NAME}:{port}/?token=hidden", webhook_timeout_s=0.3)
    assert answer == Answer("no answer in time")


@pytest.mark.parametrize("content", [None, "no certificate"])
async def test_a_file_of_authorities_that_cannot_be_used_is_refused(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "ca.crt"
    if content:
        path.write_text(content)
    with pytest.raises(Rejected, match=r"The file of authorities .*ca\.crt cannot be used"):
        await post(f"https://{NAME}/", path)
