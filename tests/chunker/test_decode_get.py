"""Every row of PROTOCOL's GetStream table, at each bound, and the order in which the checks answer."""

import json
from typing import Any

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chunker.errors import Code, Rejection
from chunker.limits import Limits
from chunker.requests import MAX_PAYLOAD, GetRequest, check_topic, decode_describe, decode_get
from tests.support import oracle

ENCODINGS = ["cbor", "json"]
BASE = {"f": 0, "l": 4096}


def encode(fields: dict[str, Any], encoding: str) -> bytes:
    if encoding == "cbor":
        return cbor2.dumps(fields)
    plain = {key: value.hex() if isinstance(value, bytes) else value for key, value in fields.items()}
    return json.dumps(plain).encode()


def get(encoding: str, **fields: Any) -> GetRequest:
    return decode_get(encode(BASE | fields, encoding), encoding, Limits())


def refused(encoding: str, fields: dict[str, Any]) -> Rejection:
    return refused_payload(encode(fields, encoding), encoding)


def refused_payload(payload: bytes, encoding: str) -> Rejection:
    with pytest.raises(Rejection) as caught:
        decode_get(payload, encoding, Limits())
    return caught.value


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_defaults(encoding: str) -> None:
    assert get(encoding) == GetRequest(None, None, 0, 4096, 0, 32, None)
    assert get(encoding, x=[1], y=None, n=0).count == 32


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize(
    ("field", "inside", "outside", "code", "bounds"),
    [
        ("l", [256, 131072], [255, 0, -1, 131073, 1 << 62], Code.BLOCK_SIZE_OUT_OF_BOUNDS, ("256", "131072")),
        ("o", [0, 98304], [-1, 98305, -(1 << 62), 1 << 62], Code.OFFSET_OUT_OF_BOUNDS, ("0", "98304")),
        ("n", [0, 98304], [-1, 98305, -(1 << 62), 1 << 62], Code.BLOCK_COUNT_LIMIT_EXCEEDED, ("0", "98304")),
    ],
)
def test_integers_at_their_bounds(
    encoding: str, field: str, inside: list[int], outside: list[int], code: Code, bounds: tuple[str, str]
) -> None:
    for value in inside:
        get(encoding, **{field: value})
    for value in outside:
        rejection = refused(encoding, BASE | {field: value, "c": "t"})
        assert (rejection.code, rejection.token) == (code, "t")
        # The message names the field, the value and the bounds.
        for named in (field + " (", str(value), *bounds):
            assert named in rejection.message


@pytest.mark.parametrize("sign", ["", "-"])
@pytest.mark.parametrize(
    "digits", [str(1 << 64), str((1 << 64) + 1), str(1 << 70), "1" + "0" * 4400, "9" * 60_000]
)
def test_integers_beyond_64_bits_are_integers_in_json(sign: str, digits: str) -> None:
    rejection = refused_payload(b'{"f":0,"l":%s%s}' % (sign.encode(), digits.encode()), "json")
    assert rejection.code is Code.BLOCK_SIZE_OUT_OF_BOUNDS
    assert len(rejection.message) < 200


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_block_counts(encoding: str) -> None:
    for block_size, fitting in ((256, 512), (257, 510), (4096, 32), (65537, 1), (131072, 1)):
        assert get(encoding, l=block_size).count == fitting
        assert get(encoding, l=block_size, n=0).count == fitting
        assert get(encoding, l=block_size, n=1).count == 1
        assert get(encoding, l=block_size, n=98304).count == fitting


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_bitmap_at_its_bound(encoding: str) -> None:
    assert get(encoding, b=b"\x01").bitmap == b"\x01"
    assert get(encoding, b=bytes(12286) + b"\x80").bitmap == bytes(12286) + b"\x80"
    rejection = refused(encoding, BASE | {"b": b"\xff" * 12288})
    assert rejection.code is Code.BLOCK_BITMAP_LIMIT_EXCEEDED
    for named in ("b (", "12288"):
        assert named in rejection.message


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("bitmap", [b"", b"\x00", bytes(12287), bytes(12288), bytes(20_000)])
def test_bitmap_without_a_bit(encoding: str, bitmap: bytes) -> None:
    # "together with the types": before any bound, its own included.
    for more in ({}, {"l": 1}, {"o": -1}, {"n": -1}):
        assert refused(encoding, BASE | {"b": bitmap} | more).code is Code.INVALID_REQUEST


@pytest.mark.parametrize("prefix", ["", "0x", "0X"])
@pytest.mark.parametrize("digits", ["130080", "AbCdEf", "00ff", "fFfF"])
def test_bitmap_in_json(prefix: str, digits: str) -> None:
    assert decode_get(
        json.dumps(BASE | {"b": prefix + digits}).encode(), "json", Limits()
    ).bitmap == bytes.fromhex(digits)


@pytest.mark.parametrize(
    "bitmap",
    [
        "",
        "0x",
        "0X",
        "0",
        "0x1",
        "123",
        "0xx1",
        "x1",
        "0x0x11",
        "1g",
        " 11",
        "11 ",
        "1 1",
        "0x 11",
        "-11",
        "１１",
        "MQ==",
        "\u00e9\u00e9",
        "\ud800\ud800",
        "0x1\x00",
        "h'11'",
        11,
        0,
        True,
        None,
        1.5,
        ["11"],
        {"11": 1},
    ],
)
def test_malformed_bitmap_in_json(bitmap: Any) -> None:
    rejection = refused_payload(json.dumps(BASE | {"b": bitmap, "c": "t"}).encode(), "json")
    assert (rejection.code, rejection.token) == (Code.INVALID_REQUEST, "t")
    assert rejection.message.startswith("b (")


@pytest.mark.parametrize(
    "bitmap",
    ["ff", "", 255, True, None, 1.5, [255], {0: 1}, cbor2.CBORTag(7777, b"\xff"), cbor2.undefined, 1 << 80],
)
def test_malformed_bitmap_in_cbor(bitmap: Any) -> None:
    rejection = refused("cbor", BASE | {"b": bitmap})
    assert rejection.code is Code.INVALID_REQUEST
    assert rejection.message.startswith("b (")


WRONG_JSON = [
    "true",
    "false",
    "null",
    "4096.0",
    "1e3",
    "-0.0",
    "1E0",
    '"1"',
    '""',
    "[1]",
    "[]",
    "{}",
    '{"a":1}',
]
# Booleans, null, undefined, simple values, floats, bignums, tags, strings, arrays and maps.
WRONG_CBOR = (
    "f4 f5 f6 f7 f0 f820 f96c00 fa45800000 fb40b0000000000000 f97e00 c24101 c34101 c100 d9d9f71900ff "
    "40 60 6131 80 8101 a0 9fff bfff 5fff 7fff"
)


@pytest.mark.parametrize("field", ["s", "f", "l", "o", "n"])
def test_wrong_types(field: str) -> None:
    for text in WRONG_JSON:
        others = {"f": 0, "l": 4096, "c": "t"} | {field: "@"}
        payload = json.dumps(others).replace('"@"', text).encode()
        rejection = refused_payload(payload, "json")
        assert (rejection.code, rejection.token) == (Code.INVALID_REQUEST, "t"), text
        assert rejection.message.startswith(f"{field} (")
    for item in WRONG_CBOR.split():
        fields = {"f": b"\x00", "l": b"\x19\x10\x00", "c": b"\x61t"} | {field: bytes.fromhex(item)}
        payload = bytes([0xA0 | len(fields)]) + b"".join(b"\x61" + k.encode() + v for k, v in fields.items())
        rejection = refused_payload(payload, "cbor")
        assert (rejection.code, rejection.token) == (Code.INVALID_REQUEST, "t"), item
        assert rejection.message.startswith(f"{field} (")


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("field", ["f", "l"])
def test_required(encoding: str, field: str) -> None:
    # A missing field is a matter of types: no bound answers before it.
    fields = {"f": 0, "l": 4096, "o": -1, "n": -1, "c": "t"}
    del fields[field]
    rejection = refused(encoding, fields)
    assert (rejection.code, rejection.token) == (Code.INVALID_REQUEST, "t")
    assert rejection.message.startswith(f"{field} (")


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_versions_and_file_ids_have_no_bound_here(encoding: str) -> None:
    for value in (-(1 << 63), -1, 0, 1, 255, 256, (1 << 64) - 1):
        assert get(encoding, s=value).version == value
        assert get(encoding, f=value).file_id == value


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize(
    "token", ["", "rdy", "x" * 64, "é" * 32, "😀" * 16, '"\\/\x00\x1f\u2028', "ab:cd ef"]
)
def test_tokens(encoding: str, token: str) -> None:
    assert get(encoding, c=token).token == token
    assert decode_describe(encode({"c": token}, encoding), encoding, Limits()) == token
    assert refused(encoding, BASE | {"c": token, "l": 1}).token == token


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize(
    "token", ["x" * 65, "é" * 32 + "x", "é" * 33, "😀" * 16 + "x", 1, None, True, 1.5, ["a"], {}]
)
def test_bad_tokens_answer_first_and_are_not_echoed(encoding: str, token: Any) -> None:
    for fields in (BASE, {}, {"f": "x", "l": None}, BASE | {"l": 1, "o": -1}):
        rejection = refused(encoding, fields | {"c": token})
        assert (rejection.code, rejection.token) == (Code.INVALID_REQUEST, None)
        assert rejection.message.startswith("c (")
    with pytest.raises(Rejection) as caught:
        decode_describe(encode({"c": token}, encoding), encoding, Limits())
    assert (caught.value.code, caught.value.token) == (Code.INVALID_REQUEST, None)


def test_token_message_names_length_and_bound() -> None:
    rejection = refused("cbor", BASE | {"c": "é" * 33})
    assert "66" in rejection.message
    assert "64" in rejection.message


@pytest.mark.parametrize("token", [r"\ud800", r"a\udfff", r"\udc00\ud800", r"\ud83d"])
def test_lone_surrogates_in_tokens(token: str) -> None:
    payload = b'{"f":0,"l":4096,"c":"%s"}' % token.encode()
    rejection = refused_payload(payload, "json")
    assert (rejection.code, rejection.token) == (Code.INVALID_REQUEST, None)


def test_a_byte_string_is_no_token_in_cbor() -> None:
    assert refused("cbor", BASE | {"c": b"rdy"}).code is Code.INVALID_REQUEST


def test_keys_that_are_not_text_are_ignored() -> None:
    extra = {b"l": 1, 0: 1, -1: 2, None: 3, (1, 2): 4, 1.5: 5, True: 6}
    assert decode_get(cbor2.dumps(extra | BASE), "cbor", Limits()).block_size == 4096
    rejection = refused_payload(cbor2.dumps({b"f": 0, b"l": 4096}), "cbor")
    assert rejection.code is Code.INVALID_REQUEST


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_payload_size(encoding: str) -> None:
    filler = {"x": ""} | BASE
    short = len(encode(filler, encoding))
    room = MAX_PAYLOAD - short - (2 if encoding == "cbor" else 0)
    fits = encode(BASE | {"x": "a" * room}, encoding)
    assert len(fits) == 65536
    assert decode_get(fits, encoding, Limits()).block_size == 4096
    for payload in (fits + b" ", b"\xff" * 65537, bytes(1 << 20)):
        # Not decoded: what is wrong with it beyond its length is not said, nor its token.
        for decode in (decode_get, decode_describe):
            with pytest.raises(Rejection) as caught:
                decode(payload, encoding, Limits())
            assert (caught.value.code, caught.value.token) == (Code.INVALID_REQUEST, None)
            assert str(len(payload)) in caught.value.message
            assert "65536" in caught.value.message


def test_describe() -> None:
    for encoding in ENCODINGS:
        assert decode_describe(b"", encoding, Limits()) is None
        assert decode_describe(encode({}, encoding), encoding, Limits()) is None
        assert decode_describe(encode({"x": 1, "l": "no"}, encoding), encoding, Limits()) is None
    for encoding, payload in (
        ("json", b" "),
        ("json", b"[]"),
        ("cbor", b"\x80"),
        ("cbor", b"{}"),
        ("json", b"\xa0"),
    ):
        with pytest.raises(Rejection) as caught:
            decode_describe(payload, encoding, Limits())
        assert caught.value.code == ("InvalidCbor" if encoding == "cbor" else "InvalidJson")
    # An empty payload is `{}` to DescribeStream only.
    assert refused_payload(b"", "json").code is Code.INVALID_JSON
    assert refused_payload(b"", "cbor").code is Code.INVALID_CBOR


def test_settings_move_the_bounds() -> None:
    limits = Limits(
        block_size_min=1,
        block_size_max=10,
        request_bytes=256,
        block_offset_max=5,
        block_count_max=3,
        bitmap_bytes=2,
        client_token_bytes=1,
    )
    fine = {"f": 0, "l": 10, "o": 5, "n": 3, "b": b"\x01", "c": "x"}
    assert decode_get(encode(fine, "cbor"), "cbor", limits).count == 3
    assert decode_get(encode({"f": 0, "l": 10}, "cbor"), "cbor", limits).count == 25
    for field, value, code in (
        ("l", 11, "BlockSizeOutOfBounds"),
        ("l", 0, "BlockSizeOutOfBounds"),
        ("o", 6, "OffsetOutOfBounds"),
        ("n", 4, "BlockCountLimitExceeded"),
        ("b", b"\x01\x00", "BlockBitmapLimitExceeded"),
        ("c", "xy", "InvalidRequest"),
    ):
        with pytest.raises(Rejection) as caught:
            decode_get(encode(fine | {field: value}, "cbor"), "cbor", limits)
        assert caught.value.code == code


anything = (
    st.none()
    | st.booleans()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=3)
    | st.lists(st.integers(), max_size=2)
)
numbers = (
    st.integers(-3, 3)
    | st.integers(200, 300)
    | st.integers(98300, 98310)
    | st.integers(131070, 131080)
    | st.integers(-(1 << 63), 1 << 63)
)
bitmaps = st.sampled_from([b"", b"\x00", bytes(12287), b"\x01" * 12287, b"\x01" * 12288])
defects = st.fixed_dictionaries(
    {},
    optional={
        "c": st.text(st.characters(exclude_categories=["Cs"]), max_size=70) | anything,
        "s": numbers | anything,
        "f": st.just(0) | numbers | anything,
        "l": st.just(4096) | numbers | anything,
        "o": st.just(0) | numbers | anything,
        "n": st.just(1) | numbers | anything,
        "b": st.just(b"\x01") | bitmaps | anything,
    },
)


@settings(deadline=None)
@given(st.sampled_from(ENCODINGS), defects)
def test_of_several_defects_the_first_in_order_answers(encoding: str, fields: dict[str, Any]) -> None:
    payload = encode(fields, encoding)
    expected = oracle.get(payload, encoding, version=1, files={})
    assert isinstance(expected, oracle.Rejected)
    if expected.code in (Code.RESOURCE_NOT_FOUND, Code.VERSION_MISMATCH):
        # What is left to refuse is the service's to say: version, file.
        request = decode_get(payload, encoding, Limits())
        assert (request.token, request.version) == (fields.get("c"), fields.get("s"))
    else:
        rejection = refused_payload(payload, encoding)
        assert (rejection.code, rejection.token) == (expected.code, expected.token)


ORDER: list[tuple[dict[str, Any], Code]] = [
    ({"c": 1}, Code.INVALID_REQUEST),
    ({"n": True}, Code.INVALID_REQUEST),
    ({"l": 0}, Code.BLOCK_SIZE_OUT_OF_BOUNDS),
    ({"o": -1}, Code.OFFSET_OUT_OF_BOUNDS),
    ({"n": -1}, Code.BLOCK_COUNT_LIMIT_EXCEEDED),
    ({"b": b"\x01" * 12288}, Code.BLOCK_BITMAP_LIMIT_EXCEEDED),
]


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("first", range(len(ORDER)))
def test_order_by_name(encoding: str, first: int) -> None:
    fields: dict[str, Any] = dict(BASE)
    for defect, _ in reversed(ORDER[first:]):
        fields |= defect
    assert refused(encoding, fields).code is ORDER[first][1]


@pytest.mark.parametrize(
    "name", ["", "a" * 129, "a b", "ä", "a.b", "a/b", "+", "#", "a\n", "a\x00", "$aws", "１"]
)
def test_names_outside_their_alphabet(name: str) -> None:
    for thing, stream in ((name, "stream"), ("thing", name)):
        with pytest.raises(Rejection) as caught:
            check_topic(thing, stream, "cbor")
        assert caught.value.code is Code.INVALID_TOPIC


def test_names_within_their_alphabet() -> None:
    for name in ("a", "Z9_-", "-", "_", "0", "a" * 128):
        for encoding in ENCODINGS:
            check_topic(name, name, encoding)
    check_topic("site:mast-4", "s", "cbor")
    with pytest.raises(Rejection):
        check_topic("t", "site:mast-4", "cbor")  # a colon is for things only


@pytest.mark.parametrize("encoding", ["", "CBOR", "Json", "xml", "cbor ", "json\n", "protobuf"])
def test_unknown_encodings(encoding: str) -> None:
    with pytest.raises(Rejection) as caught:
        check_topic("t", "s", encoding)
    assert caught.value.code is Code.INVALID_TOPIC
