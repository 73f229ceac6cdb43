"""A run as a picture: how many were done when, and how long each took."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from firmware_sim.fleet.report import DeviceResult, Outcome, Report

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FORMATS = (".png", ".svg")
BINS = 40


class CannotDraw(Exception):
    """matplotlib is not installed, or the file is of another kind; says what to do."""


def check(path: Path) -> None:
    """Before a long run: whether `draw` will be able to. CannotDraw."""
    if path.suffix.lower() not in FORMATS:
        raise CannotDraw(f"{path} is neither a .png nor a .svg")
    if not path.parent.is_dir():
        raise CannotDraw(f"there is no folder {path.parent} for {path.name}")
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise CannotDraw(
            "drawing needs matplotlib, which is not installed: pip install 'sluice[sim]', or leave --plot out"
        ) from None


def draw(report: Report, path: Path, title: str) -> None:
    """Draws the run to a PNG or an SVG. CannotDraw; OSError where it cannot be written."""
    check(path)
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    kinds = _kinds(report.devices)
    figure = Figure(figsize=(11, 4.6), dpi=120, layout="constrained")
    total = report.total
    failed = total.devices - total.done
    said = f"{total.done} of {total.devices} devices done" + (f", {failed} not" if failed else "")
    figure.suptitle(f"{title}: {said}")
    progress, durations = figure.subplots(1, 2)

    progress.set_title("Done over time", fontsize=10)
    for name, devices in kinds.items():
        _curve(progress, devices, report.seconds, label=f"{name} ({len(devices)})", linewidth=1.2)
    if len(kinds) > 1:
        _curve(progress, report.devices, report.seconds, label="all", color="black", linewidth=2)
    progress.set_xlim(0, report.seconds)
    progress.set_ylim(0, 1.02)
    progress.yaxis.set_major_formatter(PercentFormatter(1))
    progress.set_xlabel("seconds since the first device started")
    progress.set_ylabel("devices that are done")

    durations.set_title("How long each device took", fontsize=10)
    took = {name: [one.seconds for one in _done(devices)] for name, devices in kinds.items()}
    most = max((max(seconds) for seconds in took.values() if seconds), default=1.0)
    durations.hist(list(took.values()), bins=BINS, range=(0, most), stacked=True, label=list(took))
    if total.done:
        for share, seconds in (("p50", total.p50), ("p90", total.p90), ("p99", total.p99)):
            assert seconds is not None
            durations.axvline(seconds, color="black", linewidth=0.8, linestyle=":")
            durations.annotate(
                share,
                (seconds, 0.99),
                xycoords=("data", "axes fraction"),
                rotation=90,
                ha="right",
                va="top",
                fontsize=7,
            )
    durations.set_xlim(0)
    durations.set_xlabel("seconds from a device's start")
    durations.set_ylabel("devices")

    for axes in (progress, durations):
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    progress.legend(fontsize=8, frameon=False, loc="best")
    figure.savefig(path)


def _kinds(devices: Sequence[DeviceResult]) -> Mapping[str, list[DeviceResult]]:
    found: dict[str, list[DeviceResult]] = {}
    for one in sorted(devices, key=lambda one: one.profile):
        found.setdefault(one.profile, []).append(one)
    return found


def _done(devices: Sequence[DeviceResult]) -> list[DeviceResult]:
    return [one for one in devices if one.outcome is Outcome.DONE]


def _curve(axes: "Axes", devices: Sequence[DeviceResult], end: float, label: str, **look: Any) -> None:
    """The share of `devices` that were done at each time."""
    at = sorted(one.started + one.seconds for one in _done(devices))
    shares = [count / len(devices) for count in range(len(at) + 1)]
    axes.step([0.0, *at, end], [*shares, shares[-1]], where="post", label=label, **look)
