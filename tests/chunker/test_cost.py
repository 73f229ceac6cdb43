"""What a device sends cannot make its decoding slow: the cost grows with the length, whatever the bytes."""

import gc
import struct
import time
from collections.abc import Callable, Iterator

import pytest

from chunker.errors import Rejection
from chunker.limits import Limits
from chunker.requests import MAX_PAYLOAD, decode_describe, decode_get

_MASK = (1 << 64) - 1
_P1, _P2, _P5 = 11400714785074694791, 14029467366897019727, 2870177450012600261


def _turned(value: int, left: int) -> int:
    return (value << left | value >> (64 - left)) & _MASK


def pairs_of_one_hash(count: int) -> Iterator[tuple[int, int]]:
    """Integers a, b with one value of `hash((a, b))`: CPython's tuples use xxHash without a secret."""
    wanted = _turned((_P5 + 1 * _P2) & _MASK, 31) * _P1 + 2 * _P2 & _MASK
    found, first = 0, 1 << 33
    while found < count:
        first += 1
        lane = _turned((_P5 + first * _P2) & _MASK, 31) * _P1 & _MASK
        second = (wanted - lane) * pow(_P2, -1, 1 << 64) & _MASK
        if second < (1 << 61) - 1:  # beyond, an integer is not its own hash
            found += 1
            yield first, second


def test_the_pairs_do_have_one_hash() -> None:
    assert len({hash(pair) for pair in pairs_of_one_hash(100)}) == 1


def _number(value: int) -> bytes:
    return b"\x1b" + struct.pack(">Q", value)


def cbor_keys_of_one_hash(size: int) -> bytes:
    keys = [b"\xa1" + _number(a) + _number(b) for a, b in pairs_of_one_hash(size // 20)]
    return b"\xb9" + struct.pack(">H", len(keys)) + b"".join(key + b"\x00" for key in keys)


def cbor_array_keys_of_one_hash(size: int) -> bytes:
    keys = [b"\x82" + _number(a) + _number(b) for a, b in pairs_of_one_hash(size // 20)]
    return b"\xb9" + struct.pack(">H", len(keys)) + b"".join(key + b"\x00" for key in keys)


def cbor_entries_of_one_hash(size: int) -> bytes:
    entries = [_number(a) + _number(b) for a, b in pairs_of_one_hash(size // 18)]
    return b"\xa1\x61x\xb9" + struct.pack(">H", len(entries)) + b"".join(entries)


def cbor_integers_alike_in_their_low_bits(size: int) -> bytes:
    keys = [_number(k << 48) for k in range(size // 10)]
    return b"\xb9" + struct.pack(">H", len(keys)) + b"".join(key + b"\x00" for key in keys)


def cbor_key_within_key(size: int) -> bytes:
    return b"\xa1" * 15 + b"\x99" + struct.pack(">H", size - 40) + b"\x00" * (size - 40) + b"\x00" * 15


def cbor_maps_within_maps_with_much_below(size: int) -> bytes:
    inner = (
        b"\xbf"
        + b"".join(b"\x19" + struct.pack(">H", k) + b"\x00" for k in range((size - 40) // 4))
        + b"\xff"
    )
    return b"\xa1" * 14 + inner + b"\x00" * 14


def repeated(start: bytes, middle: bytes, end: bytes = b"") -> Callable[[int], bytes]:
    def build(size: int) -> bytes:
        return start + middle * ((size - len(start) - len(end)) // len(middle)) + end

    return build


SHAPES: list[tuple[str, str, Callable[[int], bytes]]] = [
    ("cbor", "map keys of one hash", cbor_keys_of_one_hash),
    ("cbor", "array keys of one hash", cbor_array_keys_of_one_hash),
    ("cbor", "entries of one hash", cbor_entries_of_one_hash),
    ("cbor", "integer keys alike", cbor_integers_alike_in_their_low_bits),
    ("cbor", "keys within keys", cbor_key_within_key),
    ("cbor", "maps within maps", cbor_maps_within_maps_with_much_below),
    ("cbor", "one duplicate at the end", repeated(b"\xbf", b"\x00\x00", b"\xff")),
    ("cbor", "an open string of empty pieces", repeated(b"\xa1\x61c\x7f", b"\x60", b"\xff")),
    ("cbor", "an open string of long pieces", repeated(b"\xa1\x61b\x5f", b"\x41a", b"\xff")),
    ("cbor", "text to be checked", repeated(b"\xa1\x61c\x7a\x00\x00\xff\x00", b"\xc3\xa9")),
    ("cbor", "arrays", repeated(b"\xa1\x61x\x9f", b"\x80", b"\xff")),
    ("cbor", "arrays without end", repeated(b"\xa1\x61x", b"\x9f")),
    ("cbor", "maps without end", repeated(b"", b"\xbf")),
    ("cbor", "tags", repeated(b"\xa1\x61x", b"\xc1")),
    ("cbor", "floats", repeated(b"\xa1\x61x\x9f", b"\xf9\x7e\x00", b"\xff")),
    ("cbor", "bitmap of ones", repeated(b"\xa3\x61f\x00\x61l\x19\x10\x00\x61b\x59\x2f\xff", b"\xff")),
    ("json", "digits", repeated(b'{"l":', b"9", b"}")),
    ("json", "fraction", repeated(b'{"l":1.', b"9", b"}")),
    ("json", "exponent", repeated(b'{"l":1e', b"9", b"}")),
    ("json", "arrays", repeated(b'{"x":', b"[")),
    ("json", "objects", repeated(b"", b'{"":')),
    ("json", "array", repeated(b'{"x":[', b"[],", b"0]}")),
    ("json", "the same key", repeated(b"{", b'"a":0,', b'"a":0}')),
    ("json", "escapes", repeated(b'{"c":"', b"\\u00e9", b'"}')),
    ("json", "quotes", repeated(b'{"c":"', b'\\"', b'"}')),
    ("json", "white space", repeated(b"{", b" ", b"}")),
    ("json", "white space after", repeated(b"{}", b" ", b"x")),
    ("json", "hexadecimal", repeated(b'{"f":0,"l":4096,"b":"', b"ff", b'"}')),
    ("json", "zeros", repeated(b'{"f":0,"l":4096,"b":"', b"00", b'"}')),
]


def cost(payload: bytes, encoding: str) -> float:
    """The processor's seconds for both kinds of request, the least of five tries."""
    tries = []
    for _ in range(5):
        gc.collect()
        gc.disable()  # what else is in memory is no part of the cost
        began = time.process_time()
        for decode in (decode_get, decode_describe):
            try:
                decode(payload, encoding, Limits())
            except Rejection:
                continue
        tries.append(time.process_time() - began)
        gc.enable()
    return min(tries)


@pytest.mark.parametrize(
    ("encoding", "name", "build"), SHAPES, ids=lambda value: value if type(value) is str else ""
)
def test_grows_with_the_length_only(encoding: str, name: str, build: Callable[[int], bytes]) -> None:
    whole, quarter = build(MAX_PAYLOAD), build(MAX_PAYLOAD // 4)
    assert MAX_PAYLOAD * 0.7 < len(whole) <= MAX_PAYLOAD
    # Four times the length: about four times the cost; a quadratic one would be sixteen times. On a busy
    # machine a measurement can be anything; what is linear shows it in one of them.
    measured = ((cost(whole, encoding), cost(quarter, encoding)) for _ in range(10))
    assert any(taken < 0.05 or taken < 10 * of_a_quarter for taken, of_a_quarter in measured), name
