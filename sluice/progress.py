"""How far a transfer is: a bar where stderr is a terminal, else a line now and then."""

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn, TaskID

LINE_SECONDS = 5.0
"""Between two lines where there is no terminal."""


class Meter:
    """Shows `label` and how many of how many are done, in `unit`. Nothing is imported before the first."""

    def __init__(self, label: str, unit: str = "bytes") -> None:
        self._label = label
        self._unit = unit
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._said = time.monotonic()
        self._terminal = sys.stderr.isatty()

    def __call__(self, done: int, total: int) -> None:
        """`done` of `total`."""
        if self._terminal:
            self._draw(done, total)
        elif time.monotonic() - self._said >= LINE_SECONDS:
            self._said = time.monotonic()
            percent = 100 * done // total if total else 100
            print(f"{self._label}: {percent} %, {done} of {total} {self._unit}", file=sys.stderr)

    def __enter__(self) -> "Meter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leaves the bar as it stands."""
        if self._bar is not None:
            self._bar.stop()

    def _draw(self, done: int, total: int) -> None:
        if self._bar is None:
            from rich import progress as rich
            from rich.console import Console

            self._bar = rich.Progress(
                rich.TextColumn("{task.description}", markup=False),
                rich.BarColumn(),
                *self._columns(),
                rich.TimeRemainingColumn(compact=True, elapsed_when_finished=True),
                console=Console(stderr=True),
            )
            self._bar.start()
            # From here: what an earlier run left is no part of this one's rate.
            self._task = self._bar.add_task(self._label, completed=done, total=total)
        assert self._task is not None
        self._bar.update(self._task, completed=done, total=total)

    def _columns(self) -> "tuple[ProgressColumn, ...]":
        from rich import progress as rich

        if self._unit == "bytes":
            return rich.DownloadColumn(), rich.TransferSpeedColumn()
        return rich.MofNCompleteColumn(), rich.TextColumn(self._unit)


def rate(size: int, seconds: float) -> str:
    """Bytes a second, for people."""
    return f"{size / max(seconds, 1e-9) / 1e6:.1f} MB/s"
