"""The OTA agent on MicroPython: whole updates with the real service, from boot to boot."""

import json
import random
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from device_client.folder_slots import FolderSlots
from tests.micropython.running import INTERPRETER, INTERPRETER32, there
from tests.support import romfs
from tests.support.device_set import compile_one, compile_to, modules
from tests.support.ota_site import OtaSite

pytestmark = pytest.mark.micropython

KEY = ec.derive_private_key(0xA6E27, ec.SECP256R1())
POINT = KEY.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint).hex()


def image(version: int, size: int = 200_000, works: bool = True) -> bytes:
    content = random.Random(version).randbytes(size)
    return b"M1\0" + bytes([works]) + version.to_bytes(4, "big") + content


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OtaSite]:
    there(INTERPRETER)
    with OtaSite(tmp_path_factory.mktemp("site")) as one:
        yield one


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all that a device needs, compiled, and `updated.py` as its program."""
    folder = tmp_path_factory.mktemp("device")
    compile_to(folder, [*modules(), *modules("device_rim")])
    compile_one(Path(__file__).with_name("updated.py"), folder / "updated.mpy", "updated")
    return folder


class Board:
    """Boots again and again, in a thread, until it is stopped."""

    def __init__(self, command: list[str], library: Path, arguments: list[str]) -> None:
        self.said: list[str] = []
        self._command, self._library = [*command, *arguments], library
        self._stopped = False
        self._process: subprocess.Popen[str] | None = None
        self._thread = threading.Thread(target=self._live)
        self._thread.start()

    def _live(self) -> None:
        while not self._stopped:
            self._process = subprocess.Popen(
                self._command,
                env={"MICROPYPATH": f"{self._library}:.frozen"},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            assert self._process.stdout is not None
            for line in self._process.stdout:
                self.said.append(line.strip())
            if self._process.wait() != 0:
                break

    def stop(self) -> None:
        """As a power cut."""
        self._stopped = True
        if self._process is not None:
            self._process.kill()
        self._thread.join(30)


def install(folder: Path, content: bytes) -> None:
    folder.mkdir()
    FolderSlots(str(folder), "M1", lambda _head: None, 8, lambda: None).install(content)


@pytest.mark.parametrize(
    ("bits", "heap", "block_size"),
    [
        pytest.param(64, "128k", 4096, id="128 KiB, 4 KiB blocks"),
        pytest.param(32, "48k", 4096, id="48 KiB of a 32-bit board with its code in ROMFS, 4 KiB blocks"),
    ],
)
def test_a_board_is_updated(
    site: OtaSite, device: Path, tmp_path: Path, bits: int, heap: str, block_size: int
) -> None:
    thing = f"board-{bits}"
    arn = site.thing(thing)
    install(tmp_path / "slots", image(1))
    arguments = [
        site.broker.host,
        str(site.broker.port),
        thing,
        str(tmp_path / "slots"),
        str(block_size),
        POINT,
    ]
    main = tmp_path / "main.py"
    if bits == 64:
        main.write_text("import updated")
    else:
        content = romfs.image(device)
        (tmp_path / "device.romfs").write_bytes(content)
        main.write_text(
            romfs.SCRIPT.format(image=str(tmp_path / "device.romfs"), size=len(content), module="updated")
        )
    interpreter = there(INTERPRETER if bits == 64 else INTERPRETER32)
    board = Board(
        [str(interpreter), "-X", f"heapsize={heap}", str(main)], device if bits == 64 else tmp_path, arguments
    )
    try:
        job = site.update(f"two-{bits}", image(2), KEY, arn)
        assert site.ended(job, thing) == (
            "SUCCEEDED",
            {"reason": "accepted  v0.0.2", "updatedBy": "  v0.0.1"},
        ), board.said
        job = site.update(f"three-{bits}", image(3, works=False), KEY, arn)
        assert site.ended(job, thing) == ("FAILED", {"reason": "rejected: no radio"}), board.said
        job = site.update(f"forged-{bits}", image(4), ec.generate_private_key(ec.SECP256R1()), arn)
        assert site.ended(job, thing) == (
            "FAILED",
            {"reason": "rejected: its signature does not verify"},
        ), board.said
        site.iot.create_job(jobId=f"long-{bits}", targets=[arn], document=json.dumps({"steps": "x" * 30_000}))
        assert site.ended(f"long-{bits}", thing) == (
            "REJECTED",
            {"reason": "rejected: the job's messages do not fit this device's buffer of 6144 bytes"},
        ), board.said
    finally:
        board.stop()
    versions = [line for line in board.said if line.startswith("up")]
    assert versions == ["up 1", "up 2", "up 3", "up 2"], board.said
    print(heap, [line for line in board.said if line.startswith("heap")])
