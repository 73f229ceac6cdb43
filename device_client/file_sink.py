"""A sink on any file system that MicroPython has: littlefs, FAT, POSIX. CPython has `device_client.sinks`."""

import os

from chunker.bitmap import test
from device_client.errors import SinkError
from device_client.resume import decode_record, encode_record

TYPE_CHECKING = False  # MicroPython has no `typing` to import it from
if TYPE_CHECKING:
    from typing import Any


class PlainFileSink:
    """Writes PATH.part, with the record in PATH.part.state, and renames it to PATH at the end.

    Nothing keeps a second download from the same path. What a record claims was flushed before it; how much
    that is worth when the power goes, the file system decides. Everything may raise SinkError.
    """

    def __init__(self, path: str) -> None:
        self._path, self._part, self._state = path, path + ".part", path + ".part.state"
        self._file: Any = None

    def load(self) -> "tuple[str, int, int, int, int, bytes] | None":
        """What an earlier run left, if anything."""
        try:
            with open(self._state, "rb") as file:
                record = decode_record(file.read())
            self._file = open(self._part, "r+b")
        except OSError:
            return None
        if record:
            held, count = record[5], len(record[5]) * 8
            while count and not test(held, count - 1):
                count -= 1
            if self._file.seek(0, 2) < min(record[3], count * record[4]):
                return None
        return record

    def start(self, size: int) -> None:
        """Forgets what was left. Room is taken as blocks come: to write it ahead would wear a flash twice."""
        self.discard()
        try:
            self._file = open(self._part, "w+b")
        except OSError as error:
            raise SinkError(str(error)) from None

    def write(self, offset: int, data: "bytes | memoryview") -> None:
        """Puts bytes in their place."""
        try:
            self._file.seek(offset)
            if self._file.write(data) != len(data):
                raise SinkError("no room")
        except OSError as error:
            raise SinkError(str(error)) from None

    def read(self, offset: int, length: int) -> bytes:
        """`length` bytes that were written."""
        try:
            self._file.seek(offset)
            data: bytes = self._file.read(length)
        except OSError as error:
            raise SinkError(str(error)) from None
        if len(data) != length:
            raise SinkError(f"no {length} bytes at {offset}")
        return data

    def save(self, record: "tuple[str, int, int, int, int, bytes]") -> None:
        """Flushes what was written, and then the record that claims it."""
        try:
            self._file.flush()
            fresh = self._state + ".tmp"
            with open(fresh, "wb") as file:
                file.write(encode_record(*record))
                file.flush()
            replace(fresh, self._state)
        except OSError as error:
            raise SinkError(str(error)) from None

    def finish(self) -> None:
        """The file is complete and verified: gives it its name."""
        try:
            self._file.flush()
            self.close()
            replace(self._part, self._path)
        except OSError as error:
            raise SinkError(str(error)) from None
        _remove(self._state)

    def discard(self) -> None:
        """What was written is worthless: leaves nothing behind."""
        self.close()
        _remove(self._state)
        _remove(self._part)

    def close(self) -> None:
        """Lets go of the file; after neither `finish` nor `discard` the half-done one stays."""
        if self._file:
            self._file.close()
            self._file = None


def _remove(path: str) -> None:
    try:
        os.remove(path)
    except OSError:
        pass


def replace(old: str, new: str) -> None:
    """Renames `old` to `new`, over what is there; on FAT there is an instant without either."""
    try:
        os.rename(old, new)
    except OSError:  # FAT: not over what is there
        _remove(new)
        os.rename(old, new)
