# mypy: ignore-errors
# It runs on MicroPython, which has no `typing` to say what a record is.
"""Runs on MicroPython: both sinks on a block device in memory, cut off in the middle and taken up again.

Prints for each the SHA-256 of what was to be written and of what was read back, in hexadecimal, and how many
bytes of heap the sink itself took.
"""

import gc
from binascii import hexlify
from hashlib import sha256

from device_client.block_sink import BlockDeviceSink
from device_client.flash_sinks import BlockPartition, PartitionSink

SECTOR, SIZE, BLOCK = 512, 30000, 1024


class Device:
    """A NOR flash with MicroPython's extended interface."""

    def __init__(self, blocks):
        self.data = bytearray(b"\xff" * (blocks * SECTOR))

    def readblocks(self, block, buffer, offset=0):
        at = block * SECTOR + offset
        buffer[:] = memoryview(self.data)[at : at + len(buffer)]

    def writeblocks(self, block, data, offset=None):
        at = block * SECTOR + (offset or 0)
        for place in range(len(data)):
            assert offset is None or data[place] & ~self.data[at + place] & 255 == 0
            self.data[at + place] = data[place]

    def ioctl(self, command, argument):
        if command == 6:
            self.data[argument * SECTOR : (argument + 1) * SECTOR] = b"\xff" * SECTOR
        return {4: len(self.data) // SECTOR, 5: SECTOR}.get(command, 0)


content = bytearray(SIZE)
for position in range(SIZE):
    content[position] = (position * 31 + (position >> 8)) & 255
count = (SIZE + BLOCK - 1) // BLOCK
device, journal = Device(64), Device(4)


def record(held):
    return ("fw", 0, 1, SIZE, BLOCK, bytes(held))


for make in (
    lambda: PartitionSink(BlockPartition(device), BlockPartition(journal)),
    lambda: BlockDeviceSink(device),
):
    for run in (0, 1):
        sink = old = held = None  # what the last run left on the heap
        gc.collect()
        before = gc.mem_alloc()
        sink = make()
        old = sink.load()
        assert bool(old) == run
        if not old:
            sink.start(SIZE)
            old = record(bytes((count + 7) // 8))
            sink.save(old)
        gc.collect()
        took = gc.mem_alloc() - before
        held = bytearray(old[5])
        for step in range(count):
            index = step * 7 % count
            if not held[index >> 3] >> (index & 7) & 1 and (run or step < count // 2):
                sink.write(index * BLOCK, memoryview(content)[index * BLOCK : (index + 1) * BLOCK])
                held[index >> 3] |= 1 << (index & 7)
        sink.save(record(held))
        if not run:
            assert make().load() == record(held)
    sink.finish()
    print(
        hexlify(sha256(content).digest()).decode(),
        hexlify(sha256(sink.read(0, SIZE)).digest()).decode(),
        took,
    )
    sink.discard()
    assert sink.load() is None
    sink.close()
