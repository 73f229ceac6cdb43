"""What a fleet's slots let happen, and what its report finds wrong: if lax, both would hide faults."""

import random
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from device_client.platform import ImageRefused
from firmware_sim.boot.loader import TRIES
from firmware_sim.fleet.powered import PowerCut
from firmware_sim.fleet.store import FleetStore
from firmware_sim.ota_fleet.order import Moment
from firmware_sim.ota_fleet.report import DeviceResult, Told, judge
from firmware_sim.ota_fleet.slots import FACTORY, Boot, Slots

NEW, OLD = "n" * 64, ""


@pytest.fixture
def store() -> Iterator[FleetStore]:
    store = FleetStore()
    yield store
    store.close()


def slots(store: FleetStore, *cuts: Moment) -> Slots:
    return Slots(store, frozenset(cuts), random.Random(1))


def load(device: Slots, content: bytes = b"image") -> None:
    sink = device.sink()
    sink.start(len(content))
    sink.write(0, memoryview(content))
    sink.finish()


class TestSlots:
    def test_what_is_confirmed_stays(self, store: FleetStore) -> None:
        device = slots(store)
        load(device)
        device.request()
        device.boot()
        assert (device.testing(), device.version) == (True, FACTORY + 1)
        device.confirm()
        for _ in range(5):
            device.boot()
        assert (device.testing(), device.version, device.test_boots) == (False, FACTORY + 1, 1)

    def test_what_is_not_confirmed_is_refused_after_its_tries(self, store: FleetStore) -> None:
        device = slots(store)
        load(device)
        device.request()
        for _ in range(TRIES):
            device.boot()
            assert device.testing()
            assert device.refused() == ""
        device.boot()
        assert (device.testing(), device.version) == (False, FACTORY)
        assert device.refused() == "it did not confirm itself"
        load(device)
        assert device.refused() == ""

    def test_what_is_reverted_is_not_tried_again(self, store: FleetStore) -> None:
        device = slots(store)
        load(device)
        device.request()
        device.boot()
        device.revert()
        device.boot()
        assert (device.version, device.refused(), device.test_boots) == (
            FACTORY,
            "it did not confirm itself",
            1,
        )

    def test_what_may_be_booted_is_overwritten_by_nobody(self, store: FleetStore) -> None:
        device = slots(store)
        load(device)
        sink = device.sink()
        device.request()
        for refused in (partial(sink.start, 5), partial(sink.write, 0, memoryview(b"x")), sink.discard):
            with pytest.raises(RuntimeError, match="has asked a test boot of"):
                refused()
        device.boot()
        with pytest.raises(RuntimeError, match="falls back to"):
            device.sink()
        with pytest.raises(ImageRefused, match="on test itself"):
            device.request()

    def test_the_power_fails_once_at_each_moment_and_what_was_to_be_durable_is(
        self, store: FleetStore
    ) -> None:
        device = slots(store, *Moment)
        with pytest.raises(PowerCut):
            load(device)
        device.lose_power(random.Random(2))
        assert device.sink().read(0, 5) != b"image"
        load(device)
        with pytest.raises(PowerCut):
            device.request()
        device.lose_power(random.Random(3))
        device.boot()
        assert device.testing()
        with pytest.raises(PowerCut):
            device.cut(Moment.TESTING)
        device.boot()
        device.cut(Moment.TESTING)
        with pytest.raises(PowerCut):
            device.confirm()
        device.boot()
        assert device.running.boot is Boot.CONFIRMED
        assert device.running.read(0, 5) == b"image"


def device(**changes: Any) -> DeviceResult:
    return DeviceResult(
        **{
            "thing": "t",
            "profile": "p",
            "link": "l",
            "works": True,
            "sha256": OLD,
            "version": FACTORY,
            "settled": True,
            "failure": "",
            "jobs": {},
            "boots": 1,
            "test_boots": 0,
            "power_cuts": 0,
            "reconnects": 0,
            "received": 0,
            "resumed": 0,
            **changes,
        }
    )


def told(status: str) -> dict[str, Told]:
    return {"j": Told(status, "why", 1.0, 3.0)}


class TestJudge:
    @pytest.mark.parametrize(
        ("changes", "status", "said"),
        [
            ({"sha256": NEW, "jobs": told("SUCCEEDED")}, "SUCCEEDED", ""),
            ({"jobs": told("FAILED")}, "FAILED", ""),
            ({"jobs": told("REJECTED")}, "REJECTED", ""),
            ({"jobs": told("IN_PROGRESS")}, "CANCELED", ""),
            ({"jobs": told("IN_PROGRESS")}, "TIMED_OUT", ""),
            ({}, "CANCELED", ""),
            ({}, "QUEUED", ""),
            ({}, None, ""),
            ({"jobs": told("SUCCEEDED")}, "SUCCEEDED", "it runs what it had from the factory"),
            ({"sha256": "x" * 64, "jobs": told("SUCCEEDED")}, "SUCCEEDED", f"it runs {'x' * 64}"),
            ({"sha256": NEW, "jobs": told("FAILED")}, "FAILED", f"it runs {NEW}"),
            ({"sha256": NEW, "jobs": told("SUCCEEDED")}, "CANCELED", "the device reported SUCCEEDED"),
            ({"sha256": NEW, "jobs": told("SUCCEEDED")}, "TIMED_OUT", "the device reported SUCCEEDED"),
            ({"sha256": NEW, "jobs": told("SUCCEEDED")}, "FAILED", "the device reported SUCCEEDED"),
            ({"sha256": NEW, "jobs": told("SUCCEEDED")}, None, "no execution, and the device reported"),
            ({"sha256": NEW}, "SUCCEEDED", "the device reported nothing"),
            ({"jobs": told("IN_PROGRESS")}, "IN_PROGRESS", "has nothing to do, having reported IN_PROGRESS"),
            ({"jobs": told("IN_PROGRESS")}, "QUEUED", "the device has begun it"),
            ({"settled": False, "jobs": told("IN_PROGRESS")}, "IN_PROGRESS", "still at it: IN_PROGRESS"),
            ({"settled": False}, None, "still at it"),
            ({"failure": "not let in"}, "QUEUED", "off for good: not let in"),
        ],
    )
    def test_each_way_to_be_wrong_is_found(
        self, changes: dict[str, Any], status: str | None, said: str
    ) -> None:
        # Two others say which file the job has.
        others = [device(thing=name, sha256=NEW, jobs=told("SUCCEEDED")) for name in ("a", "b")]
        statuses = {"a": "SUCCEEDED", "b": "SUCCEEDED"} | ({} if status is None else {"t": status})
        verdict = judge([*others, device(**changes)], "j", statuses)
        assert verdict.sha256 == NEW
        assert verdict.wrong.keys() == ({"t"} if said else set())
        assert said in verdict.wrong.get("t", "")

    def test_things_of_others_are_found_too(self) -> None:
        verdict = judge([device()], "j", {"stranger": "FAILED"})
        assert verdict.wrong == {"stranger": "FAILED, and no device of this fleet"}
        assert (verdict.reached, verdict.updated, verdict.p50) == (0, 0, None)

    def test_what_it_counts(self) -> None:
        devices = [
            device(thing="a", sha256=NEW, jobs=told("SUCCEEDED")),
            device(thing="b", jobs=told("FAILED")),
            device(thing="c"),
        ]
        verdict = judge(devices, "j", {"a": "SUCCEEDED", "b": "FAILED"})
        assert (verdict.reached, verdict.updated, verdict.p50, verdict.p99) == (2, 1, 2.0, 2.0)
        assert verdict.reasons == {"why": 1}
        assert verdict.counts == {"FAILED": 1, "SUCCEEDED": 1}
