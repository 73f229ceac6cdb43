"""What a benchmark finds: rows with a goal, as a table and as JSON."""

import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version

MB = 1_000_000


@dataclass(frozen=True, slots=True)
class Goal:
    """A bound for the number that it is about; `unit` says what that number counts."""

    sense: str
    """`>=` or `<=`."""
    bound: float
    unit: str

    def met(self, number: float) -> bool:
        """Whether `number` is on the right side of the bound."""
        return number >= self.bound if self.sense == ">=" else number <= self.bound

    def __str__(self) -> str:
        return f"{self.sense} {shown(self.bound, self.unit)}"


@dataclass(frozen=True, slots=True)
class Row:
    """One figure, the bare responder's (or whatever else ran beside it), and the goal."""

    what: str
    figure: float | None
    """None: not available here; `note` says why."""
    unit: str
    bare: float | None = None
    goal: Goal | None = None
    compared: float | None = None
    """What the goal is about, where that is not the figure itself (a ratio, a difference)."""
    note: str = ""
    details: dict[str, object] = field(default_factory=dict)
    """For `--json` alone."""

    @property
    def result(self) -> float | None:
        """The number that the goal is about."""
        return self.figure if self.compared is None else self.compared

    @property
    def verdict(self) -> str:
        """Met, missed, or nothing."""
        if self.goal is None or self.result is None:
            return ""
        return "met" if self.goal.met(self.result) else "missed"


def shown(number: float | None, unit: str) -> str:
    """A number with three or four digits that mean something, and its unit."""
    if number is None:
        return ""
    size = abs(number)
    text = f"{number:,.0f}" if size >= 1000 else f"{number:.0f}" if size >= 100 else f"{number:.3g}"
    return f"{text} {unit}".rstrip()


def table(rows: Sequence[Row]) -> str:
    """All rows, one line each, columns as wide as they must be."""
    head = ("what", "figure", "bare", "compared", "goal", "", "")
    lines = [
        (
            row.what,
            shown(row.figure, row.unit) or "not available",
            shown(row.bare, row.unit),
            shown(row.compared, row.goal.unit if row.goal else ""),
            str(row.goal or ""),
            row.verdict,
            row.note,
        )
        for row in rows
    ]
    widths = [max(map(len, column)) for column in zip(head, *lines, strict=True)]
    ruled = [head, tuple("-" * width for width in widths), *lines]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in ruled
    )


def as_json(rows: Sequence[Row]) -> list[dict[str, object]]:
    """All rows with all they know."""
    return [
        {
            "what": row.what,
            "figure": row.figure,
            "unit": row.unit,
            "bare": row.bare,
            "compared": row.compared,
            "goal": str(row.goal) if row.goal else None,
            "met": row.goal.met(row.result) if row.goal and row.result is not None else None,
            "note": row.note,
            **row.details,
        }
        for row in rows
    ]


def machine() -> dict[str, object]:
    """What the figures were taken on."""
    # Without arguments it would run; what `-h` prints begins with the version, and its exit status is not 0.
    mosquitto = subprocess.run(["mosquitto", "-h"], capture_output=True, text=True, check=False).stdout
    return {
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "load": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "uvloop": version("uvloop") if sys.platform != "win32" else None,
        "mosquitto": mosquitto.partition("\n")[0].removeprefix("mosquitto version ").strip(),
        "sluice": version("sluice"),
    }
