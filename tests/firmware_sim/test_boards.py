"""Boards whose firmware is a process of its own: updated by the real service over a real broker."""

import hashlib
import random
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256

from device_client.errors import Rejected, SinkError
from device_client.mqtt import BrokerUnreachable
from firmware_sim.boards.board import Board
from firmware_sim.boards.hardware import Chip
from firmware_sim.boards.interpreters import Interpreter, NoInterpreter, cpython, micropython
from firmware_sim.boards.lives import BoardCrashed, Progress
from firmware_sim.boards.process import BoardHangs, Cut, live
from firmware_sim.boot.image import build
from firmware_sim.boot.loader import TRIES
from firmware_sim.update import Outcome
from tests.micropython.running import INTERPRETER, there
from tests.sluice.support import Service, sluice
from tests.support.device_set import compile_to, modules
from tests.support.mosquitto import MosquittoServer
from tests.support.waiting import free_port

KEY = ec.derive_private_key(0xB0A2D, ec.SECP256R1())
STRANGER = ec.derive_private_key(0x57A2, ec.SECP256R1())
OLD = build(random.Random(1).randbytes(100_000), version=1, security=1, key=KEY)
NEW = build(random.Random(2).randbytes(100_000), version=2, security=1, key=KEY)
FORGED = build(random.Random(3).randbytes(20_000), version=2, security=1, key=STRANGER)
IMAGES = {"new": NEW, "forged": FORGED}
CHIP = Chip(slot_bytes=112 * 1024, journal_bytes=8192, erase_seconds=0.008, program_seconds=0.0001)


@dataclass
class Site:
    """A broker with a service that has each of IMAGES as file 0 of a stream of that name."""

    broker: str


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    broker = MosquittoServer(tmp_path_factory.mktemp("mosquitto"))
    try:
        with Service(folder, "--broker", broker.url) as service:
            for stream, image in IMAGES.items():
                (folder / f"{stream}.bin").write_bytes(image)
                flags = ["--stream", stream, "--http", service.http, "--state", service.state]
                done = sluice(["publish", f"{stream}.bin", *flags], folder)
                assert done.returncode == 0, done.stderr
            yield Site(broker.url)
    finally:
        broker.close()


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    there(INTERPRETER)
    folder = tmp_path_factory.mktemp("mpy")
    flash = Path("device_client/flash_sinks.py")
    compile_to(folder, [*modules(), *(one for one in modules("device_rim") if one != flash), flash])
    return folder


@pytest.fixture(params=["cpython", pytest.param("micropython", marks=pytest.mark.micropython)])
def interpreter(request: pytest.FixtureRequest) -> Interpreter:
    if request.param == "cpython":
        return cpython()
    return micropython(INTERPRETER, request.getfixturevalue("library"), "128k")


@pytest.fixture
def board(tmp_path: Path, interpreter: Interpreter) -> Board:
    one = Board(tmp_path / "flash", KEY.public_key(), chip=CHIP, interpreter=interpreter)
    one.install(OLD)
    return one


def sha256(image: bytes) -> str:
    return hashlib.sha256(image).hexdigest()


def runs(board: Board) -> bytes:
    """The image that runs, confirmed, whatever happens next."""
    boot = board.boot()
    assert not boot.test
    return boot.slot.image.read(0, boot.image.size)


def blocks_of_a_sector(size: int, block_size: int) -> int:
    """Bytes: a sector and the blocks at both its ends, at most."""
    return min(size, 4096 + 2 * (block_size - 1))


class TestUpdate:
    """What becomes of a board."""

    def test_without_a_cut(self, site: Site, board: Board, interpreter: Interpreter) -> None:
        said: list[Progress] = []
        result = board.update(site.broker, "mast", "new", sha256=sha256(NEW), progress=said.append)
        assert (result.outcome, result.reason) == (Outcome.CONFIRMED, "")
        assert (result.before, result.version, result.size) == (1, 2, len(NEW))
        assert (result.boots, result.cuts, result.fetched_again) == (3, 0, 0)
        assert runs(board) == NEW
        assert [one.test for one in said] == sorted(one.test for one in said)
        held = [one.held for one in said if not one.test]
        assert held == sorted(held)
        assert held[-1] == len(NEW)
        assert (20_000 < result.heap < 128 * 1024) == ("heapsize=128k" in interpreter.command)

    @pytest.mark.parametrize("seed", [1, 2])
    def test_however_often_the_power_is_cut(self, site: Site, board: Board, seed: int) -> None:
        result = board.update(
            site.broker, "mast", "new", sha256=sha256(NEW), block_size=1024, cuts=5, seed=seed
        )
        assert result.outcome is Outcome.CONFIRMED
        assert 1 <= result.cuts <= 5
        assert runs(board) == NEW
        assert result.fetched_again <= result.cuts * blocks_of_a_sector(len(NEW), 1024)

    def test_a_signature_that_is_right(self, site: Site, board: Board) -> None:
        signature = KEY.sign(NEW, ec.ECDSA(SHA256()))
        assert board.update(site.broker, "mast", "new", signature=signature).version == 2
        assert runs(board) == NEW

    def test_a_signature_of_somebody_else(self, site: Site, board: Board) -> None:
        signature = STRANGER.sign(NEW, ec.ECDSA(SHA256()))
        result = board.update(site.broker, "mast", "new", signature=signature, cuts=2, seed=3)
        assert (result.outcome, result.version) == (Outcome.REFUSED, 1)
        assert "signature does not verify" in result.reason
        assert runs(board) == OLD
        # Nothing is left of it: the next update is like the first.
        assert board.update(site.broker, "mast", "new", sha256=sha256(NEW)).version == 2

    def test_an_image_that_the_loader_does_not_trust(self, site: Site, board: Board) -> None:
        result = board.update(site.broker, "mast", "forged", sha256=sha256(FORGED))
        assert (result.outcome, result.version) == (Outcome.REFUSED, 1)
        assert "not signed with the device's key" in result.reason
        assert runs(board) == OLD

    def test_a_version_that_does_not_work(self, site: Site, board: Board) -> None:
        result = board.update(site.broker, "mast", "new", sha256=sha256(NEW), works=False)
        assert (result.outcome, result.version) == (Outcome.REFUSED, 1)
        assert "did not confirm itself" in result.reason
        assert result.boots == 1 + TRIES + 2
        assert runs(board) == OLD

    def test_an_older_version(self, site: Site, board: Board) -> None:
        board.install(build(b"newer", version=3, security=1, key=KEY))
        result = board.update(site.broker, "mast", "new", sha256=sha256(NEW))
        assert (result.outcome, result.version) == (Outcome.REFUSED, 3)
        assert "version 3 runs" in result.reason


class TestTrouble:
    """What an update that has no end says."""

    @pytest.mark.parametrize(
        ("stream", "changes", "error", "says"),
        [
            ("none", {}, Rejected, "ResourceNotFound"),
            ("new", {"block_size": 512 * 1024}, BoardCrashed, "524288 is not within 256 to 131072"),
        ],
    )
    def test_the_download_fails(
        self,
        site: Site,
        board: Board,
        stream: str,
        changes: dict[str, int],
        error: type[Exception],
        says: str,
    ) -> None:
        with pytest.raises(error, match=says):
            board.update(site.broker, "mast", stream, sha256=sha256(NEW), **changes)  # type: ignore[arg-type]
        assert runs(board) == OLD

    def test_no_broker(self, board: Board) -> None:
        with pytest.raises(BrokerUnreachable, match="cannot reach"):
            board.update(f"mqtt://127.0.0.1:{free_port()}", "mast", "new", sha256=sha256(NEW))

    def test_a_slot_that_is_too_small(self, site: Site, tmp_path: Path) -> None:
        chip = Chip(slot_bytes=8192, journal_bytes=8192)
        board = Board(tmp_path / "flash", KEY.public_key(), chip=chip)
        board.install(build(b"small", version=1, security=1, key=KEY))
        with pytest.raises(SinkError, match="do not fit"):
            board.update(site.broker, "mast", "new", sha256=sha256(NEW))

    @pytest.mark.parametrize(
        ("broker", "changes", "says"),
        [
            ("mqtts://there", {"sha256": "00"}, "without TLS"),
            ("http://there", {"sha256": "00"}, "broker's URL is not mqtt"),
            ("mqtt://there", {}, "one of them"),
            ("mqtt://there", {"sha256": "00", "signature": b"x"}, "one of them"),
            ("mqtt://there", {"sha256": "00", "cuts": -1}, "less than none"),
        ],
    )
    def test_what_makes_no_sense(
        self, tmp_path: Path, broker: str, changes: dict[str, object], says: str
    ) -> None:
        board = Board(tmp_path / "flash", KEY.public_key())
        with pytest.raises(ValueError, match=says):
            board.update(broker, "mast", "new", **changes)  # type: ignore[arg-type]

    def test_a_flash_of_another_size(self, tmp_path: Path) -> None:
        Board(tmp_path / "flash", KEY.public_key()).install(OLD)
        with pytest.raises(ValueError, match="bytes, the flash"):
            Board(tmp_path / "flash", KEY.public_key(), chip=CHIP).boot()

    def test_micropython_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(NoInterpreter, match=r"install\.sh"):
            micropython(tmp_path / "micropython", tmp_path)

    def test_a_library_that_is_not_compiled(self, tmp_path: Path) -> None:
        with pytest.raises(NoInterpreter, match="make mpy"):
            micropython(Path(sys.executable), tmp_path)


class TestProcess:
    """Firmware as a process."""

    def test_that_hangs(self) -> None:
        with pytest.raises(BoardHangs, match=r"0\.5 s"):
            live(["sleep", "60"], {}, "", None, 0.5, lambda _: None)

    def test_that_says_how_it_goes(self) -> None:
        script = "echo up; echo held 20 10 30 7; read told; echo ended $told; echo why >&2; exit 12"
        life = live(["sh", "-c", script], {}, "as told\n", None, 60, lambda _: None)
        assert (life.held, life.resumed, life.size, life.heap) == (20, 10, 30, 7)
        assert (life.status, life.ended, life.errors) == (12, "as told", "why")

    @pytest.mark.parametrize(("share", "held"), [(0, 0), (0.4, 10), (0.9, 25)])
    def test_whose_power_is_cut(self, share: float, held: int) -> None:
        script = "echo up; sleep 0.1; for i in 10 15 25; do echo held $i 5 25 0; sleep 0.3; done; sleep 60"
        life = live(["sh", "-c", f"trap '' TERM; {script}"], {}, "", Cut(share, 0), 120, lambda _: None)
        assert life.status is None
        assert life.held >= held
