"""The house stays as DESIGN draws it (rule 2): read from the imports of every module."""

import ast
import re
import subprocess
import sys
import tokenize
import tomllib
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest

from tests.support.device_set import ROOT, modules

MAY_IMPORT = {
    "chunker": set[str](),
    "device_client": {"chunker"},
    "firmware_sim": {"chunker", "device_client"},
    "broker_bridge": {"chunker"},
    "sluice": {"broker_bridge", "chunker", "device_client", "firmware_sim"},
}
# boto3 brings them, at the versions it pins: to name them too would be a second source of their versions.
COMES_WITH_BOTO3 = {"botocore", "s3transfer", "urllib3"}
ON_THE_BOARD = {"microbit", "micropython", "umqtt"}  # modules of the interpreter that device code runs on
LONGEST_FILE = 450
LONGEST_DEVICE_SET = 500
NO_CODE = {tokenize.ENCODING, tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT}
NO_CODE |= {tokenize.DEDENT, tokenize.ENDMARKER}
NOT_FOR_GET = {"alembic", "amqtt", "boto3", "botocore", "sqlalchemy", "uvicorn"}


def sources(*folders: str) -> list[Path]:
    """Every Python file in those top-level folders, relative to the repository."""
    return sorted(path.relative_to(ROOT) for folder in folders for path in (ROOT / folder).rglob("*.py"))


def name_of(path: Path) -> str:
    """The module that a file is."""
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


HOUSE = {name_of(path): path for path in sources(*MAY_IMPORT)}


def imports(path: Path) -> Iterator[str]:
    """What a file imports, anywhere in it: `a.b.c` for both `import a.b.c` and `from a.b import c`."""
    package = name_of(path).split(".")
    if path.name != "__init__.py":
        package.pop()
    for node in ast.walk(ast.parse((ROOT / path).read_text(), str(path))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            start = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{start}.{alias.name}" for alias in node.names)


def ours(path: Path) -> set[str]:
    """The modules of the house that a file imports."""
    found = (name if name in HOUSE else name.rpartition(".")[0] for name in imports(path))
    return {name for name in found if name in HOUSE}


def third_party(path: Path) -> set[str]:
    """The top-level packages a file imports that are neither ours nor Python's."""
    tops = {name.partition(".")[0] for name in imports(path)}
    return tops - MAY_IMPORT.keys() - {"tests", "benchmarks"} - ON_THE_BOARD - sys.stdlib_module_names


def lines_of_code(path: Path) -> set[int]:
    """The lines that become bytecode and cost heap: without docstrings, comments and empty ones."""
    with (ROOT / path).open("rb") as file:
        tokens = [one for one in tokenize.tokenize(file.readline) if one.type not in NO_CODE]
    lines = {line for one in tokens for line in range(one.start[0], one.end[0] + 1)}
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            lines -= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return lines


def project() -> dict[str, Any]:
    """pyproject.toml's `[project]`."""
    table: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return table


def normal(requirement: str) -> str:
    """The distribution's name in a requirement, as package indexes compare it."""
    name = re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0]
    return re.sub(r"[-_.]+", "-", name).lower()


def test_this_test_reads_imports() -> None:
    path = Path("tests/test_architecture.py")
    assert {"ast", "tests.support.device_set.modules"} <= set(imports(path))
    assert third_party(path) == {"pytest"}
    assert "broker_bridge.storage.objects" in ours(HOUSE["broker_bridge.registry.streams"])


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_arrows_point_inwards(room: str) -> None:
    outwards = {
        f"{path} imports {name}"
        for path in sources(room)
        for name in ours(path)
        if name.partition(".")[0] not in MAY_IMPORT[room] | {room}
    }
    assert outwards == set()


def test_there_are_no_cycles() -> None:
    try:
        TopologicalSorter({name: ours(path) - {name} for name, path in HOUSE.items()}).prepare()
    except CycleError as error:
        pytest.fail(f"a cycle of imports: {' <- '.join(error.args[1])}")


def test_the_protocol_needs_python_alone() -> None:
    assert {path: third_party(path) for path in sources("chunker") if third_party(path)} == {}


def test_what_is_imported_is_declared_and_what_is_declared_is_imported() -> None:
    declared = {normal(requirement) for requirement in project()["dependencies"]}
    on_demand = {normal(requirement) for requirement in project()["optional-dependencies"]["sim"]}
    extras = {normal(one) for extra in project()["optional-dependencies"].values() for one in extra}
    owners = packages_distributions()

    def used(*folders: str) -> dict[str, set[str]]:
        tops = {top for path in sources(*folders) for top in third_party(path)}
        return {top: {normal(owner) for owner in owners.get(top, [top])} for top in tops}

    shipped = used(*MAY_IMPORT)
    provided = declared | on_demand | COMES_WITH_BOTO3
    assert [top for top, owner in shipped.items() if not owner & provided] == []
    for_tests = used("tests", "benchmarks")
    assert [
        top
        for top, owner in for_tests.items()
        if not owner & (declared | extras | COMES_WITH_BOTO3 | {"docker"})
    ] == []
    assert (declared | on_demand) - set().union(*shipped.values()) == set()


def test_what_an_extra_brings_is_imported_inside_what_needs_it() -> None:
    extra = {normal(requirement) for requirement in project()["optional-dependencies"]["sim"]}
    for path in sources(*MAY_IMPORT):
        for node in ast.parse((ROOT / path).read_text()).body:
            named = {one.name for one in node.names} if isinstance(node, ast.Import) else set()
            named |= {node.module or ""} if isinstance(node, ast.ImportFrom) else set()
            assert not {name.partition(".")[0] for name in named} & extra, path


def test_get_loads_no_service() -> None:
    script = """
import sys
from sluice.__main__ import main
import sluice.commands.get
try:
    main(["get", "--help"])
except SystemExit:
    pass
print("modules:", *sorted({name.partition(".")[0] for name in sys.modules}))
"""
    output = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, check=True, capture_output=True, text=True
    )
    loaded = set(output.stdout.rpartition("modules:")[2].split())
    assert "sluice" in loaded
    assert loaded & NOT_FOR_GET == set()


@pytest.mark.parametrize("command", ["get", "publish"])
def test_what_a_client_command_may_load_later(command: str) -> None:
    path = ROOT / f"sluice/commands/{command}.py"
    at_the_top = {
        node.module if isinstance(node, ast.ImportFrom) else node.names[0].name
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    assert {name for name in at_the_top if (name or "").partition(".")[0] in NOT_FOR_GET} == set()


def test_no_file_is_too_long_to_hold_in_the_head() -> None:
    lengths = {path: len((ROOT / path).read_text().splitlines()) for path in sources(*MAY_IMPORT)}
    assert {path: length for path, length in lengths.items() if length > LONGEST_FILE} == {}


class TestDeviceSet:
    """What runs on a microcontroller."""

    def test_is_small(self) -> None:
        lengths = {path: len(lines_of_code(path)) for path in modules()}
        assert sum(lengths.values()) <= LONGEST_DEVICE_SET, lengths

    def test_is_of_the_protocol_and_the_device_alone(self) -> None:
        assert {path.parts[0] for path in modules()} <= {"chunker", "device_client"}

    def test_imports_only_itself_and_only_what_stands_before(self) -> None:
        before: set[str] = set()
        for path in modules():
            assert ours(path) <= before, path
            assert third_party(path) == set()
            before.add(name_of(path))

    @pytest.mark.parametrize("package", ["chunker", "device_client"])
    def test_its_packages_import_nothing(self, package: str) -> None:
        assert list(imports(Path(package, "__init__.py"))) == []
