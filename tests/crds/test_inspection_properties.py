"""The verdict on any file at all: the one of a slow reading by the contract, however the file comes in."""

from itertools import pairwise

import google_crc32c
from hypothesis import given
from hypothesis import strategies as st

from nightshift_crds.inspection import Inspection, Limits
from nightshift_crds.lines import CHAT, EMBEDDINGS
from nightshift_crds.models import Verdict
from tests.crds.reading import JSON, RAW_LINES, damaged, read_slowly, spelt

ENDPOINTS = (CHAT, EMBEDDINGS)
LIMITS = Limits(max_lines=1_000, max_line_bytes=300)
FEW_IDS = st.sampled_from(["a", "b", "c" * 32, "c" * 33, "d" * 512])
ALMOST_GOOD = st.fixed_dictionaries(
    {
        "custom_id": FEW_IDS,
        "method": st.just("POST"),
        "url": st.sampled_from([CHAT, EMBEDDINGS, f"/openai{CHAT}"]),
        "body": st.fixed_dictionaries(
            {"model": st.sampled_from(["m1", "m2", "模" * 257, ""])},
            optional={
                "messages": JSON,
                "input": JSON | st.lists(st.lists(st.integers(), max_size=3), max_size=3),
                "stream": st.booleans() | st.none(),
            },
        ),
    }
)
LINES = st.one_of(
    st.builds(spelt, ALMOST_GOOD, st.integers(0, 3)),
    RAW_LINES,
    damaged(),
    st.binary(max_size=40),
    st.sampled_from([b"", b" \t", b"\xef\xbb\xbf", b"x" * 300, b"x" * 301]),
)


@st.composite
def files(draw: st.DrawFn) -> bytes:
    lines = draw(st.lists(LINES, max_size=8))
    newline = draw(st.sampled_from([b"\n", b"\r\n"]))
    return draw(st.sampled_from([b"", b"\xef\xbb\xbf"])) + newline.join(lines) + draw(st.sampled_from([b"", newline]))


@st.composite
def cut(draw: st.DrawFn) -> list[bytes]:
    """A file in chunks."""
    data = draw(files())
    places = draw(st.lists(st.integers(0, len(data)), max_size=12) | st.just(list(range(len(data)))))
    return [data[start:end] for start, end in pairwise([0, *sorted(places), len(data)])]


def inspect(chunks: list[bytes]) -> Verdict:
    inspection = Inspection(ENDPOINTS, LIMITS)
    for chunk in chunks:
        inspection.feed(chunk)
    return inspection.finish()


@given(cut())
def test_the_verdict_on_any_file_is_that_of_a_slow_reading(chunks: list[bytes]) -> None:
    data = b"".join(chunks)
    verdict, expected = inspect(chunks), read_slowly(data, LIMITS)
    assert (verdict.lines, verdict.bytes, verdict.crc32c) == (expected.lines, len(data), google_crc32c.value(data))
    assert verdict.embedding_inputs == expected.embedding_inputs
    for endpoint in ENDPOINTS:
        found = verdict.endpoints[endpoint]
        assert [(error.line, error.code, error.param) for error in found.errors] == expected.faults[endpoint]
        assert {model.name: model.lines for model in found.models} == expected.models[endpoint]


@given(cut())
def test_the_verdict_does_not_depend_on_how_the_file_is_cut(chunks: list[bytes]) -> None:
    assert inspect(chunks) == inspect([b"".join(chunks)])
