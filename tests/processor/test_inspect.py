"""The verdict on an input that no upload has checked."""

from typing import Any

import pytest
from google_crc32c import value as crc32c_of

from nightshift_crds import names
from nightshift_crds.bucket.port import Bucket, get
from nightshift_crds.exits import Exit
from nightshift_crds.lines import CHAT
from nightshift_crds.models import Verdict
from nightshift_processor.inspect import inspect
from nightshift_processor.settings import InspectSettings
from tests.builders import BATCH_UID
from tests.processor.faults import Fault, FaultyBucket
from tests.processor.given import INPUT_KEY, chat_lines, environ_of, put_input


def inspect_settings(bucket: Bucket, **values: Any) -> InspectSettings:
    defaults = {"bucket": bucket.url, "batch_uid": BATCH_UID, "input_key": INPUT_KEY, "endpoint": CHAT}
    return InspectSettings.load(environ_of(defaults | values))


async def verdict_on(bucket: Bucket, content: bytes, **values: Any) -> Verdict:
    await put_input(bucket, content)
    assert await inspect(inspect_settings(bucket, **values), bucket) is Exit.DONE
    return Verdict.model_validate_json(await get(bucket, names.verdict_key(BATCH_UID)))


async def test_a_sound_input_is_described(bucket: Bucket) -> None:
    content = chat_lines("a", "b")
    verdict = await verdict_on(bucket, content)
    assert (verdict.lines, verdict.bytes, verdict.crc32c) == (2, len(content), crc32c_of(content))
    assert set(verdict.endpoints) == {CHAT}
    assert verdict.endpoints[CHAT].errors == []


@pytest.mark.parametrize(
    ("content", "values"),
    [
        (b"nonsense\n", {}),
        (chat_lines("a", "a"), {}),
        (chat_lines("a"), {"max_line_bytes": 20}),
        (chat_lines("a"), {"endpoint": "/v1/embeddings"}),
    ],
    ids=["no-json", "id-twice", "too-long", "other-endpoint"],
)
async def test_what_is_wrong_stands_in_the_verdict(bucket: Bucket, content: bytes, values: dict[str, Any]) -> None:
    verdict = await verdict_on(bucket, content, **values)
    assert [part.errors != [] for part in verdict.endpoints.values()] == [True]


async def test_an_input_of_too_many_lines_is_told_by_their_number(bucket: Bucket) -> None:
    assert (await verdict_on(bucket, chat_lines("a", "b"), max_lines=1)).lines == 2


async def test_an_input_over_the_limit_is_refused_unread(bucket: Bucket) -> None:
    faulty = FaultyBucket(bucket)
    faulty.fail_read(INPUT_KEY, Fault.REFUSE)
    await put_input(bucket, chat_lines("a"))
    assert await inspect(inspect_settings(bucket, max_file_bytes=20), faulty) is Exit.DONE
    verdict = Verdict.model_validate_json(await get(bucket, names.verdict_key(BATCH_UID)))
    assert (verdict.lines, verdict.bytes) == (0, len(chat_lines("a")))


async def test_an_input_that_is_gone_has_no_verdict(bucket: Bucket) -> None:
    assert await inspect(inspect_settings(bucket), bucket) is Exit.BAD_INPUT
    assert await bucket.head(names.verdict_key(BATCH_UID)) is None


async def test_the_first_verdict_stands(bucket: Bucket) -> None:
    first = await verdict_on(bucket, chat_lines("a"))
    assert await verdict_on(bucket, chat_lines("a", "b")) == first
