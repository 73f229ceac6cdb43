"""The device's codecs against cbor2, json and plain sets."""

import json
from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunker import bitmap, cbor
from chunker.messages import decode_answer, encode_request

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
FIELDS = st.dictionaries(
    TEXT, st.one_of(st.integers(0, 2**64 - 1), TEXT, st.binary(max_size=400)), max_size=40
)
VALUES = st.recursive(
    st.one_of(st.integers(-(2**64), 2**64 - 1), TEXT, st.binary(max_size=70)),
    lambda inner: st.lists(inner, max_size=30) | st.dictionaries(TEXT, inner, max_size=30),
    max_leaves=40,
)


def plain(value: Any) -> Any:
    """With bytes in place of views."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return bytes(value) if isinstance(value, memoryview) else value


def depth(value: Any) -> int:
    if isinstance(value, dict | list):
        return 1 + max(
            (depth(one) for one in (value.values() if isinstance(value, dict) else value)), default=0
        )
    return 0


class TestCbor:
    @given(FIELDS)
    def test_requests_are_what_cbor2_reads(self, fields: dict[str, int | str | bytes | bytearray]) -> None:
        data = cbor.encode(fields)
        assert cbor2.loads(data) == fields
        assert data == cbor2.dumps(fields)

    @given(st.dictionaries(TEXT, VALUES, max_size=8).filter(lambda value: depth(value) <= 8))
    def test_answers_are_read_as_cbor2_means_them(self, fields: dict[str, Any]) -> None:
        assert plain(cbor.decode(memoryview(cbor2.dumps(fields)))) == fields

    @given(st.binary(max_size=200))
    def test_anything_else_is_a_value_error(self, data: bytes) -> None:
        try:
            fields = cbor.decode(memoryview(data))
        except ValueError:
            return
        assert isinstance(fields, dict)

    @given(FIELDS.filter(bool), st.data())
    def test_cut_short_is_a_value_error(self, fields: dict[str, Any], data: st.DataObject) -> None:
        whole = cbor2.dumps(fields)
        with pytest.raises(ValueError):
            cbor.decode(memoryview(whole[: data.draw(st.integers(0, len(whole) - 1))]))
        with pytest.raises(ValueError):
            cbor.decode(memoryview(whole + b"\x00"))

    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"\x00",
            b"\xa0\xa0",
            b"\xbb" + b"\xff" * 8,
            b"\x9b" + b"\xff" * 8,
            b"\xa1\x61a" * 5000,
            b"\xa1\x61a" + b"\x81" * 5000,
            b"\xa2\x61a\x00\x61a\x00",
            b"\xa1\xa0\x00",
            b"\xa1\x61\xff\x00",
            b"\xbf\xff",
            b"\xd9\xd9\xf7\xa0",
            b"\xa1\x61a\x5f\xff",
            b"\xa1\x61a\x7f\xff",
            b"\xa1\x61a\xff",
        ],
    )
    def test_what_would_hurt_is_refused(self, data: bytes) -> None:
        with pytest.raises(ValueError):
            cbor.decode(memoryview(data))

    def test_unknown_values_are_passed_over(self) -> None:
        data = cbor2.dumps({"x": 1.5, "y": None, "z": True, 4: 5, "i": 7})
        assert cbor.decode(memoryview(data)) == {"x": None, "y": None, "z": None, 4: 5, "i": 7}

    def test_payloads_are_not_copied(self) -> None:
        data = bytearray(cbor2.dumps({"p": b"before"}))
        view = cbor.decode(memoryview(data))["p"]
        data[-6:] = b"behind"
        assert isinstance(view, memoryview)
        assert bytes(view) == b"behind"


class TestMessages:
    def test_answers_that_every_client_decodes(self) -> None:
        """DEVICES: as AWS's libraries are known to read them."""
        data = bytes.fromhex("a5616363726479616600616c0561690061704568656c6c6f")
        assert plain(decode_answer("cbor", data)) == {"c": "rdy", "f": 0, "l": 5, "i": 0, "p": b"hello"}
        text = b'{"f":0,"l":5,"i":0,"p":"aGVsbG8="}'
        assert plain(decode_answer("json", text)) == {"f": 0, "l": 5, "i": 0, "p": b"hello"}

    @given(st.dictionaries(TEXT, st.integers() | TEXT, max_size=9), st.binary(min_size=1, max_size=99))
    def test_json_requests(self, fields: dict[str, int | str | bytes | bytearray], bits: bytes) -> None:
        request = json.loads(encode_request("json", fields | {"b": bits}))
        assert bytes.fromhex(request.pop("b")) == bits
        assert request == {key: value for key, value in fields.items() if key != "b"}

    @pytest.mark.parametrize("text", [b"", b"[]", b"{", b"\xff", b'{"p":"a"}', b"[" * 100000, b"1" * 10000])
    def test_json_that_is_no_answer(self, text: bytes) -> None:
        with pytest.raises(ValueError):
            decode_answer("json", text)


class TestBitmap:
    @given(st.sets(st.integers(0, 199)), st.integers(0, 200), st.integers(0, 200), st.booleans())
    def test_is_a_set(self, wanted: set[int], start: int, end: int, value: bool) -> None:
        bits = bytearray(25)
        for index in wanted:
            bitmap.flip(bits, index)
        assert {index for index in range(200) if bitmap.test(bits, index)} == wanted
        assert bitmap.ones(bits) == len(wanted)
        found = [index for index in range(start, end) if (index in wanted) is value]
        assert bitmap.find(bits, value, start, end) == (found[0] if found else end)

    def test_the_guides_example(self) -> None:
        """PROTOCOL: blocks 20, 21, 24 and 43 with `o` = 20."""
        bits = bytearray(3)
        for block in (20, 21, 24, 43):
            bitmap.flip(bits, block - 20)
        assert bits == bytes.fromhex("130080")
