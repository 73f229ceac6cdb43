"""`mip install` takes just what a device needs, and it runs."""

import ast
import json
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.micropython.running import INTERPRETER, run, there
from tests.support.device_set import ROOT, compile_to, modules, package

pytestmark = pytest.mark.micropython

PACKAGE: dict[str, Any] = json.loads((ROOT / "package.json").read_text())
START = {"device_client/fetch.py", "device_client/socket_transport.py", "device_client/file_sink.py"}


def needed(module: Path) -> set[Path]:
    """The modules of ours that one imports when it runs, with all that these import."""
    found = {module, module.parent / "__init__.py"}
    for node in ast.parse((ROOT / module).read_text()).body:
        if (
            isinstance(node, ast.ImportFrom)
            and node.module
            and node.module.startswith(("chunker", "device_"))
        ):
            path = Path(*node.module.split("."))
            names = [path / alias.name for alias in node.names]
            for one in [path, *names]:
                if (ROOT / one).with_suffix(".py").is_file():
                    found |= needed(one.with_suffix(".py"))
    return found


def test_it_lists_what_a_device_imports_and_no_more() -> None:
    listed = dict(PACKAGE["urls"])
    expected = set().union(*(needed(Path(one)) for one in START))
    assert set(listed) == {str(one.with_suffix(".mpy")) for one in expected}
    assert all(source == f"dist/mpy/{target}" for target, source in listed.items())
    shipped = {*modules(), *modules("device_rim")}
    assert {one for one in expected if one.name != "__init__.py"} <= shipped


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""


@pytest.fixture
def site(tmp_path: Path) -> Iterator[str]:
    """Where package.json lies with what it names, as `make mpy URL=…` makes it."""
    there(INTERPRETER)
    compile_to(tmp_path / "site", [*modules(), *modules("device_rim")])
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path / "site"))) as server:
        url = f"http://127.0.0.1:{server.server_port}"
        (tmp_path / "site" / "package.json").write_text(package(url))
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield url
        server.shutdown()
        thread.join()


def test_mip_installs_it(site: str, tmp_path: Path) -> None:
    board = tmp_path / "board"
    board.mkdir()
    said = run(board, "-c", f"import mip\nmip.install({site + '/package.json'!r}, target={str(board)!r})")
    assert "Done" in said, said
    script = "".join(f"import {Path(one).with_suffix('').as_posix().replace('/', '.')}\n" for one in START)
    run(board, "-c", script + "print(device_client.fetch.Fetch)")
    sizes = [path.stat().st_size for path in board.rglob("*.mpy")]
    assert len(sizes) == len(PACKAGE["urls"])
    print(f"package.json: {len(sizes)} modules, {sum(sizes)} bytes installed")
