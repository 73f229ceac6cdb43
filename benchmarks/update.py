"""1,000 devices updated end to end: every device in the right state, and a bad image that stays with few."""

import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from benchmarks.report import MB, Goal, Row
from benchmarks.rig import ROOT, SLUICE, MemoryWatch, Service, Workshop, cpu_seconds, workshop
from firmware_sim.fleet import profiles
from firmware_sim.fleet.broker import Broker
from firmware_sim.links import profiles as links
from firmware_sim.ota_fleet.device import OneKey
from firmware_sim.ota_fleet.order import Order
from firmware_sim.ota_fleet.plot import draw
from firmware_sim.ota_fleet.report import Report, Verdict, judge
from firmware_sim.ota_fleet.run import plan
from firmware_sim.ota_fleet.run import run as run_fleet
from sluice.calling import api
from sluice.settings import Settings
from sluice.updating import JobWatch, register, statuses
from tests.support.mosquitto import MosquittoServer

DEVICES = 1000
SIZE = 200_000
MIX, LINK, RAMP = "mixed", "lte-m", 10.0
FAILING, CUTS = 0.03, 0.05
MEMORY = 200
LEAST, PERCENT, PER_MINUTE = 20, 5, 300
"""Of the abort: so many must have executed, so many percent of them failed; and the rate of the rollout."""
STAGE = 2
"""Percent of the devices that the first stage reaches."""
PICTURE = ROOT / "docs" / "update.svg"


class Site:
    """A service on a broker, things in a group, and a key that signs."""

    def __init__(self, shop: Workshop, broker: MosquittoServer, service: Service, key: Path) -> None:
        self.broker, self.service = broker, service
        self._shop, self._key = shop, key
        self._settings = Settings(http=service.http.removeprefix("http://"))
        public = ec.derive_private_key(1 << 200, ec.SECP256R1()).public_key()
        self._public = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    def register(self, name: str, orders: Sequence[Order]) -> None:
        """The devices as things of a group."""
        register(self._settings, name, [order.thing for order in orders], lambda _done, _all: None)

    def update(
        self, name: str, orders: Sequence[Order], *flags: str
    ) -> tuple[Report, Verdict, list[tuple[float, dict[str, int]]]]:
        """Rolls the file out to these devices; what became of them, and what the job counted when."""
        command = [*SLUICE, "rollout", str(self._shop.source), "--group", name, "--id", name, "--detach"]
        where = ["--key", str(self._key), "--http", self.service.http, "--state", str(self._shop.state)]
        subprocess.run([*command, *where, *flags], check=True, capture_output=True)
        with JobWatch(self._settings, name) as watch:
            broker = Broker.parse(self.broker.url)
            began = time.monotonic()
            report = run_fleet(broker, orders, OneKey(self._public), over=lambda: watch.over)
        if watch.failure:
            raise watch.failure
        verdict = judge(report.devices, watch.job_id, statuses(self._settings, watch.job_id))
        return report, verdict, [(at - began, counts) for at, counts in watch.samples]

    def begun_late(self, job_id: str) -> int:
        """Executions that began after the job was aborted."""
        client: Any = api(self._settings)
        job = client.describe_job(jobId=job_id)["job"]
        if job["status"] != "CANCELED":
            raise AssertionError(f"{job_id} is {job['status']}, and was to be aborted")
        pages = client.get_paginator("list_job_executions_for_job").paginate(jobId=job_id)
        begun = [
            one["jobExecutionSummary"].get("startedAt")
            for page in pages
            for one in page["executionSummaries"]
        ]
        return sum(at is not None and at > job["lastUpdatedAt"] for at in begun)


def run(quick: bool) -> list[Row]:
    """A good image, a bad one under a rate with an abort, and a bad one in stages."""
    devices = 100 if quick else DEVICES
    with workshop(SIZE) as shop:
        key = shop.folder / "signer.key"
        private = ec.derive_private_key(1 << 200, ec.SECP256R1())
        key.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        with shop.broker() as broker, shop.service(broker.url) as service:
            site = Site(shop, broker, service, key)
            return [*_good(site, devices, quick), *_bad(site, devices)]


def _orders(devices: int, prefix: str, failing: float, cuts: float) -> list[Order]:
    mix, link = profiles.find(MIX), links.find(LINK)
    return plan(devices, mix, link, failing=failing, cuts=cuts, thing_prefix=prefix, ramp=RAMP, seed=1)


def _good(site: Site, devices: int, quick: bool) -> list[Row]:
    orders = _orders(devices, "good-", FAILING, CUTS)
    site.register("good", orders)
    pids = site.service.pid, site.broker.process.pid
    before = [cpu_seconds(pid) for pid in pids]
    with MemoryWatch(site.service.pid) as memory:
        report, verdict, counts = site.update("good", orders)
    cpu = [(cpu_seconds(pid) - was) * 1000 / devices for pid, was in zip(pids, before, strict=True)]
    kept = {one.thing: one.sha256 != "" for one in report.devices}
    right = sum(kept[order.thing] == order.works and order.thing not in verdict.wrong for order in orders)
    what = f"{devices} devices updated, {FAILING:.0%} with a failing self-test: "
    last = max((told.last for one in report.devices for told in one.jobs.values()), default=0.0)
    cuts = sum(one.power_cuts for one in report.devices)
    if not quick:
        said = f"{devices} devices ({MIX}, {LINK}), {FAILING:.0%} with a failing self-test, {cuts} power cuts"
        draw(report, PICTURE, said, counts)
    return [
        Row(what + "in the right state", right, "devices", goal=Goal(">=", devices, "devices")),
        Row(
            what + "other than the job says",
            len(verdict.wrong),
            "devices",
            goal=Goal("<=", 0, "devices"),
            note=str(verdict.counts),
        ),
        Row(
            what + "the last done",
            last,
            "s",
            note=f"one device {verdict.p50 or 0:.0f} s (p50), {verdict.p99 or 0:.0f} s (p99); {cuts} power "
            f"cuts; the fleet was {report.cost.late_mean * 1000:.0f} ms behind its clock",
        ),
        Row(
            what + "CPU of the service",
            cpu[0],
            "ms a device",
            note=f"broker {cpu[1]:.0f}",
        ),
        Row(what + "memory of the service", memory.peak / MB, "MB", goal=Goal("<=", MEMORY, "MB")),
    ]


def _bad(site: Site, devices: int) -> list[Row]:
    orders = _orders(devices, "bad-", 1.0, 0.0)
    site.register("bad", orders)
    flags = ["--abort-on", f"FAILED:{PERCENT}%:{LEAST}", "--max-per-minute", str(PER_MINUTE)]
    _, verdict, _ = site.update("bad", orders, *flags)
    late = site.begun_late(verdict.job_id)
    ran = verdict.reached
    what = f"a bad image, aborted at {PERCENT} % of {LEAST}: "
    staged = _orders(devices, "stage-", 1.0, 0.0)
    site.register("stage", staged)
    _, stage, _ = site.update("stage", staged, "--stages", f"{STAGE}@95/100")
    reach = devices * STAGE // 100
    return [
        Row(
            what + "began after the abort",
            late + len(verdict.wrong),
            "devices",
            goal=Goal("<=", 0, "devices"),
            note=f"{ran} of {devices} had it, all of them back to what they ran",
        ),
        Row(
            f"a bad image in stages, {STAGE} % first: had it",
            stage.reached + len(stage.wrong),
            "devices",
            goal=Goal("<=", reach, "devices"),
        ),
    ]
