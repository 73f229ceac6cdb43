"""The least heap in which MicroPython downloads 1 MiB exactly, by trial: broker and service are real."""

import hashlib
import os
import subprocess
from pathlib import Path

from benchmarks.report import Goal, Row
from benchmarks.rig import STREAM, workshop
from tests.micropython.running import INTERPRETER, INTERPRETER32
from tests.support import romfs
from tests.support.device_set import ROOT, compile_one, compile_to, modules

SIZE = 1 << 20
LOW, HIGH = 8, 128  # KiB tried
CASES = (
    # (words of bits, block size, modules in ROMFS, goal in KiB)
    (64, 4096, False, 64),
    (64, 1024, False, None),
    (64, 1024, True, None),
    (32, 4096, False, 64),
    (32, 1024, False, None),
    (32, 1024, True, 32),
)


def run(quick: bool) -> list[Row]:
    """KiB, one row for each kind of interpreter and place of the modules."""
    rows = []
    with workshop(SIZE) as shop, shop.broker() as broker, shop.service(broker.url):
        board = shop.folder / "board"
        compile_to(board, [*modules(), *modules("device_rim")])
        compile_one(ROOT / "tests" / "micropython" / "device.py", board / "device.mpy", "device")
        image = romfs.image(board)
        (shop.folder / "device.romfs").write_bytes(image)
        mapped = romfs.SCRIPT.format(
            image=str(shop.folder / "device.romfs"), size=len(image), module="device"
        )
        out = shop.folder / "got.bin"
        sha256 = hashlib.sha256(shop.source.read_bytes()).hexdigest()
        for bits, block_size, in_rom, goal in CASES[-1:] if quick else CASES:
            main = shop.folder / "main.py"
            main.write_text(mapped if in_rom else "import device")
            interpreter = INTERPRETER if bits == 64 else INTERPRETER32
            arguments = [broker.host, str(broker.port), STREAM, str(block_size), sha256, str(out)]
            what = f"MicroPython, {bits}-bit words, {block_size // 1024} KiB blocks, modules in "
            least = None
            if os.access(interpreter, os.X_OK):
                least = _least([str(interpreter)], [str(main), *arguments], board, out)
            rows.append(
                Row(
                    what + ("ROMFS" if in_rom else "the heap"),
                    least,
                    "KiB",
                    goal=None if goal is None else Goal("<=", goal, "KiB"),
                    note="" if least else "tests/micropython/install.sh installs it",
                )
            )
    return rows


def _least(command: list[str], arguments: list[str], board: Path, out: Path) -> int:
    """KiB of heap with which it ends well, where one less does not do."""
    low, high = LOW, HIGH
    while high - low > 1:
        heap = (low + high) // 2
        for old in out.parent.glob(out.name + "*"):
            old.unlink()
        done = subprocess.run(
            [*command, "-X", f"heapsize={heap}k", *arguments],
            env={"MICROPYPATH": f"{board}:.frozen"},
            capture_output=True,
            timeout=120,
        )
        if done.returncode == 0 and out.exists():
            high = heap
        else:
            low = heap
    return high
