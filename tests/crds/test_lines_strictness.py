"""How strict the reading of a line is, case by case (contract 8 and 18, the strictness table of the measurements)."""

import pytest

from nightshift_crds.lines import MAX_DEPTH, LineFault, parse_item, parse_line

VALID = {
    "no space": b'{"a":[{},[],"",0,true,false,null]}',
    "space of every kind": b' { "a"\t:\r[ ] } ',
    "minus zero": b"-0",
    "a fraction": b"-0.10e-07",
    "a number that no float holds": b"1e999",
    "a number that is no number any more": b"-1E-999",
    "400 digits": b"1" * 400,
    "5,000 digits": b"9" * 5_000,
    "text in UTF-8": '"日本 é 😀"'.encode(),
    "escapes of every kind": rb'"\" \\ \/ \b \f \n \r \t \u00e9 \ud83d\ude00 \u0000"',
    "delete, which is no control character in JSON": b'"\x7f"',
    "separators of other languages": '"\u2028\u0085"'.encode(),
    "a key twice": b'{"a":1,"a":2}',
    "an empty key": b'{"":1}',
    "a hundred brackets": b"[" * 100 + b"]" * 100,
}
INVALID = {
    "nothing": b"",
    "a word": b"nope",
    "NaN": b"NaN",
    "Infinity": b"Infinity",
    "-Infinity": b"-Infinity",
    "a leading zero": b"01",
    "a leading plus": b"+1",
    "no digit after the point": b"1.",
    "no digit before the point": b".5",
    "a minus alone": b"-",
    "hexadecimal": b"0x10",
    "a raw control character": b'"\x01"',
    "a raw tab": b'"\t"',
    "a bad escape": rb'"\q"',
    "half an escape": rb'"\u00e"',
    "a high surrogate alone": rb'"\ud800"',
    "a low surrogate alone": rb'"\udc00"',
    "surrogates the wrong way round": rb'"\udc00\ud800"',
    "a surrogate alone in a key": rb'{"\ud800":1}',
    "a trailing comma in an array": b"[1,]",
    "a trailing comma in an object": b'{"a":1,}',
    "a comma alone": b"[,]",
    "garbage behind": b"{} {}",
    "a comment": b"1 /* one */",
    "single quotes": b"'a'",
    "a bare key": b"{a:1}",
    "an open string": b'"a',
    "an open array": b"[1",
    "Latin-1": b'"\xe9"',
    "an overlong encoding": b'"\xc0\x80"',
    "an encoded surrogate": b'"\xed\xa0\x80"',
    "beyond Unicode": b'"\xf4\x90\x80\x80"',
    "half a character": b'"\xe6\x97"',
    "UTF-16": '"a"'.encode("utf-16"),
    "a mark in the middle": b'\xef\xbb\xbf"a"',
    "5,000 brackets": b"[" * 5_000 + b"]" * 5_000,
    "100,000 brackets": b"[" * 100_000 + b"]" * 100_000,
    "100,000 objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
}
PLACES = {
    "in the body": b'{"custom_id":"a","method":"POST","url":"u","body":{"model":"m","x":%b}}',
    "in the messages": b'{"custom_id":"a","method":"POST","url":"u","body":{"model":"m","messages":%b}}',
    "beside a model that is none": b'{"custom_id":"a","method":"POST","url":"u","body":{"model":5,"x":%b}}',
    "in a key that nobody reads": b'{"custom_id":"a","method":"POST","url":"u","body":{},"x":%b}',
    "behind a fault": b'{"custom_id":5,"body":{},"x":%b}',
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("case", INVALID)
def test_a_line_that_is_no_json_is_told_as_such_wherever_the_fault_stands(place: str, case: str) -> None:
    with pytest.raises(LineFault) as caught:
        parse_line(PLACES[place] % INVALID[case])
    assert (caught.value.code, caught.value.param) == ("invalid_json_line", None)


@pytest.mark.parametrize("place", [place for place in PLACES if place != "behind a fault"])
@pytest.mark.parametrize("case", VALID)
def test_a_line_that_is_json_is_accepted_whatever_its_values(place: str, case: str) -> None:
    raw = PLACES[place] % VALID[case]
    assert parse_line(raw).custom_id == "a"
    assert VALID[case].strip() in bytes(parse_item(raw).body) or place == "in a key that nobody reads"


@pytest.mark.parametrize("case", [case for case in VALID if not VALID[case].startswith(b'"')])
@pytest.mark.parametrize("key", [b"custom_id", b"method", b"url"])
def test_a_value_of_the_wrong_type_is_told_by_its_key_whatever_it_is(key: bytes, case: str) -> None:
    fields = {b"custom_id": b'"a"', b"method": b'"POST"', b"url": b'"u"', b"body": b"{}"} | {key: VALID[case]}
    raw = b"{%b}" % b",".join(b'"%b":%b' % field for field in fields.items())
    with pytest.raises(LineFault) as caught:
        parse_line(raw)
    assert (caught.value.code, caught.value.param) == ("invalid_request", key.decode())


def nested(opening: bytes, closing: bytes, depth: int) -> bytes:
    """A line that nests so many brackets, two of them its own."""
    return PLACES["in the body"] % (opening * (depth - 2) + b"1" + closing * (depth - 2))


@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}"), (rb'["\\]\"[",{"":', b"}]")])
@pytest.mark.parametrize("depth", [MAX_DEPTH - 1, MAX_DEPTH, MAX_DEPTH + 1, 3 * MAX_DEPTH])
def test_a_line_may_nest_so_deep_and_no_deeper(opening: bytes, closing: bytes, depth: int) -> None:
    levels = 2 if opening.endswith(b'{"":') else 1
    raw = nested(opening, closing, (depth - 2) // levels + 2)
    if depth > MAX_DEPTH + levels - 1:
        with pytest.raises(LineFault) as caught:
            parse_line(raw)
        assert (caught.value.code, caught.value.param) == ("invalid_json_line", None)
    else:
        assert parse_item(raw).custom_id == parse_line(raw).custom_id == "a"


@pytest.mark.parametrize("calls", [0, 200, 400])
def test_who_reads_a_line_does_not_decide_whether_it_can_be_read(calls: int) -> None:
    """The decoder shares the interpreter's stack with the calls that lead to it."""

    def read(calls: int) -> str:
        return read(calls - 1) if calls else parse_line(nested(b"[", b"]", MAX_DEPTH)).custom_id

    assert read(calls) == "a"


@pytest.mark.parametrize(
    "value",
    [b'"' + b"[" * 2_000 + b'"', b"[" + b",".join([b"[]"] * 2_000) + b"]", rb'"\\","' + b"{" * 2_000 + b'"'],
)
def test_brackets_side_by_side_or_in_text_nest_nothing(value: bytes) -> None:
    raw = PLACES["in the body"] % (b"[" + value + b"]")
    assert parse_line(raw).custom_id == "a"
