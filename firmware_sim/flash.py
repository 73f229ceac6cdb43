"""NOR flash in memory: what a chip does to bytes, to its own wear, and when the power goes.

Strict where a real chip is silent: it would AND what is programmed over what is there, and an update would go
on with bytes that nobody wrote. Here that is a FlashError, so that every such bug is found where it is made.
"""

import random
from collections.abc import Callable

TORN = ("none", "whole", "prefix", "bits", "weak")
"""What the operation leaves that the power was cut in. none: nothing of it; whole: all of it, unreported;
prefix: the first bytes (of an erase, those at either end, the others as they were or zeros); bits: any bits
(of an erase, garbage); weak: all but some bits, reading 0 or 1 until they are erased or programmed to 0."""


class FlashError(Exception):
    """The caller did what a flash forbids; nothing was changed."""


class PowerCut(Exception):
    """The power is gone, or went in this very operation."""


class Flash:
    """`size` bytes, erased. ValueError where the sizes do not divide one another.

    `sector_size`: bytes erased at once; `page_size`: bytes programmed at once, each page one operation;
    `write_size`: 1 where bits can be cleared one by one (most serial NOR), else the bytes that must be
    programmed together and only once between erases (internal flash with ECC: 8, 16 or 32).

    `operations` counts pages programmed and sectors erased, `wear` the erases of each sector.
    """

    def __init__(self, size: int, sector_size: int = 4096, page_size: int = 256, write_size: int = 1) -> None:
        if size < 1 or size % sector_size or sector_size % page_size or page_size % write_size:
            raise ValueError(
                f"flash of {size} bytes, sectors of {sector_size}, pages of {page_size}, "
                f"writes of {write_size}: each must be a multiple of the next"
            )
        self.size = size
        self.sector_size = sector_size
        self.page_size = page_size
        self.write_size = write_size
        self.operations = 0
        self.wear = [0] * (size // sector_size)
        self.powered = True
        self._data = bytearray(b"\xff" * size)
        self._weak: bytearray | None = None  # bits that read as either; in `_data` they are 1
        self._protected: list[tuple[int, int]] = []
        self._cut: tuple[int, str, random.Random] | None = None
        self._noise = random.Random(0)

    def read_into(self, offset: int, buffer: bytearray | memoryview) -> None:
        """Fills the buffer from `offset`."""
        end = offset + len(buffer)
        self._check(offset, end)
        buffer[:] = self._data[offset:end]
        weak = self._weak_in(offset, len(buffer))
        if weak is not None:
            noise = self._noise.randbytes(len(buffer))
            for place, bits in enumerate(weak):
                buffer[place] &= ~(bits & noise[place]) & 0xFF

    def read(self, offset: int, length: int) -> bytes:
        """`length` bytes from `offset`."""
        buffer = bytearray(length)
        self.read_into(offset, buffer)
        return bytes(buffer)

    def program(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """Clears the bits that are 0 in `data`, page by page. FlashError where a 0 would have to become 1."""
        end = offset + len(data)
        self._check(offset, end, write=True)
        if offset % self.write_size or len(data) % self.write_size:
            raise FlashError(f"{len(data)} bytes at {offset} are not whole writes of {self.write_size}")
        before, wanted = int.from_bytes(self._data[offset:end]), int.from_bytes(data)
        if wanted & ~before:
            raise FlashError(f"programming {len(data)} bytes at {offset} would turn a 0 into a 1")
        if self.write_size > 1 and before != (1 << 8 * len(data)) - 1:
            raise FlashError(f"{len(data)} bytes at {offset} were programmed before; erase them first")
        at = offset
        while at < end:
            stop = min(end, (at // self.page_size + 1) * self.page_size)
            self._program_page(at, bytes(data[at - offset : stop - offset]))
            at = stop

    def erase(self, offset: int) -> None:
        """Sets every bit of the sector that begins at `offset`."""
        end = offset + self.sector_size
        self._check(offset, end, write=True)
        if offset % self.sector_size:
            raise FlashError(f"{offset} is not where a sector of {self.sector_size} bytes begins")
        self.wear[offset // self.sector_size] += 1
        self._operate(lambda torn, rng: self._erase_torn(offset, end, torn, rng))
        self._store(offset, b"\xff" * self.sector_size, firm=True)

    def protect(self, start: int, end: int) -> None:
        """Until the next `power_on`, bytes from `start` up to `end` can only be read."""
        if start < end:
            self._protected.append((start, end))

    def cut_at(self, operation: int, torn: str = "none", seed: int = 0) -> None:
        """The power goes in the `operation`-th operation from now on, from 1; `torn` is one of TORN."""
        if operation < 1 or torn not in TORN:
            raise ValueError(f"operation {operation}, torn {torn!r}: from 1, and one of {', '.join(TORN)}")
        self._cut = (self.operations + operation, torn, random.Random(seed))

    def cut(self) -> None:
        """The power goes now, between two operations."""
        self.powered = False
        self._cut = None

    def power_on(self) -> None:
        """It is back: what was cut stays as it was left, no range is protected, no further cut is planned."""
        self.powered = True
        self._protected.clear()
        self._cut = None

    def partition(self, start: int, size: int) -> "Partition":
        """A view of whole sectors."""
        return Partition(self, start, size)

    def _program_page(self, at: int, data: bytes) -> None:
        old = self._data[at : at + len(data)]
        self._operate(lambda torn, rng: self._program_torn(at, bytes(old), data, torn, rng))
        self._store(at, data)

    def _operate(self, tear: Callable[[str, random.Random], None]) -> None:
        self.operations += 1
        if self._cut is not None and self.operations == self._cut[0]:
            _, torn, rng = self._cut
            tear(torn, rng)
            self.cut()
            raise PowerCut(f"power cut in operation {self.operations}")

    def _program_torn(self, at: int, old: bytes, new: bytes, torn: str, rng: random.Random) -> None:
        if torn == "none":
            return
        weak = None
        if torn in ("whole", "prefix"):
            done = len(new) if torn == "whole" else rng.randrange(len(new) + 1)
            left = new[:done] + old[done:]
        elif torn == "bits":
            left = bytes(a & (b | c) for a, b, c in zip(old, new, rng.randbytes(len(new)), strict=True))
        else:
            weak = bytes(a & ~b & c for a, b, c in zip(old, new, _some_bits(len(new), rng), strict=True))
            left = bytes(a | b for a, b in zip(new, weak, strict=True))
        self._store(at, left, weak)

    def _erase_torn(self, start: int, end: int, torn: str, rng: random.Random) -> None:
        size = end - start
        if torn == "none":
            return
        if torn == "whole":
            self._store(start, b"\xff" * size, firm=True)
        elif torn == "prefix":
            # Many chips program a sector to zeros before they erase it, so what is not yet ones may be less.
            rest = bytes(self._data[start:end]) if rng.randrange(2) else bytes(size)
            self._store(start, _one_end(rest, b"\xff" * size, rng), firm=True)
        elif torn == "bits":
            self._store(start, rng.randbytes(size), firm=True)
        else:
            reached = _one_end(bytes(size), b"\xff" * size, rng) if rng.randrange(2) else b"\xff" * size
            left = bytes(a | b for a, b in zip(self._data[start:end], reached, strict=True))
            weak = bytes(a & b for a, b in zip(_some_bits(size, rng), reached, strict=True))
            self._store(start, left, weak, firm=True)

    def _weak_in(self, at: int, length: int) -> bytearray | None:
        # The weak bits there, or None where there are none.
        if self._weak is None:
            return None
        weak = self._weak[at : at + length]
        return None if weak.count(0) == length else weak

    def _store(self, at: int, data: bytes, weak: bytes | None = None, firm: bool = False) -> None:
        # Bits that are 1 in `data` and were weak stay so, unless all is firm now; those of `weak` become so.
        before = None if firm else self._weak_in(at, len(data))
        self._data[at : at + len(data)] = data
        if self._weak is None:
            if weak is None:
                return
            self._weak = bytearray(self.size)
        left = bytes(len(data)) if before is None else bytes(a & b for a, b in zip(before, data, strict=True))
        if weak is not None:
            left = bytes(a | b for a, b in zip(left, weak, strict=True))
        self._weak[at : at + len(data)] = left

    def _check(self, start: int, end: int, write: bool = False) -> None:
        if not self.powered:
            raise PowerCut("the power is off")
        if not 0 <= start <= end <= self.size:
            raise FlashError(f"bytes {start} to {end} are not within the flash of {self.size} bytes")
        if write:
            for low, high in self._protected:
                if start < high and low < end:
                    raise FlashError(f"bytes {start} to {end} touch {low} to {high}, which are protected")


def _one_end(old: bytes, new: bytes, rng: random.Random) -> bytes:
    # `new` from the start up to a place in it, or from there to the end; the rest is old.
    place = rng.randrange(len(new) + 1)
    return new[:place] + old[place:] if rng.randrange(2) else old[:place] + new[place:]


def _some_bits(size: int, rng: random.Random) -> bytes:
    # Half of all bits, or a quarter, … or one in 256.
    bits = (1 << 8 * size) - 1
    for _ in range(rng.randrange(1, 9)):
        bits &= rng.getrandbits(8 * size)
    return bits.to_bytes(size)


class Partition:
    """`size` bytes of a flash from `start`, counted from 0; FlashError beyond them.

    It is what `device_client.flash_sinks.PartitionSink` writes to, and a block device as MicroPython's `vfs`
    takes it, both the simple and the extended interface: one block is one sector.
    """

    def __init__(self, flash: Flash, start: int, size: int) -> None:
        if (
            start % flash.sector_size
            or size % flash.sector_size
            or not 0 <= start <= start + size <= flash.size
        ):
            raise ValueError(
                f"partition of {size} bytes at {start} is not whole sectors of {flash.sector_size} "
                f"within {flash.size} bytes"
            )
        self.flash = flash
        self.start = start
        self.size = size
        self.sector_size = flash.sector_size
        self.write_size = flash.write_size

    def read_into(self, offset: int, buffer: bytearray | memoryview) -> None:
        """As Flash.read_into."""
        self.flash.read_into(self._at(offset, len(buffer)), buffer)

    def read(self, offset: int, length: int) -> bytes:
        """As Flash.read."""
        return self.flash.read(self._at(offset, length), length)

    def program(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """As Flash.program."""
        self.flash.program(self._at(offset, len(data)), data)

    def erase(self, offset: int) -> None:
        """As Flash.erase."""
        self.flash.erase(self._at(offset, self.sector_size))

    def protect(self) -> None:
        """As Flash.protect, all of it."""
        self.flash.protect(self.start, self.start + self.size)

    def readblocks(self, block: int, buffer: bytearray | memoryview, offset: int = 0) -> None:
        """Fills the buffer from `offset` of `block` on."""
        self.read_into(block * self.sector_size + offset, buffer)

    def writeblocks(
        self, block: int, data: bytes | bytearray | memoryview, offset: int | None = None
    ) -> None:
        """Without `offset`, erases the blocks that it writes; with one, programs what is already erased."""
        at = block * self.sector_size
        if offset is None:
            for sector in range(at, at + len(data), self.sector_size):
                self.erase(sector)
        self.program(at + (offset or 0), data)

    def ioctl(self, command: int, argument: int) -> int | None:
        """1 initialise, 2 shut down, 3 sync, 4 number of blocks, 5 bytes in a block, 6 erase a block."""
        if command == 4:
            return self.size // self.sector_size
        if command == 5:
            return self.sector_size
        if command == 6:
            self.erase(argument * self.sector_size)
        return 0 if command in (1, 2, 3, 6) else None

    def _at(self, offset: int, length: int) -> int:
        if not 0 <= offset <= offset + length <= self.size:
            raise FlashError(f"{length} bytes at {offset} are not within the partition of {self.size} bytes")
        return self.start + offset
