"""Answers byte by byte: fields and their order, shortest heads, plain Base64, tokens as they came."""

import json
from base64 import b64decode, b64encode
from typing import Any

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chunker import topics
from chunker.answers import BlockHeads, block_prefix, description, rejected
from chunker.blocks import block_count, block_length
from chunker.errors import Code, Rejection

ENCODINGS = ["cbor", "json"]
tokens = st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=64)
texts = st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=300)


def decode(payload: bytes, encoding: str) -> dict[str, Any]:
    """The fields in their order; the payload is as short as it can be."""
    if encoding == "cbor":
        fields = cbor2.loads(payload)
        assert cbor2.dumps(fields) == payload  # shortest heads, definite lengths, no tag, nothing after it
    else:
        fields = json.loads(payload)
        assert json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode() == payload
    assert type(fields) is dict
    return fields


def block(encoding: str, token: str | None, file_id: int, block_size: int, size: int, index: int) -> bytes:
    data = bytes(range(251)) * (block_length(index, size, block_size) // 251 + 1)
    heads = BlockHeads(encoding, file_id, block_size, size)
    body = heads.body(memoryview(data)[: block_length(index, size, block_size)])
    return block_prefix(encoding, token) + heads[index] + bytes(body)


def holds(encoding: str, token: str | None, file_id: int, block_size: int, size: int, index: int) -> None:
    payload = block(encoding, token, file_id, block_size, size, index)
    fields = decode(payload, encoding)
    length = block_length(index, size, block_size)
    assert list(fields) == ["f", "l", "i", "p"] if token is None else ["c", "f", "l", "i", "p"]
    assert fields.get("c") == token
    assert (fields["f"], fields["l"], fields["i"]) == (file_id, length, index)
    assert [type(fields[name]) for name in "fli"] == [int, int, int]
    data = (bytes(range(251)) * (length // 251 + 1))[:length]
    if encoding == "cbor":
        assert fields["p"] == data
    else:
        assert fields["p"] == b64encode(data).decode()
        assert b64decode(fields["p"], validate=True) == data
        raw = payload[payload.rindex(b'"p":"') + 5 : -2]
        assert b"\\" not in raw


@settings(deadline=None)
@given(
    st.sampled_from(ENCODINGS),
    tokens,
    st.integers(0, 255),
    st.integers(256, 3000),
    st.integers(1, 1 << 40),
    st.data(),
)
def test_any_block(
    encoding: str, token: str | None, file_id: int, block_size: int, size: int, data: st.DataObject
) -> None:
    index = data.draw(st.integers(0, block_count(size, block_size) - 1))
    holds(encoding, token, file_id, block_size, size, index)


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("index", [0, 23, 24, 255, 256, 65535, 65536, 98304 + 98295, (1 << 32) - 1, 1 << 32])
def test_indexes_where_heads_change_width(encoding: str, index: int) -> None:
    for last in (1, 23, 24, 255, 256):
        holds(encoding, "rdy", 24, 256, 256 * index + last, index)
    holds(encoding, None, 255, 256, 256 * (index + 2), index)


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("block_size", [256, 65535, 65536, 131071, 131072])
def test_lengths_where_heads_change_width(encoding: str, block_size: int) -> None:
    for last in (1, 2, 3, 23, 24, 255, 256, block_size - 1, block_size):
        holds(encoding, None, 0, block_size, block_size + last, 1)
        holds(encoding, "", 23, block_size, block_size + last, 0)


def test_base64_uses_all_its_letters_as_they_are() -> None:
    data = bytes([0xFB, 0xFF, 0xBF]) * 90
    heads = BlockHeads("json", 0, 270, 270)
    payload = block_prefix("json", None) + heads[0] + bytes(heads.body(data))
    assert payload == b'{"f":0,"l":270,"i":0,"p":"' + b"+/+/" * 90 + b'"}'


def test_block_in_cbor_byte_by_byte() -> None:
    heads = BlockHeads("cbor", 0, 4096, 8192 + 5)
    payload = block_prefix("cbor", "rdy") + heads[2] + bytes(heads.body(b"hello"))
    assert payload == bytes.fromhex("a5 6163 63726479 6166 00 616c 05 6169 02 6170 45") + b"hello"


def test_what_follows_the_token_is_the_same_for_every_device() -> None:
    for encoding in ENCODINGS:
        ends = set()
        for token in (None, "", "rdy", "ü"):
            prefix = block_prefix(encoding, token)
            payload = block(encoding, token, 1, 300, 1000, 3)
            assert payload.startswith(prefix)
            ends.add(payload[len(prefix) :])
        assert len(ends) == 1


def test_heads_are_bounded_and_come_back_the_same() -> None:
    heads = BlockHeads("cbor", 0, 256, 256 * 20_000)
    first = [heads[index] for index in range(20_000)]
    assert [heads[index] for index in reversed(range(20_000))] == first[::-1]
    assert heads.of(range(3, 20_000, 7)) == first[3::7]
    assert heads.of([5]) == first[5:6]
    assert len(heads._made) <= BlockHeads.MAX_HEADS


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_cbor_body_is_not_copied(encoding: str) -> None:
    data = memoryview(bytes(300))
    body = BlockHeads(encoding, 0, 300, 300).body(data)
    assert (body is data) == (encoding == "cbor")


files = st.dictionaries(st.integers(0, 255), st.integers(0, (1 << 63) - 1), max_size=50).map(
    lambda sizes: sorted(sizes.items())
)


@settings(deadline=None)
@given(st.sampled_from(ENCODINGS), tokens, st.integers(1, 1 << 40), texts, files)
def test_description(
    encoding: str, token: str | None, version: int, text: str | None, held: list[tuple[int, int]]
) -> None:
    fields = decode(description(encoding, token, version, text, held), encoding)
    expected: dict[str, Any] = {"c": token, "s": version, "d": text, "r": [{"f": f, "z": z} for f, z in held]}
    expected = {name: value for name, value in expected.items() if value is not None}
    assert fields == expected
    assert list(fields) == list(expected)
    assert all(list(file) == ["f", "z"] for file in fields["r"])


@settings(deadline=None)
@given(
    st.sampled_from(ENCODINGS),
    st.sampled_from(list(Code)),
    texts.filter(lambda text: text is not None),
    tokens,
)
def test_rejected(encoding: str, code: Code, message: str, token: str | None) -> None:
    fields = decode(rejected(encoding, Rejection(code, message, token)), encoding)
    assert list(fields) == (["o", "m"] if token is None else ["o", "m", "c"])
    assert (fields["o"], fields["m"], fields.get("c")) == (code.value, message, token)


def test_the_thirteen_codes() -> None:
    assert {str(code) for code in Code} == {
        "InvalidTopic",
        "InvalidJson",
        "InvalidCbor",
        "InvalidRequest",
        "Unauthorized",
        "BlockSizeOutOfBounds",
        "OffsetOutOfBounds",
        "BlockCountLimitExceeded",
        "BlockBitmapLimitExceeded",
        "ResourceNotFound",
        "VersionMismatch",
        "ETagMismatch",
        "InternalError",
    }


def test_topics() -> None:
    name = topics.topic("site:4", "AFR_OTA-1", "rejected", "json")
    assert name == "$aws/things/site:4/streams/AFR_OTA-1/rejected/json"
    assert topics.split(name) == ("site:4", "AFR_OTA-1", "rejected", "json")
    assert topics.split("$aws/things//streams//get/") == ("", "", "get", "")
    for other in (
        "",
        "$aws/things/t/streams/s/get",
        name + "/x",
        "aws" + name[4:],
        name.replace("things", "thing"),
        "/" + name,
    ):
        assert topics.split(other) is None
