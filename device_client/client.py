"""The simple door: one call downloads a file.

    from device_client.client import download

    result = download("mqtt://127.0.0.1:1883", thing="mast-17", stream="fw", out="fw.bin", sha256="9f86...")
    print(result.size, result.sha256)

Whatever ends a download without the file is a DownloadError; an interrupted one is taken up by the next call
with the same `out`.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass

from chunker.bitmap import find, flip, test
from chunker.blocks import block_count
from device_client.address import BrokerAddress
from device_client.clock import now
from device_client.download import Download
from device_client.errors import BlockSizeError, DownloadError, DownloadTimeout, Rejected, SinkError
from device_client.fetch import Fetch, NotGenuine, run
from device_client.mqtt import BrokerUnreachable, Session, SubscriptionRefused
from device_client.saving import SavingBeside
from device_client.sinks import FileSink, MemorySink, Record, Sink
from device_client.socket_transport import SocketTransport

SAVE_BYTES = 8 * 1024 * 1024
SAVE_GAP = 1000  # milliseconds
"""A record of what is held is written after so many new bytes, or so long after them: what a kill costs."""
UNSAVED_BYTES = 4 * SAVE_BYTES
"""The most that no record claims: where the disk is so much slower than the network, blocks wait for it."""
PROGRESS_GAP = 50  # milliseconds
READ_BYTES = 256 * 1024
"""Read back at a time, to be hashed."""
KEEPALIVE = 30
"""Seconds after which a broker that does not answer counts as gone."""
BUFFER_BYTES = 1024 * 1024
"""Read from the broker at a time, before more is asked for; at least the longest message, 175 KB in JSON."""

__all__ = [
    "BlockSizeError",
    "BrokerUnreachable",
    "DownloadError",
    "DownloadTimeout",
    "FileSink",
    "HashMismatch",
    "MemorySink",
    "NotGenuine",
    "Rejected",
    "Result",
    "Sink",
    "SinkError",
    "SubscriptionRefused",
    "download",
    "verifier",
]


class HashMismatch(NotGenuine):
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
    public_key: bytes | None = None,
    signature: bytes | None = None,
    client_id: str | None = None,
    cafile: str | None = None,
    cert: str | None = None,
    key: str | None = None,
) -> Result:
    """Downloads file `file_id` of `stream` as `thing` to the path or sink `out`, which it closes.

    `broker`: `mqtt[s]://[user:pass@]host[:port]`; `cafile`, `cert`, `key`: for TLS, else the system's roots.
    `sha256`: hexadecimal. `public_key`, `signature`: an ECDSA P-256 key, PEM or DER, and its signature of the
    file over SHA-256, DER. Without any of them a resumed file is trusted if its first and last held block
    come again the same. `block_size`: 256 to 131072 bytes, else that of the half-done file, else the smallest
    power of two from 4096 that reaches the whole file. `budget`: bytes asked for and not here. `patience`:
    seconds without anything new. `progress(held, size)`: in bytes, at most twenty times a second, and at the
    end.

    Raises ValueError for a parameter out of bounds, and BrokerUnreachable (at the first connection: a lost
    one is made again until patience ends), SubscriptionRefused, Rejected, BlockSizeError, DownloadTimeout,
    HashMismatch or, for a signature, NotGenuine (the file is discarded), and SinkError. After all others the
    half-done file stays.
    """
    if encoding not in ("cbor", "json"):
        raise ValueError(f"encoding {encoding!r} is not cbor or json")
    if sha256 is not None and (len(sha256) != 64 or set(sha256.lower()) - set("0123456789abcdef")):
        raise ValueError(f"sha256 {sha256!r} is not 64 hexadecimal digits")
    if (public_key is None) != (signature is None):
        raise ValueError("public_key and signature are not given together")
    verify = verifier(public_key, signature) if public_key is not None and signature is not None else None

    def machine(record: Record | None) -> Download:
        token = os.urandom(6).hex()
        limits = (block_size or 0, budget, round(patience * 1000))
        return Download(thing, stream, file_id, token, now(), encoding, *limits, record)

    started = time.monotonic()
    topics = machine(None).topics  # and the bounds are checked before anything is touched
    address = BrokerAddress.parse(broker, cafile, cert, key)
    sink = FileSink(out) if isinstance(out, str | os.PathLike) else out
    fetch = _Run(machine, sink, bytes.fromhex(sha256) if sha256 else None, verify, progress)
    session = Session(
        client_id or "sluice-" + os.urandom(6).hex(),
        topics,
        bytearray(BUFFER_BYTES),
        address.user,
        address.password,
        KEEPALIVE,
    )
    run(
        fetch,
        SocketTransport(session, address.host, address.port, fetch.message, fetch.session, address.tls),
    )
    done = fetch.machine
    return Result(
        size=done.size,
        sha256=fetch.digest.hex(),
        version=done.version,
        block_size=done.block_size,
        blocks=block_count(done.size, done.block_size),
        requests=done.requests,
        resumed=fetch.resumed,
        seconds=time.monotonic() - started,
    )


def verifier(public_key: bytes, signature: bytes) -> Callable[[bytes], bool]:
    """Tells whether a file's SHA-256 is what was signed; PEM or DER. ValueError where it is no P-256 key."""
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.serialization import load_der_public_key, load_pem_public_key

    load = load_pem_public_key if public_key.lstrip().startswith(b"-----") else load_der_public_key
    try:
        key = load(public_key)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ValueError(f"public_key is not PEM or DER of a public key: {error}") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ValueError("public_key is not an ECDSA key on P-256")

    def verify(digest: bytes) -> bool:
        try:
            key.verify(signature, digest, ec.ECDSA(Prehashed(SHA256())))
        except InvalidSignature:
            return False
        return True

    return verify


class _Run(Fetch):
    """What CPython adds: records saved beside the download, and a check of what was left half done."""

    read_bytes = READ_BYTES
    progress_gap = PROGRESS_GAP

    def __init__(
        self,
        make: Callable[[Record | None], Download],
        sink: Sink,
        expected: bytes | None,
        verify: Callable[[bytes], bool] | None,
        progress: Callable[[int, int], object] | None,
    ) -> None:
        # Blocks that come again, to be compared: none where a hash or a signature will tell.
        self._suspects: set[int] = set()
        self._saving = SavingBeside(sink)
        self._saved_at = now()

        def checked(record: Record | None) -> Download:
            if record and expected is None and verify is None:
                record, self._suspects = _suspect(record)
            return make(record)

        super().__init__(
            checked, self._saving, expected, verify, progress, save_bytes=UNSAVED_BYTES, trusting=True
        )

    def turn(self) -> int:
        due = self.unsaved >= SAVE_BYTES or (self.unsaved > 0 and now() >= self._saved_at + SAVE_GAP)
        if due and not self._saving.busy():
            self.save()
        return super().turn()

    def save(self) -> None:
        if not self._suspects:  # a record without them would have the next run compare other blocks
            super().save()
        self._saved_at = now()

    def finished(self) -> bool:
        try:
            return super().finished()
        except NotGenuine:
            if self._expected in (None, self.digest):
                raise
            raise HashMismatch((self._expected or b"").hex(), self.digest.hex()) from None

    def _described(self) -> None:
        if not self.machine.resumed:
            self._suspects.clear()
        super()._described()

    def _block(self, offset: int, data: memoryview) -> None:
        index = offset // self.machine.block_size
        if index not in self._suspects:
            super()._block(offset, data)
        elif self._sink.read(offset, len(data)) != bytes(data):
            self._start_over()
        else:
            self._suspects.remove(index)
            self.held += len(data)
            self._hash_on()

    def _start_over(self) -> None:
        self._suspects.clear()
        super()._start_over()


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
