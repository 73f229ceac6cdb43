"""The simple door: one call downloads a file.

    from device_client.client import download

    result = download("mqtt://127.0.0.1:1883", thing="mast-17", stream="fw", out="fw.bin", sha256="9f86...")
    print(result.size, result.sha256)

Whatever ends a download without the file is a DownloadError; an interrupted one is taken up by the next call
with the same `out`.
"""

import hashlib
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from chunker.bitmap import find, flip, test
from chunker.blocks import block_count
from device_client.download import BLOCK, DONE, Download
from device_client.errors import BlockSizeError, DownloadError, DownloadTimeout, Rejected
from device_client.paho_transport import BrokerUnreachable, PahoTransport, SubscriptionRefused
from device_client.saving import Saver
from device_client.sinks import FileSink, MemorySink, Record, Sink, SinkError

SAVE_BYTES = 8 * 1024 * 1024
SAVE_SECONDS = 1.0
"""A record of what is held is written after so many new bytes, or so long after them: what a kill costs."""
UNSAVED_BYTES = 4 * SAVE_BYTES
"""The most that no record claims: where the disk is so much slower than the network, blocks wait for it."""
PROGRESS_SECONDS = 0.05
READ_BYTES = 1024 * 1024  # at a time, to be hashed; at least the largest block

__all__ = [
    "BlockSizeError",
    "BrokerUnreachable",
    "DownloadError",
    "DownloadTimeout",
    "FileSink",
    "HashMismatch",
    "MemorySink",
    "Rejected",
    "Result",
    "Sink",
    "SinkError",
    "SubscriptionRefused",
    "download",
]


class HashMismatch(DownloadError):
    """The whole file came and its SHA-256 is not the one asked for; what was written is discarded."""

    def __init__(self, expected: str, actual: str) -> None:
        super().__init__(f"SHA-256 of the file is {actual}, expected {expected}")
        self.expected = expected
        self.actual = actual


@dataclass(frozen=True, slots=True)
class Result:
    """A finished download; sizes in bytes. `resumed` were there before; `requests` counts GetStreams."""

    size: int
    sha256: str
    version: int
    block_size: int
    blocks: int
    requests: int
    resumed: int
    seconds: float


def download(
    broker: str,
    *,
    thing: str,
    stream: str,
    out: str | os.PathLike[str] | Sink,
    file_id: int = 0,
    sha256: str | None = None,
    block_size: int | None = None,
    encoding: str = "cbor",
    budget: int = 1024 * 1024,
    patience: float = 60.0,
    progress: Callable[[int, int], None] | None = None,
    client_id: str | None = None,
    cafile: str | None = None,
    cert: str | None = None,
    key: str | None = None,
) -> Result:
    """Downloads file `file_id` of `stream` as `thing` to the path or sink `out`, which it closes.

    `broker`: `mqtt[s]://[user:pass@]host[:port]`; `cafile`, `cert`, `key`: for TLS, else the system's roots.
    `sha256`: hexadecimal; without it a resumed file is trusted if its first and last held block come again
    the same. `block_size`: 256 to 131072 bytes, else that of the half-done file, else the smallest power of
    two from 4096 that reaches the whole file. `budget`: bytes asked for and not here. `patience`: seconds
    without anything new. `progress(held, size)`: in bytes, at most twenty times a second, and at the end.

    Raises ValueError for a parameter out of bounds, and BrokerUnreachable (at the first connection: a lost
    one is made again until patience ends), SubscriptionRefused, Rejected, BlockSizeError, DownloadTimeout,
    HashMismatch (the file is discarded) and SinkError. After all others the half-done file stays.
    """
    if encoding not in ("cbor", "json"):
        raise ValueError(f"encoding {encoding!r} is not cbor or json")
    if sha256 is not None and (len(sha256) != 64 or set(sha256.lower()) - set("0123456789abcdef")):
        raise ValueError(f"sha256 {sha256!r} is not 64 hexadecimal digits")

    def machine(record: Record | None) -> Download:
        token = os.urandom(6).hex()
        limits = (block_size or 0, budget, round(patience * 1000))
        return Download(thing, stream, file_id, token, _now(), encoding, *limits, record)

    started = time.monotonic()
    topics = machine(None).topics  # and the bounds are checked before anything is touched
    sink = FileSink(out) if isinstance(out, str | os.PathLike) else out
    run = _Run(machine, sink, sha256.lower() if sha256 else None, progress)
    try:
        transport = PahoTransport(
            broker,
            topics,
            run.message,
            run.session,
            client_id=client_id or "sluice-" + os.urandom(6).hex(),
            cafile=cafile,
            cert=cert,
            key=key,
        )
        run.send = transport.send
        try:
            transport.open()
            while not run.finished():
                transport.wait(run.turn())
        finally:
            transport.close()
    finally:
        run.close()
    done = run.machine
    return Result(
        size=done.size,
        sha256=run.sha256,
        version=done.version,
        block_size=done.block_size,
        blocks=block_count(done.size, done.block_size),
        requests=done.requests,
        resumed=run.resumed,
        seconds=time.monotonic() - started,
    )


def _now() -> int:
    return time.monotonic_ns() // 1_000_000


class _Run:
    """What stands between machine, sink and transport: writes, hashes and records what comes."""

    def __init__(
        self,
        make: Callable[[Record | None], Download],
        sink: Sink,
        expected: str | None,
        progress: Callable[[int, int], None] | None,
    ) -> None:
        self.send: Callable[[str, bytes], None] = lambda _topic, _payload: None
        self.sha256 = ""
        self.resumed = 0
        self._make = make
        self._sink = sink
        self._expected = expected
        self._progress = progress
        self._shown = 0.0
        self._held = 0  # bytes
        self._unsaved = 0  # bytes held that no record claims
        self._saved_at = time.monotonic()
        self._saver = Saver(sink)
        self._digest = hashlib.sha256()
        self._hashed = 0  # bytes from the start of the file
        record = sink.load()
        self._suspects: set[int] = (
            set()
        )  # blocks that come again, to be compared: none where a hash will tell
        if record and not expected:
            record, self._suspects = _suspect(record)
        self.machine = make(record)

    def session(self, up: bool) -> None:
        if up:
            self.machine.connected()
            self._poll(_now())
        else:
            self.machine.disconnected()

    def message(self, topic: str, payload: bytes | bytearray) -> None:
        now = _now()
        event = self.machine.receive(topic, payload, now)
        if event:
            kind, offset, data = event
            if kind == BLOCK:
                assert data is not None
                self._block(offset, data)
            else:
                self._described()
        self._poll(now)

    def turn(self) -> float:
        """Does what is due, and says for how many seconds nothing else will be."""
        self._poll(_now())
        now = time.monotonic()
        due = self._unsaved >= SAVE_BYTES or (self._unsaved and now >= self._saved_at + SAVE_SECONDS)
        if due and (self._unsaved >= UNSAVED_BYTES or not self._saver.busy()):
            self._save()
        if self._progress and self.machine.size and now >= self._shown + PROGRESS_SECONDS:
            self._shown = now
            self._progress(self._held, self.machine.size)
        return max(0.0, min((self.machine.deadline - _now()) / 1000, SAVE_SECONDS))

    def finished(self) -> bool:
        """Whether the file is complete, verified and in its place. HashMismatch where it is another."""
        if self.machine.state != DONE:
            return False
        self._hash_on()
        self.sha256 = self._digest.hexdigest()
        if self._expected not in (None, self.sha256):
            if self.machine.resumed:  # what was left half done was not of this file
                self._start_over()
                return False
            self._unsaved = 0
            self._saver.wait()
            self._sink.discard()
            raise HashMismatch(self._expected or "", self.sha256)
        self._unsaved = 0
        self._saver.wait()
        self._sink.finish()
        if self._progress:
            self._progress(self._held, self.machine.size)
        return True

    def close(self) -> None:
        try:
            with suppress(SinkError):  # the download ends for another reason, which is the one to tell
                if self._unsaved:
                    self._save()
                self._saver.wait()
        finally:
            self._sink.close()

    def _poll(self, now: int) -> None:
        for topic, payload in self.machine.poll(now):
            self.send(topic, payload)

    def _described(self) -> None:
        machine = self.machine
        if not machine.resumed:
            self._suspects.clear()
            self._saver.wait()
            self._sink.start(machine.size)
            return
        count = block_count(machine.size, machine.block_size)
        self._held = machine.resumed * machine.block_size
        if test(machine.held, count - 1):
            self._held -= count * machine.block_size - machine.size
        self.resumed = self._held
        self._hash_on()

    def _block(self, offset: int, data: memoryview) -> None:
        machine = self.machine
        index = offset // machine.block_size
        if index in self._suspects:
            self._suspects.remove(index)
            if self._sink.read(offset, len(data)) != bytes(data):
                self._start_over()
                return
        else:
            self._sink.write(offset, data)
            self._unsaved += len(data)
        self._held += len(data)
        if offset == self._hashed:
            self._digest.update(data)
            self._hashed += len(data)
            if self._hashed < machine.size and test(machine.held, index + 1):
                self._hash_on()

    def _hash_on(self) -> None:
        # Reads back what came before its turn.
        machine = self.machine
        while self._hashed < machine.size:
            first = self._hashed // machine.block_size
            count = block_count(machine.size, machine.block_size)
            end = find(machine.held, False, first, min(count, first + READ_BYTES // machine.block_size))
            if end == first:
                return
            data = self._sink.read(self._hashed, min(end * machine.block_size, machine.size) - self._hashed)
            self._digest.update(data)
            self._hashed += len(data)

    def _start_over(self) -> None:
        # With a new token, since blocks that were asked for before are not to be mistaken for new ones.
        self._suspects.clear()
        self._held = self._unsaved = self._hashed = self.resumed = 0
        self._digest = hashlib.sha256()
        self.machine = self._make(None)
        self.machine.connected()

    def _save(self) -> None:
        if not self._suspects:  # a record without them would have the next run compare other blocks
            machine = self.machine
            self._saver.save(
                (*machine.file, machine.version, machine.size, machine.block_size, bytes(machine.held))
            )
            self._unsaved = 0
        self._saved_at = time.monotonic()


def _suspect(record: Record) -> tuple[Record, set[int]]:
    """The record without its first and last held block, and which these are."""
    stream, file_id, version, size, block_size, bits = record
    held = bytearray(bits)
    count = block_count(size, block_size)
    first, last = find(held, True, 0, count), count - 1
    while last > first and not test(held, last):
        last -= 1
    suspects = {first, last} if first < count else set()
    for index in suspects:
        flip(held, index)
    return (stream, file_id, version, size, block_size, bytes(held)), suspects
