"""Where simulated devices keep what they download: regions of one sparse file that has no name.

One descriptor for the whole fleet, and nothing of a file's size in memory: what is written lies in the page
cache, or on the disk behind it.
"""

import os
import random
import tempfile
from hashlib import sha256
from pathlib import Path

from device_client.errors import SinkError
from device_client.resume import decode_record, encode_record
from device_client.sinks import Record

PAGE = 4096
RECORD_BYTES = 16384
"""Room for a record: the bitmap of all blocks that requests can reach is 12,289 bytes."""
READ_BYTES = 256 * 1024


class FleetStore:
    """The file, in `folder` or where temporary files go; gone with `close`."""

    def __init__(self, folder: Path | None = None) -> None:
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
        self.fd = self._file.fileno()
        space = os.fstatvfs(self.fd)
        self._room = space.f_bavail * space.f_frsize
        self._end = 0

    def region(self) -> "Region":
        """A new store of a device."""
        return Region(self)

    def take(self, size: int) -> int:
        """Where `size` bytes and a record have their place from now on. SinkError where the disk is full."""
        end = self._end + -(-size // PAGE) * PAGE + RECORD_BYTES
        if end > self._room:
            raise SinkError(
                f"no room for {size} bytes: other devices have {self._end}, and {self._room} were free where "
                f"temporary files go (TMPDIR says where)"
            )
        start, self._end = self._end, end
        return start

    def close(self) -> None:
        """Lets go of all regions."""
        self._file.close()


class Region:
    """A device's own: a sink as `device_client.sinks` has it, which outlives the device's lives.

    A record is what the device finds after a power cut; what was written after it is spoiled by the cut.
    """

    def __init__(self, store: FleetStore) -> None:
        self.written = 0
        """Bytes written by the device, in all its lives."""
        self._store = store
        self._start = 0
        self._size = -1  # nothing has a place yet
        self._recorded = 0  # bytes of the record
        self._unclaimed: list[tuple[int, int]] = []  # offset and length of what was written since

    def load(self) -> Record | None:
        return decode_record(os.pread(self._store.fd, self._recorded, self._record_at))

    def start(self, size: int) -> None:
        if size != self._size:
            self._start, self._size = self._store.take(size), size
        self._recorded = 0
        self._unclaimed.clear()

    def write(self, offset: int, data: memoryview) -> None:
        self._put(self._within(offset, len(data)), data)
        self.written += len(data)
        self._unclaimed.append((offset, len(data)))

    def read(self, offset: int, length: int) -> bytes:
        data = os.pread(self._store.fd, length, self._within(offset, length))
        if len(data) < length:
            raise SinkError(f"{length} bytes at {offset} were never written")
        return data

    def save(self, record: Record) -> None:
        data = encode_record(*record)
        self._put(self._record_at, memoryview(data))
        self._recorded = len(data)
        self._unclaimed.clear()

    def finish(self) -> None:
        """What is there is the file, and stays."""
        self._unclaimed.clear()

    def discard(self) -> None:
        self._recorded = 0

    def close(self) -> None:
        """The store is closed with all its regions."""

    def power_cut(self, noise: random.Random) -> None:
        """What no record claims becomes noise, as in flash of which nobody knows what it holds."""
        for offset, length in self._unclaimed:
            self._put(self._start + offset, memoryview(noise.randbytes(length)))
        self._unclaimed.clear()

    def digest(self) -> str:
        """SHA-256 of what is there, in hexadecimal."""
        found, at = sha256(), 0
        while at < self._size:
            data = self.read(at, min(READ_BYTES, self._size - at))
            found.update(data)
            at += len(data)
        return found.hexdigest()

    @property
    def _record_at(self) -> int:
        return self._start + -(-self._size // PAGE) * PAGE

    def _within(self, offset: int, length: int) -> int:
        # A region's neighbour is another device's.
        if not 0 <= offset <= offset + length <= self._size:
            raise SinkError(f"{length} bytes at {offset} are not within the {self._size} of the file")
        return self._start + offset

    def _put(self, at: int, data: memoryview) -> None:
        try:
            while data:
                written = os.pwrite(self._store.fd, data, at)
                data, at = data[written:], at + written
        except OSError as error:
            raise SinkError(f"cannot write to the simulated devices' store: {error.strerror}") from error
