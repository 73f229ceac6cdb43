"""A micro:bit that is not there: QEMU emulates the board, MicroPython 1.9.2 runs on it, a file is downloaded.

Nothing of the device is simulated by us: it has 16 KB of RAM and a serial line, and `device_client.nano` is
sent to it over the raw prompt as to a board on the desk.
"""

import secrets
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import device_client.nano
from device_client.errors import DownloadError, Rejected
from firmware_sim.gateway import Gateway
from firmware_sim.raw_prompt import COLLECT, RawPrompt
from firmware_sim.serial_line import SerialLine
from firmware_sim.serial_link import Line
from firmware_sim.shrinking import shrink

FIRMWARE = Path("/usr/share/firmware-microbit-micropython/firmware.hex")
"""Where Debian's package firmware-microbit-micropython puts it."""
BOOT_SECONDS = 20.0


class NoBoard(DownloadError):
    """QEMU or the firmware is not installed; says which packages bring them."""


class NotDownloaded(DownloadError):
    """The device has ended without the file; what it said is the message."""


@dataclass(frozen=True)
class Result:
    """A download that came to its end. Heaps are bytes free on the device, after a collection."""

    size: int
    device_crc16: int
    host_crc16: int
    sha256: str
    """Of what the device says it has taken."""
    heap_before: int
    heap_loaded: int
    heap_after: int
    source_bytes: int
    """Of the client, as it was sent."""
    seconds: float
    """The download alone."""
    repeated: int
    """Frames sent again."""


def units() -> list[str]:
    """The nano client's sources as they are sent."""
    folder = Path(device_client.nano.__file__).parent
    sources = [(folder / f"{name}.py").read_text() for name in device_client.nano.UNITS]
    return shrink(sources, "device_client.nano", keep=("run",))


@contextmanager
def board(firmware: Path = FIRMWARE) -> Iterator[SerialLine]:
    """The serial line of an emulated micro:bit that has booted, for a `with`. NoBoard, LineError."""
    qemu = shutil.which("qemu-system-arm")
    if qemu is None or not firmware.exists():
        lacking = "qemu-system-arm" if qemu is None else str(firmware)
        raise NoBoard(f"no {lacking}: packages qemu-system-arm and firmware-microbit-micropython bring them")
    command = [qemu, "-M", "microbit", "-device", f"loader,file={firmware}", "-nographic", "-monitor", "none"]
    command += ["-serial", "stdio"]
    if setpriv := shutil.which("setpriv"):  # Linux: it ends with us, even where we are killed
        command = [setpriv, "--pdeathsig", "KILL", *command]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:  # noqa: S603
        assert process.stdin
        assert process.stdout
        try:
            line = SerialLine(process.stdout.fileno(), process.stdin.fileno())
            line.read_until(b">>> ", BOOT_SECONDS)
            yield line
        finally:
            process.kill()


def download(
    broker: str,
    *,
    thing: str,
    stream: str,
    file_id: int = 0,
    cafile: str | None = None,
    firmware: Path = FIRMWARE,
    patience: float = 60.0,
    progress: Callable[[int], None] | None = None,
    disturb: Callable[[SerialLine], Line] = lambda line: line,
) -> Result:
    """Downloads a stream's file on an emulated micro:bit. `progress` gets the bytes that it has taken.

    `patience`: seconds without a block taken. `disturb`: what stands between gateway and board instead of the
    line. ValueError for a bad broker URL; whatever else ends it without the file is a DownloadError.
    """
    if not 0 <= file_id <= 255:
        raise ValueError(f"file id {file_id} is not within 0 to 255")
    with board(firmware) as line:
        prompt = RawPrompt(line)
        prompt.enter()
        heap_before = _free(prompt)
        sources = units()
        for source in sources:
            prompt.load(source)
        prompt.run("import micropython as _m")
        heap_loaded = _free(prompt)
        with Gateway(disturb(line), broker, thing, stream, cafile=cafile) as gateway:
            token = secrets.token_hex(4).encode()
            started = time.monotonic()
            # A byte 3 in a frame is no Ctrl-C as long as this program runs.
            prompt.start(f"_m.kbd_intr(-1)\nrun({token!r},{file_id})")
            report = gateway.serve(patience, progress)
            seconds = time.monotonic() - started
        if report.message:
            raise Rejected(report.reason, report.message)
        if report.reason:
            raise NotDownloaded(f"the device ended after {report.size} bytes: {report.reason}")
        prompt.enter()
        return Result(
            report.size,
            report.device_crc16,
            report.crc16,
            report.sha256,
            heap_before,
            heap_loaded,
            _free(prompt),
            sum(map(len, sources)),
            seconds,
            gateway.link.repeated,
        )


def _free(prompt: RawPrompt) -> int:
    return int(prompt.run(COLLECT + "print(_g.mem_free())"))
