"""A download in flash survives a power cut in any operation, and claims only what is there."""

import random
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chunker.bitmap import flip
from chunker.bitmap import test as is_set
from chunker.blocks import block_count, block_length
from device_client.flash_sinks import BlockPartition, PartitionSink
from device_client.sinks import Record
from firmware_sim.flash import TORN, Flash, PowerCut

SECTOR = 1024


@dataclass
class Device:
    """A flash with a partition of 16 sectors and a journal of 6, and what a download to it has brought."""

    size: int
    block_size: int
    write_size: int = 1
    adapted: bool = False
    version: int = 7

    def __post_init__(self) -> None:
        self.flash = Flash(22 * SECTOR, SECTOR, 128, self.write_size)
        self.contents = {self.version: random.Random(self.size).randbytes(self.size)}
        self.count = block_count(self.size, self.block_size)
        self.came = bytearray((self.count + 7) // 8)  # blocks handed to a sink, and not asked for again

    @property
    def content(self) -> bytes:
        return self.contents[self.version]

    def publish(self) -> None:
        """Another file of the same size, of which nothing has come."""
        self.version += 1
        self.contents[self.version] = random.Random(self.version).randbytes(self.size)
        self.came = bytearray(len(self.came))

    def sink(self) -> PartitionSink:
        partition, journal = (
            self.flash.partition(0, 16 * SECTOR),
            self.flash.partition(16 * SECTOR, 6 * SECTOR),
        )
        if self.adapted:
            return PartitionSink(
                BlockPartition(partition, self.write_size), BlockPartition(journal, self.write_size)
            )
        return PartitionSink(partition, journal)

    def record(self, held: bytes) -> Record:
        return "fw", 3, self.version, self.size, self.block_size, held

    def block(self, index: int) -> memoryview:
        start = index * self.block_size
        return memoryview(self.content)[start : start + block_length(index, self.size, self.block_size)]

    def claimed(self) -> Record | None:
        """What a boot finds, of whichever file: it must be true. None where that is not of this one."""
        self.flash.power_on()
        sink = self.sink()
        record = sink.load()
        if record is None:
            return None
        _, _, version, size, block_size, held = record
        assert (size, block_size) == (self.size, self.block_size)
        for index in range(self.count):
            if is_set(held, index):
                start, length = index * block_size, len(self.block(index))
                assert sink.read(start, length) == self.contents[version][start : start + length], index
        return record if version == self.version else None

    def lost(self, held: bytes) -> int:
        """Bytes that came and have to come again."""
        blocks = [i for i in range(self.count) if is_set(self.came, i) and not is_set(held, i)]
        return sum(len(self.block(index)) for index in blocks)

    def most(self) -> int:
        """Bytes of the blocks that touch one sector."""
        return max(
            sum(
                len(self.block(index))
                for index in range(self.count)
                if index * self.block_size < sector + SECTOR
                and index * self.block_size + len(self.block(index)) > sector
            )
            for sector in range(0, self.size, SECTOR)
        )

    def go_on(self, rng: random.Random, late: int = 0) -> None:
        """Downloads what is missing, in an order of its own; saves after `late` blocks."""
        sink = self.sink()
        record = sink.load()
        if record is None or record[:5] != self.record(b"")[:5]:
            sink.start(self.size)
            record = self.record(bytes(len(self.came)))
        self.came = bytearray(record[5])
        order = [index for index in range(self.count) if not is_set(record[5], index)]
        rng.shuffle(order)
        for number, index in enumerate(order):
            if number == late:
                sink.save(self.record(bytes(self.came)))
            flip(self.came, index)
            sink.write(index * self.block_size, self.block(index))
        sink.finish()
        sink.close()

    def check_cut(self) -> None:
        """What a cut costs: the blocks of one sector."""
        record = self.claimed()
        assert self.lost(record[5] if record else bytes(len(self.came))) <= (self.most() if record else 0)

    def check_done(self) -> None:
        record = self.claimed()
        assert record is not None
        assert self.lost(record[5]) == 0
        assert self.sink().read(0, self.size) == self.content


DEVICES = st.builds(
    Device,
    size=st.integers(1, 16 * SECTOR),
    block_size=st.sampled_from((256, 320, 1000, 1024, 1504, 3072, 5000)),
    adapted=st.booleans(),
) | st.builds(
    Device,
    size=st.integers(1, 16 * SECTOR),
    block_size=st.sampled_from((512, 1024, 1504, 4096)),
    write_size=st.sampled_from((8, 16)),
)


@settings(max_examples=60)
@given(DEVICES, st.integers(0, 2**32))
def test_power_cuts_at_random(device: Device, seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(12):
        device.flash.power_on()
        device.flash.cut_at(rng.randrange(1, 60), rng.choice(TORN), seed)
        try:
            device.go_on(rng)
        except PowerCut:
            device.check_cut()
        else:
            break
    device.flash.power_on()
    device.go_on(rng)
    device.check_done()


def cut_in(device: Device, operation: int, torn: str, seed: int, late: int = 0) -> bool:
    """One run that loses power in that operation; False where it ended before."""
    device.flash.power_on()
    device.flash.cut_at(operation, torn, seed)
    try:
        device.go_on(random.Random(seed), late)
    except PowerCut:
        return True
    return False


@pytest.mark.parametrize("write_size", [1, 8])
@pytest.mark.parametrize("torn", TORN)
def test_the_record_of_one_file_never_speaks_for_another(torn: str, write_size: int) -> None:
    """Cut in every operation of a download over an older one, when nothing was saved of it for a while."""
    operation, cut = 0, True
    while cut:
        operation += 1
        device = Device(3000, 512, write_size)
        device.go_on(random.Random(1))
        device.publish()
        cut = cut_in(device, operation, torn, operation, late=3)
        device.claimed()
        device.go_on(random.Random(2))
        device.check_done()
    assert operation > 40


@pytest.mark.parametrize("write_size", [1, 8])
def test_a_second_cut_while_the_first_is_mended(write_size: int) -> None:
    """Every two operations near the start of a resumed run, with bits that read now so and now so."""
    for first in range(1, 24):
        for second in range(1, 18):
            device = Device(4096, 512, write_size)
            assert cut_in(device, 45, "bits", first)
            device.check_cut()
            for operation in (first, second):
                cut_in(device, operation, "weak", first * 100 + second)
                device.check_cut()
            device.flash.power_on()
            device.go_on(random.Random(3))
            device.check_done()
