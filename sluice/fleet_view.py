"""A fleet as it runs, and as it has run: a bar on stderr, tables on stdout."""

import sys
from collections import Counter
from types import TracebackType
from typing import TYPE_CHECKING

from sluice.progress import LINE_SECONDS
from sluice.simulating import print_table

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from firmware_sim.fleet.report import Report, Summary
    from firmware_sim.fleet.run import Snapshot

REASONS = 10
"""That are printed at most; JSON has all of them."""
TOO_LATE = 0.05
"""Seconds behind its clock, on average, from which a fleet's times say more about the machine."""


class FleetMeter:
    """Is told of snapshots: draws them where stderr is a terminal, else prints a line now and then."""

    def __init__(self, devices: int) -> None:
        self._devices = devices
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._said = 0.0

    def __call__(self, snapshot: "Snapshot") -> None:
        if sys.stderr.isatty():
            self._draw(snapshot)
        elif snapshot.seconds - self._said >= LINE_SECONDS:
            self._said = snapshot.seconds
            percent = 100 * snapshot.held // snapshot.size if snapshot.size else 0
            print(f"fleet: {snapshot.seconds:.0f} s, {percent} %, {_states(snapshot)}", file=sys.stderr)

    def __enter__(self) -> "FleetMeter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def _draw(self, snapshot: "Snapshot") -> None:
        if self._bar is None:
            from rich import progress as rich
            from rich.console import Console

            self._bar = rich.Progress(
                rich.TextColumn("{task.description}", markup=False),
                rich.BarColumn(20),
                rich.TaskProgressColumn(),
                rich.DownloadColumn(),
                rich.TransferSpeedColumn(),
                rich.TimeRemainingColumn(compact=True, elapsed_when_finished=True),
                console=Console(stderr=True),
            )
            self._bar.start()
            self._task = self._bar.add_task("", total=None)
        assert self._task is not None
        total = snapshot.size or None
        self._bar.update(self._task, description=_states(snapshot), completed=snapshot.held, total=total)


def _states(snapshot: "Snapshot") -> str:
    told = [f"{count} {state.value}" for state, count in snapshot.states.items() if state.value != "ended"]
    told += [f"{count} {outcome.value}" for outcome, count in snapshot.outcomes.items()]
    return ", ".join(sorted(told, key=lambda text: text.split()[1]))


def show(report: "Report", title: str) -> None:
    """The whole run on stdout."""
    columns = ["devices", "all", "done", "p50 s", "p90 s", "p99 s", "max s", "received", "requests"]
    columns += ["duplicates", "reconnects", "power cuts", "resumed"]
    rows = [_row(name, one) for name, one in report.profiles.items()]
    if len(rows) > 1:
        rows.append(_row("all", report.total))
    print_table(title, columns, rows)
    total = report.total
    print(
        f"{total.done} of {total.devices} devices done in {report.seconds:.1f} s, "
        f"{total.size / max(report.seconds, 1e-9) / 1e6:.2f} MB/s of files"
    )
    print(
        f"this process: {report.cpu_seconds:.1f} s of CPU, {report.memory_peak / 1e6:.0f} MB at most, "
        f"{report.late_mean * 1000:.0f} ms behind its clock on average"
    )
    if report.late_mean > TOO_LATE:
        print(
            "sluice: warning: this machine was too busy to be a fleet; its times are the machine's",
            file=sys.stderr,
        )
    reasons = Counter((one.code or one.outcome.value, one.reason) for one in report.devices if one.reason)
    for (what, reason), count in reasons.most_common(REASONS):
        print(f"{count} x {what}: {reason}")
    if len(reasons) > REASONS:
        print(f"and {len(reasons) - REASONS} reasons more: --json")


def _row(name: str, one: "Summary") -> list[str]:
    times = ["-" if value is None else f"{value:.1f}" for value in (one.p50, one.p90, one.p99, one.max)]
    counts = (one.requests, one.duplicates, one.reconnects, one.power_cuts, one.resumed)
    return [name, str(one.devices), str(one.done), *times, _bytes(one.received), *map(str, counts)]


def _bytes(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1_000_000 else f"{count / 1e3:.1f} kB"
