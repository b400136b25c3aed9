"""What `inspect` makes of a batch that is run again: its results, the rows left, and a verdict on those."""

import asyncio
import json
import tracemalloc
from typing import Any

import pytest
from google_crc32c import value as crc32c_of
from hypothesis import given
from hypothesis import strategies as st

from nightshift_crds import names
from nightshift_crds.bucket import open_bucket
from nightshift_crds.bucket.port import Bucket, get
from nightshift_crds.exits import Exit
from nightshift_crds.lines import CHAT, parse_item, render_success, request_of
from nightshift_crds.models import RestVerdict
from nightshift_processor.inspect import inspect
from nightshift_processor.settings import InspectSettings
from tests.builders import BATCH_UID, a_line, jsonl
from tests.processor.faults import Fault, FaultyBucket
from tests.processor.given import chat_lines, environ_of

REST, REUSED, VERDICT = names.rest_key(BATCH_UID), names.reused_key(BATCH_UID), names.verdict_key(BATCH_UID)
INPUT, OUTPUT = "openai/files/origin-input.jsonl", "openai/files/origin-output.jsonl"
CONTENT = chat_lines("a", "b", "c", "d")


def outputs(*custom_ids: str) -> bytes:
    """Write the output file of a batch."""
    return b"".join(render_success(f"id of {i}", i, 200, "req", b'{"custom_id": "inner"}') for i in custom_ids)


def settings_of(bucket: Bucket, content: bytes | None = CONTENT, **values: Any) -> InspectSettings:
    told = {"bucket": bucket.url, "batch_uid": BATCH_UID, "input_key": REST, "endpoint": CHAT}
    told |= {"origin_input_key": INPUT, "origin_output_key": OUTPUT}
    checked = {} if content is None else {"origin_input_crc32c": crc32c_of(content)}
    return InspectSettings.load(environ_of(told | checked | values))


async def put_origin(bucket: Bucket, content: bytes = CONTENT, *done: str) -> None:
    await bucket.put(INPUT, content, create_only=False)
    await bucket.put(OUTPUT, outputs(*done), create_only=False)


async def verdict_of(bucket: Bucket) -> RestVerdict:
    return RestVerdict.model_validate_json(await get(bucket, VERDICT))


async def collected(bucket: Bucket, content: bytes = CONTENT, *done: str, **values: Any) -> bytes:
    """Collect what is left of an input, and give it."""
    await put_origin(bucket, content, *done)
    assert await inspect(settings_of(bucket, content, **values), bucket) is Exit.DONE
    return await get(bucket, REST)


async def test_rows_without_a_result_are_left_and_results_are_taken_over(bucket: Bucket) -> None:
    rest = await collected(bucket, CONTENT, "d", "b")
    lines = CONTENT.splitlines(keepends=True)
    assert rest == lines[0] + b"\n" + lines[2] + b"\n"
    assert await get(bucket, REUSED) == outputs("d", "b")
    verdict = await verdict_of(bucket)
    assert (verdict.lines, verdict.bytes, verdict.crc32c) == (2, len(rest), crc32c_of(rest))
    assert (verdict.reused, verdict.reused_bytes) == (2, len(outputs("d", "b")))


async def test_lines_keep_the_numbers_that_they_have_in_the_first_input(bucket: Bucket) -> None:
    content = b"\n" + CONTENT + jsonl(a_line("e", url="/v1/embeddings"))
    await collected(bucket, content, "a", "b", "d")
    [error] = (await verdict_of(bucket)).endpoints[CHAT].errors
    assert (error.line, error.code) == (6, "invalid_url")
    assert (await verdict_of(bucket)).endpoints[CHAT].models[0].lines == [4]


@pytest.mark.parametrize("done", [(), ("b",)])
async def test_bytes_of_what_is_left_are_those_of_the_first_input(bucket: Bucket, done: tuple[str, ...]) -> None:
    odd = b'{"custom_id":"x", "n": 1.10, "custom_id": "a", "method":"POST","url":"/v1/chat/completions","body":{}}\r\n'
    content = b"\xef\xbb\xbf" + odd + b"  \r\n" + chat_lines("b")[:-1]
    rest = await collected(bucket, content, *done)
    assert rest == (content if not done else b"\xef\xbb\xbf" + odd + b"  \r\n\n")


@pytest.mark.parametrize("name", ["a", "\u00e4 \U0001f319", "x" * 512, '"quoted\\"'])
async def test_the_first_line_may_have_a_mark_and_an_id_any_characters(bucket: Bucket, name: str) -> None:
    content = b"\xef\xbb\xbf" + jsonl(a_line(name)) + chat_lines("z")
    assert await collected(bucket, content, name) == b"\n" + chat_lines("z")


async def test_a_batch_without_an_output_file_is_left_as_it_was(bucket: Bucket) -> None:
    await bucket.put(INPUT, CONTENT, create_only=False)
    assert await inspect(settings_of(bucket, None, origin_output_key=""), bucket) is Exit.DONE
    assert await get(bucket, REST) == CONTENT
    assert await bucket.head(REUSED) is None
    assert ((await verdict_of(bucket)).lines, (await verdict_of(bucket)).reused) == (4, 0)


async def test_an_input_that_was_refused_before_is_judged_anew(bucket: Bucket) -> None:
    await bucket.put(INPUT, b"nonsense\n", create_only=False)
    assert await inspect(settings_of(bucket, None, origin_output_key=""), bucket) is Exit.DONE
    assert (await verdict_of(bucket)).endpoints[CHAT].errors[0].code == "invalid_json_line"


@pytest.mark.parametrize("other", [CONTENT + b"\n", b"nonsense\n", CONTENT.replace(b"custom_id", b"custom_ie")])
async def test_an_input_that_is_not_what_was_validated_is_refused(bucket: Bucket, other: bytes) -> None:
    await put_origin(bucket, other, "b")
    assert await inspect(settings_of(bucket), bucket) is Exit.BAD_INPUT
    assert await bucket.head(REST) is None
    assert await bucket.head(VERDICT) is None


@pytest.mark.parametrize("gone", [INPUT, OUTPUT])
async def test_a_file_that_is_gone_is_no_input(bucket: Bucket, gone: str) -> None:
    await put_origin(bucket, CONTENT, "b")
    await bucket.delete(gone)
    assert await inspect(settings_of(bucket), bucket) is Exit.BAD_INPUT
    assert await bucket.head(VERDICT) is None


async def test_an_input_over_the_limit_is_refused_by_its_size_alone(bucket: Bucket) -> None:
    await put_origin(bucket, CONTENT, "b")
    assert await inspect(settings_of(bucket, max_file_bytes=20), bucket) is Exit.DONE
    assert (await verdict_of(bucket)).bytes == len(CONTENT)
    assert await bucket.head(REST) is None


# --- again ------------------------------------------------------------------------------------------------------------


async def keys(bucket: Bucket) -> list[str]:
    return [info.key async for info in bucket.list(names.batch_prefix(BATCH_UID))]


@pytest.mark.parametrize("dies_at", [REUSED, REST, VERDICT])
async def test_a_pod_that_follows_one_that_died_makes_the_same(bucket: Bucket, dies_at: str) -> None:
    await put_origin(bucket, CONTENT, "b", "c")
    faulty = FaultyBucket(bucket)
    faulty.fail_put(dies_at, Fault.HOLD)
    first = asyncio.create_task(inspect(settings_of(bucket), faulty))
    await faulty.held.wait()
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    assert await inspect(settings_of(bucket), bucket) is Exit.DONE
    assert await keys(bucket) == [REST, REUSED, VERDICT]
    assert ((await verdict_of(bucket)).lines, (await verdict_of(bucket)).reused) == (2, 2)


async def test_what_was_made_stands_whatever_becomes_of_the_other_batch_s_files(bucket: Bucket) -> None:
    rest = await collected(bucket, CONTENT, "b")
    await bucket.delete(VERDICT)
    await put_origin(bucket, CONTENT, "b", "c")
    assert await inspect(settings_of(bucket), bucket) is Exit.DONE
    assert (await get(bucket, REST), (await verdict_of(bucket)).reused) == (rest, 1)


async def test_two_pods_at_once_make_one(bucket: Bucket) -> None:
    await put_origin(bucket, CONTENT, "b")
    ends = await asyncio.gather(*(inspect(settings_of(bucket), bucket) for _ in range(4)))
    assert ends == [Exit.DONE] * 4
    assert ((await verdict_of(bucket)).lines, (await verdict_of(bucket)).reused) == (3, 1)


# --- any input --------------------------------------------------------------------------------------------------------

IDS = st.lists(st.text(st.characters(codec="utf-8"), min_size=1, max_size=40), min_size=1, max_size=12, unique=True)
ENDS = st.sampled_from([b"\n", b"\r\n", b"\n\n", b"\n \n"])


@given(data=st.data(), ids=IDS, has_mark=st.booleans(), is_torn=st.booleans())
def test_of_any_input_the_rows_left_are_those_without_a_result_in_their_places(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, ids: list[str], has_mark: bool, is_torn: bool
) -> None:
    pieces = [json.dumps(a_line(i), ensure_ascii=False).encode() + data.draw(ENDS) for i in ids]
    content = b"\xef\xbb\xbf" * has_mark + b"".join(pieces)
    content = content.rstrip() if is_torn else content
    done = set(data.draw(st.lists(st.sampled_from(ids), unique=True)))

    async def collect_it() -> bytes:
        async with open_bucket(f"file://{tmp_path_factory.mktemp('bucket')}") as bucket:
            return await collected(bucket, content, *done)

    before, after = content.split(b"\n"), asyncio.run(collect_it()).split(b"\n")
    for number, line in enumerate(before):
        request = request_of(line, is_first=number == 0)
        has_result = bool(request) and parse_item(request).custom_id in done
        assert (after[number] if number < len(after) else b"") == (b"" if has_result else line)
    assert not any(after[len(before) :])


async def test_memory_does_not_grow_with_the_files(bucket: Bucket) -> None:
    text = "x" * 2_000
    ids = [f"row-{n}" for n in range(20_000)]
    await bucket.put(INPUT, b"".join(jsonl(a_line(i, text=text)) for i in ids), create_only=False)
    body = json.dumps({"text": text}).encode()
    results = [render_success(f"id {i}", i, 200, "req", body) for i in ids[::2]]
    await bucket.put(OUTPUT, b"".join(results), create_only=False)
    del results
    tracemalloc.start()
    try:
        assert await inspect(settings_of(bucket, None), bucket) is Exit.DONE
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (await verdict_of(bucket)).lines == 10_000
    assert peak < 16 << 20, "two files of 43 and 21 MB"
