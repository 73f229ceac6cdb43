"""A fleet that is updated, as it runs and as it has run: a line on stderr, tables on stdout."""

import sys
from typing import TYPE_CHECKING

from sluice.fleet_view import REASONS, TOO_LATE
from sluice.progress import LINE_SECONDS
from sluice.simulating import print_table

if TYPE_CHECKING:
    from firmware_sim.ota_fleet.report import Report, Verdict
    from firmware_sim.ota_fleet.run import Snapshot

WRONG = 10
"""Things that are not as the job says, told at most; JSON has all of them."""


class UpdateMeter:
    """Is told of snapshots: one line that changes where stderr is a terminal, else a line now and then."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._said = 0.0
        self._phases: dict[str, int] = {}

    def __call__(self, snapshot: "Snapshot") -> None:
        phases = {phase.value: count for phase, count in snapshot.phases.items()}
        if self._terminal:
            print(f"\r\x1b[K{_line(snapshot)}", end="", file=sys.stderr, flush=True)
        elif snapshot.seconds - self._said >= LINE_SECONDS and phases != self._phases:
            self._said, self._phases = snapshot.seconds, phases
            print(_line(snapshot), file=sys.stderr)

    def close(self) -> None:
        """What comes next is on a line of its own."""
        if self._terminal:
            print(file=sys.stderr)


def _line(snapshot: "Snapshot") -> str:
    told = [f"{count} {phase.value}" for phase, count in snapshot.phases.items()]
    told.sort(key=lambda text: text.split()[1])
    return f"update: {snapshot.seconds:.0f} s, {snapshot.online} online, {', '.join(told)}"


def show(report: "Report", verdict: "Verdict | None", title: str) -> None:
    """The whole run on stdout."""
    columns = ["devices", "all", "ran it", "kept it", "test boots", "power cuts", "reconnects", "received"]
    rows = []
    kinds = sorted({(one.profile, one.link) for one in report.devices})
    for kind in kinds:
        ours = [one for one in report.devices if (one.profile, one.link) == kind]
        rows.append(
            [
                f"{kind[0]}, {kind[1]}",
                str(len(ours)),
                str(sum(one.test_boots > 0 for one in ours)),
                str(sum(one.sha256 != "" for one in ours)),
                str(sum(one.test_boots for one in ours)),
                str(sum(one.power_cuts for one in ours)),
                str(sum(one.reconnects for one in ours)),
                f"{sum(one.received for one in ours) / 1e6:.1f} MB",
            ]
        )
    print_table(title, columns, rows)
    cost = report.cost
    print(
        f"this process: {cost.cpu_seconds:.1f} s of CPU, {cost.memory_peak / 1e6:.0f} MB at most, "
        f"{cost.late_mean * 1000:.0f} ms behind its clock on average"
    )
    if cost.late_mean > TOO_LATE:
        print(
            "sluice: warning: this machine was too busy to be a fleet; its times are the machine's",
            file=sys.stderr,
        )
    if verdict is not None:
        _judged(verdict, len(report.devices), cost.seconds)


def _judged(verdict: "Verdict", devices: int, seconds: float) -> None:
    counts = ", ".join(f"{count} {status}" for status, count in verdict.counts.items()) or "no executions"
    print(f"job {verdict.job_id}: {counts}")
    print(
        f"{verdict.reached} of {devices} devices heard of it, {verdict.updated} run its file "
        f"after {seconds:.1f} s"
    )
    if verdict.p50 is not None and verdict.p99 is not None:
        print(f"one device took {verdict.p50:.1f} s (p50), {verdict.p99:.1f} s (p99)")
    for reason, count in list(verdict.reasons.items())[:REASONS]:
        print(f"{count} x {reason}")
    for thing, what in list(verdict.wrong.items())[:WRONG]:
        print(f"wrong: {thing}: {what}")
    if len(verdict.wrong) > WRONG:
        print(f"and {len(verdict.wrong) - WRONG} things more: --json")
    if not verdict.wrong:
        print("every device is as the job says")
