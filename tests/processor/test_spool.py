"""The input on scratch disk."""

import os
import tracemalloc
from pathlib import Path

import pytest
from google_crc32c import value as crc32c_of
from hypothesis import given
from hypothesis import strategies as st

from nightshift_crds.bucket.port import Bucket
from nightshift_crds.errors import Missing
from nightshift_crds.lines import LineOrder
from nightshift_processor.spool import InputChanged, Spool, fill_spool
from tests.builders import a_line, jsonl
from tests.processor.faults import Fault, FaultyBucket
from tests.processor.given import INPUT_KEY, put_input

BOM = b"\xef\xbb\xbf"


async def filled(bucket: Bucket, content: bytes, scratch: Path) -> Spool:
    await put_input(bucket, content)
    return await fill_spool(bucket, INPUT_KEY, crc32c_of(content), scratch)


def lines_of(spool: Spool) -> list[bytes]:
    lines = [spool.read(item) for item in range(len(spool))]
    spool.close()
    return lines


async def test_lines_can_be_read_in_any_order(bucket: Bucket, tmp_path: Path) -> None:
    lines = [b"%d " % n * (n * 97 % 1_000 + 1) for n in range(500)]
    spool = await filled(bucket, b"\n".join(lines), tmp_path)
    order = [*range(499, -1, -1), *range(0, 500, 7), *range(500)]
    assert [spool.read(item) for item in order] == [lines[item] for item in order]
    spool.close()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", []),
        (b"\n\n", []),
        (b"a", [b"a"]),
        (b"a\nb\n", [b"a", b"b"]),
        (b"a\r\nb\r\n", [b"a\r", b"b\r"]),
        (b"\n \t\r\na\n\nb", [b"a", b"b"]),
        (BOM + b"a\nb\n", [b"a", b"b"]),
        (BOM + b"\n" + BOM + b"a\n", [BOM + b"a"]),
        (b"a" * 3_000_000 + b"\nb", [b"a" * 3_000_000, b"b"]),
    ],
    ids=["empty", "blank", "no-newline", "two", "crlf", "blank-between", "bom", "bom-inside", "longer-than-a-block"],
)
async def test_lines_are_numbered_in_their_order_and_blank_ones_are_none(
    bucket: Bucket, tmp_path: Path, content: bytes, expected: list[bytes]
) -> None:
    assert lines_of(await filled(bucket, content, tmp_path)) == expected


@given(st.lists(st.sampled_from([b"", b" ", b"a", b"bb", BOM + b"c", b"d\r"]), max_size=12))
def test_a_spool_reads_what_was_added_to_it(tmp_path_factory: pytest.TempPathFactory, lines: list[bytes]) -> None:
    with (tmp_path_factory.getbasetemp() / "spooled").open("w+b") as file:
        spool, offset = Spool(file), 0
        for line in lines:
            spool.write(line + b"\n")
            spool.add(line)
            offset += len(line) + 1
        spool.finish()
        wanted = [line.removeprefix(BOM) if n == 0 else line for n, line in enumerate(lines)]
        assert [spool.read(item) for item in range(len(spool))] == [line for line in wanted if line.strip()]


async def test_an_input_that_is_gone_or_changed_leaves_nothing_on_scratch_disk(bucket: Bucket, tmp_path: Path) -> None:
    scratch = tmp_path / "made" / "when-needed"
    with pytest.raises(Missing):
        await fill_spool(bucket, INPUT_KEY, 0, scratch)
    await put_input(bucket, b"a\n")
    with pytest.raises(InputChanged):
        await fill_spool(bucket, INPUT_KEY, crc32c_of(b"b\n"), scratch)
    assert os.listdir(scratch) == []  # noqa: PTH208 - hidden files too


async def test_in_the_order_of_prefixes_lines_keep_the_numbers_of_the_file(bucket: Bucket, tmp_path: Path) -> None:
    systems = ["b", "a", "c", "a", "b", "a"]
    lines = [a_line(f"row-{n}", messages=[{"role": "system", "content": text}]) for n, text in enumerate(systems)]
    content = b"\n" + jsonl(*lines).replace(b"\n", b"\n \n") + b"no JSON\n"
    await put_input(bucket, content)
    spools = [
        await fill_spool(bucket, INPUT_KEY, crc32c_of(content), tmp_path, order)
        for order in (LineOrder.FILE, LineOrder.PREFIX, LineOrder.PREFIX)
    ]
    assert [list(spool.order) for spool in spools] == [list(range(7)), *[[6, 1, 3, 5, 0, 4, 2]] * 2]
    in_file, *others = [lines_of(spool) for spool in spools]
    assert others == [in_file] * 2


@pytest.mark.parametrize("order", LineOrder)
async def test_lines_are_not_held_in_memory(bucket: Bucket, tmp_path: Path, order: LineOrder) -> None:
    line = b'{"n":%06d,"body":{"messages":[{"content":"%s"},{"content":"%06d%s"}]}}\n'
    content = b"".join(line % (n, b"s" * 500, n, b"x" * 380) for n in range(50_000))
    faulty = FaultyBucket(bucket)
    faulty.fail_read(INPUT_KEY, Fault.NONE)
    await put_input(bucket, content)
    checksum = crc32c_of(content)
    tracemalloc.start()
    spool = await fill_spool(faulty, INPUT_KEY, checksum, tmp_path, order)
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (len(spool), spool.read(49_999)[:11]) == (50_000, b'{"n":049999')
    spool.close()
    assert held < 2 << 20
    assert peak < 8 << 20
