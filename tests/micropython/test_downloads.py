"""Whole downloads on MicroPython, in the heaps of small machines: a real broker, the real service."""

import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.micropython.running import INTERPRETER, INTERPRETER32, run, there
from tests.sluice.support import Service, sluice
from tests.support import romfs
from tests.support.device_set import compile_one, compile_to, modules
from tests.support.mosquitto import MosquittoServer

pytestmark = pytest.mark.micropython

CONTENT = random.Random(7).randbytes(1 << 20)
DEVICE = Path(__file__).with_name("device.py")


@dataclass
class Site:
    """A broker with a service that has CONTENT as file 0 of the stream `fw`."""

    broker: MosquittoServer
    service: Service


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    there(INTERPRETER)
    folder = tmp_path_factory.mktemp("site")
    (folder / "fw.bin").write_bytes(CONTENT)
    broker = MosquittoServer(tmp_path_factory.mktemp("mosquitto"))
    try:
        with Service(folder, "--broker", broker.url) as service:
            flags = ["--stream", "fw", "--http", service.http, "--state", service.state]
            done = sluice(["publish", "fw.bin", *flags], folder)
            assert done.returncode == 0, done.stderr
            yield Site(broker, service)
    finally:
        broker.close()


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all that a device needs, compiled, and `device.py` as its program."""
    folder = tmp_path_factory.mktemp("device")
    compile_to(folder, [*modules(), *modules("device_rim")])
    compile_one(DEVICE, folder / "device.mpy", "device")
    return folder


def arguments(site: Site, block_size: int, out: Path) -> list[str]:
    sha256 = hashlib.sha256(CONTENT).hexdigest()
    return [site.broker.host, str(site.broker.port), "fw", str(block_size), sha256, str(out)]


@pytest.mark.parametrize(
    ("heap", "block_size"),
    [
        pytest.param("64k", 4096, id="64 KiB"),
        # `w`: for each 32 bits of a word, as MicroPython has it for the heaps of machines with 32-bit words.
        pytest.param("32wk", 1024, id="32 KiB of 32-bit words"),
    ],
)
def test_in_a_small_heap(site: Site, device: Path, tmp_path: Path, heap: str, block_size: int) -> None:
    (tmp_path / "main.py").write_text("import device")
    out = tmp_path / "fw.bin"
    said = run(device, str(tmp_path / "main.py"), *arguments(site, block_size, out), heap=heap)
    assert out.read_bytes() == CONTENT
    assert [one.name for one in tmp_path.iterdir() if "fw" in one.name] == ["fw.bin"]
    used, most, resumed, oversize = map(int, said.split())
    assert (resumed, oversize) == (0, 0)
    print(f"heap {heap}: {used} bytes after imports, at most {most} in use")


def test_in_32_kib_on_a_32_bit_machine(site: Site, device: Path, tmp_path: Path) -> None:
    """As on a board: the modules run in place from a ROMFS in flash, the heap is the download's own."""
    image = romfs.image(device)
    (tmp_path / "device.romfs").write_bytes(image)
    main = tmp_path / "main.py"
    main.write_text(
        romfs.SCRIPT.format(image=str(tmp_path / "device.romfs"), size=len(image), module="device")
    )
    out = tmp_path / "fw.bin"
    said = run(tmp_path, str(main), *arguments(site, 1024, out), heap="32k", interpreter=INTERPRETER32)
    assert out.read_bytes() == CONTENT
    used, most, resumed, oversize = map(int, said.split())
    assert (resumed, oversize) == (0, 0)
    print(f"heap 32k, ROMFS: {used} bytes after imports, at most {most} in use")


@pytest.mark.parametrize("which", ["async", "umqtt"])
def test_through_another_transport(site: Site, device: Path, tmp_path: Path, which: str) -> None:
    out = tmp_path / "fw.bin"
    script = DEVICE.with_name("other_device.py")
    compile_one(script.with_name("umqtt.py"), device / "umqtt.mpy", "umqtt")
    host, port, stream, _, sha256, path = arguments(site, 4096, out)
    size, turns = run(device, str(script), which, host, port, stream, sha256, path).split()
    assert out.read_bytes() == CONTENT
    assert int(size) == len(CONTENT)
    assert (int(turns) > 10) == (which == "async")


def test_what_is_left_half_done_is_taken_up(site: Site, device: Path, tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text("import device")
    out = tmp_path / "fw.bin"
    command = [str(tmp_path / "main.py"), *arguments(site, 4096, out)]
    assert run(device, *command, "500000") == ""
    assert not out.exists()
    resumed = int(run(device, *command).split()[2])
    assert out.read_bytes() == CONTENT
    assert resumed >= 500_000
    assert sorted(one.name for one in tmp_path.iterdir()) == ["fw.bin", "main.py"]
