"""Firmware as a process, from reset to reset, and the SIGKILL that is its power cut."""

import math
import os
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import IO

LONGEST_LINE = 4096
"""Bytes of a line of the console; the rest of a longer one is dropped."""


class BoardHangs(Exception):
    """The firmware neither ended nor reset for as long as it may run; it was killed."""


@dataclass(frozen=True, slots=True)
class Cut:
    """When the power goes: `delay` seconds after the firmware has said that it holds `share` of the bytes
    that it lacked at its start; where `share` is 0 or less, after its first word."""

    share: float
    delay: float


@dataclass(slots=True)
class Life:
    """What one run of the firmware said, and how it ended; sizes in bytes."""

    status: int | None = None
    """None where the power was cut."""
    held: int = 0
    resumed: int = 0
    """Of those held, there when it began."""
    size: int = 0
    """Of the file; 0 where it never said."""
    heap: int = 0
    """Most in use; 0 where the interpreter does not tell."""
    ended: str = ""
    errors: str = ""
    """The end of what it wrote to stderr."""

    def hear(self, line: str) -> None:
        """A line of the console."""
        what, _, rest = line.partition(" ")
        if what == "held":
            self.held, self.resumed, self.size, self.heap = map(int, rest.split())
        elif what == "ended":
            self.ended = rest


def live(
    command: Sequence[str],
    environment: Mapping[str, str],
    told: str,
    cut: Cut | None,
    seconds: float,
    heard: Callable[[Life], object],
) -> Life:
    """Runs the command, with `told` on its stdin, until it ends, the power is cut or, BoardHangs, `seconds`
    have passed. `heard` is called when it has said something."""
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as errors:
        given.write(told.encode())
        given.seek(0)
        process = subprocess.Popen(  # noqa: S603
            command, env=environment, stdin=given, stdout=subprocess.PIPE, stderr=errors
        )
        try:
            life = _watch(process, cut, seconds, heard)
        finally:
            process.kill()
            process.wait()
            assert process.stdout
            process.stdout.close()
        life.errors = _end_of(errors)
        return life


def _watch(
    process: "subprocess.Popen[bytes]", cut: Cut | None, seconds: float, heard: Callable[[Life], object]
) -> Life:
    assert process.stdout
    console = process.stdout.fileno()
    life = Life()
    started = time.monotonic()
    cut_at = math.inf
    line = b""
    while True:
        wait = min(cut_at, started + seconds) - time.monotonic()
        if wait <= 0:
            process.kill()
            if time.monotonic() < cut_at:
                raise BoardHangs(f"the firmware did not end within {seconds:g} s")
            wait = seconds  # for what it has said before, and the end of it
        if not select.select([console], [], [], wait)[0]:
            continue
        said = os.read(console, 65536)
        if not said:
            break
        *lines, line = (line + said).split(b"\n")
        line = line[:LONGEST_LINE]
        for one in lines:
            life.hear(one.decode(errors="replace"))
        if lines:
            heard(life)
        if cut and cut_at == math.inf and lines and _said(life) >= cut.share:
            cut_at = time.monotonic() + cut.delay
    status = process.wait(seconds)
    life.status = None if status == -signal.SIGKILL else status
    return life


def _said(life: Life) -> float:
    # Which share of what it lacked it holds; 0 as long as it has not said what it lacks.
    lacked = life.size - life.resumed
    return (life.held - life.resumed) / lacked if lacked else float(life.size > 0)


def _end_of(file: IO[bytes]) -> str:
    file.seek(max(0, file.seek(0, os.SEEK_END) - LONGEST_LINE))
    return file.read().decode(errors="replace").strip()
