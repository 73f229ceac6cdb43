"""The flash does to bytes what NOR does, refuses what NOR would spoil, and tears what it was cut in."""

import random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from firmware_sim.flash import TORN, Flash, FlashError, PowerCut

SECTOR, PAGE, SECTORS = 64, 16, 4
SIZE = SECTOR * SECTORS


class FlashModel(RuleBasedStateMachine):
    """A list of bits, and for each whether it can be relied on."""

    @initialize(write_size=st.sampled_from((1, 8)))
    def begin(self, write_size: int) -> None:
        self.flash = Flash(SIZE, SECTOR, PAGE, write_size)
        self.bits = [1] * (SIZE * 8)
        self.wear = [0] * SECTORS
        self.protected: set[int] = set()
        self.on = True

    def bits_of(self, data: bytes) -> list[int]:
        return [byte >> bit & 1 for byte in data for bit in range(7, -1, -1)]

    @rule(data=st.data())
    def program(self, data: st.DataObject) -> None:
        unit = self.flash.write_size
        start = data.draw(st.integers(0, SIZE // unit - 1)) * unit
        length = data.draw(st.integers(0, min(40, SIZE - start) // unit)) * unit
        allowed = self.flash.read(start, length) if self.on else bytes(length)
        wanted = bytes(
            a & b
            for a, b in zip(allowed, data.draw(st.binary(min_size=length, max_size=length)), strict=True)
        )
        if not self.on:
            with pytest.raises(PowerCut):
                self.flash.program(start, wanted)
            return
        if self.protected & set(range(start, start + length)):
            with pytest.raises(FlashError, match="protected"):
                self.flash.program(start, wanted)
            return
        if unit > 1 and allowed != b"\xff" * length:
            with pytest.raises(FlashError, match="programmed before"):
                self.flash.program(start, wanted)
            return
        self.flash.program(start, wanted)
        self.bits[start * 8 : (start + length) * 8] = self.bits_of(wanted)

    @rule(place=st.integers(0, SIZE * 8 - 1))
    def no_bit_comes_back(self, place: int) -> None:
        if (
            self.on
            and self.flash.write_size == 1
            and not self.bits[place]
            and place // 8 not in self.protected
        ):
            was = self.flash.read(place // 8, 1)[0]
            with pytest.raises(FlashError, match="would turn a 0 into a 1"):
                self.flash.program(place // 8, bytes([was | 0x80 >> place % 8]))

    @rule(sector=st.integers(0, SECTORS - 1))
    def erase(self, sector: int) -> None:
        start = sector * SECTOR
        if not self.on:
            with pytest.raises(PowerCut):
                self.flash.erase(start)
        elif self.protected & set(range(start, start + SECTOR)):
            with pytest.raises(FlashError, match="protected"):
                self.flash.erase(start)
        else:
            self.flash.erase(start)
            self.wear[sector] += 1
            self.bits[start * 8 : (start + SECTOR) * 8] = [1] * (SECTOR * 8)

    @rule(start=st.integers(0, SIZE), length=st.integers(0, 20))
    def protect(self, start: int, length: int) -> None:
        self.flash.protect(start, start + length)
        self.protected |= set(range(start, start + length))

    @rule()
    def cut(self) -> None:
        self.flash.cut()
        self.on = False

    @rule()
    def power_on(self) -> None:
        self.flash.power_on()
        self.on = True
        self.protected.clear()

    @invariant()
    def reads_as_the_model(self) -> None:
        if not self.on:
            with pytest.raises(PowerCut):
                self.flash.read(0, 1)
            return
        assert self.bits_of(self.flash.read(0, SIZE)) == self.bits
        assert self.flash.wear == self.wear


TestFlashModel = FlashModel.TestCase
TestFlashModel.settings = settings(max_examples=60, stateful_step_count=25)


def cut_program(torn: str, seed: int, old: bytes, new: bytes) -> Flash:
    flash = Flash(SIZE, SECTOR, PAGE)
    flash.program(0, old)
    flash.cut_at(1, torn, seed)
    with pytest.raises(PowerCut, match="operation 2"):
        flash.program(0, new)
    with pytest.raises(PowerCut, match="off"):
        flash.read(0, 1)
    flash.power_on()
    return flash


def test_a_page_that_was_cut_short_lies_between_old_and_new() -> None:
    rng = random.Random(1)
    seen: dict[str, set[bytes]] = {}
    for torn in TORN:
        for seed in range(40):
            old = rng.randbytes(PAGE)
            new = bytes(a & b for a, b in zip(old, rng.randbytes(PAGE), strict=True))
            flash = cut_program(torn, seed, old, new)
            left = flash.read(0, PAGE)
            assert all(n & ~f == 0 and f & ~o == 0 for n, f, o in zip(new, left, old, strict=True))
            kind = "old" if left == old else "new" if left == new else "between"
            seen.setdefault(torn, set()).add(kind.encode())
            flash.program(0, new)  # what was cut short can be finished
            assert {flash.read(0, PAGE) for _ in range(8)} == {new}
    assert seen["none"] == {b"old"}
    assert seen["whole"] == {b"new"}
    assert b"between" in seen["prefix"] & seen["bits"] & seen["weak"]


def test_weak_bits_read_now_so_and_now_so_until_they_are_erased() -> None:
    flash = cut_program("weak", 3, b"\xff" * PAGE, bytes(PAGE))
    assert len({flash.read(0, PAGE) for _ in range(20)}) > 1
    flash.erase(0)
    assert {flash.read(0, SECTOR) for _ in range(20)} == {b"\xff" * SECTOR}


@pytest.mark.parametrize("torn", TORN)
def test_a_sector_that_was_cut_short_and_no_other(torn: str) -> None:
    found = set()
    for seed in range(20):
        flash = Flash(SIZE, SECTOR, PAGE)
        flash.program(0, b"\x5a" * SIZE)
        flash.cut_at(2, torn, seed)
        flash.erase(0)
        with pytest.raises(PowerCut):
            flash.erase(SECTOR)
        flash.power_on()
        assert flash.read(0, SECTOR) == b"\xff" * SECTOR
        assert flash.read(2 * SECTOR, 2 * SECTOR) == b"\x5a" * (2 * SECTOR)
        found.add(flash.read(SECTOR, SECTOR))
        flash.erase(SECTOR)
        assert {flash.read(SECTOR, SECTOR) for _ in range(8)} == {b"\xff" * SECTOR}
    if torn in ("none", "whole"):
        assert found == {(b"\x5a" if torn == "none" else b"\xff") * SECTOR}
    else:
        assert len(found) > 10


def test_the_same_seed_tears_the_same() -> None:
    first, second, other = (
        cut_program("bits", seed, b"\xff" * PAGE, bytes(PAGE)).read(0, PAGE) for seed in (5, 5, 6)
    )
    assert first == second != other


def test_each_page_is_an_operation_and_the_cut_counts_them() -> None:
    flash = Flash(SIZE, SECTOR, PAGE)
    flash.program(PAGE // 2, bytes(2 * PAGE))  # parts of three pages
    assert flash.operations == 3
    flash.cut_at(2)
    with pytest.raises(PowerCut, match="operation 5"):
        flash.program(SECTOR, bytes(3 * PAGE))
    flash.power_on()
    assert flash.read(SECTOR, 2 * PAGE) == bytes(PAGE) + b"\xff" * PAGE


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda flash: flash.program(SIZE - 1, b"ab"), "not within the flash of 256 bytes"),
        (lambda flash: flash.read(-1, 1), "not within the flash"),
        (lambda flash: flash.erase(1), "1 is not where a sector of 64 bytes begins"),
        (
            lambda flash: flash.partition(64, 64).program(63, b"ab"),
            "2 bytes at 63 are not within the partition",
        ),
        (lambda flash: flash.partition(64, 64).erase(64), "not within the partition of 64 bytes"),
        (
            lambda flash: Flash(SIZE, SECTOR, PAGE, 8).program(4, bytes(8)),
            "8 bytes at 4 are not whole writes of 8",
        ),
    ],
)
def test_what_is_refused(call: object, message: str) -> None:
    flash = Flash(SIZE, SECTOR, PAGE)
    with pytest.raises(FlashError, match=message):
        call(flash)  # type: ignore[operator]
    assert flash.operations == 0


@pytest.mark.parametrize("sizes", [(0, 64, 16, 1), (100, 64, 16, 1), (256, 64, 24, 1), (256, 64, 16, 3)])
def test_sizes_that_do_not_fit(sizes: tuple[int, int, int, int]) -> None:
    with pytest.raises(ValueError, match="each must be a multiple of the next"):
        Flash(*sizes)
    with pytest.raises(ValueError, match="not whole sectors of 64"):
        Flash(256, 64, 16).partition(32, 64)
    with pytest.raises(ValueError, match="not whole sectors of 64"):
        Flash(256, 64, 16).partition(192, 128)


def test_a_partition_is_a_block_device() -> None:
    """As MicroPython's documentation of `vfs` has the simple and the extended interface."""
    flash = Flash(SIZE, SECTOR, PAGE)
    device = flash.partition(SECTOR, 2 * SECTOR)
    assert (device.ioctl(4, 0), device.ioctl(5, 0), device.ioctl(3, 0), device.ioctl(99, 0)) == (
        2,
        64,
        0,
        None,
    )
    device.writeblocks(0, b"a" * SECTOR)
    device.writeblocks(0, b"b" * 2 * SECTOR)
    buffer = bytearray(10)
    device.readblocks(0, buffer, SECTOR - 5)
    assert buffer == b"b" * 10
    assert device.ioctl(6, 1) == 0
    device.writeblocks(1, b"c", 3)
    device.readblocks(1, buffer)
    assert buffer == b"\xff\xff\xffc" + b"\xff" * 6
    assert flash.wear == [0, 2, 2, 0]
    assert flash.read(0, SECTOR) == b"\xff" * SECTOR
