"""The flash in a file that firmware writes, held against the flash in memory that the loader reads."""

import random
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_sim.boards.firmware import FlashFile, FlashForbids
from firmware_sim.flash import Flash, FlashError
from tests.support.waiting import wait_until

SECTOR, PAGE, SIZE, START = 64, 16, 256, 128
ERASED = b"\xff" * (START + SIZE + 64)

operations = st.lists(
    st.one_of(
        st.tuples(st.just("erase"), st.integers(-SECTOR, SIZE).map(lambda at: at // 32 * 32), st.just(b"")),
        st.tuples(
            st.just("program"),
            st.integers(-8, SIZE + 8),
            st.one_of(st.binary(max_size=40), st.integers(0, 64).map(bytes)),
        ),
    ),
    max_size=30,
)


@pytest.mark.parametrize("write_size", [1, 8])
def test_both_do_the_same(tmp_path: Path, write_size: int) -> None:
    path = tmp_path / "flash"

    @given(operations)
    def check(done: list[tuple[str, int, bytes]]) -> None:
        path.write_bytes(ERASED)
        file = FlashFile(str(path), START, SIZE, SECTOR, PAGE, write_size)
        memory = Flash(SIZE, SECTOR, PAGE, write_size)
        try:
            for what, offset, data in done:
                refused = []
                for one in (file, memory):
                    try:
                        one.erase(offset) if what == "erase" else one.program(offset, data)
                        refused.append(False)
                    except (FlashForbids, FlashError):
                        refused.append(True)
                assert refused[0] == refused[1], (what, offset, data)
                content = bytearray(SIZE)
                file.read_into(0, content)
                assert content == memory.read(0, SIZE)
        finally:
            file.close()
        whole = path.read_bytes()
        assert whole == ERASED[:START] + memory.read(0, SIZE) + ERASED[START + SIZE :]

    check()


def test_what_lies_outside_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "flash").write_bytes(ERASED[: START + 100])
    file = FlashFile(str(tmp_path / "flash"), START, SIZE, SECTOR)
    with pytest.raises(FlashForbids, match="not within the 256 bytes"):
        file.read_into(250, bytearray(7))
    with pytest.raises(FlashForbids, match="the file ends before byte 256"):
        file.read_into(96, bytearray(32))
    file.close()


FOR_EVER = """
import sys
from firmware_sim.boards.firmware import FlashFile
flash = FlashFile(sys.argv[1], 0, 4096, 4096, 256, 1, 60, 60)
{operation}
"""


@pytest.mark.parametrize("operation", ["flash.erase(0)", "flash.program(256, bytes(200))"])
def test_a_cut_leaves_neither_the_old_nor_the_new(tmp_path: Path, operation: str) -> None:
    path = tmp_path / "flash"
    old = bytearray(random.Random(5).randbytes(4096))
    old[256:512] = b"\xff" * 256
    path.write_bytes(old)
    command = [sys.executable, "-c", FOR_EVER.format(operation=operation), str(path)]
    pages = range(0, 4096, 256) if "erase" in operation else [256]

    def torn() -> bool:
        now = path.read_bytes()
        return all(now[at : at + 256] != old[at : at + 256] for at in pages)

    with subprocess.Popen(command) as process:
        try:
            wait_until(torn, what="the middle of the operation")
        finally:
            process.kill()
    left = path.read_bytes()
    if "erase" in operation:
        assert all(left[at : at + 256] != b"\xff" * 256 for at in pages)
    else:
        assert left[:256] == old[:256]
        assert left[456:] == old[456:]
        assert 0 < sum(byte.bit_count() for byte in left[256:456]) < 1600
