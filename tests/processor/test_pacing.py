"""Who waits before a model server, and for how long: the paced client over one that answers when the test says so."""

import asyncio

import pytest

from nightshift_crds.bucket.port import Bucket
from nightshift_processor.client import Answer, Failure, Result
from nightshift_processor.flow import Flow, Rules
from nightshift_processor.pacing import PacedClient, paced
from nightshift_processor.tally import Tally
from tests.processor.canned import an_answer, serving
from tests.processor.desk import Desk
from tests.processor.given import Model, chat_lines, run_settings

OK = Answer(200, b"{}")


class Counter:
    """A paced client over a desk, those who come to it, and the flow between."""

    def __init__(self, most: int = 2) -> None:
        self.desk = Desk()
        self.flow = Flow(Rules(most, is_shared=False))
        self.client = PacedClient(self.desk, self.flow, Tally())
        self.heard: list[tuple[bytes, Result]] = []

    def send(self, *bodies: bytes) -> None:
        for body in bodies:
            self.client.send(body, lambda result, body=body: self.heard.append((body, result)))  # type: ignore[misc]

    def answer(self, body: bytes, result: Result = OK) -> None:
        self.desk.answer(body, result)

    def refuse(self, body: bytes, retry_after_s: float | None = None) -> None:
        self.answer(body, Answer(429, b"", retry_after_s=retry_after_s))

    @property
    def at_the_desk(self) -> list[bytes]:
        return list(self.desk.open)


async def test_who_is_too_many_waits_and_goes_in_the_order_of_coming() -> None:
    counter = Counter(2)
    counter.send(b"a", b"b", b"c", b"d")
    assert counter.at_the_desk == [b"a", b"b"]
    counter.answer(b"b")
    assert counter.at_the_desk == [b"a", b"c"]
    counter.send(b"e")
    counter.answer(b"a")
    assert counter.at_the_desk == [b"c", b"d"]
    for body in (b"c", b"d", b"e"):
        counter.answer(body)
    assert counter.heard == [(body, OK) for body in (b"b", b"a", b"c", b"d", b"e")]
    assert counter.flow.in_flight == 0


async def test_nobody_goes_before_those_who_wait() -> None:
    counter = Counter(1)
    counter.send(b"a", b"b")
    counter.flow.limit = 2.0
    counter.send(b"c")
    assert counter.at_the_desk == [b"a", b"b"]


async def test_answers_and_failures_come_through_as_they_are() -> None:
    counter = Counter()
    counter.send(b"a", b"b")
    counter.answer(b"a", Answer(400, b"no"))
    counter.answer(b"b", Failure.BROKEN)
    assert counter.heard == [(b"a", Answer(400, b"no")), (b"b", Failure.BROKEN)]
    assert counter.flow.limit == 2


@pytest.mark.parametrize(
    "refusal",
    [Answer(429, b""), Answer(503, b""), Failure.NOT_CONNECTED, Failure.TIMEOUT],
    ids=["429", "503", "not connected", "timeout"],
)
async def test_what_is_not_served_lets_fewer_in(refusal: Result) -> None:
    counter = Counter(4)
    counter.send(*(b"%d" % n for n in range(6)))
    counter.answer(b"0", refusal)
    assert counter.flow.limit == 2
    assert counter.at_the_desk == [b"1", b"2", b"3"]
    for body in (b"1", b"2"):
        counter.answer(body)
    assert counter.at_the_desk == [b"3", b"4"]
    for body in (b"3", b"4", b"5"):
        counter.answer(body)
    assert counter.heard == [(b"0", refusal), *((b"%d" % n, OK) for n in range(1, 6))]


async def test_a_line_that_is_refused_again_though_others_were_served_slows_nobody() -> None:
    counter = Counter(64)
    for n in range(3):
        counter.send(b"poison", b"%d" % n)
        counter.answer(b"%d" % n)
        counter.refuse(b"poison")
    assert counter.flow.limit == 32


async def test_a_server_that_serves_nobody_is_spared_more_and_more_though_the_lines_are_the_same() -> None:
    counter = Counter(64)
    for _ in range(3):
        counter.send(b"a")
        counter.refuse(b"a")
    assert counter.flow.limit == 8


async def test_nobody_goes_before_the_server_wants_it_and_then_all_do() -> None:
    counter = Counter(2)
    loop = asyncio.get_running_loop()
    counter.send(b"a", b"b")
    began = loop.time()
    counter.refuse(b"a", retry_after_s=0.05)
    counter.answer(b"b")
    counter.send(b"c")
    assert counter.at_the_desk == []
    await counter.desk.is_reached_by(b"c")
    assert loop.time() >= began + 0.05
    counter.answer(b"c")


async def test_a_hold_that_is_prolonged_is_waited_for_to_its_end() -> None:
    counter = Counter(2)
    loop = asyncio.get_running_loop()
    counter.send(b"a", b"b", b"c")
    counter.refuse(b"a", retry_after_s=0.01)
    began = loop.time()
    counter.refuse(b"b", retry_after_s=0.05)
    await counter.desk.is_reached_by(b"c")
    assert loop.time() >= began + 0.05
    counter.answer(b"c")


# --- as a run has it --------------------------------------------------------------------------------------------------


async def test_a_shared_server_is_approached_slowly_and_one_of_our_own_is_not(bucket: Bucket, model: Model) -> None:
    for is_shared, least in ((True, 8), (False, 20)):
        settings = run_settings(
            bucket, chat_lines(), model_url=model.url, model_is_shared=is_shared, max_concurrency=20
        )
        desk = Desk()
        async with paced(settings, desk, Tally()) as client:
            for n in range(30):
                client.send(b"%d" % n, lambda _: None)
            assert len(desk.open) == least


async def test_nobody_who_waits_is_let_in_any_more_once_it_is_left(bucket: Bucket) -> None:
    desk = Desk()
    async with paced(run_settings(bucket, model_is_shared=False, max_concurrency=1), desk, Tally()) as client:
        for body in (b"a", b"b"):
            client.send(body, lambda _: None)
    desk.answer(b"a", OK)
    assert desk.open == {}


async def test_a_server_of_our_own_is_not_asked_for_its_load(bucket: Bucket) -> None:
    async with serving(an_answer()) as own, serving(an_answer()) as shared:
        async with (
            paced(run_settings(bucket, model_url=own.url, model_is_shared=False), Desk(), Tally()),
            paced(run_settings(bucket, model_url=shared.url), Desk(), Tally()),
        ):
            await shared.was_asked_for_metrics.wait()
        assert not own.was_asked_for_metrics.is_set()
