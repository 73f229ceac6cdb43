"""What a simulated board runs from one reset to the next: one program for CPython and MicroPython 1.25.

    micropython firmware.py < told.json

`firmware_sim.boards.lives` starts it and says on stdin what it needs to know (MicroPython takes no argument
of 256 bytes or more). It brings one file of a stream into its slot, or where it is told a certificate, it
takes the thing's jobs as the OTA agent. What it tells its loader is its exit status: a register that outlives
a reset but no loss of power, as nRF chips have one (GPREGRET).
Its console has lines of words: `up`; `held` with the bytes held, those of them that were there before, the
file's size and the most bytes of heap that were in use (0 on CPython); and `ended`, why.
"""

import gc
import os
import struct
import sys
import time
from binascii import crc32, hexlify
from json import loads

from chunker.topics import topic
from device_client.clock import now
from device_client.download import Download
from device_client.ecdsa import verify
from device_client.errors import DownloadError
from device_client.fetch import Fetch, NotGenuine, run
from device_client.flash_sinks import PartitionSink
from device_client.mqtt import Session
from device_client.socket_transport import SocketTransport

TYPE_CHECKING = False  # MicroPython has no `typing` to import it from
if TYPE_CHECKING:
    from typing import Any

TEST_BOOT = 10
"""A genuine file lies in the slot: let it be booted for a test."""
WORKS = 11
"""This version works: confirm it."""
REFUSED = 12
"""What was downloaded is not genuine; it was discarded."""
FAILED = 13
"""There was no download; `ended` names the DownloadError."""

NO_MORE_JOBS = 14
"""The service says that no job is pending."""
REVERTED = 15
"""This version is not to be booted again; it says so in its slot's log."""

MESSAGE_HEAD = 600
"""Bytes of a message that are not the block: topic, fixed header, fields."""


class FlashForbids(Exception):
    """What was to be done is nothing that this flash can do; nothing was changed."""


class FlashFile:
    """A part of a file as NOR flash: what `device_client.flash_sinks` calls a Partition.

    `start`, `size`: bytes, whole sectors; `page_size`, `write_size`: as `firmware_sim.flash.Flash` has them.
    An erase and the programming of a page take so many seconds. All that time the file holds neither the old
    nor the new but what a power cut may leave: a sector that is being erased holds anything, and of the bits
    that are being cleared some are.
    """

    def __init__(
        self,
        path: str,
        start: int,
        size: int,
        sector_size: int,
        page_size: int = 256,
        write_size: int = 1,
        erase_seconds: float = 0.0,
        program_seconds: float = 0.0,
    ) -> None:
        self.size, self.sector_size, self.write_size = size, sector_size, write_size
        self._start, self._page_size = start, page_size
        self._erase_seconds, self._program_seconds = erase_seconds, program_seconds
        # Unbuffered: what was written stays when this process is killed.
        self._file = open(path, "r+b", buffering=0)  # noqa: PTH123, SIM115 - MicroPython has no pathlib

    def read_into(self, offset: int, buffer: "bytearray | memoryview") -> None:
        """Fills the buffer from `offset`."""
        self._check(offset, len(buffer))
        self._file.seek(self._start + offset)
        if self._file.readinto(buffer) != len(buffer):
            raise FlashForbids(f"the file ends before byte {self._start + offset + len(buffer)}")

    def program(self, offset: int, data: "bytes | bytearray | memoryview") -> None:
        """Clears the bits that are 0 in `data`, page by page."""
        self._check(offset, len(data))
        if offset % self.write_size or len(data) % self.write_size:
            raise FlashForbids(f"{len(data)} bytes at {offset} are not whole writes of {self.write_size}")
        done = 0
        while done < len(data):
            count = min(len(data) - done, self._page_size - (offset + done) % self._page_size)
            self._program_page(offset + done, bytes(data[done : done + count]))
            done += count

    def erase(self, offset: int) -> None:
        """Sets every bit of the sector that begins at `offset`."""
        self._check(offset, self.sector_size)
        if offset % self.sector_size:
            raise FlashForbids(f"{offset} is not where a sector of {self.sector_size} bytes begins")
        for place in range(offset, offset + self.sector_size, self._page_size):
            self._put(place, os.urandom(self._page_size))
        time.sleep(self._erase_seconds)
        for place in range(offset, offset + self.sector_size, self._page_size):
            self._put(place, b"\xff" * self._page_size)

    def close(self) -> None:
        """Lets go of the file."""
        self._file.close()

    def _program_page(self, offset: int, data: bytes) -> None:
        size = len(data)
        old = bytearray(size)
        self.read_into(offset, old)
        before, wanted = int.from_bytes(old, "big"), int.from_bytes(data, "big")
        if before & wanted != wanted:
            raise FlashForbids(f"programming {size} bytes at {offset} would turn a 0 into a 1")
        if self.write_size > 1 and before != (1 << 8 * size) - 1:
            raise FlashForbids(f"{size} bytes at {offset} were programmed before; erase them first")
        torn = before & (wanted | int.from_bytes(os.urandom(size), "big"))
        self._put(offset, torn.to_bytes(size, "big"))
        time.sleep(self._program_seconds)
        self._put(offset, data)

    def _put(self, offset: int, data: bytes) -> None:
        self._file.seek(self._start + offset)
        self._file.write(data)

    def _check(self, offset: int, length: int) -> None:
        if not 0 <= offset <= offset + length <= self.size:
            raise FlashForbids(f"{length} bytes at {offset} are not within the {self.size} bytes there are")


def partitions(told: "dict[str, Any]") -> "list[FlashFile]":
    """The spare slot and its journal."""
    return [FlashFile(told["flash"], *told[which], *told["chip"]) for which in ("slot", "journal")]


def transport(
    told: "dict[str, Any]", topics: "list[str]", message: "Any", session: "Any", head: int = MESSAGE_HEAD
) -> SocketTransport:
    """The way to the broker, not open yet."""
    buffer = bytearray(told["block_size"] + head)
    mqtt = Session(told["thing"], topics, buffer, told["user"], told["password"])
    return SocketTransport(mqtt, told["host"], told["port"], message, session)


def self_test(told: "dict[str, Any]") -> None:
    """Whether the next update could be had: a version that cannot reach its broker is lost. DownloadError."""
    link = transport(told, [topic(told["thing"], told["stream"], "data", "cbor")], _ignore, _ignore)
    link.open()
    link.close()


def download(told: "dict[str, Any]") -> None:
    """Brings the file into the slot, genuine, or takes up what was begun. DownloadError."""
    most = 0

    def machine(record: "tuple[str, int, int, int, int, bytes] | None") -> Download:
        what = told["thing"], told["stream"], told["file"], hexlify(os.urandom(8)).decode()
        block_size = told["block_size"]
        return Download(*what, now(), "cbor", block_size, 16 * block_size, told["patience"], record)

    def genuine(digest: bytes) -> bool:
        if told["signature"] is None:
            return digest == bytes.fromhex(told["sha256"])
        return verify(bytes.fromhex(told["key"]), digest, bytes.fromhex(told["signature"]))

    def progress(held: int, size: int) -> None:
        nonlocal most
        if hasattr(gc, "mem_alloc"):
            gc.collect()
            most = max(most, gc.mem_alloc())
        print("held", held, fetch.resumed, size, most)

    fetch = Fetch(machine, PartitionSink(*partitions(told)), None, genuine, progress)
    run(fetch, transport(told, fetch.machine.topics, fetch.message, fetch.session))


class Slots:
    """What the agent asks of this board: `device_client.platform.Platform`.

    What the loader has to do, it does after the reset, so that `request` is no more than the exit status.
    The version on test writes to the loader's log itself (`firmware_sim.boot.log`): records of 32 bytes.
    """

    model, head_bytes = "SLFW", 16

    def __init__(self, told: "dict[str, Any]") -> None:
        self.version, self.slot_bytes = told["version"], told["slot_bytes"]
        self.status = 0
        self._told, self._confirmed = told, False

    def testing(self) -> bool:
        return self._told["test"] and not self._confirmed

    def refused(self) -> str:
        return str(self._told["refused"])

    def identify(self, head: "bytes | bytearray") -> "tuple[str, int] | None":
        magic, version, _, _ = struct.unpack(">4sIII", head)
        return (self.model, version) if magic == b"SLFW" else None

    def sink(self) -> PartitionSink:
        return PartitionSink(*partitions(self._told))

    def request(self) -> None:
        self.status = TEST_BOOT

    def confirm(self) -> None:
        self._log(b"CONF")
        self._confirmed = True

    def revert(self) -> None:
        self.status = REVERTED
        self._log(b"REFU")

    def reset(self) -> None:
        """`take_jobs` ends, and with it the process."""

    def _log(self, event: bytes) -> None:
        log = FlashFile(self._told["flash"], *self._told["log"], *self._told["chip"])
        used = bytearray(log.size)
        log.read_into(0, used)
        end = len(bytes(used).rstrip(b"\xff"))
        place = max(32, (end + 31) // 32 * 32)
        if place + 32 > log.size:
            from device_client.platform import ImageRefused

            raise ImageRefused("the loader's log is full")
        body = struct.pack(">4sI20s", event, self._told["security"], bytes.fromhex(self._told["digest"])[:20])
        log.program(place, body + struct.pack(">I", crc32(body)))


def take_jobs(told: "dict[str, Any]") -> int:
    """The OTA agent, until it resets or nothing is pending; the exit status."""
    from device_client.agent import MESSAGE_HEAD, Agent  # 20 KB of heap, which one download need not have

    slots, most = Slots(told), 0
    keys = {told["certificate"]: bytes.fromhex(told["key"])}
    limits = told["block_size"], 16 * told["block_size"], told["patience"]
    name = hexlify(os.urandom(8)).decode()
    agent = Agent(told["thing"], slots, keys, lambda: told["self_test"], name, *limits)
    link = transport(told, agent.topics, agent.message, agent.session, MESSAGE_HEAD)
    agent.send = link.send
    shown, fetch = 0, None
    try:
        while not agent.over and not agent.nothing:
            wait = agent.turn()
            fetch = agent.fetch or fetch
            if fetch and fetch.held != shown:
                shown = fetch.held
                if hasattr(gc, "mem_alloc"):
                    gc.collect()
                    most = max(most, gc.mem_alloc())
                print("held", shown, fetch.resumed, fetch.machine.size, most)
            link.wait(wait)
    finally:
        link.close()
        agent.close()
    if agent.ended:
        print("ended", agent.ended[0], agent.ended[1].get("reason", ""))
    return slots.status if agent.over else NO_MORE_JOBS


def main(told: "dict[str, Any]") -> int:
    """From a reset to the next; the exit status."""
    print("up")
    if told["test"] and not told["works"]:
        raise RuntimeError("this version does not work")
    try:
        if told["certificate"]:
            return take_jobs(told)
        if told["test"]:
            self_test(told)
            return WORKS
        download(told)
        return TEST_BOOT
    except DownloadError as error:
        print("ended", type(error).__name__, error)
        return REFUSED if isinstance(error, NotGenuine) else FAILED


def _ignore(*_: object) -> None:
    pass


if __name__ == "__main__":
    sys.exit(main(loads(sys.stdin.read())))
