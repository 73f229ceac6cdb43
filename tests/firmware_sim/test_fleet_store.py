"""Regions of the fleet's one file are apart, and a power cut takes what no record claims."""

import hashlib
import random
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunker.blocks import block_count
from device_client.errors import SinkError
from firmware_sim.fleet.store import RECORD_BYTES, FleetStore


@pytest.fixture
def store() -> Iterator[FleetStore]:
    one = FleetStore()
    yield one
    one.close()


def record(size: int, block_size: int, held: set[int]) -> tuple[str, int, int, int, int, bytes]:
    bits = bytearray((block_count(size, block_size) + 7) // 8)
    for index in held:
        bits[index // 8] |= 1 << index % 8
    return "fw", 0, 1, size, block_size, bytes(bits)


WRITES = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9_999), st.binary(min_size=1, max_size=300)))


@given(sizes=st.lists(st.integers(0, 10_000), min_size=4, max_size=4), writes=WRITES)
def test_regions_are_apart(sizes: list[int], writes: list[tuple[int, int, bytes]]) -> None:
    store = FleetStore()
    try:
        regions, model = [store.region() for _ in sizes], [bytearray(size) for size in sizes]
        for region, size in zip(regions, sizes, strict=True):
            region.start(size)
            region.write(0, memoryview(bytes(size)))
        for which, offset, data in writes:
            if offset + len(data) <= sizes[which]:
                regions[which].write(offset, memoryview(data))
                model[which][offset : offset + len(data)] = data
            else:
                with pytest.raises(SinkError, match="are not within"):
                    regions[which].write(offset, memoryview(data))
            regions[which].save(record(sizes[which], 256, set()))
        for region, content in zip(regions, model, strict=True):
            assert region.read(0, len(content)) == content
            assert region.digest() == hashlib.sha256(content).hexdigest()
    finally:
        store.close()


def test_a_record_is_what_a_power_cut_leaves(store: FleetStore) -> None:
    region, other = store.region(), store.region()
    assert region.load() is None
    for one in (region, other):
        one.start(3000)
        for index in range(3):
            one.write(index * 1000, memoryview(bytes([index]) * 1000))
    assert region.load() is None  # nothing was saved yet
    claim = record(3000, 1000, {0, 1})
    region.save(claim)
    region.write(2000, memoryview(b"x" * 1000))
    region.power_cut(random.Random(1))
    assert region.load() == claim
    assert region.read(0, 2000) == bytes([0]) * 1000 + bytes([1]) * 1000
    assert region.read(2000, 1000) not in (b"x" * 1000, bytes([2]) * 1000)
    assert other.read(0, 3000) == bytes([0]) * 1000 + bytes([1]) * 1000 + bytes([2]) * 1000
    region.start(3000)
    assert region.load() is None
    assert region.written == 4000


def test_the_longest_record_fits(store: FleetStore) -> None:
    region, neighbour = store.region(), store.region()
    size = 98305 * 256
    region.start(size)
    neighbour.start(10)
    neighbour.write(0, memoryview(b"0123456789"))
    longest = ("s" * 128, 255, 1 << 63, size, 256, bytes([255] * 12288 + [1]))
    region.save(longest)
    assert region.load() == longest
    assert neighbour.read(0, 10) == b"0123456789"
    assert len(longest[5]) + 300 < RECORD_BYTES


def test_nothing_is_reserved_beyond_the_disk(store: FleetStore) -> None:
    region = store.region()
    with pytest.raises(SinkError, match=r"no room for \d+ bytes: other devices have 0, and \d+ were free"):
        region.start(1 << 62)
    region.start(100)
    with pytest.raises(SinkError, match="were never written"):
        region.read(0, 100)
