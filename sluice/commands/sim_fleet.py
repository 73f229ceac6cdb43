"""`sluice sim fleet`."""

import argparse
import json
import sys
from typing import TYPE_CHECKING

from sluice.failure import DIFFERS, DONE, FAILED, INTERRUPTED, REJECTED, SettingsError
from sluice.loading import Loaded
from sluice.settings import Settings

if TYPE_CHECKING:
    from firmware_sim.fleet.order import Order
    from firmware_sim.fleet.report import Report

USAGE = "sluice sim fleet --stream ID [--devices N] [--profile NAME] [--link NAME] [--ramp SECONDS] [FLAGS]"
EXAMPLES = """examples:
  sluice sim fleet --stream fw
  sluice sim fleet --stream fw --devices 2000 --profile mixed --link lte-m --ramp 30 --plot fleet.png
  sluice sim fleet --stream fw --profile mast --profile-file mast.toml --link nb-iot --sha256 HEX --json

Each device connects on its own, downloads the file as the device library does, and is done when what its
store holds in the end has the SHA-256 that is asked for; without --sha256, that of what came and of what the
other devices hold. They are things like sim-0017. docs/simulators.md says what profiles and links there are,
and what the run does not show. Ctrl-C ends it and prints what there is. Exit status: 0 all devices are done,
3 no broker, 4 the service refused the others, 5 a SHA-256 differs, 1 anything else.
"""
FLAGS = (
    *("devices", "thing_prefix", "stream", "file", "sha256", "profile", "profile_file", "link", "link_file"),
    *("ramp", "patience", "seed", "plot", "broker", "mqtt", "cafile", "cert", "key", "json"),
)


def arguments(_parser: argparse.ArgumentParser) -> None:
    """None."""


def run(_args: argparse.Namespace, loaded: Loaded) -> int:
    """Runs the fleet, and prints what became of it."""
    settings, sim = loaded.settings, loaded.settings.sim
    if settings.stream is None:
        raise SettingsError(f"sim fleet needs --stream\nusage: {USAGE}\nsluice sim fleet --help says more")
    from firmware_sim.fleet.loop import FleetError
    from sluice.simulating import check_plot, failures

    with failures():
        try:
            orders = _orders(settings)
            if sim.plot is not None:
                check_plot(sim.plot)
            report = _run(settings, orders)
        except FleetError as error:
            raise SettingsError(str(error)) from None
        title = f"{len(orders)} devices, {sim.profile} over {sim.link}, stream {settings.stream}"
        if settings.json:
            print(json.dumps(report.as_json()))
        else:
            from sluice.fleet_view import show

            show(report, title)
        if sim.plot is not None:
            from firmware_sim.fleet.plot import draw

            draw(report, sim.plot, title)
            print(f"sluice: drawn to {sim.plot}", file=sys.stderr)
    return _status(report)


def _orders(settings: Settings) -> "list[Order]":
    from firmware_sim.fleet import profiles
    from firmware_sim.fleet.run import plan
    from sluice.simulating import find_link

    sim = settings.sim
    assert settings.stream is not None
    return plan(
        sim.devices,
        profiles.find(sim.profile, sim.profile_file),
        find_link(sim.link, sim.link_file),
        stream=settings.stream,
        file_id=settings.file,
        sha256=settings.sha256,
        thing_prefix=sim.thing_prefix,
        ramp=sim.ramp,
        patience=sim.patience,
        seed=sim.seed,
        find_link=lambda name: find_link(name, sim.link_file),
    )


def _run(settings: Settings, orders: "list[Order]") -> "Report":
    from firmware_sim.fleet.run import run
    from sluice.fleet_view import FleetMeter
    from sluice.simulating import device_broker

    broker = device_broker(settings)
    with FleetMeter(len(orders)) as meter:
        return run(broker, orders, seed=settings.sim.seed, progress=meter)


def _status(report: "Report") -> int:
    from firmware_sim.fleet.report import Outcome

    outcomes = {one.outcome for one in report.devices}
    for outcome, status in ((Outcome.UNFINISHED, INTERRUPTED), (Outcome.MISMATCH, DIFFERS)):
        if outcome in outcomes:
            return status
    if outcomes <= {Outcome.DONE}:
        return DONE
    return REJECTED if outcomes <= {Outcome.DONE, Outcome.REJECTED} else FAILED
