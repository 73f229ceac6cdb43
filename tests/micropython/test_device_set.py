"""The device set runs where it is meant to: compiled, on the real MicroPython."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.support.device_set import ROOT, compile_to, modules
from tests.support.required import lacking

INTERPRETER = ROOT / ".tools" / "micropython"

pytestmark = pytest.mark.micropython


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder where the set lies as `.mpy`, and no source of it."""
    if not os.access(INTERPRETER, os.X_OK):
        lacking("micropython", "no MicroPython in .tools: tests/micropython/install.sh puts it there")
    folder = tmp_path_factory.mktemp("mpy")
    compile_to(folder, [*modules(), *modules("device_rim")])
    return folder


def run(folder: Path, *arguments: str, heap: str = "1m") -> str:
    """What MicroPython prints with only `folder` and its own frozen modules to import from."""
    done = subprocess.run(
        [INTERPRETER, "-X", f"heapsize={heap}", *arguments],
        cwd=folder,
        env={"MICROPYPATH": f"{folder}:.frozen"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def names() -> list[str]:
    return [".".join(path.with_suffix("").parts) for path in modules()]


def test_every_module_imports_compiled(compiled: Path) -> None:
    script = "".join(f"import {name}\n" for name in names()) + "print(device_client.download.__file__)"
    assert run(compiled, "-c", script).strip().endswith("download.mpy")


def test_the_whole_set_fits_a_small_heap(compiled: Path) -> None:
    """DESIGN's smallest: 32 KiB, of which a download of 1 KiB blocks needs about half."""
    script = "".join(f"import {name}\n" for name in names()) + "import gc\ngc.collect()\nprint(gc.mem_free())"
    assert int(run(compiled, "-c", script, heap="32k")) > 12 * 1024


@pytest.mark.parametrize("encoding", ["cbor", "json"])
@pytest.mark.parametrize("cut", ["0", "1"], ids=["whole", "resumed"])
def test_a_download_is_exact(compiled: Path, encoding: str, cut: str) -> None:
    script = Path(__file__).with_name("in_memory.py")
    served, came = run(compiled, str(script), encoding, "100123", "1024", cut, heap="2m").split()
    assert came == served
