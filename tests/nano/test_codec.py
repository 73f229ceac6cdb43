"""The nano client's CBOR and its judgement of answers, beside `chunker`'s, on the same bytes."""

import binascii
import json
from pathlib import Path
from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunker import answers
from chunker.errors import Code, Rejection
from chunker.limits import Limits
from chunker.messages import decode_answer
from chunker.requests import decode_describe, decode_get
from tests.nano.board import Board

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "get_stream.json").read_text())
BOARD = Board()
TOKEN = "4a48e33c"
DESCRIPTION, DATA, REJECTED = 2, 4, 5


def plain(value: Any) -> Any:
    """What nano decodes, in the types that `chunker` and cbor2 have for it."""
    if isinstance(value, range):
        return bytes(BOARD.names["buffer"][value.start : value.stop])
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, list):
        return [plain(one) for one in value]
    if isinstance(value, dict):
        return {plain(key): plain(one) for key, one in value.items()}
    return value


def nano(payload: bytes) -> Any:
    """The map that a payload is for nano, or None."""
    end = BOARD.message(b"\x00" + payload)
    try:
        fields, at = BOARD.names["decode"](1)
    except Exception:  # noqa: BLE001 - any exception of any kind refuses
        return None
    return plain(fields) if at == end and isinstance(fields, dict) else None


def by_chunker(payload: bytes) -> Any:
    """The same by `chunker`'s decoder."""

    def plain(value: Any) -> Any:
        if isinstance(value, list):
            return [plain(one) for one in value]
        if isinstance(value, dict):
            return {key: plain(one) for key, one in value.items()}
        return bytes(value) if isinstance(value, memoryview) else value

    try:
        return plain(decode_answer("cbor", payload))
    except ValueError:
        return None


def block(index: int, data: bytes, *, token: str | None = TOKEN, file_id: int = 0) -> bytes:
    """A block's message as the service writes it, of a file that this block ends."""
    heads = answers.BlockHeads("cbor", file_id, 256, index * 256 + len(data))
    return answers.block_prefix("cbor", token) + heads[index] + data


def right(topic: int, payload: bytes, asked: int = DATA, **want: Any) -> Any:
    """nano's judgement of a message that came while `asked` was waited for."""
    end = BOARD.message(bytes([topic]) + payload)
    expected = {b"c": TOKEN.encode(), **{key.encode(): value for key, value in want.items()}}
    return BOARD.names["right"](end, asked, expected)


scalars = st.integers(-(2**64), 2**64 - 1) | st.text(max_size=12) | st.binary(max_size=12)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
)
maps = st.dictionaries(st.text(max_size=6), values, max_size=6)


@given(maps)
def test_decodes_what_chunker_decodes(fields: dict[str, Any]) -> None:
    payload = cbor2.dumps(fields)
    if len(payload) < 320 and by_chunker(payload) is not None:
        assert nano(payload) == by_chunker(payload) == fields


@given(maps, st.data())
def test_what_ends_early_or_late_is_none(fields: dict[str, Any], data: st.DataObject) -> None:
    payload = cbor2.dumps(fields)[:318]
    assert nano(payload[: data.draw(st.integers(0, len(payload) - 1))]) is None
    assert nano(payload + b"\x00") is None or by_chunker(payload + b"\x00") is not None


@given(st.binary(max_size=300))
def test_noise_ends(payload: bytes) -> None:
    """Whatever comes, decoding returns; what both take for a map is the same map."""
    ours, theirs = nano(payload), by_chunker(payload)
    assert ours is None or theirs is None or ours == theirs


def test_floats_and_simple_values_are_nothing() -> None:
    fields = {"a": 1.5, "b": True, "c": None, "d": 1e300}
    for payload in (cbor2.dumps(fields), cbor2.dumps(fields, canonical=True)):
        assert nano(payload) == by_chunker(payload) == dict.fromkeys("abcd")


@pytest.mark.parametrize(
    "payload",
    [cbor2.dumps(cbor2.CBORTag(55799, {"c": 1})), b"\xbf\x61c\x01\xff", b"\xa1\x61c\xc1\x01", b"\x9f\xff"],
    ids=["self-described", "indefinite map", "tagged value", "indefinite array"],
)
def test_tags_and_indefinite_lengths_are_none(payload: bytes) -> None:
    assert nano(payload) is None
    assert by_chunker(payload) is None


def test_the_shared_vector() -> None:
    vector = VECTORS["answers_every_client_decodes"]["cbor"]
    payload = bytes.fromhex(vector["hex"])
    assert nano(payload) == by_chunker(payload) == {**vector["means"], "p": vector["means"]["p"].encode()}


@given(
    version=st.integers(1, 2**31),
    file_id=st.integers(0, 255),
    offset=st.integers(0, 98304),
    token=st.text("abcdef0123456789", min_size=1, max_size=23),
)
def test_requests_are_what_the_service_decodes(version: int, file_id: int, offset: int, token: str) -> None:
    encode = BOARD.names["encode"]
    items = (b"c", token.encode(), b"s", version, b"f", file_id, b"l", 256, b"o", offset, b"n", 1)
    get = decode_get(encode(*items), "cbor", Limits())
    assert (get.token, get.version, get.file_id, get.block_size) == (token, version, file_id, 256)
    assert list(get.wanted((offset + 2) * 256)) == [offset]
    assert decode_describe(encode(b"c", token.encode()), "cbor", Limits()) == token


@given(st.binary(max_size=600), st.integers(0, 65535))
def test_crc16_is_the_one_of_binascii(data: bytes, start: int) -> None:
    assert BOARD.names["crc16"](start, data, range(len(data))) == binascii.crc_hqx(data, start)


class TestRight:
    """Which messages nano takes for the answer to block 3 of file 7, a full one."""

    WHOLE = bytes(range(256))

    def judge(self, payload: bytes, topic: int = DATA) -> Any:
        return right(topic, payload, f=7, i=3, l=256)

    def test_the_answer(self) -> None:
        fields = self.judge(block(3, self.WHOLE, file_id=7))
        assert plain(fields[b"p"]) == self.WHOLE

    @pytest.mark.parametrize(
        "payload",
        [
            block(3, WHOLE, file_id=6),
            block(2, WHOLE, file_id=7),
            block(259, WHOLE, file_id=7),
            block(3, WHOLE[:255], file_id=7),
            block(3, WHOLE, file_id=7, token="4a48e33d"),
            block(3, WHOLE, file_id=7, token=None),
            block(3, WHOLE, file_id=7)[:-1],
            block(3, WHOLE, file_id=7) + b"\x00",
            cbor2.dumps({"c": TOKEN, "f": 7, "l": 256, "i": 3, "p": WHOLE[:255]}),
            cbor2.dumps({"c": TOKEN, "f": 7, "l": 256, "i": 3, "p": "x" * 255}),
            cbor2.dumps({"c": TOKEN, "f": 7, "l": 256, "i": 3}),
            cbor2.dumps({"c": TOKEN, "f": 7, "i": 3, "p": WHOLE}),
            cbor2.dumps({"c": TOKEN.encode(), "f": 7, "l": 256, "i": 3, "p": WHOLE}),
            cbor2.dumps({"c": TOKEN, "f": 7, "l": 256, "i": 3.0, "p": WHOLE}),
            cbor2.dumps({"c": TOKEN, "f": 7, "l": 256, "i": [3], "p": WHOLE}),
            cbor2.dumps({"c": TOKEN, "f": 7, "l": 256, "i": 3, "p": 256}),
            cbor2.dumps([TOKEN, 7, 256, 3]),
            b"",
        ],
    )
    def test_what_is_not(self, payload: bytes) -> None:
        assert self.judge(payload) is None

    def test_an_answer_to_another_question(self) -> None:
        assert self.judge(block(3, self.WHOLE, file_id=7), DESCRIPTION) is None
        description = answers.description("cbor", TOKEN, 1, None, [(7, 1024)])
        assert self.judge(description, DESCRIPTION) is None
        assert right(DESCRIPTION, description, DESCRIPTION) is not None

    def test_a_boolean_is_no_number(self) -> None:
        payload = cbor2.dumps({"c": TOKEN, "f": 7, "l": 256, "i": True, "p": self.WHOLE})
        assert right(DATA, payload, f=7, i=1, l=256) is None

    def test_refusals(self) -> None:
        def refusal(code: Code, token: str | None) -> Any:
            return self.judge(answers.rejected("cbor", Rejection(code, "why", token)), REJECTED)

        assert refusal(Code.VERSION_MISMATCH, TOKEN)[b"o"] == b"VersionMismatch"
        assert refusal(Code.VERSION_MISMATCH, "another") is None
        assert refusal(Code.VERSION_MISMATCH, None) is None
        assert refusal(Code.INTERNAL_ERROR, TOKEN) is None  # waited out

    @given(st.integers(0, 300), st.integers(1, 255))
    def test_a_changed_byte_is_seen_or_is_one_of_the_file(self, at: int, flip: int) -> None:
        payload = bytearray(block(3, self.WHOLE, file_id=7))
        at %= len(payload)
        payload[at] ^= flip
        if (fields := self.judge(bytes(payload))) is not None:
            assert {key: fields[key] for key in (b"f", b"i", b"l")} == {b"f": 7, b"i": 3, b"l": 256}
            assert len(fields[b"p"]) == 256
            assert at >= len(payload) - 256
