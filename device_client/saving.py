"""Records saved beside the download: to sync a file takes milliseconds in which blocks would only pile up."""

import threading
from contextlib import suppress

from device_client.errors import SinkError
from device_client.sinks import Record, Sink


class SavingBeside:
    """A sink whose `save` only begins: it is done in a thread, one at a time, while blocks are written.

    What was written before `save` is what its record may claim. Everything but `write` and `read` waits for
    the end of what was begun, and raises its SinkError.
    """

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self.write, self.read = sink.write, sink.read
        self._thread: threading.Thread | None = None
        self._error: SinkError | None = None

    def busy(self) -> bool:
        """Whether a record is still being saved."""
        return self._thread is not None and self._thread.is_alive()

    def load(self) -> Record | None:
        return self._sink.load()

    def start(self, size: int) -> None:
        self._wait()
        self._sink.start(size)

    def save(self, record: Record) -> None:
        self._wait()
        self._thread = threading.Thread(target=self._work, args=(record,), name="sluice-saver")
        self._thread.start()

    def finish(self) -> None:
        self._wait()
        self._sink.finish()

    def discard(self) -> None:
        self._wait()
        self._sink.discard()

    def close(self) -> None:
        with suppress(SinkError):  # the download ends for another reason, which is the one to tell
            self._wait()
        self._sink.close()

    def _wait(self) -> None:
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def _work(self, record: Record) -> None:
        try:
            self._sink.save(record)
        except SinkError as error:
            self._error = error
