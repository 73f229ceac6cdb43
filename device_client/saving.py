"""Records saved beside the download: to sync a file takes milliseconds in which blocks would only pile up."""

from contextlib import suppress
from typing import TYPE_CHECKING

from device_client.errors import SinkError
from device_client.sinks import Record, Sink

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor


class SavingBeside:
    """A sink whose `save` only begins: it is done in a thread, one at a time, while blocks are written.

    What was written before `save` is what its record may claim. Everything but `write` and `read` waits for
    the end of what was begun, and raises its SinkError.
    """

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self.load, self.write, self.read = sink.load, sink.write, sink.read
        self._thread: ThreadPoolExecutor | None = None
        self._begun: Future[None] | None = None

    def busy(self) -> bool:
        """Whether a record is still being saved."""
        return self._begun is not None and not self._begun.done()

    def start(self, size: int) -> None:
        self._wait()
        self._sink.start(size)

    def save(self, record: Record) -> None:
        self._wait()
        if self._thread is None:
            from concurrent.futures import ThreadPoolExecutor  # 10 ms that a short download does not need

            self._thread = ThreadPoolExecutor(1, "sluice-saver")
        self._begun = self._thread.submit(self._sink.save, record)

    def finish(self) -> None:
        self._wait()
        self._sink.finish()

    def discard(self) -> None:
        self._wait()
        self._sink.discard()

    def close(self) -> None:
        with suppress(SinkError):  # the download ends for another reason, which is the one to tell
            self._wait()
        if self._thread is not None:
            self._thread.shutdown()
        self._sink.close()

    def _wait(self) -> None:
        begun, self._begun = self._begun, None
        if begun is not None:
            begun.result()
