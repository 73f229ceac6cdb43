"""The strict JSON decoder against json and the rules that json does not have."""

import json
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chunker.errors import Malformed
from chunker.strict_json import decode_object
from tests.support.oracle import NotWellFormed, json_entries

# No surrogates: they cannot be in UTF-8, only in escapes (below).
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
integers = st.integers(-(1 << 70), 1 << 70)
values = st.recursive(
    st.none() | st.booleans() | integers | st.floats(allow_nan=False, allow_infinity=False) | text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=10,
)
objects = st.dictionaries(text, values, max_size=8)
WITHIN = 10**19
"""Integers from here on are only known to be out of every bound."""


def taken(payload: bytes) -> dict[str, Any]:
    """What a request may use: text and integers."""
    return {key: value for key, value in decode_object(payload).items() if type(value) in (int, str)}


def useful(decoded: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in decoded.items() if type(value) in (int, str)}


def same(ours: dict[str, Any], theirs: dict[str, Any]) -> bool:
    """Equal, up to integers that are too great for us to work them out."""

    def shown(value: Any) -> Any:
        return (value > 0, "huge") if type(value) is int and abs(value) >= WITHIN else value

    return {k: shown(v) for k, v in ours.items()} == {k: shown(v) for k, v in theirs.items()}


@settings(deadline=None)
@given(objects, st.booleans(), st.sampled_from([None, 0, 2, "\t", "\r\n "]))
def test_takes_what_json_writes(fields: dict[str, Any], ascii_only: bool, indent: Any) -> None:
    payload = json.dumps(fields, ensure_ascii=ascii_only, indent=indent).encode()
    assert same(taken(payload), useful(fields))
    assert decode_object(payload).keys() == fields.keys()


@settings(deadline=None)
@given(objects, st.data())
def test_mutated_objects(fields: dict[str, Any], data: st.DataObject) -> None:
    payload = bytearray(json.dumps(fields, ensure_ascii=data.draw(st.booleans())).encode())
    pieces = [
        b'"',
        b"\\",
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
        b":",
        b"1e5",
        b"-",
        b".",
        b"0",
        b"\x00",
        b"\xff",
        b"\n",
    ]
    pieces += [
        b'"a":1,',
        b"NaN",
        b"Infinity",
        b"\xef\xbb\xbf",
        b"\xed\xa0\x80",
        b"\\ud800",
        b"\xc3",
        b"\x0b",
        b" ",
    ]
    for _ in range(data.draw(st.integers(0, 3))):
        at = data.draw(st.integers(0, len(payload)))
        if data.draw(st.booleans()):
            payload[at:at] = data.draw(st.sampled_from(pieces))
        else:
            del payload[at : at + data.draw(st.integers(1, 4))]
    agree(bytes(payload))


def agree(payload: bytes) -> bool:
    """Holds us to the second reading; whether the payload was an object."""
    try:
        theirs = json_entries(payload)
    except NotWellFormed:
        with pytest.raises(Malformed):
            decode_object(payload)
        return False
    assert same(taken(payload), useful(theirs)), payload
    return True


def test_random_text() -> None:
    source = random.Random(8259)
    tokens = [b"{", b"}", b"[", b"]", b":", b",", b'"a"', b'"b"', b'"\\u00e9"', b"1", b"-0", b"1.5", b"2e3"]
    tokens += [b"true", b"null", b" ", b"NaN", b"01", b"+1", b".5", b"1.", b"'a'", b"//", b'"\x1f"', b"\xa0"]
    objects_seen = 0
    for _ in range(20_000):
        body = b"".join(source.choices(tokens, k=source.randrange(7)))
        objects_seen += agree(
            source.choice([b"{", b'{"x":', b'{"x":1,', b""]) + body + source.choice([b"}", b"", b"]}"])
        )
    assert objects_seen > 200


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b" ",
        b"null",
        b"1",
        b'"a"',
        b"[]",
        b"{",
        b"{}x",
        b"{}{}",
        b"{},",
        b"{}\x00",
        b'{"a":1,}',
        b'{"a"}',
        b"{a:1}",
        b"{'a':1}",
        b'{"a":1,"a":1}',
        b'{"a":1,"\\u0061":2}',
        b'{"x":{"a":1,"a":2}}',
        b'{"x":[[{"a":1,"a":1}]]}',
        b'{"":0,"":0}',
        b'{"a":NaN}',
        b'{"a":Infinity}',
        b'{"a":-Infinity}',
        b'{"x":[NaN]}',
        b'{"a":nan}',
        b'{"a":01}',
        b'{"a":+1}',
        b'{"a":.5}',
        b'{"a":1.}',
        b'{"a":0x10}',
        b'{"a":-}',
        b'{"a":1e}',
        b'{"a":1_0}',
        b'{"a":"\x01"}',
        b'{"a":"\n"}',
        b'{"a":"\\x41"}',
        b'{"a":"\\u12"}',
        b'{"a":"\\u12g4"}',
        b'{"a":"\\u+123"}',
        b'{"a":"',
        b'{"a":"\\"}',
        b'{"a":tru}',
        b'{"a":True}',
        b'\xef\xbb\xbf{"a":1}',
        '{"a":1}'.encode("utf-16"),
        '{"a":1}'.encode("utf-16-le"),
        b'{"a":"\xff"}',
        b'{"a":"\xc0\xaf"}',
        b'{"a":"\xed\xa0\x80"}',
        b'{"a":"\xf4\x90\x80\x80"}',
        b'{"a":"\xe2\x82"}',
        b'{"a\xff":1}',
        b'\x0b{"a":1}',
        b'\xc2\xa0{"a":1}',
        b'{"a":1}\xe2\x80\x83',
        '{"a":١}'.encode(),
        b'{/**/"a":1}',
    ],
)
def test_refused(payload: bytes) -> None:
    with pytest.raises(Malformed):
        decode_object(payload)
    with pytest.raises(NotWellFormed):
        json_entries(payload)


def test_white_space_may_surround() -> None:
    assert decode_object(b' \t\r\n{ "a" \n: 1 , "b":"" }\r\n ') == {"a": 1, "b": ""}


@pytest.mark.parametrize(
    "number", ["1.0", "4096.0", "1e3", "1E3", "-0.0", "1e400", "0.1", "1e-7", "123456789.0e9"]
)
def test_floats_are_no_integers(number: str) -> None:
    assert type(decode_object(b'{"l":%s}' % number.encode())["l"]) not in (int, float, str)


@pytest.mark.parametrize("digits", [18, 19, 20, 21, 30, 5000, 60000])
@pytest.mark.parametrize("sign", ["", "-"])
def test_huge_integers_stay_integers_out_of_bounds(digits: int, sign: str) -> None:
    value = decode_object(b'{"l":%s%s}' % (sign.encode(), b"9" * digits))["l"]
    assert type(value) is int
    assert abs(value) >= 10**18 - 1
    assert (value < 0) == bool(sign)


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}"), ('[{"a":', "}]")])
def test_nesting_ends_at_sixteen(opening: str, closing: str) -> None:
    levels = opening.count("[") + opening.count("{")
    for depth in range(1, 60):
        inner = opening * depth + "0" + closing * depth
        payload = f'{{"v":{inner},"s":"{{[[[[[[[[[[[[[[[[["}}'.encode()
        if 1 + depth * levels <= 16:
            assert set(decode_object(payload)) == {"v", "s"}
        else:
            with pytest.raises(Malformed, match="16"):
                decode_object(payload)


def test_many_containers_beside_each_other_are_not_deep() -> None:
    assert len(decode_object(json.dumps({"v": [[[]], {"a": []}] * 100}).encode())["v"]) == 200


def test_lone_surrogates_are_text_until_somebody_uses_them() -> None:
    assert decode_object(b'{"a":"\\ud800","\\udc00":1}') == {"a": "\ud800", "\udc00": 1}
    assert decode_object(b'{"a":"\\ud83d\\ude00"}') == {"a": "\U0001f600"}
