"""An updated fleet as a picture: where its devices were when, and what the job said of them."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from firmware_sim.fleet.plot import check
from firmware_sim.ota_fleet.report import Phase, Report

COLOURS = {
    Phase.SUCCEEDED: "#2e7d4f",
    Phase.FAILED: "#b5402f",
    Phase.REJECTED: "#d98a2b",
    Phase.DROPPED: "#7a5c99",
    Phase.TESTING: "#e3c84b",
    Phase.REBOOTING: "#9aa5b1",
    Phase.LOADING: "#4a8fc4",
    Phase.WAITING: "#eceff2",
}
"""In the order in which they are stacked, from below."""


def draw(
    report: Report, path: Path, title: str, counts: Sequence[tuple[float, Mapping[str, int]]] = ()
) -> None:
    """Draws the run to a PNG or an SVG. CannotDraw; OSError where it cannot be written.

    `counts`: the job's, by status as its `jobProcessDetails` names them, at seconds after the fleet's start.
    """
    check(path)
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.6), dpi=120, layout="constrained")
    figure.suptitle(title)
    axes = figure.subplots()
    seconds = [at for at, _ in report.timeline]
    shown = [phase for phase in COLOURS if any(phases.get(phase) for _, phases in report.timeline)]
    axes.stackplot(
        seconds,
        [[phases.get(phase, 0) for _, phases in report.timeline] for phase in shown],
        labels=[phase.value for phase in shown],
        colors=[COLOURS[phase] for phase in shown],
    )
    end = report.cost.seconds
    at = [min(moment, end) for moment, _ in counts] + [end]
    for name, look in (("Succeeded", "-"), ("Failed", ":")):
        values = [count.get(name, 0) for _, count in counts]
        if any(values):
            label = f"{name.lower()}, says the job"
            axes.step(at, [*values, values[-1]], look, where="post", color="black", linewidth=1, label=label)
    axes.set_xlim(0, seconds[-1])
    axes.set_ylim(0, len(report.devices))
    axes.set_xlabel("seconds since the first device started")
    axes.set_ylabel("devices")
    axes.spines[["top", "right"]].set_visible(False)
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles[::-1], labels[::-1], fontsize=8, frameon=False, loc="outside right center")
    figure.savefig(path)
