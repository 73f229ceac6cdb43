"""Fleets updated by a real service: what runs in the end, and what the job says of it."""

import hashlib
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from firmware_sim.fleet.loop import FleetError
from firmware_sim.fleet.profiles import DeviceProfile
from firmware_sim.links.model import LinkProfile, Way
from firmware_sim.ota_fleet.device import UNWELL
from firmware_sim.ota_fleet.order import Moment, Order
from firmware_sim.ota_fleet.report import DeviceResult, Phase, judge
from firmware_sim.ota_fleet.run import plan
from tests.firmware_sim.ota_playing import KEY, Await, ended, executions, play, register, statuses
from tests.support.ota_site import OtaSite

PERFECT = LinkProfile(name="perfect")
LOSSY = LinkProfile(
    name="lossy",
    up=Way(rate=200_000, delay=5, jitter=5, loss=0.02, duplicate=0.02),
    down=Way(rate=200_000, delay=5, jitter=5, loss=0.02, duplicate=0.02),
    disconnect_every=5.0,
)
QUICK = DeviceProfile(name="quick", save_every=8192, boot=0.05, patience=60.0)
SLOW = DeviceProfile(name="slow", block_size=1024, flash=2000, boot=0.05, patience=60.0)
# With the one of `Moment.TESTING` two cuts at most in a test boot: one less than there are tries.
FRAIL = DeviceProfile(
    name="frail",
    block_size=1024,
    save_every=4096,
    boot=0.05,
    power_cut_every=0.4,
    power_cuts=1,
    patience=60.0,
)
IMAGE = random.Random(5).randbytes(60_001)
SHA256 = hashlib.sha256(IMAGE).hexdigest()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OtaSite]:
    with OtaSite(tmp_path_factory.mktemp("ota") / "site") as site:
        yield site


def right(order: Order) -> str:
    return "SUCCEEDED" if order.works else "FAILED"


def cuts(order: Order) -> int:
    """What does not work is never confirmed."""
    return len(order.cuts - (set() if order.works else {Moment.CONFIRMED}))


def by_thing(devices: list[DeviceResult]) -> dict[str, DeviceResult]:
    return {one.thing: one for one in devices}


def test_each_device_ends_as_it_should_and_the_job_says_the_same(site: OtaSite) -> None:
    mix = {QUICK: 3, FRAIL: 1}
    orders = plan(40, mix, LOSSY, failing=0.1, cuts=0.25, thing_prefix="mixed-", ramp=0.5, seed=3)
    assert Counter(order.works for order in orders) == {True: 36, False: 4}
    assert {moment: sum(moment in one.cuts for one in orders) for moment in Moment} == dict.fromkeys(
        Moment, 10
    )
    group, job = register(site.iot, "mixed", orders), "AFR_OTA-mixed"

    def script(_wait: Await) -> None:
        site.update("mixed", IMAGE, KEY, group)
        counts = ended(site.iot, job)["jobProcessDetails"]
        assert (counts["numberOfSucceededThings"], counts["numberOfFailedThings"]) == (36, 4)

    report = play(site.broker.url, orders, script)
    found = statuses(site.iot, job)
    assert found == {order.thing: right(order) for order in orders}
    verdict = judge(report.devices, job, found)
    assert verdict.wrong == {}
    assert (verdict.reached, verdict.updated, verdict.sha256) == (40, 36, SHA256)
    assert verdict.counts == {"FAILED": 4, "SUCCEEDED": 36}
    assert verdict.reasons == {f"rejected: {UNWELL}": 4}
    devices = by_thing(report.devices)
    for order in orders:
        one = devices[order.thing]
        assert one.sha256 == (SHA256 if order.works else ""), one
        assert one.power_cuts == cuts(order) if order.profile is QUICK else one.power_cuts >= 0, one
        assert one.test_boots >= 1 + (Moment.TESTING in order.cuts), one
        assert one.jobs.keys() == {job}
    assert sum(one.resumed for one in report.devices) > 0
    assert report.timeline[0][1] == {Phase.WAITING: 40}
    assert report.timeline[-1][1] == {Phase.SUCCEEDED: 36, Phase.FAILED: 4}


def test_a_service_that_is_killed_goes_on(tmp_path: Path) -> None:
    with OtaSite(tmp_path / "site") as site:
        orders = plan(40, {QUICK: 1}, PERFECT, failing=0.1, cuts=0.2, seed=1)
        group = register(site.iot, "all", orders)

        def script(wait: Await) -> None:
            # Sixteen a second, so that the kill finds some before, some in and some after their update.
            rate = {"maximumPerMinute": 960}
            job = site.update("killed", IMAGE, KEY, group, awsJobExecutionsRolloutConfig=rate)
            wait(lambda phases: phases.get(Phase.WAITING, 0) <= 20)
            site.kill()
            ended(site.iot, job)

        report = play(site.broker.url, orders, script)
        found = statuses(site.iot, "AFR_OTA-killed")
    assert found == {order.thing: right(order) for order in orders}
    verdict = judge(report.devices, "AFR_OTA-killed", found)
    assert verdict.wrong == {}
    assert verdict.sha256 == SHA256


def test_a_bad_image_comes_to_those_alone_that_had_begun_when_it_was_aborted(site: OtaSite) -> None:
    orders = plan(40, {QUICK: 1}, PERFECT, failing=1.0, thing_prefix="bad-")
    group, job = register(site.iot, "bad", orders), "AFR_OTA-bad"
    criteria = {"failureType": "FAILED", "action": "CANCEL", "thresholdPercentage": 50.0}

    def script(_wait: Await) -> None:
        site.update(
            "bad",
            IMAGE,
            KEY,
            group,
            awsJobExecutionsRolloutConfig={"maximumPerMinute": 120},
            awsJobAbortConfig={"abortCriteriaList": [{**criteria, "minNumberOfExecutedThings": 4}]},
        )
        assert ended(site.iot, job)["status"] == "CANCELED"

    report = play(site.broker.url, orders, script)
    aborted = site.iot.describe_job(jobId=job)["job"]
    found = executions(site.iot, job)
    failed = {thing for thing, one in found.items() if one["status"] == "FAILED"}
    assert 4 <= len(failed) < 40
    assert all(found[thing]["startedAt"] <= aborted["lastUpdatedAt"] for thing in failed)
    verdict = judge(report.devices, job, {thing: one["status"] for thing, one in found.items()})
    assert verdict.wrong == {}
    assert (verdict.reached, verdict.updated) == (len(failed), 0)
    for one in report.devices:
        assert (one.jobs != {}) == (one.thing in failed), one
        assert (one.test_boots, one.sha256) == (int(one.thing in failed), "")


def test_a_bad_image_does_not_get_past_the_first_stage(site: OtaSite) -> None:
    orders = plan(40, {QUICK: 1}, PERFECT, failing=1.0, thing_prefix="stage-")
    group, job = register(site.iot, "stage", orders), "AFR_OTA-stage"
    tags = [{"Key": "sluice:stages", "Value": "10@75/100"}]

    def script(_wait: Await) -> None:
        site.update("stage", IMAGE, KEY, group, tags=tags)
        assert ended(site.iot, job)["status"] == "CANCELED"

    report = play(site.broker.url, orders, script)
    verdict = judge(report.devices, job, statuses(site.iot, job))
    assert verdict.wrong == {}
    assert verdict.reached == 4
    assert Counter(one.test_boots for one in report.devices) == {1: 4, 0: 36}


def test_a_job_that_is_canceled_in_the_middle_leaves_what_ran(site: OtaSite) -> None:
    orders = plan(40, {QUICK: 1, SLOW: 1}, PERFECT, thing_prefix="cancel-")
    group, job = register(site.iot, "cancel", orders), "AFR_OTA-cancel"
    small = IMAGE[:3000]

    def script(wait: Await) -> None:
        site.update("cancel", IMAGE, KEY, group)
        wait(lambda phases: phases == {Phase.SUCCEEDED: 20, Phase.LOADING: 20})
        site.iot.cancel_job(jobId=job, force=True)
        wait(lambda phases: phases == {Phase.SUCCEEDED: 20, Phase.DROPPED: 20})
        between.update(statuses(site.iot, job))
        site.update("after", small, KEY, group)
        ended(site.iot, "AFR_OTA-after")

    between: dict[str, str] = {}
    report = play(site.broker.url, orders, script)
    kinds = {order.thing: order.profile for order in orders}
    assert between == {thing: "SUCCEEDED" if kind is QUICK else "CANCELED" for thing, kind in kinds.items()}
    found = statuses(site.iot, "AFR_OTA-after")
    verdict = judge(report.devices, "AFR_OTA-after", found)
    assert verdict.wrong == {}
    assert (verdict.updated, verdict.sha256) == (40, hashlib.sha256(small).hexdigest())
    for one in report.devices:
        assert list(one.jobs) == [job, "AFR_OTA-after"]
        assert one.test_boots == (2 if kinds[one.thing] is QUICK else 1)


def test_what_nobody_signed_is_run_by_nobody(site: OtaSite) -> None:
    orders = plan(2, {QUICK: 1}, PERFECT, thing_prefix="forged-")
    group, job = register(site.iot, "forged", orders), "AFR_OTA-forged"

    def script(_wait: Await) -> None:
        site.update("forged", IMAGE, ec.generate_private_key(ec.SECP256R1()), group)
        ended(site.iot, job)

    report = play(site.broker.url, orders, script)
    verdict = judge(report.devices, job, statuses(site.iot, job))
    assert verdict.wrong == {}
    assert verdict.counts == {"FAILED": 2}
    assert [one.test_boots for one in report.devices] == [0, 0]
    assert all("signature does not verify" in reason for reason in verdict.reasons)


class TestPlans:
    def test_chance_is_the_same_from_the_same_seed(self) -> None:
        def make(seed: int) -> list[Order]:
            return plan(100, {QUICK: 1}, PERFECT, failing=0.03, cuts=0.5, seed=seed)

        assert make(1) == make(1)
        assert make(1) != make(2)
        assert sum(not order.works for order in make(1)) == 3

    @pytest.mark.parametrize(
        ("settings", "said"),
        [
            ({"devices": 0}, "devices is 0; it must be from 1 to 20000"),
            ({"failing": 1.1}, "failing is 1.1; it must be from 0 to 1"),
            ({"cuts": -0.1}, "power_cuts is -0.1; it must be from 0 to 1"),
            ({"ramp": float("nan")}, "ramp is nan s"),
            ({"thing_prefix": "a/"}, "thing_prefix is 'a/'"),
        ],
    )
    def test_errors(self, settings: dict[str, float], said: str) -> None:
        with pytest.raises(FleetError) as caught:
            plan(**{"devices": 1, "mix": {QUICK: 1}, "link": PERFECT, **settings})  # type: ignore[arg-type]
        assert said in str(caught.value)
