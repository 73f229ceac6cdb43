"""The interpreters, and what they are given to import."""

import os
import subprocess
from pathlib import Path

from tests.support.device_set import ROOT
from tests.support.required import lacking

INTERPRETER = ROOT / ".tools" / "micropython"
INTERPRETER32 = ROOT / ".tools" / "micropython32"


def there(interpreter: Path) -> Path:
    """The interpreter; ends the test where it is not installed."""
    if not os.access(interpreter, os.X_OK):
        lacking(
            interpreter.name, f"no {interpreter.name} in .tools: tests/micropython/install.sh puts it there"
        )
    return interpreter


def run(
    folder: Path, *arguments: str, heap: str = "1m", interpreter: Path = INTERPRETER, seconds: int = 60
) -> str:
    """What MicroPython prints with only `folder` and its own frozen modules to import from."""
    done = subprocess.run(
        [there(interpreter), "-X", f"heapsize={heap}", *arguments],
        cwd=folder,
        env={"MICROPYPATH": f"{folder}:.frozen"},
        capture_output=True,
        text=True,
        timeout=seconds,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
