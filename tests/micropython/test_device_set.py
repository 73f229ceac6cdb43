"""The device set runs where it is meant to: compiled, on the real MicroPython."""

from pathlib import Path

import pytest

from tests.micropython.running import INTERPRETER, run, there
from tests.support.device_set import compile_to, lean, modules, name_of

pytestmark = pytest.mark.micropython

ALL = [*modules(), *modules("device_rim")]


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder where everything lies as `.mpy`, and no source of it."""
    there(INTERPRETER)
    folder = tmp_path_factory.mktemp("mpy")
    compile_to(folder, ALL)
    return folder


@pytest.mark.parametrize("module", ALL, ids=name_of)
def test_every_module_imports_compiled(compiled: Path, module: Path) -> None:
    name = name_of(module)
    script = f"import {name}\nprint({name}.__file__)"
    assert run(compiled, "-c", script).strip().endswith(module.with_suffix(".mpy").name)


def test_the_whole_set_fits_a_small_heap(compiled: Path) -> None:
    """What the decisions alone take; test_downloads.py has what a whole device does."""
    script = "".join(f"import {name_of(module)}\n" for module in modules())
    script += "import gc\ngc.collect()\nprint(gc.mem_free())"
    assert int(run(compiled, "-c", script, heap="32k")) > 8 * 1024


@pytest.mark.parametrize("encoding", ["cbor", "json"])
@pytest.mark.parametrize("cut", ["0", "1"], ids=["whole", "resumed"])
def test_a_download_is_exact(compiled: Path, encoding: str, cut: str) -> None:
    script = Path(__file__).with_name("in_memory.py")
    served, came = run(compiled, str(script), encoding, "100123", "1024", cut, heap="2m").split()
    assert came == served


def test_what_is_compiled_has_the_same_lines() -> None:
    source = """TYPE_CHECKING = False  # no `typing`
if TYPE_CHECKING:
    from typing import Any

    from a import b

_MOST = 5  # blocks
LEAST = 5
"""
    assert lean(source) == "\n" * 6 + "_MOST = const(5)  # blocks\nLEAST = 5\n"
