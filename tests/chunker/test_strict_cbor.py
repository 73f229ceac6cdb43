"""The strict CBOR decoder against cbor2, RFC 8949's own examples, and a second reading of the RFC."""

import io
import math
import random
import struct
from collections.abc import Callable, Iterator
from typing import Any

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chunker.errors import Malformed
from chunker.strict_cbor import decode_map
from tests.support.oracle import NotWellFormed, cbor_entries


def head(major: int, argument: int, width: int | None = None) -> bytes:
    """A head whose argument has `width` bytes (0: in the head itself); the shortest where that is None."""
    if width is None:
        width = next(w for w in (0, 1, 2, 4, 8) if argument < (24 if w == 0 else 1 << 8 * w))
    if width == 0:
        return bytes([major << 5 | argument])
    return bytes([major << 5 | {1: 24, 2: 25, 4: 26, 8: 27}[width]]) + argument.to_bytes(width, "big")


class Writer:
    """Encodes a value in any of the ways that mean the same: long heads, indefinite lengths, any float."""

    def __init__(self, draw: Callable[[st.SearchStrategy[Any]], Any]) -> None:
        self.draw = draw

    def head(self, major: int, argument: int) -> bytes:
        shortest = len(head(major, argument)) - 1
        widths = [width for width in (0, 1, 2, 4, 8) if width >= shortest]
        return head(major, argument, self.draw(st.sampled_from(widths)))

    def string(self, major: int, pieces: list[bytes]) -> bytes:
        if self.draw(st.booleans()):
            return head(major, 31, 0) + b"".join(self.head(major, len(p)) + p for p in pieces) + b"\xff"
        return self.head(major, sum(map(len, pieces))) + b"".join(pieces)

    def write(self, value: Any) -> bytes:
        if isinstance(value, bool) or value is None:
            return bytes([{False: 0xF4, True: 0xF5, None: 0xF6}[value]])
        if isinstance(value, int):
            return self.head(0, value) if value >= 0 else self.head(1, -1 - value)
        if isinstance(value, float):
            return b"\xfb" + struct.pack(">d", value)
        if isinstance(value, bytes | str):
            cut = self.draw(st.integers(0, len(value)))
            pieces = [value[:cut], value[cut:]]
            if isinstance(value, bytes):
                return self.string(2, [bytes(p) for p in pieces if isinstance(p, bytes)])
            return self.string(3, [p.encode() for p in pieces if isinstance(p, str)])
        if isinstance(value, cbor2.CBORTag):
            return self.head(6, value.tag) + self.write(value.value)
        items = list(value) if isinstance(value, list) else [x for pair in value.items() for x in pair]
        major, count = (4, len(items)) if isinstance(value, list) else (5, len(items) // 2)
        body = b"".join(self.write(item) for item in items)
        if self.draw(st.booleans()):
            return head(major, 31, 0) + body + b"\xff"
        return self.head(major, count) + body


integers = st.integers(-(1 << 64), (1 << 64) - 1)
plain = integers | st.text(max_size=30) | st.binary(max_size=30)
useless = st.none() | st.booleans() | st.floats(allow_nan=False)
# Tags that mean nothing to cbor2, so that it hands them out as they are.
tags = st.sampled_from([200, 7777, 1 << 20, 1 << 40])


def nested(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return (
        st.lists(inner, max_size=4)
        | st.dictionaries(plain, inner, max_size=4)
        | st.builds(cbor2.CBORTag, tags, inner)
    )


values = st.recursive(plain | useless, nested, max_leaves=10)
maps = st.dictionaries(st.text(max_size=8) | plain, values, max_size=8)


def useful(decoded: dict[Any, Any]) -> dict[str, Any]:
    """What a request may use of a map that cbor2 decoded."""
    return {
        key: value
        for key, value in decoded.items()
        if type(key) is str and type(value) in (int, str, bytes) and type(value) is not bool
    }


def taken(payload: bytes) -> dict[str, Any]:
    """The same of ours; what is of no use must come out as nothing that a request takes."""
    return {key: value for key, value in decode_map(payload).items() if type(value) in (int, str, bytes)}


@settings(deadline=None)
@given(maps)
def test_takes_what_cbor2_writes(fields: dict[Any, Any]) -> None:
    payload = cbor2.dumps(fields)
    assert taken(payload) == useful(fields)
    assert decode_map(payload).keys() == {key for key in fields if type(key) is str}


@settings(deadline=None)
@given(st.data(), maps)
def test_takes_every_encoding_of_the_same_map(data: st.DataObject, fields: dict[Any, Any]) -> None:
    payload = Writer(data.draw).write(fields)
    # cbor2 is asked too, so that the writer above is no witness on its own.
    assert useful(cbor2.loads(payload)) == useful(fields)
    assert taken(payload) == useful(fields)


@settings(deadline=None)
@given(st.data(), plain | st.lists(plain, max_size=3) | maps, plain, plain)
def test_refuses_the_same_key_in_any_encoding(data: st.DataObject, key: Any, one: Any, other: Any) -> None:
    writer = Writer(data.draw)
    pairs = writer.write(key) + writer.write(one) + writer.write(key) + writer.write(other)
    between = writer.write("between") + b"\x00" if key != "between" else b""
    count = 3 if between else 2
    for payload in (head(5, count) + between + pairs, b"\xbf" + pairs + between + b"\xff"):
        with pytest.raises(Malformed, match="same key twice"):
            decode_map(payload)
        for outer in (b"\xa1\x61x" + payload, b"\xa1\x61x\x81" + payload, b"\xa1" + payload + b"\x00"):
            with pytest.raises(Malformed, match="same key twice"):
                decode_map(outer)


def test_keys_of_different_kinds_are_different_keys() -> None:
    # Python holds some of these for equal: 0 == 0.0 == False, b"" and "" hash alike.
    keys = _hexes(
        "00 f4 f5 01 f90000 f93c00 f98000 40 60 80 a0 c000 f6 f7 e0 f820 20 f97e00 4100 6100 8100 a10000"
    )
    encoded = list(map(bytes.fromhex, keys))
    assert decode_map(head(5, len(encoded)) + b"".join(key + b"\x00" for key in encoded)) == {"": 0, "\0": 0}


# Where we are stricter than cbor2, or it than us, and why. Nothing else may differ.
STRICTER = [
    ("00", "PROTOCOL: one map, not any item"),
    ("80", "PROTOCOL: one map, not any item"),
    ("a000", "trailing bytes, which cbor2's `loads` leaves unread"),
    ("a0f6", "trailing bytes, which cbor2's `loads` leaves unread"),
    ("a2616100616100", "duplicate keys"),
    ("a200001800f6", "duplicate keys, encoded differently"),
    ("a16161" + "81" * 16 + "00", "nesting over 16; cbor2 goes to 400"),
    ("a16161" + "c8" * 16 + "00", "nesting over 16, tags included"),
]
LENIENT = [
    ("a16161c06178", "a tag's content is of no use to a request, so it is not checked: here no date"),
    ("a16161c16178", "the same: no time stamp"),
    ("a16161c202", "the same: a bignum that is no byte string"),
    ("a16161d81d00", "the same: a reference to nothing"),
]


@pytest.mark.parametrize(("payload", "why"), STRICTER)
def test_stricter_than_cbor2(payload: str, why: str) -> None:
    cbor2.loads(bytes.fromhex(payload))
    with pytest.raises(Malformed):
        decode_map(bytes.fromhex(payload))


@pytest.mark.parametrize(("payload", "why"), LENIENT)
def test_more_lenient_than_cbor2(payload: str, why: str) -> None:
    with pytest.raises(cbor2.CBORDecodeError):
        cbor2.loads(bytes.fromhex(payload))
    assert taken(bytes.fromhex(payload)) == {}


def verdicts(payload: bytes) -> tuple[Any, Any]:
    """What we and the second reading of the RFC make of a payload: the entries, or None for malformed."""
    try:
        ours: Any = taken(payload)
    except Malformed:
        ours = None
    try:
        entries = cbor_entries(payload)
        theirs: Any = {key: value for key, value in entries.items() if type(value) in (int, str, bytes)}
    except NotWellFormed:
        theirs = None
    return ours, theirs


def agree_with_cbor2(payload: bytes, ours: Any) -> None:
    """AssertionError where cbor2 says something else on a short payload without tags."""
    stream = io.BytesIO(payload)
    try:
        decoded = cbor2.CBORDecoder(stream).decode()
    except cbor2.CBORDecodeError:
        assert ours is None, payload.hex()
        return
    if payload[0] >> 5 != 5 or stream.read(1):
        assert ours is None, payload.hex()
    elif ours is None:
        with pytest.raises(NotWellFormed, match="duplicate key"):
            cbor_entries(payload)
    else:
        assert ours == useful(decoded), payload.hex()


requests = st.fixed_dictionaries(
    {"f": st.integers(0, 255), "l": st.integers(0, 200_000)},
    optional={
        "c": st.text(max_size=70),
        "s": integers,
        "o": integers,
        "n": integers,
        "b": st.binary(max_size=40),
        "x": values,
    },
)


@settings(deadline=None)
@given(st.data(), requests)
def test_mutated_messages(data: st.DataObject, fields: dict[Any, Any]) -> None:
    payload = bytearray(Writer(data.draw).write(fields))
    for _ in range(data.draw(st.integers(0, 4))):
        if not payload:
            break
        at = data.draw(st.integers(0, len(payload) - 1))
        match data.draw(st.sampled_from(["flip", "set", "cut", "insert", "repeat"])):
            case "flip":
                payload[at] ^= 1 << data.draw(st.integers(0, 7))
            case "set":
                payload[at] = data.draw(st.integers(0, 255))
            case "cut":
                del payload[at:]
            case "insert":
                payload[at:at] = data.draw(st.binary(min_size=1, max_size=3))
            case _:
                payload[at:at] = payload[at : at + 8]
    ours, theirs = verdicts(bytes(payload))
    assert ours == theirs


def random_payloads(seed: int, count: int) -> Iterator[bytes]:
    """Short random bytes that begin as a map; bytes that make structure are drawn more often."""
    source = random.Random(seed)
    weights = [
        8 if byte in (0x00, 0x40, 0x61, 0x5F, 0x7F, 0x9F, 0xBF, 0xFF, 0xA1, 0x81, 0xC1, 0x18) else 1
        for byte in range(256)
    ]
    for _ in range(count):
        start = source.choice([b"\xa0", b"\xa1", b"\xa2", b"\xbf", b"\xb8\x01", b"\xa1\x61a", b"\xbf\x61a"])
        yield start + bytes(source.choices(range(256), weights, k=source.randrange(14)))


def test_random_bytes() -> None:
    accepted = 0
    for payload in random_payloads(seed=8949, count=20_000):
        ours, theirs = verdicts(payload)
        assert ours == theirs, payload.hex()
        accepted += ours is not None
        if not any(0xC0 <= byte <= 0xDB for byte in payload):
            agree_with_cbor2(payload, ours)
    assert accepted > 300  # or the bytes would say nothing about what is well-formed


def _hexes(items: str) -> list[str]:
    return items.split()


# RFC 8949 appendix A, each as a value; those of them that are maps also on their own, below.
APPENDIX_A = _hexes(
    """
    00 01 0a 17 1818 1819 1864 1903e8 1a000f4240 1b000000e8d4a51000 1bffffffffffffffff
    c249010000000000000000 3bffffffffffffffff c349010000000000000000 20 29 3863 3903e7 f90000 f98000
    f93c00 fb3ff199999999999a f93e00 f97bff fa47c35000 fa7f7fffff fb7e37e43c8800759c f90001 f90400
    f9c400 fbc010666666666666 f97c00 f97e00 f9fc00 fa7f800000 fa7fc00000 faff800000 fb7ff0000000000000
    fb7ff8000000000000 fbfff0000000000000 f4 f5 f6 f7 f0 f8ff
    c074323031332d30332d32315432303a30343a30305a c11a514b67b0 c1fb41d452d9ec200000 d74401020304
    d818456449455446 d82076687474703a2f2f7777772e6578616d706c652e636f6d 40 4401020304 60 6161 6449455446
    62225c 62c3bc 63e6b0b4 64f0908591 80 83010203 8301820203820405
    98190102030405060708090a0b0c0d0e0f101112131415161718181819 a0 a201020304 a26161016162820203
    826161a161626163 a56161614161626142616361436164614461656145 5f42010243030405ff
    7f657374726561646d696e67ff 9fff 9f018202039f0405ffff 9f01820203820405ff 83018202039f0405ff
    83019f0203ff820405 9f0102030405060708090a0b0c0d0e0f101112131415161718181819ff bf61610161629f0203ffff
    826161bf61626163ff bf6346756ef563416d7421ff
    """
)


@pytest.mark.parametrize("item", APPENDIX_A)
def test_rfc_8949_appendix_a(item: str) -> None:
    encoded = bytes.fromhex(item)
    decoded = decode_map(b"\xa1\x61v" + encoded)
    reference = cbor2.loads(encoded)
    ours = decoded["v"]
    assert list(decoded) == ["v"]
    if type(reference) in (int, str, bytes) and encoded[0] >> 5 < 4:
        assert (type(ours), ours) == (type(reference), reference)
    else:
        assert type(ours) is tuple
    assert decode_map(b"\xa2" + encoded + b"\x00\x63key\x00")["key"] == 0
    if encoded[0] >> 5 == 5:
        assert taken(encoded) == useful(reference)


# RFC 8949 appendix F: end of input in heads, in strings and in arrays and maps; reserved additional
# information; two-byte simple values; strings of the wrong pieces; breaks in the wrong place.
APPENDIX_F = _hexes(
    """
    18 19 1a 1b 1901 1a0102 1b01020304050607 38 58 78 98 9a01ff00 b8 d8 f8 f900 fa0000 fb000000 41 61
    5affffffff00 5bffffffffffffffff010203 7affffffff00 7b7fffffffffffffff010203 81 818181818181818181
    8200 a1 a20102 a100 a2000000 c0 5f4100 7f6100 9f 9f0102 bf bf01020102 819f 9f8000 9f9f9f9f9fffffffff
    9f819f819f9fffffff 1c 1d 1e 3c 3d 3e 5c 5d 5e 7c 7d 7e 9c 9d 9e bc bd be dc dd de fc fd fe f800 f801
    f818 f81f 5f00ff 5f21ff 5f6100ff 5f80ff 5fa0ff 5fc000ff 5fe0ff 7f4100ff 5f5f4100ffff 7f7f6100ffff ff
    81ff 8200ff a1ff a1ff00 a100ff a20000ff 9f81ff 9f829f819f9fffffffff bf00ff bf000000ff 1f 3f df
    """
)


@pytest.mark.parametrize("item", APPENDIX_F)
def test_rfc_8949_appendix_f(item: str) -> None:
    encoded = bytes.fromhex(item)
    with pytest.raises(cbor2.CBORDecodeError):
        cbor2.loads(encoded)
    for payload in (encoded, b"\xa1\x61v" + encoded, b"\xa1" + encoded + b"\x00", b"\xbf\x61v" + encoded):
        # What follows may complete a map that began as this: the second reading knows.
        ours, theirs = verdicts(payload)
        assert ours == theirs
    assert verdicts(b"\xa1\x61v" + encoded)[0] is None


def test_nesting_ends_at_sixteen() -> None:
    for opening, closing in (
        (b"\x81", b""),
        (b"\x9f", b"\xff"),
        (b"\xa1\x00", b""),
        (b"\xbf\x00", b"\xff"),
        (b"\xc8", b""),
    ):
        fits = b"\xa1\x61v" + opening * 15 + b"\x00" + closing * 15
        assert list(decode_map(fits)) == ["v"]
        with pytest.raises(Malformed, match="16"):
            decode_map(b"\xa1\x61v" + opening * 16 + b"\x00" + closing * 16)
    keys = b"\xa1" * 16 + b"\x00" * 17
    assert decode_map(keys) == {}
    with pytest.raises(Malformed, match="16"):
        decode_map(b"\xa1" * 17 + b"\x00" * 18)


@pytest.mark.parametrize("bits", [0x7E00, 0x7C01, 0xFE00])
def test_floats_that_are_no_numbers_are_of_no_use(bits: int) -> None:
    half = struct.pack(">H", bits)
    assert math.isnan(struct.unpack(">e", half)[0]) or bits == 0
    assert type(decode_map(b"\xa1\x61l\xf9" + half)["l"]) is tuple
    # As keys two of the same bits are the same key: which keys are the same is no question of arithmetic.
    with pytest.raises(Malformed, match="same key twice"):
        decode_map(b"\xa2\xf9" + half + b"\x00\xf9" + half + b"\x00")


def test_an_empty_payload_is_no_map() -> None:
    with pytest.raises(Malformed):
        decode_map(b"")
