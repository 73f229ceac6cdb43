"""`sluice sim power`."""

import argparse
import json
from dataclasses import asdict

from sluice.failure import DONE, FAILED, SettingsError
from sluice.loading import Loaded
from sluice.progress import Meter

USAGE = "sluice sim power [--update KIND] [--block-size N] [--sector-size N] [--cuts N] [--json] [FLAGS]"
EXAMPLES = """examples:
  sluice sim power
  sluice sim power --block-size 1000 --shuffled --lost 0.05
  sluice sim power --update silent --torn bits,weak
  sluice sim power --ota
  sluice sim power --image-size 4000 --sector-size 1024 --write-size 16 --json

Updates a device as often as an update has flash operations and messages, and cuts the power in another one
each time. Exit status: 0 every run ended in the right image, 1 something that must hold did not.
"""
FLAGS = (
    *("update", "image_size", "block_size", "sector_size", "page_size", "write_size", "shuffled", "lost"),
    *("cuts", "torn", "seed", "ota", "json"),
)
SHOWN = 10
"""Failures that are printed; JSON has all of them."""


def arguments(_parser: argparse.ArgumentParser) -> None:
    """None."""


def run(_args: argparse.Namespace, loaded: Loaded) -> int:
    """Sweeps, and prints what was found."""
    from firmware_sim.flash import TORN
    from firmware_sim.power import Scenario, Update, sweep
    from sluice.simulating import print_table

    sim = loaded.settings.sim
    kinds = [one.value for one in Update]
    torn = TORN if sim.torn is None else tuple(dict.fromkeys(word.strip() for word in sim.torn.split(",")))
    _choose("update", [sim.update], kinds)
    _choose("torn", torn, TORN)
    for name, low, high in _BOUNDS:
        if not low <= getattr(sim, name) <= high:
            raise SettingsError(f"{name} is {getattr(sim, name)}; it must be from {low} to {high}")
    scenario = Scenario(
        update=Update(sim.update),
        payload=sim.image_size,
        block_size=loaded.settings.block_size or 1024,
        sector_size=sim.sector_size,
        page_size=sim.page_size,
        write_size=sim.write_size,
        shuffled=sim.shuffled,
        lost=sim.lost,
        cuts=sim.cuts,
        seed=sim.seed,
        ota=sim.ota,
    )
    try:
        with Meter("sweep", "runs") as meter:
            report = sweep(scenario, torn, meter)
    except ValueError as error:
        raise SettingsError(str(error)) from None
    if loaded.settings.json:
        found = asdict(report) | {"ok": report.ok, "cuts": report.cuts}
        found["scenario"]["update"] = sim.update
        print(json.dumps(found))
        return DONE if report.ok else FAILED
    names = ("runs", "cuts", "boots", "longest", "fetched_again", "wear")
    rows = [[row.kind, *(str(getattr(row, name)) for name in names)] for row in report.rows]
    columns = ("cut leaves", "runs", "power cuts", "boots", "most boots", "bytes again", "wear")
    print_table(f"{scenario}", columns, rows)
    print(
        f"{report.cuts} power cuts at {report.operations} flash operations and {report.messages} messages; "
        f"at most {report.bound} bytes may be fetched again"
    )
    if report.ok:
        print("every run ended in the right image")
        return DONE
    print(f"{len(report.failures)} runs FAILED:", *report.failures[:SHOWN], sep="\n  ")
    return FAILED


def _choose(name: str, given: "list[str] | tuple[str, ...]", known: "list[str] | tuple[str, ...]") -> None:
    for word in given:
        if word not in known:
            raise SettingsError(f"{name} is {word!r}; it must be of {', '.join(known)}")


_BOUNDS = (
    # Each page of an image is cut at, so that time grows with its square.
    ("image_size", 128, 1 << 20),
    ("sector_size", 256, 1 << 20),
    ("page_size", 1, 1 << 16),
    ("write_size", 1, 256),
    ("lost", 0, 0.5),
    ("cuts", 1, 20),
)
