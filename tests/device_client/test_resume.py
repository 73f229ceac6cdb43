"""The record of a half-done download is read back as it was written, or not at all."""

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_client.resume import decode_record, encode_record

Record = tuple[str, int, int, int, int, bytes]


@st.composite
def records(draw: st.DrawFn) -> Record:
    size, block_size = draw(st.integers(0, 100_000)), draw(st.integers(256, 131072))
    count = -(-size // block_size)
    bits = draw(st.integers(0, 2**count - 1))
    stream = draw(st.text("abcXYZ019_-", min_size=1, max_size=128))
    file_id, version = draw(st.integers(0, 255)), draw(st.integers(0, 2**64 - 1))
    return stream, file_id, version, size, block_size, bits.to_bytes((count + 7) // 8, "little")


@given(records())
def test_round_trip(record: Record) -> None:
    assert decode_record(encode_record(*record)) == record


@given(records(), st.data())
def test_one_that_was_not_written_whole_is_none(record: Record, data: st.DataObject) -> None:
    whole = encode_record(*record)
    assert decode_record(whole[: data.draw(st.integers(0, len(whole) - 1))]) is None
    assert decode_record(whole + b"\x00") is None
    place = data.draw(st.integers(0, len(whole) - 1))
    torn = bytearray(whole)
    torn[place] ^= 1 << data.draw(st.integers(0, 7))
    assert decode_record(bytes(torn)) is None
    assert decode_record(whole[:place] + bytes(len(whole) - place)) in (None, record)


@given(st.binary(max_size=300))
def test_anything_else_is_none(data: bytes) -> None:
    assert decode_record(data) is None


@given(records(), st.binary(max_size=80))
def test_a_true_checksum_over_nonsense_is_none_or_well_formed(record: Record, tail: bytes) -> None:
    """Who can write the record can also write the file; but no nonsense may make the device fail later."""
    body = encode_record(*record)[:40] + tail
    found = decode_record(body + sha256(body).digest())
    if found:
        _, file_id, _, size, block_size, held = found
        count = -(-size // block_size)
        assert 256 <= block_size <= 131072
        assert len(held) == (count + 7) // 8
        assert int.from_bytes(held, "little") < 2**count
        assert file_id <= 255


@pytest.mark.parametrize(
    "record",
    [
        ("fw", 0, 1, 1000, 255, b"\x0f"),
        ("fw", 0, 1, 1000, 0, b""),
        ("fw", 0, 1, 1000, 131073, b"\x01"),
        ("fw", 0, 1, 1000, 1000, b"\x03"),
        ("fw", 0, 1, 1000, 1000, b""),
        ("fw", 0, 1, 1000, 1000, b"\x01\x00"),
        ("fw", 0, 1, 2**64 - 1, 256, b""),
    ],
)
def test_bounds(record: Record) -> None:
    assert decode_record(encode_record(*record)) is None
