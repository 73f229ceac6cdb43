"""A download in a NOR flash partition, its progress in flash too. Runs on MicroPython.

The door is that of `device_client.sinks.Sink`, for one thread. Nothing of the file is kept in memory; what is
known of it costs a bit for each block and two for each sector, and thrice that for a moment at `load`.
"""

import struct

from chunker.bitmap import find, flip, test
from chunker.blocks import block_count, block_length
from device_client.errors import SinkError
from device_client.resume import decode_record, encode_record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    class Partition(Protocol):
        """NOR flash, counted from 0. `write_size`: 1 where bits can be cleared one by one, else the bytes
        that must be programmed together and only once between erases."""

        size: int
        sector_size: int
        write_size: int

        def read_into(self, offset: int, buffer: bytearray | memoryview) -> None: ...
        def program(self, offset: int, data: bytes | bytearray | memoryview) -> None: ...
        def erase(self, offset: int) -> None: ...

    from device_client.block_sink import BlockDevice

_SEAL = b"sluice j"
_SEALS = 2
_HEAD = ">IIII"  # generation, the partition's sector size, the journal's write size, length of the record
_HEAD_BYTES = 16


class BlockPartition:
    """A block device with the extended interface as a Partition: `esp32.Partition` as it is, `rp2.Flash` with
    `page_size` 256, since it takes whole pages only. What a page holds already is programmed over itself."""

    def __init__(self, device: "BlockDevice", write_size: int = 1, page_size: int = 0) -> None:
        self._device = device
        self._page = bytearray(page_size)
        self.sector_size = device.ioctl(5, 0) or 0
        self.size = self.sector_size * (device.ioctl(4, 0) or 0)
        self.write_size = write_size

    def read_into(self, offset: int, buffer: "bytearray | memoryview") -> None:
        self._device.readblocks(offset // self.sector_size, buffer, offset % self.sector_size)

    def program(self, offset: int, data: "bytes | bytearray | memoryview") -> None:
        size, done = len(self._page), 0
        while size and done < len(data):
            start = (offset + done) % size
            count = min(len(data) - done, size - start)
            self.read_into(offset + done - start, self._page)
            self._page[start : start + count] = data[done : done + count]
            self._write(offset + done - start, self._page)
            done += count
        if not size:
            self._write(offset, data)

    def _write(self, offset: int, data: "bytes | bytearray | memoryview") -> None:
        self._device.writeblocks(offset // self.sector_size, data, offset % self.sector_size)

    def erase(self, offset: int) -> None:
        self._device.ioctl(6, offset // self.sector_size)


class PartitionSink:
    """The file from byte 0 of `partition`; its progress in `journal`, two sectors or more of their own.

    A block is cut at sector boundaries, and what is left are its pieces. Of each the journal says that its
    programming began, before it, and that it is done, after it; and of each sector that it was erased whole.
    So at any instant of a power cut at most one piece has begun and is not done: its sector is erased again,
    and only the blocks that touch it are fetched again. Marks are bits cleared without an erase.

    What is found by `load` is written anew into the journal's other half before anything else is written,
    since a mark that was cut short may read now so and now so. A half counts once it is sealed. Nothing of it
    may be encrypted: what is erased has to read as ones.

    Sectors are erased when their first byte comes. The record stays after `finish`, so that a cut between it
    and what the caller does next costs nothing: the next run finds every block held. Whoever else writes to
    the partition calls `discard` first. Blocks written before the first `save` are not held until then: call
    it as soon as the file is described. Later calls of it cost nothing, since `write` keeps the journal.
    """

    def __init__(self, partition: "Partition", journal: "Partition") -> None:
        self._partition = partition
        self._journal = journal
        self._write = max(partition.write_size, journal.write_size)
        self._unit = max(len(_SEAL), journal.write_size)  # of a seal
        self._half_size = journal.size // journal.sector_size // 2 * journal.sector_size
        if not self._half_size:
            raise SinkError(f"a journal of {journal.size} bytes has no two sectors")
        self._tail = bytearray(self._write)
        self._byte = bytearray(1)
        self._forget()

    def _forget(self) -> None:
        self._head: tuple[str, int, int, int, int] | None = None
        self._half = 0  # of the journal, where the record is
        self._generation = 0
        self._marks = 0  # where the marks begin
        self._written_anew = True
        self._done = bytearray()  # pieces
        self._ready = bytearray()  # sectors that were erased whole, and hold nothing that is not done

    def load(self) -> "tuple[str, int, int, int, int, bytes] | None":
        """What an earlier run left, if anything. Writes nothing."""
        self._forget()
        found = None
        for half in (0, 1):
            at = half * self._half_size
            head = self._read_head(at)
            if head and (found is None or head[0] > self._generation):
                self._generation, found = head[0], head[1]
                self._half = half
        if found is None or found[3] > self._partition.size:
            return None
        try:
            self._layout(found[:5])
        except SinkError:  # written by a firmware that had more room for it
            return None
        self._written_anew = False
        return found[:5] + (self._read_marks(),)

    def start(self, size: int) -> None:
        """Durably forgets what was there. SinkError where the partition does not hold `size` bytes."""
        if size > self._partition.size:
            raise SinkError(f"{size} bytes do not fit the partition of {self._partition.size} bytes")
        self.discard()
        self._ready = bytearray(self._sectors(size) // 8 + 1)

    def write(self, offset: int, data: memoryview) -> None:
        """Durable when it returns, and in the journal if a record was saved. One whole block."""
        if not self._written_anew:
            self._rewrite()
        done = 0
        while done < len(data):
            sector = (offset + done) // self._partition.sector_size
            end = min(len(data), (sector + 1) * self._partition.sector_size - offset)
            self._write_piece(sector, offset + done, data[done:end])
            done = end

    def read(self, offset: int, length: int) -> bytearray:
        """Bytes that were written, by this run or an earlier one."""
        data = bytearray(length)
        self._partition.read_into(offset, data)
        return data

    def save(self, record: "tuple[str, int, int, int, int, bytes]") -> None:
        """The first one after `start` says which file it is. SinkError where the journal cannot hold it."""
        if self._head == record[:5]:
            return
        block_size = record[4]
        if block_size % self._write:
            raise SinkError(
                f"block size {block_size} is no multiple of the {self._write} bytes that flash writes at once"
            )
        if self._head is not None:
            raise SinkError(f"file {record[:5]}: the sink is taken by {self._head}; start anew")
        self._layout(record[:5])
        for index in range(block_count(record[3], block_size)):
            if test(record[5], index):
                for sector in self._sectors_of(index):
                    flip(self._done, index + sector)
        self._rewrite()

    def finish(self) -> None:
        """Everything is durable as it is."""

    def discard(self) -> None:
        """Durably forgets what was there; the bytes themselves stay until sectors are erased for others."""
        self._void(
            (self._half ^ 1) * self._half_size
        )  # first: it may not know of a doubt that the other does
        self._void(self._half * self._half_size)
        self._forget()

    def close(self) -> None:
        """Nothing to let go of."""

    # --- pieces: that of block i in sector s has the number i + s, which no other has and grows with offsets

    def _sectors(self, size: int) -> int:
        return block_count(size, self._partition.sector_size)

    def _sectors_of(self, index: int) -> range:
        assert self._head is not None
        size, block_size = self._head[3:]
        start = index * block_size
        last = start + block_length(index, size, block_size) - 1
        return range(start // self._partition.sector_size, last // self._partition.sector_size + 1)

    def _write_piece(self, sector: int, offset: int, data: memoryview) -> None:
        piece = -1
        if self._head is not None:
            piece = offset // self._head[4] + sector
            if test(self._done, piece):
                return  # of a block whose other piece was lost
        if not test(self._ready, sector):
            self._partition.erase(sector * self._partition.sector_size)
            self._mark(2, sector)
            flip(self._ready, sector)
        self._mark(0, piece)
        whole = len(data) // self._write * self._write
        if whole:
            self._partition.program(offset, data[:whole])
        if whole < len(data):  # the end of the file
            rest = len(data) - whole
            for place in range(self._write):
                self._tail[place] = data[whole + place] if place < rest else 255
            self._partition.program(offset + whole, self._tail)
        self._mark(1, piece)
        if piece >= 0:
            flip(self._done, piece)

    # --- the journal: each half is [seals][void][head, record][begun][done][ready]

    def _layout(self, head: "tuple[str, int, int, int, int]") -> None:
        # Of a file and its block size: how many marks there are, and where. Nothing is done.
        _, _, _, size, block_size = head
        sectors = self._sectors(size)
        pieces = block_count(size, block_size) + sectors
        length = (
            len(encode_record(*(head + (bytes((block_count(size, block_size) + 7) // 8),)))) + _HEAD_BYTES
        )
        marks = (_SEALS + 1) * self._unit + (length + self._unit - 1) // self._unit * self._unit
        need = marks + 2 * self._room(pieces) + self._room(sectors)
        if need > self._half_size:
            raise SinkError(
                f"the journal's halves of {self._half_size} bytes are too small for {size} bytes in blocks "
                f"of {block_size}: {need} bytes are needed; use larger blocks or a larger journal"
            )
        if len(self._ready) < sectors // 8 + 1:
            self._ready = bytearray(sectors // 8 + 1)
        self._head, self._marks = head, marks
        self._done = bytearray(pieces // 8 + 1)
        self._pieces, self._count = pieces, sectors

    def _room(self, count: int) -> int:
        # Bytes that `count` marks take: bits, or where bits cannot be cleared alone, whole writes.
        return (count + 7) // 8 if self._journal.write_size == 1 else count * self._journal.write_size

    def _place(self, kind: int) -> int:
        return self._half * self._half_size + self._marks + kind * self._room(self._pieces)

    def _mark(self, kind: int, index: int) -> None:
        if self._head is None:
            return
        at, size = self._place(kind), self._journal.write_size
        if size > 1:
            self._journal.program(at + index * size, bytes(size))
            return
        at += index >> 3
        self._journal.read_into(at, self._byte)
        self._byte[0] &= ~(1 << (index & 7)) & 255
        self._journal.program(at, self._byte)

    def _bits(self, kind: int, count: int) -> bytearray:
        # The marks of a kind as a bitmap; half a mark is one.
        size = self._journal.write_size
        if size == 1:
            bits = bytearray((count + 7) // 8)
            self._journal.read_into(self._place(kind), bits)
            for place in range(len(bits)):
                bits[place] ^= 255
            return bits
        bits, unit = bytearray(count // 8 + 1), bytearray(size)
        for index in range(count):
            self._journal.read_into(self._place(kind) + index * size, unit)
            if min(unit) < 255:
                flip(bits, index)
        return bits

    def _set_bits(self, kind: int, bits: bytearray, count: int) -> None:
        # The same the other way round, into an erased half.
        if self._journal.write_size > 1:
            size, start = self._journal.write_size, find(bits, True, 0, count)
            while start < count:
                end = find(bits, False, start, min(count, start + 32))
                self._journal.program(self._place(kind) + start * size, bytes((end - start) * size))
                start = find(bits, True, end, count)
            return
        inverted = bytearray((count + 7) // 8)
        for place in range(len(inverted)):
            inverted[place] = bits[place] ^ 255
        self._journal.program(self._place(kind), inverted)

    def _read_head(self, at: int) -> "tuple[int, tuple[str, int, int, int, int, bytes]] | None":
        sealed = False
        for seal in range(_SEALS):
            sealed = sealed or self._at(at + seal * self._unit, len(_SEAL)) == _SEAL
        if not sealed or not self._blank(at + _SEALS * self._unit):
            return None
        at += (_SEALS + 1) * self._unit
        generation, sector_size, write_size, length = struct.unpack(_HEAD, self._at(at, _HEAD_BYTES))
        if (sector_size, write_size) != (self._partition.sector_size, self._journal.write_size):
            return None  # its marks are not about these pieces, or do not stand where ours would
        if length > self._half_size - (_SEALS + 1) * self._unit - _HEAD_BYTES:
            return None
        record = decode_record(self._at(at + _HEAD_BYTES, length))
        return (generation, record) if record else None

    def _read_marks(self) -> bytes:
        # Fills `_done` and `_ready`, without what is in doubt, and returns the bitmap of the blocks held.
        assert self._head is not None
        size, block_size = self._head[3:]
        begun, done = self._bits(0, self._pieces), self._bits(1, self._pieces)
        ready = self._ready = self._bits(2, self._count) + b"\0"
        count = block_count(size, block_size)
        for index in range(count):
            for sector in self._sectors_of(index):
                torn = test(begun, index + sector) != test(done, index + sector)
                if torn and test(ready, sector):
                    flip(ready, sector)
        held = bytearray((count + 7) // 8)
        for index in range(count):
            whole = True
            for sector in self._sectors_of(index):
                if test(done, index + sector) and test(ready, sector):
                    flip(self._done, index + sector)
                else:
                    whole = False
            if whole:
                flip(held, index)
        return bytes(held)

    def _rewrite(self) -> None:
        # What is known goes into the other half, which counts once it is sealed.
        assert self._head is not None
        if not self._written_anew:
            self._seal(1)  # before the other half goes, this one is sealed for certain
        self._half ^= 1
        at = self._half * self._half_size
        self._void(at)
        for sector in range(at, at + self._half_size, self._journal.sector_size):
            self._journal.erase(sector)
        self._set_bits(0, self._done, self._pieces)
        self._set_bits(1, self._done, self._pieces)
        self._set_bits(2, self._ready, self._count)
        count = block_count(self._head[3], self._head[4])
        record = encode_record(*(self._head + (bytes((count + 7) // 8),)))
        self._generation += 1
        sizes = (self._partition.sector_size, self._journal.write_size, len(record))
        head = struct.pack(_HEAD, self._generation, *sizes)
        self._program(at + (_SEALS + 1) * self._unit, head + record)
        self._seal(0)
        self._written_anew = True

    def _seal(self, which: int) -> None:
        at = self._half * self._half_size + which * self._unit
        if self._journal.write_size == 1 or self._blank(at):
            self._program(at, _SEAL)

    def _void(self, at: int) -> None:
        # Before it is erased, since an erase that is cut short may leave a half sealed and its marks garbage.
        at += _SEALS * self._unit
        if self._journal.write_size == 1 or self._blank(at):
            self._journal.program(at, bytes(self._unit))

    def _at(self, offset: int, length: int) -> bytes:
        data = bytearray(length)
        self._journal.read_into(offset, data)
        return bytes(data)

    def _blank(self, offset: int) -> bool:
        return min(self._at(offset, self._unit)) == 255

    def _program(self, offset: int, data: bytes) -> None:
        # Filled up to whole writes.
        short = -len(data) % self._unit
        self._journal.program(offset, data + b"\xff" * short)
