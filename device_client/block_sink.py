"""A download on a block device: SD card, eMMC, `esp32.Partition`. Runs on MicroPython.

The door is that of `device_client.sinks.Sink`, for one thread; memory for one block of the device is kept.
"""

import struct
from hashlib import sha256

from device_client.errors import SinkError
from device_client.resume import decode_record, encode_record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    class BlockDevice(Protocol):
        """MicroPython's block protocol; only `BlockPartition` needs `offset`, its extended interface."""

        def readblocks(self, block: int, buffer: bytearray | memoryview, offset: int = 0) -> object: ...
        def writeblocks(
            self, block: int, data: bytes | bytearray | memoryview, offset: int | None = None
        ) -> object: ...
        def ioctl(self, command: int, argument: int) -> int | None: ...


_HEAD = ">II"  # generation, length of the record


class BlockDeviceSink:
    """The file from block 0 of a device that is written in whole blocks (SD card, eMMC, `esp32.Partition`).

    Its record is in the device's last blocks: two places of `record_blocks` blocks, written in turn, so that
    one is whole at any instant of a power cut. What was written since the last `save` is fetched again; the
    caller says how often that is. The block size must be a multiple of the device's, lest a block that is
    held be written again with its neighbour and torn.
    """

    def __init__(self, device: "BlockDevice", record_blocks: int = 2) -> None:
        self._device = device
        device.ioctl(1, 0)
        self._block = device.ioctl(5, 0) or 0
        count = (device.ioctl(4, 0) or 0) - 2 * record_blocks
        if count < 1 or record_blocks < 1:
            raise SinkError(f"{count} blocks are left beside two records of {record_blocks}")
        self.capacity = count * self._block
        self._records = (count, count + record_blocks)  # where they are
        self._record_bytes = record_blocks * self._block
        self._buffer = bytearray(self._block)
        self._generation = 0

    def load(self) -> "tuple[str, int, int, int, int, bytes] | None":
        """What an earlier run left, if anything."""
        self._generation, found = 0, None
        for place in self._records:
            data = bytearray(self._record_bytes)
            self._device.readblocks(place, data)
            generation, length = struct.unpack(_HEAD, data[:8])
            if (
                length > self._record_bytes - 16
                or sha256(data[: 8 + length]).digest()[:8] != data[8 + length :][:8]
            ):
                continue
            record = decode_record(bytes(data[8 : 8 + length]))
            if record and generation > self._generation and record[3] <= self.capacity:
                self._generation, found = generation, record
        return found

    def start(self, size: int) -> None:
        """Durably forgets what was there. SinkError where the device does not hold `size` bytes."""
        if size > self.capacity:
            raise SinkError(f"{size} bytes do not fit the device's {self.capacity} bytes")
        self.discard()

    def write(self, offset: int, data: memoryview) -> None:
        """Puts a whole block of the file in its place. SinkError where that is not where one begins."""
        whole = len(data) // self._block * self._block
        if offset % self._block:
            raise SinkError(f"a block at {offset} bytes: block sizes must be multiples of {self._block}")
        if whole:
            self._device.writeblocks(offset // self._block, data[:whole])
        if whole < len(data):  # the end of the file
            self._buffer[: len(data) - whole] = data[whole:]
            self._device.writeblocks((offset + whole) // self._block, self._buffer)

    def read(self, offset: int, length: int) -> bytearray:
        """Bytes that were written, by this run or an earlier one."""
        data, done = bytearray(length), 0
        while done < length:
            block, start = (offset + done) // self._block, (offset + done) % self._block
            count = min(length - done, self._block - start)
            self._device.readblocks(block, self._buffer)
            data[done : done + count] = memoryview(self._buffer)[start : start + count]
            done += count
        return data

    def save(self, record: "tuple[str, int, int, int, int, bytes]") -> None:
        """Makes what was written durable, and then the record. SinkError where that is too long."""
        if record[4] % self._block:
            raise SinkError(f"block size {record[4]} is no multiple of the device's {self._block} bytes")
        data = encode_record(*record)
        if len(data) > self._record_bytes - 16:
            raise SinkError(
                f"a record of {len(data)} bytes does not fit {self._record_bytes - 16}; more record_blocks"
            )
        self._generation += 1
        data = struct.pack(_HEAD, self._generation, len(data)) + data
        data += sha256(data).digest()[:8]
        self._device.ioctl(3, 0)
        place = self._records[self._generation & 1]
        self._device.writeblocks(place, data + bytes(self._record_bytes - len(data)))
        self._device.ioctl(3, 0)

    def finish(self) -> None:
        """Makes the whole file durable; the record stays."""
        self._device.ioctl(3, 0)

    def discard(self) -> None:
        """Durably forgets what was there, the older record first."""
        for place in (self._records[self._generation + 1 & 1], self._records[self._generation & 1]):
            self._device.writeblocks(place, bytes(self._record_bytes))
        self._device.ioctl(3, 0)
        self._generation = 0

    def close(self) -> None:
        """Nothing to let go of: who made the device shuts it down."""
