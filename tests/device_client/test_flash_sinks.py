"""A download in flash survives a power cut in any operation, and claims only what is there."""

import os
import random
import struct
import subprocess
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chunker.bitmap import flip
from chunker.bitmap import test as is_set
from chunker.blocks import block_count, block_length
from device_client.block_sink import BlockDeviceSink
from device_client.clock import now
from device_client.download import Download
from device_client.errors import SinkError
from device_client.fetch import Fetch
from device_client.flash_sinks import BlockPartition, PartitionSink
from device_client.sinks import Record
from firmware_sim.flash import TORN, Flash, Partition, PowerCut
from firmware_sim.update import FILE_ID, STREAM, THING, MemoryService
from tests.support.device_set import ROOT, compile_to, modules
from tests.support.required import lacking

MICROPYTHON = ROOT / ".tools" / "micropython"

SECTOR = 1024


class WholePages:
    """A block device that programs whole pages only; any bytes where `page_size` is 0."""

    def __init__(self, partition: Partition, page_size: int) -> None:
        self.readblocks, self.ioctl = partition.readblocks, partition.ioctl
        self._partition, self._page_size = partition, page_size

    def writeblocks(
        self, block: int, data: bytes | bytearray | memoryview, offset: int | None = None
    ) -> None:
        assert offset is not None
        assert not self._page_size or offset % self._page_size == len(data) % self._page_size == 0
        self._partition.writeblocks(block, data, offset)


@dataclass
class Device:
    """A flash with a partition of 16 sectors and a journal of 6, and what a download to it has brought."""

    size: int
    block_size: int
    write_size: int = 1
    adapted: int | None = None  # the page size of a BlockPartition, if there is one
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
        if self.adapted is None:
            return PartitionSink(partition, journal)
        return PartitionSink(
            BlockPartition(WholePages(partition, self.adapted), self.write_size, self.adapted),
            BlockPartition(WholePages(journal, self.adapted), self.write_size, self.adapted),
        )

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
    adapted=st.sampled_from((None, 0, 128)),
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
    for first, second, seed in [
        (a, b, seed) for a in range(1, 16) for b in range(1, 13) for seed in range(5)
    ]:
        device = Device(4096, 512, write_size)
        assert cut_in(device, 45, "bits", first)
        device.check_cut()
        for operation in (first, second):
            cut_in(device, operation, "weak", (first * 100 + second) * 10 + seed)
            device.check_cut()
        device.flash.power_on()
        device.go_on(random.Random(3))
        device.check_done()


def fetched(device: Device, token: str) -> int:
    """Downloads as a device does, and says how many bytes were there before."""
    service = MemoryService(device.content)
    answers: list[tuple[str, bytes]] = []

    def machine(record: Record | None) -> Download:
        return Download(THING, STREAM, FILE_ID, token, now(), block_size=512, resume=record)

    def send(name: str, payload: bytes) -> None:
        answers.extend(service.answers(name, payload))

    fetch = Fetch(machine, device.sink(), sha256(device.content).digest(), save_bytes=1)
    fetch.send = send
    fetch.session(True)
    while not fetch.finished():
        fetch.turn()
        for _ in range(min(3, len(answers))):
            fetch.message(*answers.pop(0))
    fetch.close()
    return fetch.resumed


@pytest.mark.parametrize("torn", ["none", "weak"])
def test_fetch_takes_up_what_is_in_flash(torn: str) -> None:
    """`device_client.fetch` over the sink, with the power cut again and again."""
    device = Device(9000, 512)
    for life in range(20):
        device.flash.power_on()
        device.flash.cut_at(50, torn, life)
        try:
            resumed = fetched(device, f"life-{life}")
        except PowerCut:
            continue
        break
    assert life > 1
    assert resumed >= 4096
    assert device.sink().read(0, device.size) == device.content


class TestPartitionSink:
    def test_pieces_of_a_block_share_no_marks(self) -> None:
        """Blocks longer than a sector, shorter, and across: that of block i in sector s is number i + s."""
        for block_size in (256, 1000, 1024, 5000):
            numbers = [
                index + sector
                for index in range(9)
                for sector in range(index * block_size // SECTOR, -(-(index + 1) * block_size // SECTOR))
            ]
            assert numbers == sorted(set(numbers))

    def test_sectors_are_erased_once_and_only_those_of_the_file(self) -> None:
        device = Device(5000, 512)
        device.go_on(random.Random(1))
        assert device.flash.wear[:16] == [1] * 5 + [0] * 11

    def test_what_is_found_costs_no_wear_until_something_comes(self) -> None:
        device = Device(5000, 512)
        assert cut_in(device, 30, "bits", 1)
        device.flash.power_on()
        before = device.flash.operations
        for _ in range(3):
            assert device.sink().load() == device.sink().load()
        assert device.flash.operations == before

    def test_a_finished_file_is_found_until_it_is_discarded(self) -> None:
        device = Device(5000, 512)
        device.go_on(random.Random(1))
        device.check_done()
        sink = device.sink()
        assert sink.load() == device.record(b"\xff\x03")
        sink.discard()
        assert sink.load() is None
        assert device.sink().load() is None

    @pytest.mark.parametrize("write_size", [1, 8])
    def test_a_flash_that_was_never_erased(self, write_size: int) -> None:
        device = Device(5000, 512, write_size)
        device.flash.program(0, random.Random(1).randbytes(device.flash.size))
        assert device.claimed() is None
        device.go_on(random.Random(1))
        device.check_done()

    def test_an_empty_file(self) -> None:
        device = Device(0, 512)
        sink = device.sink()
        sink.start(0)
        sink.save(device.record(b""))
        sink.finish()
        assert device.sink().load() == device.record(b"")

    def test_blocks_written_before_the_first_save_are_held_by_it(self) -> None:
        device = Device(2000, 512)
        sink = device.sink()
        sink.start(2000)
        for index in (3, 1):
            sink.write(index * 512, device.block(index))
        assert device.sink().load() is None
        sink.save(device.record(b"\x0a"))
        sink.write(0, device.block(0))
        assert device.claimed() == device.record(b"\x0b")

    def test_what_does_not_fit_is_said_before_a_byte_is_written(self) -> None:
        device = Device(16 * SECTOR + 1, 512)
        with pytest.raises(SinkError, match="16385 bytes do not fit the partition of 16384"):
            device.sink().start(device.size)
        small = Flash(8 * SECTOR, SECTOR, 128)
        with pytest.raises(SinkError, match="a journal of 1024 bytes has no two sectors"):
            PartitionSink(small.partition(0, SECTOR), small.partition(SECTOR, SECTOR))
        ecc = Device(16 * SECTOR, 256, 32)
        sink = ecc.sink()
        sink.start(ecc.size)
        with pytest.raises(SinkError, match=r"halves of 3072 bytes .* in blocks of 256: \d+ bytes"):
            sink.save(ecc.record(bytes(8)))
        with pytest.raises(SinkError, match="block size 1001 is no multiple of the 32 bytes"):
            sink.save(("fw", 3, 7, 2002, 1001, b"\0"))
        assert ecc.flash.operations == 2

    def test_one_file_at_a_time(self) -> None:
        device = Device(2000, 512)
        device.go_on(random.Random(1))
        sink = device.sink()
        sink.load()
        with pytest.raises(SinkError, match=r"the sink is taken by .*fw.*start anew"):
            sink.save(("other", 3, 7, 2000, 512, b"\0"))

    @pytest.mark.parametrize("place", range(0, 60, 7))
    def test_a_record_that_rots_is_no_record(self, place: int) -> None:
        device = Device(2000, 512)
        device.go_on(random.Random(1))
        for half in (16, 19):
            head = device.flash.read(half * SECTOR + 28, 100)
            if head != b"\xff" * 100:
                place = next(at for at in range(place, 100) if head[at])
                device.flash.program(half * SECTOR + 28 + place, bytes([head[place] & head[place] - 1]))
        assert device.sink().load() is None

    def test_a_sealed_half_that_says_to_be_longer_than_it_is(self) -> None:
        device = Device(2000, 512)
        for half in (16, 19):
            head = b"sluice j" * 2 + b"\xff" * 8 + struct.pack(">IIII", 1, SECTOR, 1, 3 * SECTOR - 10)
            device.flash.program(half * SECTOR, head)
        assert device.sink().load() is None

    def test_a_journal_of_a_firmware_with_another_layout(self) -> None:
        device = Device(16 * SECTOR, 256)
        device.go_on(random.Random(1))
        journal = device.flash.partition(16 * SECTOR, 6 * SECTOR)
        assert PartitionSink(device.flash.partition(0, 15 * SECTOR), journal).load() is None
        finer = Flash(16 * SECTOR, SECTOR // 2, 128).partition(0, 16 * SECTOR)
        assert PartitionSink(finer, journal).load() is None
        assert PartitionSink(device.flash.partition(0, 16 * SECTOR), journal).load() is not None


class TestBlockDeviceSink:
    def sink(self) -> BlockDeviceSink:
        return BlockDeviceSink(self.flash.partition(0, 20 * SECTOR), 1)

    def device(self, size: int, block_size: int) -> Device:
        device = Device(size, block_size)
        self.flash = device.flash
        return device

    @settings(max_examples=60)
    @given(
        st.integers(1, 18 * SECTOR), st.sampled_from((1024, 2048, 5120)), st.integers(0, 2**32), st.booleans()
    )
    def test_power_cuts_at_random(self, size: int, block_size: int, seed: int, publish: bool) -> None:
        rng = random.Random(seed)
        device = self.device(size, block_size)
        saved = bytes(len(device.came))
        for life in range(12):
            self.flash.power_on()
            if life < 11:
                self.flash.cut_at(rng.randrange(1, 40), rng.choice(TORN), rng.getrandbits(32))
            if life == 5 and publish:
                device.publish()
                saved = bytes(len(device.came))
            try:
                sink = self.sink()
                record = sink.load()
                if record is None or record[:5] != device.record(b"")[:5]:
                    assert not any(saved)
                    sink.start(size)
                    record = device.record(saved)
                held = int.from_bytes(record[5], "little")
                assert int.from_bytes(saved, "little") & ~held == 0  # what was saved is never lost
                for index in range(device.count):
                    if held >> index & 1:
                        length = len(device.block(index))
                        assert sink.read(index * block_size, length) == device.block(index)
                order = [index for index in range(device.count) if not held >> index & 1]
                rng.shuffle(order)
                for index in order:
                    sink.write(index * block_size, device.block(index))
                    held |= 1 << index
                    if rng.randrange(2):
                        sink.save(device.record(held.to_bytes(len(saved), "little")))
                        saved = held.to_bytes(len(saved), "little")
                sink.finish()
                assert sink.read(0, size) == device.content
                sink.close()
            except PowerCut:
                continue

    def test_what_does_not_fit(self) -> None:
        device = self.device(18 * SECTOR, 1024)
        sink = self.sink()
        with pytest.raises(SinkError, match="18433 bytes do not fit the device's 18432"):
            sink.start(18 * SECTOR + 1)
        with pytest.raises(SinkError, match="a block at 1000 bytes: block sizes must be multiples of 1024"):
            sink.write(1000, device.block(0))
        with pytest.raises(SinkError, match="block size 1000 is no multiple of the device's 1024"):
            sink.save(("fw", 0, 1, 1000, 1000, b"\0"))
        with pytest.raises(SinkError, match="does not fit 1008; more record_blocks"):
            sink.save(("fw", 0, 1, 2**23, 1024, bytes(1024)))
        with pytest.raises(SinkError, match="0 blocks are left beside two records of 10"):
            BlockDeviceSink(device.flash.partition(0, 20 * SECTOR), 10)
        assert device.flash.operations == 0


@pytest.mark.micropython
def test_both_on_micropython(tmp_path: Path) -> None:
    if not os.access(MICROPYTHON, os.X_OK):
        lacking("micropython", "no MicroPython in .tools: tests/micropython/install.sh puts it there")
    rim = [Path(f"device_client/{name}.py") for name in ("resume", "flash_sinks", "block_sink")]
    compile_to(tmp_path, [*modules(), *rim])
    script = str(Path(__file__).with_name("flash_on_micropython.py"))
    done = subprocess.run(
        [MICROPYTHON, "-X", "heapsize=256k", script],
        cwd=tmp_path,
        env={"MICROPYPATH": f"{tmp_path}:.frozen"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for line in done.stdout.splitlines():
        written, read, took = line.split()
        assert read == written
        assert int(took) < 2048
    assert len(done.stdout.splitlines()) == 2
