"""A serial line as a stream of bytes: a pseudo-terminal, a TCP socket, a program's stdin and stdout."""

import os
import select
import time

from device_client.errors import DownloadError


class LineError(DownloadError):
    """Base of what ends the work on a serial line."""


class LineClosed(LineError):
    """The other side is gone, or takes no bytes any more."""


class SerialLine:
    """Reads and writes open file descriptors (one and the same for a terminal), and leaves them open."""

    WRITE_SECONDS = 5.0
    """For which the other side may take nothing."""

    def __init__(self, reads: int, writes: int) -> None:
        self._reads = reads
        self._writes = writes
        self._unread = b""

    def read(self, seconds: float) -> bytes:
        """What has come, after at most so long; b"" where nothing has. LineClosed."""
        if self._unread:
            data, self._unread = self._unread, b""
            return data
        ready, _, _ = select.select([self._reads], [], [], max(0.0, seconds))
        if not ready:
            return b""
        try:
            data = os.read(self._reads, 4096)
        except OSError as error:  # a pseudo-terminal whose other end was closed
            raise LineClosed(f"the serial line cannot be read: {error}") from error
        if not data:
            raise LineClosed("the serial line was closed by the other side")
        return data

    def read_until(self, mark: bytes, seconds: float) -> bytes:
        """Everything up to and with `mark`, what follows it stays to be read. LineError after `seconds`."""
        deadline = time.monotonic() + seconds
        data = b""
        while mark not in data:
            left = deadline - time.monotonic()
            if left <= 0 or len(data) > 65536:
                raise LineError(f"no {mark!r} within {seconds:g} s, but {data[-300:]!r}")
            data += self.read(left)
        end = data.index(mark) + len(mark)
        self._unread = data[end:] + self._unread
        return data[:end]

    def write(self, data: bytes) -> None:
        """Writes all of it; LineClosed where the other side takes nothing for WRITE_SECONDS."""
        while data:
            _, ready, _ = select.select([], [self._writes], [], self.WRITE_SECONDS)
            if not ready:
                raise LineClosed(f"the serial line took nothing for {self.WRITE_SECONDS:g} s")
            try:
                data = data[os.write(self._writes, data) :]
            except OSError as error:
                raise LineClosed(f"the serial line cannot be written: {error}") from error
