"""Which blocks answer a request, against the plainest model there is; and the arithmetic of blocks."""

import cbor2
from hypothesis import given, settings
from hypothesis import strategies as st

from chunker.blocks import block_count, block_length
from chunker.limits import Limits
from chunker.requests import decode_get
from tests.support import oracle

sizes = (
    st.integers(0, 4096)
    | st.integers(0, 4_000_000)
    | st.sampled_from([0, 1, 255, 256, 257, 131071, 131072, 131073])
)
block_sizes = st.sampled_from([256, 257, 1000, 4096, 65536, 131071, 131072]) | st.integers(256, 131072)
offsets = st.integers(0, 20) | st.integers(0, 98304)
counts = st.none() | st.just(0) | st.integers(1, 600) | st.just(98304)
bitmaps = st.none() | st.builds(
    lambda zeros, middle, tail: bytes(zeros) + middle + bytes(tail),
    st.integers(0, 40),
    st.binary(min_size=1, max_size=90).filter(any),
    st.integers(0, 5),
)


@settings(deadline=None)
@given(sizes, block_sizes, offsets, counts, bitmaps)
def test_wanted(size: int, block_size: int, offset: int, count: int | None, bitmap: bytes | None) -> None:
    fields = {"f": 0, "l": block_size, "o": offset, "n": count, "b": bitmap}
    payload = cbor2.dumps({key: value for key, value in fields.items() if value is not None})
    got = decode_get(payload, "cbor", Limits()).wanted(size)
    assert list(got) == oracle.wanted(size, block_size, offset, count or 0, bitmap)
    assert bool(got) == bool(list(got))


@settings(deadline=None)
@given(st.integers(256, 1 << 16), st.integers(1, 8), bitmaps, st.integers(1, 3_000_000))
def test_request_bytes_bound_the_answer(least: int, times: int, bitmap: bytes | None, size: int) -> None:
    limits = Limits(block_size_max=least, request_bytes=least * times + least // 2)
    fields = {"f": 0, "l": least, "n": 98304} | ({} if bitmap is None else {"b": bitmap})
    blocks = list(decode_get(cbor2.dumps(fields), "cbor", limits).wanted(size))
    assert len(blocks) <= times
    assert blocks == sorted(set(blocks))


def test_the_longest_bitmap_reaches_the_end_of_the_greatest_offset() -> None:
    bitmap = bytes(12286) + b"\x80"
    payload = cbor2.dumps({"f": 0, "l": 256, "o": 98304, "b": bitmap})
    get = decode_get(payload, "cbor", Limits())
    last = 98304 + 8 * 12287 - 1
    assert list(get.wanted(256 * last + 1)) == [last]
    assert list(get.wanted(256 * last)) == []


@settings(deadline=None)
@given(st.integers(0, 1 << 40), st.integers(1, 1 << 20), st.integers(0, 1 << 30))
def test_blocks_cover_the_file_once(size: int, block_size: int, at: int) -> None:
    count = block_count(size, block_size)
    assert (count == 0) == (size == 0)
    if size:
        index = min(at % size // block_size, count - 1)
        start = index * block_size
        assert start <= at % size < start + block_length(index, size, block_size)
        assert (count - 1) * block_size + block_length(count - 1, size, block_size) == size
        assert 1 <= block_length(count - 1, size, block_size) <= block_size
        if index < count - 1:
            assert block_length(index, size, block_size) == block_size
