"""Records saved beside the download: to sync a file takes milliseconds in which blocks would only pile up."""

import threading

from device_client.errors import DownloadError
from device_client.sinks import Record, Sink


class Saver:
    """Calls `Sink.save` in a thread, one call at a time. Its error comes out of the next `wait` or `save`.

    What was written before `save` is what the record may claim; writes may go on meanwhile. `wait` before
    anything else is done with the sink.
    """

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._thread: threading.Thread | None = None
        self._error: DownloadError | None = None

    def busy(self) -> bool:
        """Whether a record is still being saved."""
        return self._thread is not None and self._thread.is_alive()

    def save(self, record: Record) -> None:
        """Begins to save, after the one before is done."""
        self.wait()
        self._thread = threading.Thread(target=self._work, args=(record,), name="sluice-saver")
        self._thread.start()

    def wait(self) -> None:
        """Until what was begun is done, one way or the other."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def _work(self, record: Record) -> None:
        try:
            self._sink.save(record)
        except DownloadError as error:
            self._error = error
