"""What firmware runs on: the CPython that runs the simulator, or MicroPython with a heap of its own."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

NEEDED = ("chunker/topics", "device_client/fetch", "device_client/flash_sinks", "device_client/agent")


class NoInterpreter(Exception):
    """MicroPython or the library compiled for it is not there; says what puts it there."""


@dataclass(frozen=True, slots=True)
class Interpreter:
    """A command that a program's path and arguments are appended to, and its environment."""

    command: tuple[str, ...]
    environment: dict[str, str]


def cpython() -> Interpreter:
    """This one, with this very code, installed or not, and no buffer before its console."""
    paths = [str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])]
    return Interpreter((sys.executable, "-u", "-P"), {**os.environ, "PYTHONPATH": os.pathsep.join(paths)})


def micropython(program: Path, library: Path, heap: str = "256k") -> Interpreter:
    """MicroPython 1.25 for Unix. `library`: the folder of `.mpy` files that `make mpy` fills; `heap`: as
    `-X heapsize` takes it, in bytes, "64k" or "64kw" (words of 32 bits). Raises NoInterpreter."""
    if not os.access(program, os.X_OK):
        raise NoInterpreter(f"no MicroPython at {program}: tests/micropython/install.sh puts it into .tools")
    lacking = [name for name in NEEDED if not (library / f"{name}.mpy").exists()]
    if lacking:
        raise NoInterpreter(
            f"{library} has no {lacking[0]}.mpy: `make mpy` compiles the library into dist/mpy"
        )
    path = f"{library.resolve()}:.frozen"
    return Interpreter((str(program.resolve()), "-X", f"heapsize={heap}"), {"MICROPYPATH": path})
