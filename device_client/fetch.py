"""What stands between a download's machine, its sink and its transport. Runs on MicroPython.

    fetch = Fetch(lambda record: Download("mast", "fw", 0, token, now(), resume=record), sink, sha256=digest)
    transport = SocketTransport(session, host, port, fetch.message, fetch.session)
    run(fetch, transport)

with `session` subscribed to `fetch.machine.topics`. Every block is written where it belongs and hashed when
its turn comes: at once while they come in order, else read back from the sink.
"""

from hashlib import sha256

from chunker.bitmap import find, test
from chunker.blocks import block_count
from device_client.clock import now as system_clock
from device_client.download import DONE
from device_client.errors import DownloadError, SinkError

TYPE_CHECKING = False  # MicroPython has no `typing` to import it from
if TYPE_CHECKING:
    from collections.abc import Callable

    from device_client.download import Download
    from device_client.sinks import Record, Sink
    from device_client.socket_transport import SocketTransport

_LONGEST_TURN = 1000  # milliseconds
_BUSY_TURN = 50  # milliseconds after which a caller that was busy is asked again


class NotGenuine(DownloadError):
    """The whole file came and is not the one asked for; what was written is discarded."""


class Fetch:
    """One download. `make(record)` makes its machine, to take up `record` unless that is None.

    `expected`: the file's SHA-256, 32 bytes. `verify(digest)`: whether the file with this SHA-256 is what was
    signed. What an earlier run left is taken up only where one of the two will tell whether it is of this
    file, unless `trusting`. `progress(held, size)`, in bytes, is called in each turn that brought something.
    `busy()`: whether no further blocks are to be asked for. A record is saved after `save_bytes` new bytes,
    and at `close`.
    """

    send: "Callable[[str, bytes], object]"  # to be set before `turn`
    read_bytes = 512  # at a time, to be hashed
    progress_gap = 0  # milliseconds between two calls

    def __init__(
        self,
        make: "Callable[[Record | None], Download]",
        sink: "Sink",
        expected: "bytes | None" = None,
        verify: "Callable[[bytes], bool] | None" = None,
        progress: "Callable[[int, int], object] | None" = None,
        busy: "Callable[[], bool] | None" = None,
        save_bytes: int = 65536,
        trusting: bool = False,
        clock: "Callable[[], int]" = system_clock,
    ) -> None:
        self.digest = b""  # of the file, once it is finished
        self.resumed = self.held = 0  # bytes: there before, and there
        self.unsaved = 0  # bytes held that no record claims
        self._make, self._sink, self._clock = make, sink, clock
        self._expected, self._verify = expected, verify
        self._progress, self._busy, self._save_bytes = progress, busy, save_bytes
        self._up, self._shown, self._show_at = False, 0, 0
        self._hash, self.hashed = sha256(), 0  # and what of it: bytes from the start of the file
        record = sink.load()
        self.machine = make(record if trusting or expected is not None or verify else None)

    def session(self, up: bool) -> None:
        """The transport has a session, or has lost it."""
        self._up = up
        if up:
            self.machine.connected()
        else:
            self.machine.disconnected()

    def message(self, topic: str, payload: "bytes | bytearray | memoryview") -> None:
        """The transport heard this."""
        event = self.machine.receive(topic, payload, self._clock())
        if event:
            _, offset, data = event
            if data is None:
                self._described()
            else:
                self._block(offset, data)

    def turn(self) -> int:
        """Does what is due, and says for how many milliseconds nothing else will be."""
        machine = self.machine
        busy = self._busy is not None and self._busy()
        if self._busy:
            machine.busy = busy
        for topic, payload in machine.poll(self._clock()):
            self.send(topic, payload)
        if self.unsaved >= self._save_bytes:
            self.save()
        if self._progress and self.held != self._shown and self._clock() >= self._show_at:
            self._shown, self._show_at = self.held, self._clock() + self.progress_gap
            self._progress(self.held, machine.size)
        return max(0, min(machine.deadline - self._clock(), _BUSY_TURN if busy else _LONGEST_TURN))

    def finished(self) -> bool:
        """Whether the file is complete, verified and in its place. NotGenuine where it is another."""
        machine = self.machine
        if machine.state != DONE:
            return False
        self._hash_on()
        self.digest = digest = self._hash.digest()
        self.unsaved = 0
        other = self._expected not in (None, digest)
        if other or (self._verify and not self._verify(digest)):
            if machine.resumed:  # what was left half done was not of this file
                self._start_over()
                return False
            self._sink.discard()
            raise NotGenuine("the file's SHA-256 is another" if other else "its signature does not verify")
        self._sink.finish()
        if self._progress:
            self._progress(self.held, machine.size)
        return True

    def save(self) -> None:
        """Has the sink record what is held."""
        machine = self.machine
        stream, file_id = machine.file
        self._sink.save(
            (stream, file_id, machine.version, machine.size, machine.block_size, bytes(machine.held))
        )
        self.unsaved = 0

    def close(self) -> None:
        """Records what is held where it is not finished, and closes the sink."""
        try:
            if self.unsaved:
                self.save()
        except SinkError:  # the download ends for another reason, which is the one to tell
            pass
        finally:
            self._sink.close()

    def _described(self) -> None:
        machine = self.machine
        if not machine.resumed:
            self._sink.start(machine.size)
            self.save()  # a sink that keeps a journal begins it with this
            return
        count = block_count(machine.size, machine.block_size)
        self.held = machine.resumed * machine.block_size
        if test(machine.held, count - 1):
            self.held -= count * machine.block_size - machine.size
        self.resumed = self.held
        self._hash_on()

    def _block(self, offset: int, data: memoryview) -> None:
        self._sink.write(offset, data)
        self.unsaved += len(data)
        self.held += len(data)
        if offset == self.hashed:
            self._hash.update(data)
            self.hashed += len(data)
            self._hash_on()

    def _hash_on(self) -> None:
        # Reads back what came before its turn.
        machine = self.machine
        size, block_size = machine.size, machine.block_size
        first, count = self.hashed // block_size, block_count(size, block_size)
        if first >= count or not test(machine.held, first):
            return
        end = min(size, find(machine.held, False, first, count) * block_size)
        while self.hashed < end:
            data = self._sink.read(self.hashed, min(self.read_bytes, end - self.hashed))
            self._hash.update(data)
            self.hashed += len(data)

    def _start_over(self) -> None:
        # With a new token, since blocks that were asked for before are not to be mistaken for new ones.
        self.held = self.unsaved = self.hashed = self.resumed = 0
        self._hash = sha256()
        self.machine = self._make(None)
        if self._up:
            self.machine.connected()


def run(fetch: Fetch, transport: "SocketTransport") -> None:
    """The whole download: opens the transport, and closes it and the sink whatever happens."""
    fetch.send = transport.send
    try:
        try:
            transport.open()
            while not fetch.finished():
                transport.wait(fetch.turn())
        finally:
            transport.close()
    finally:
        fetch.close()
