"""Who waits before a model server, and for how long: the paced client over one that answers when the test says so."""

import asyncio

import pytest

from nightshift_crds.bucket.port import Bucket
from nightshift_processor.client import Answer, Failure, NoAnswer
from nightshift_processor.flow import Flow, Rules
from nightshift_processor.pacing import PacedClient, paced
from nightshift_processor.tally import Tally
from tests.processor.canned import an_answer, serving
from tests.processor.given import Model, chat_lines, run_settings

OK = Answer(200, b"{}")


class Desk:
    """Takes requests, and gives each the answer that the test has for it."""

    def __init__(self) -> None:
        self.open: dict[bytes, asyncio.Future[Answer]] = {}
        self._news = asyncio.Event()

    async def post(self, body: bytes) -> Answer:
        self.open[body] = asyncio.get_running_loop().create_future()
        self._news.set()
        try:
            return await self.open[body]
        finally:
            del self.open[body]

    async def is_reached_by(self, body: bytes) -> None:
        while body not in self.open:
            self._news.clear()
            await self._news.wait()

    def answer(self, body: bytes, answer: Answer | NoAnswer) -> None:
        if isinstance(answer, Answer):
            self.open[body].set_result(answer)
        else:
            self.open[body].set_exception(answer)


class Counter:
    """A paced client over a desk, those who come to it, and the flow between."""

    def __init__(self, most: int = 2) -> None:
        self.desk = Desk()
        self.flow = Flow(Rules(most, is_shared=False))
        self.client = PacedClient(self.desk, self.flow, Tally())

    async def send(self, *bodies: bytes) -> list["asyncio.Task[Answer]"]:
        tasks = [asyncio.create_task(self.client.post(body)) for body in bodies]
        await settle()
        return tasks

    async def answer(self, body: bytes, answer: Answer | NoAnswer = OK) -> None:
        self.desk.answer(body, answer)
        await settle()

    async def refuse(self, body: bytes, retry_after_s: float | None = None) -> None:
        await self.answer(body, Answer(429, b"", retry_after_s=retry_after_s))

    @property
    def at_the_desk(self) -> list[bytes]:
        return list(self.desk.open)


async def settle() -> None:
    """Let everything happen that can happen by itself."""
    for _ in range(10):
        await asyncio.sleep(0)


async def cancel(task: "asyncio.Task[Answer]") -> None:
    task.cancel()
    await asyncio.wait([task])
    await settle()


async def test_who_is_too_many_waits_and_goes_in_the_order_of_coming() -> None:
    counter = Counter(2)
    tasks = await counter.send(b"a", b"b", b"c", b"d")
    assert counter.at_the_desk == [b"a", b"b"]
    await counter.answer(b"b")
    assert counter.at_the_desk == [b"a", b"c"]
    tasks += await counter.send(b"e")
    await counter.answer(b"a")
    assert counter.at_the_desk == [b"c", b"d"]
    for body in (b"c", b"d", b"e"):
        await counter.answer(body)
    assert await asyncio.gather(*tasks) == [OK] * 5
    assert counter.flow.in_flight == 0


async def test_nobody_goes_before_those_who_wait() -> None:
    counter = Counter(1)
    await counter.send(b"a", b"b")
    counter.flow.limit = 2.0
    await counter.send(b"c")
    assert counter.at_the_desk == [b"a", b"b"]


async def test_answers_and_failures_come_through_as_they_are() -> None:
    counter = Counter()
    answered, failed = await counter.send(b"a", b"b")
    await counter.answer(b"a", Answer(400, b"no"))
    await counter.answer(b"b", NoAnswer(Failure.BROKEN))
    assert await answered == Answer(400, b"no")
    with pytest.raises(NoAnswer):
        await failed
    assert counter.flow.limit == 2


@pytest.mark.parametrize(
    "refusal",
    [Answer(429, b""), Answer(503, b""), NoAnswer(Failure.NOT_CONNECTED), NoAnswer(Failure.TIMEOUT)],
    ids=["429", "503", "not connected", "timeout"],
)
async def test_what_is_not_served_lets_fewer_in(refusal: Answer | NoAnswer) -> None:
    counter = Counter(4)
    tasks = await counter.send(*(b"%d" % n for n in range(6)))
    await counter.answer(b"0", refusal)
    assert counter.flow.limit == 2
    assert counter.at_the_desk == [b"1", b"2", b"3"]
    for body in (b"1", b"2"):
        await counter.answer(body)
    assert counter.at_the_desk == [b"3", b"4"]
    for body in (b"3", b"4", b"5"):
        await counter.answer(body)
    await asyncio.wait(tasks)
    assert [task.exception() is None for task in tasks[1:]] == [True] * 5
    assert (tasks[0].exception() is None) is isinstance(refusal, Answer)


async def test_a_line_that_is_refused_again_though_others_were_served_slows_nobody() -> None:
    counter = Counter(64)
    for n in range(3):
        await counter.send(b"poison", b"%d" % n)
        await counter.answer(b"%d" % n)
        await counter.refuse(b"poison")
    assert counter.flow.limit == 32


async def test_a_server_that_serves_nobody_is_spared_more_and_more_though_the_lines_are_the_same() -> None:
    counter = Counter(64)
    for _ in range(3):
        await counter.send(b"a")
        await counter.refuse(b"a")
    assert counter.flow.limit == 8


async def test_nobody_goes_before_the_server_wants_it_and_then_all_do() -> None:
    counter = Counter(2)
    loop = asyncio.get_running_loop()
    await counter.send(b"a", b"b")
    began = loop.time()
    await counter.refuse(b"a", retry_after_s=0.05)
    await counter.answer(b"b")
    await counter.send(b"c")
    assert counter.at_the_desk == []
    await counter.desk.is_reached_by(b"c")
    assert loop.time() >= began + 0.05
    await counter.answer(b"c")


async def test_a_hold_that_is_prolonged_is_waited_for_to_its_end() -> None:
    counter = Counter(2)
    loop = asyncio.get_running_loop()
    await counter.send(b"a", b"b", b"c")
    await counter.refuse(b"a", retry_after_s=0.01)
    began = loop.time()
    await counter.refuse(b"b", retry_after_s=0.05)
    await counter.desk.is_reached_by(b"c")
    assert loop.time() >= began + 0.05
    await counter.answer(b"c")


async def test_who_gives_up_waiting_takes_nobodys_turn() -> None:
    counter = Counter(1)
    tasks = await counter.send(b"a", b"b", b"c")
    await cancel(tasks[1])
    await counter.answer(b"a")
    assert counter.at_the_desk == [b"c"]
    await counter.answer(b"c")
    assert counter.flow.in_flight == 0


async def test_who_is_stopped_on_the_way_to_the_desk_gives_the_turn_back() -> None:
    counter = Counter(1)
    tasks = await counter.send(b"a", b"b", b"c")
    counter.desk.answer(b"a", OK)  # with the next step of the loop b is let in, and before it goes it is stopped
    asyncio.get_running_loop().call_soon(tasks[1].cancel)
    await settle()
    assert counter.at_the_desk == [b"c"]
    await counter.answer(b"c")
    assert counter.flow.in_flight == 0


async def test_who_is_stopped_at_the_desk_gives_the_turn_back() -> None:
    counter = Counter(1)
    tasks = await counter.send(b"a", b"b")
    await cancel(tasks[0])
    assert counter.at_the_desk == [b"b"]
    await counter.answer(b"b")


# --- as a run has it --------------------------------------------------------------------------------------------------


async def test_a_shared_server_is_approached_slowly_and_one_of_our_own_is_not(bucket: Bucket, model: Model) -> None:
    for is_shared, least in ((True, 8), (False, 20)):
        settings = run_settings(
            bucket, chat_lines(), model_url=model.url, model_is_shared=is_shared, max_concurrency=20
        )
        desk = Desk()
        async with paced(settings, desk, Tally()) as client:
            tasks = [asyncio.create_task(client.post(b"%d" % n)) for n in range(30)]
            await settle()
            assert len(desk.open) == least
            for task in tasks:
                await cancel(task)


async def test_a_server_of_our_own_is_not_asked_for_its_load(bucket: Bucket) -> None:
    async with serving(an_answer()) as server:
        async with paced(run_settings(bucket, model_url=server.url, model_is_shared=False), Desk(), Tally()):
            await settle()
        async with paced(run_settings(bucket, model_url=server.url), Desk(), Tally()):
            await server.was_asked_for_metrics.wait()
