"""`sluice sim update`."""

import argparse
import dataclasses
import json
import re
import sys
import time
from typing import TYPE_CHECKING

from sluice.failure import DONE, FAILED, INTERRUPTED, Failure, SettingsError
from sluice.loading import Loaded
from sluice.settings import Settings

if TYPE_CHECKING:
    from firmware_sim.ota_fleet.device import Keys
    from firmware_sim.ota_fleet.order import Order
    from firmware_sim.ota_fleet.report import Verdict

USAGE = "sluice sim update --group NAME [--id UPDATE] (--public-key PEM | --signing-key PEM) [FLAGS]"
EXAMPLES = """examples:
  sluice sim update --group masts --id v2 --public-key signer.pub --devices 200
  sluice sim update --group masts --id v2 --public-key signer.pub --fail-self-test 3% --power-cuts 5%
  sluice sim update --group masts --id bad --public-key signer.pub --fail-self-test 100% --plot bad.svg

Devices that run the OTA agent, things like sim-017 in the group: each waits for jobs, loads the image of an
OTA update into its spare slot, verifies it, boots it on test, and keeps it or goes back. They do not make the
update: `sluice rollout FILE --group masts --id v2 --key signer.key` does, before or meanwhile. Things and
group are made where they are not there.

With --id the run ends when that update has ended and no device has anything to do, and each device is held
against its job; without, Ctrl-C ends it. --fail-self-test: the share that finds in its test boot that the new
version does not work. --power-cuts: the share whose power fails, at each of four moments: while it loads,
when the test boot is requested, in it, and when the new version is confirmed. docs/simulators.md says more.
Exit status: 0 every device is as the job says, 1 one is not, 3 no broker or service, 4 the service refuses.
"""
FLAGS = (
    *("group", "id", "public_key", "signing_key", "devices", "thing_prefix", "profile", "profile_file"),
    *("link", "link_file", "ramp", "fail_self_test", "power_cuts", "seed", "plot", "json"),
    *("broker", "mqtt", "cafile", "cert", "key", "http", "region", "account", "timeout"),
)

_SHARE = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,6})?)%")


def arguments(_parser: argparse.ArgumentParser) -> None:
    """None."""


def run(_args: argparse.Namespace, loaded: Loaded) -> int:
    """Registers, runs the fleet, and holds it against the job."""
    settings, sim, rollout = loaded.settings, loaded.settings.sim, loaded.settings.rollout
    if rollout.group is None:
        raise SettingsError(f"sim update needs --group\nusage: {USAGE}\nsluice sim update --help says more")
    from firmware_sim.fleet.loop import FleetError
    from firmware_sim.ota_fleet.report import judge
    from firmware_sim.ota_fleet.run import run as run_fleet
    from sluice.progress import Meter
    from sluice.simulating import check_plot, device_broker, failures
    from sluice.update_view import UpdateMeter, show
    from sluice.updating import JobWatch, register, statuses

    with failures():
        try:
            orders, keys, broker = _orders(settings), _keys(settings), device_broker(settings)
            if sim.plot is not None:
                check_plot(sim.plot)
            with Meter("registered", "things") as registered:
                register(settings, rollout.group, [order.thing for order in orders], registered)
            meter, began = UpdateMeter(), time.monotonic()
            with JobWatch(settings, rollout.id) as watch:
                report = run_fleet(
                    broker, orders, keys, seed=sim.seed, over=lambda: watch.over, progress=meter
                )
            meter.close()
        except FleetError as error:
            raise SettingsError(str(error)) from None
    if watch.failure is not None:
        raise watch.failure
    verdict = None
    if watch.job_id:
        verdict = judge(report.devices, watch.job_id, statuses(settings, watch.job_id))
    title = f"{len(orders)} devices, {sim.profile} over {sim.link}, group {rollout.group}"
    if settings.json:
        print(json.dumps({**report.as_json(), "job": verdict and dataclasses.asdict(verdict)}))
    else:
        show(report, verdict, title)
    if sim.plot is not None:
        from firmware_sim.ota_fleet.plot import draw

        with failures():
            draw(report, sim.plot, title, [(at - began, counts) for at, counts in watch.samples])
        print(f"sluice: drawn to {sim.plot}", file=sys.stderr)
    return _status(rollout.id, watch.over, verdict)


def _orders(settings: Settings) -> "list[Order]":
    from firmware_sim.fleet import profiles
    from firmware_sim.ota_fleet.run import plan
    from sluice.simulating import find_link

    sim = settings.sim
    return plan(
        sim.devices,
        profiles.find(sim.profile, sim.profile_file),
        find_link(sim.link, sim.link_file),
        failing=_share("sim.fail_self_test", sim.fail_self_test),
        cuts=_share("sim.power_cuts", sim.power_cuts),
        thing_prefix=sim.thing_prefix,
        ramp=sim.ramp,
        seed=sim.seed,
        find_link=lambda name: find_link(name, sim.link_file),
    )


def _share(name: str, text: str) -> float:
    match = _SHARE.fullmatch(text)
    if match is None or float(match[1]) > 100:
        raise SettingsError(f"{name} is {text!r}; it must be a percentage from 0% to 100%")
    return float(match[1]) / 100


def _keys(settings: Settings) -> "Keys":
    """The key that devices verify with: the public one, or the public half of what signs on this machine."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    from firmware_sim.ota_fleet.device import OneKey

    path = settings.sim.public_key or settings.rollout.signing_key
    if path is None:
        raise SettingsError("sim update needs --public-key, or --signing-key: devices take no unsigned image")
    try:
        pem = path.read_bytes()
    except OSError as error:
        raise Failure(f"cannot read {path}: {error.strerror}") from None
    try:
        if path == settings.sim.public_key:
            key = serialization.load_pem_public_key(pem)
        else:
            key = serialization.load_pem_private_key(pem, None).public_key()
    except (ValueError, TypeError) as error:
        raise SettingsError(f"{path} is no key to verify with: {error}") from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise SettingsError(f"{path} is no ECDSA key on P-256, which is what these devices verify with")
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return OneKey(key.public_bytes(serialization.Encoding.PEM, form))


def _status(update_id: str | None, over: bool, verdict: "Verdict | None") -> int:
    if update_id is None:
        return DONE
    if not over:
        return INTERRUPTED
    return FAILED if verdict is None or verdict.wrong else DONE
