"""Where a download is written: a file that appears whole or not at all, or memory. POSIX, CPython.

The client drives a sink in this order: `load` once, then `start` unless what was loaded is taken up, then
`write`, `read` and `save` as blocks come, then `finish` or `discard`, and `close` whatever happened.
"""

import errno
import fcntl
import os
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from device_client.errors import SinkError
from device_client.resume import decode_record, encode_record

Record = tuple[str, int, int, int, int, bytes]
"""Stream, file id, version, size, block size, bitmap of the blocks held: `device_client.resume`."""


class Sink(Protocol):
    """What the client needs; everything may raise SinkError."""

    def load(self) -> Record | None:
        """What an earlier run left, if anything."""

    def start(self, size: int) -> None:
        """Nothing is held any more: forgets what was left, makes room for `size` bytes."""

    def write(self, offset: int, data: memoryview) -> None:
        """Puts bytes in their place."""

    def read(self, offset: int, length: int) -> bytes | bytearray:
        """Bytes that were written, by this run or an earlier one: `length` of them, or a SinkError."""

    def save(self, record: Record) -> None:
        """Makes what was written durable, and then the record that claims it.

        Called in a thread of its own, never twice at once; only `write` and `read` are called meanwhile.
        """

    def finish(self) -> None:
        """The file is complete and verified: makes it durable and gives it its name."""

    def discard(self) -> None:
        """What was written is worthless: leaves nothing behind."""

    def close(self) -> None:
        """Lets go of everything; after neither `finish` nor `discard` the half-done file stays."""


class MemorySink:
    """Keeps the file in `data`; holds nothing across runs."""

    def __init__(self) -> None:
        self.data = bytearray()

    def load(self) -> Record | None:
        return None

    def start(self, size: int) -> None:
        self.data = bytearray(size)

    def write(self, offset: int, data: memoryview) -> None:
        self.data[offset : offset + len(data)] = data

    def read(self, offset: int, length: int) -> bytes | bytearray:
        return self.data[offset : offset + length]

    def save(self, record: Record) -> None:
        """Nothing outlives the process."""

    def finish(self) -> None:
        """`data` is the file."""

    def discard(self) -> None:
        self.data = bytearray()

    def close(self) -> None:
        """Nothing to let go of."""


class FileSink:
    """Writes PATH.part, with the record in PATH.part.state, and renames it to PATH at the end.

    PATH.part is locked: a second download to the same PATH is a SinkError. Its space is allocated at `start`.
    At any instant of a power cut the record claims only what is durable: blocks are synced before the record,
    the record is replaced by a rename, and it is durably gone before blocks it spoke of are overwritten.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        if self.path.is_dir():
            raise SinkError(f"cannot write {self.path}: it is a directory")
        self._part = self.path.with_name(self.path.name + ".part")
        self._record = self.path.with_name(self.path.name + ".part.state")
        self._done = False
        try:
            self._fd = self._open()
        except BlockingIOError:
            raise SinkError(f"another download is writing {self._part}") from None
        except OSError as error:
            raise self._error(error) from error

    def load(self) -> Record | None:
        try:
            record = decode_record(self._record.read_bytes())
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._error(error) from error
        # A record whose file was renamed or removed meets a new, empty one.
        if record is None or os.fstat(self._fd).st_size != record[3]:
            return None
        return record

    def start(self, size: int) -> None:
        try:
            self._forget()
            os.ftruncate(self._fd, 0)
            self._allocate(size)
        except OSError as error:
            with suppress(OSError):
                os.ftruncate(self._fd, 0)
            raise self._error(error, f"{size} bytes for ") from error

    def write(self, offset: int, data: memoryview) -> None:
        try:
            written = os.pwrite(self._fd, data, offset)
            while written < len(data):
                written += os.pwrite(self._fd, data[written:], offset + written)
        except OSError as error:
            raise self._error(error) from error

    def read(self, offset: int, length: int) -> bytes | bytearray:
        try:
            data = os.pread(self._fd, length, offset)
        except OSError as error:
            raise self._error(error) from error
        if len(data) < length:
            raise SinkError(f"{self._part} was cut off by somebody else: no {length} bytes at {offset}")
        return data

    def save(self, record: Record) -> None:
        fresh = self._record.with_name(self._record.name + ".tmp")
        try:
            os.fsync(self._fd)
            fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
            try:
                data = encode_record(*record)
                if os.write(fd, data) != len(data):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(fd)
            finally:
                os.close(fd)
            # Not synced itself: until the rename is on the disk the record before is found, and claims less.
            fresh.replace(self._record)
        except OSError as error:
            raise self._error(error) from error

    def finish(self) -> None:
        try:
            os.fsync(self._fd)
            self._part.replace(self.path)
            self._done = True
            self._forget()
        except OSError as error:
            raise self._error(error) from error

    def discard(self) -> None:
        try:
            self._forget()
            self._part.unlink(missing_ok=True)
        except OSError as error:
            raise self._error(error) from error
        self._done = True

    def close(self) -> None:
        if not self._done and os.fstat(self._fd).st_size == 0:
            with suppress(OSError):
                self._part.unlink()  # nothing was ever written: leave no litter
        os.close(self._fd)

    def _open(self) -> int:
        # Who got the lock of a file that its owner just renamed or removed tries again with the new one.
        for _ in range(100):
            fd = os.open(self._part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.path.samestat(os.fstat(fd), self._part.stat()):
                    return fd
            except FileNotFoundError:
                pass
            except OSError:
                os.close(fd)
                raise
            os.close(fd)
        raise BlockingIOError

    def _allocate(self, size: int) -> None:
        if not size:
            return
        try:
            os.posix_fallocate(self._fd, 0, size)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                raise
            os.ftruncate(self._fd, size)

    def _forget(self) -> None:
        self._record.unlink(missing_ok=True)
        self._record.with_name(self._record.name + ".tmp").unlink(missing_ok=True)
        folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _error(self, error: OSError, what: str = "") -> SinkError:
        return SinkError(f"cannot write {what}{self.path}: {error.strerror or error}")
