"""A board: two slots in a flash that lies in a file, a boot loader, and firmware that runs as a process.

    board = Board(Path("mast.flash"), key.public_key())
    board.install(build(payload, version=1, security=1, key=key))
    result = board.update("mqtt://127.0.0.1:1883", "mast", "fw", sha256=digest, cuts=5, seed=7)

What it runs (`firmware_sim.boards.firmware`) downloads a signed image over the real broker and asks for a
test boot of it; the loader decides, and the same program, told that it is the new version, confirms itself.
The loader runs here, between two processes. To cut the power is to kill the process, or to break off the
loader in an operation on its flash.
"""

from collections.abc import Callable
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from firmware_sim.boards.hardware import Chip, Hardware
from firmware_sim.boards.interpreters import Interpreter, cpython
from firmware_sim.boards.lives import Lives, Progress, Result
from firmware_sim.boot.loader import Boot
from firmware_sim.fleet.broker import Broker


class Board:
    """A board whose flash is the file `flash`; it boots images signed with the private half of `key`.

    `interpreter`: what its firmware runs on, else this CPython. Not for two processes at once.
    """

    def __init__(
        self,
        flash: Path,
        key: ec.EllipticCurvePublicKey,
        *,
        chip: Chip | None = None,
        interpreter: Interpreter | None = None,
    ) -> None:
        self._hardware = Hardware(
            path=flash.resolve(), chip=chip or Chip(), key=key, interpreter=interpreter or cpython()
        )

    def install(self, image: bytes) -> None:
        """As in the factory: an erased flash with this image in it, confirmed. ImageError for a bad one,
        FlashError for one that does not fit."""
        flash = self._hardware.chip.erased()
        self._hardware.loader(flash).install(image)
        self._hardware.path.write_bytes(flash.read(0, flash.size))

    def boot(self) -> Boot:
        """Has the loader decide what runs now, and does not run it. NothingToBoot."""
        with self._hardware.flash() as flash:
            return self._hardware.loader(flash).boot()

    def update(
        self,
        broker: str,
        thing: str,
        stream: str,
        *,
        file_id: int = 0,
        sha256: str | None = None,
        signature: bytes | None = None,
        block_size: int = 4096,
        patience: float = 60.0,
        works: bool = True,
        cuts: int = 0,
        seed: int = 0,
        progress: Callable[[Progress], object] = lambda _: None,
    ) -> Result:
        """Boots, and boots again until the stream's image is confirmed or refused.

        `broker`: `mqtt://[user:password@]host[:port]`. The firmware takes the file as genuine by `sha256`
        (hexadecimal) or by `signature` (DER, ECDSA P-256 over SHA-256, with the board's key); what the loader
        asks of an image it asks in any case. `patience`: seconds without anything new that end a download.
        `works`: whether the new version finds that it works. `cuts`: of the power, at most; `seed`: of when
        they come.

        ValueError for a parameter that makes no sense; NothingToBoot; BoardCrashed, BoardHangs; and what
        ended the firmware's download: BrokerUnreachable, SubscriptionRefused, Rejected, DownloadTimeout,
        BlockSizeError, SinkError.
        """
        if (sha256 is None) == (signature is None):
            raise ValueError("what is genuine is told by sha256 or by signature: one of them")
        told = {
            **self._told(broker, thing, block_size, patience, works),
            "stream": stream,
            "file": file_id,
            "sha256": sha256,
            "signature": signature and signature.hex(),
            "certificate": None,
        }
        return self._live(told, cuts, seed, progress)

    def take_jobs(
        self,
        broker: str,
        thing: str,
        certificate: str,
        *,
        block_size: int = 4096,
        patience: float = 60.0,
        works: bool = True,
        self_test: str = "",
        cuts: int = 0,
        seed: int = 0,
        progress: Callable[[Progress], object] = lambda _: None,
    ) -> Result:
        """Boots, and boots again until no job is pending for the thing: `device_client.agent` takes them.

        `certificate`: the name that documents call the signer by; its key is the board's. `works`: whether
        the new version runs at all. `self_test`: what it finds wrong with itself in its test boot. The rest
        is as in `update`; what does not go well is told to the service, and is no error here.
        """
        told = self._told(broker, thing, block_size, patience, works)
        return self._live({**told, "certificate": certificate, "self_test": self_test}, cuts, seed, progress)

    def _told(
        self, broker: str, thing: str, block_size: int, patience: float, works: bool
    ) -> dict[str, object]:
        where = Broker.parse(broker)
        if where.tls is not None:
            raise ValueError("the broker's URL is mqtts; boards speak MQTT without TLS")
        return {
            "host": where.host,
            "port": where.port,
            "user": where.user,
            "password": where.password,
            "thing": thing,
            "key": self._hardware.key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint).hex(),
            "block_size": block_size,
            "patience": round(patience * 1000),
            "works": works,
        }

    def _live(
        self, told: dict[str, object], cuts: int, seed: int, progress: Callable[[Progress], object]
    ) -> Result:
        if cuts < 0:
            raise ValueError(f"{cuts} cuts are less than none")
        return Lives(self._hardware, told, cuts, seed, progress).run()
