"""Whatever the power does, a device ends up with an image that runs; and the sweep would notice if not."""

import struct
from collections.abc import Callable
from dataclasses import replace

import pytest

from device_client.flash_sinks import PartitionSink
from firmware_sim.boot import loader
from firmware_sim.boot.image import Image, NoImage
from firmware_sim.boot.loader import Loader
from firmware_sim.boot.log import SlotLog, State, Status
from firmware_sim.power import MESSAGE, Report, Scenario, Update, sweep

# In an image this small as many things happen as in a large one, and a sweep takes its square in time.
SMALL = Scenario(payload=6000, sector_size=1024, page_size=256, block_size=512)


def swept(report: Report) -> None:
    """A sweep that did what it says, and found nothing."""
    print(report)
    assert report.ok, str(report)
    assert report.operations > 30
    for row in report.rows:
        assert row.runs == (report.messages if row.kind == MESSAGE else report.operations)
        assert row.runs <= row.cuts <= report.scenario.cuts * row.runs
        assert row.boots > row.cuts


def test_every_operation_of_an_update() -> None:
    report = sweep(Scenario())
    swept(report)
    assert report.bound == 4096
    assert max(row.fetched_again for row in report.rows) == 4096
    assert report.cuts > 1000


@pytest.mark.parametrize(
    "scenario",
    [
        replace(SMALL, block_size=1000, shuffled=True, lost=0.05),
        replace(SMALL, block_size=256, shuffled=True),
        replace(SMALL, block_size=3000, shuffled=True),
        replace(SMALL, write_size=16, shuffled=True),
        replace(SMALL, block_size=2048, cuts=5),
    ],
    ids=["blocks across sectors", "small blocks", "large blocks", "flash with ECC", "five cuts"],
)
def test_blocks_sectors_and_orders(scenario: Scenario) -> None:
    swept(sweep(scenario))


@pytest.mark.parametrize(
    "scenario",
    [
        SMALL,
        replace(SMALL, block_size=1000, shuffled=True, lost=0.05),
        replace(SMALL, write_size=16, cuts=4),
        *(replace(SMALL, payload=3000, update=update) for update in Update if update is not Update.GOOD),
    ],
    ids=str,
)
def test_an_update_that_is_a_job(scenario: Scenario) -> None:
    """The device has the OTA agent; image and job agree whatever the power does."""
    report = sweep(replace(scenario, ota=True), ("bits", "weak"))
    assert report.ok, str(report)
    assert report.operations > 10
    assert sum(row.runs for row in report.rows) == 2 * report.operations + report.messages


@pytest.mark.parametrize("update", [update for update in Update if update is not Update.GOOD])
def test_what_must_not_stay_does_not(update: Update) -> None:
    report = sweep(replace(SMALL, update=update), ("bits", "weak"))
    swept(report)
    assert [row.kind for row in report.rows] == ["bits", "weak", MESSAGE]


def test_a_sweep_repeats() -> None:
    scenario = Scenario(payload=2000, sector_size=1024, block_size=512, shuffled=True, lost=0.1, seed=4)
    assert str(sweep(scenario, ("weak",))) == str(sweep(scenario, ("weak",)))


def test_a_sweep_tells_how_far_it_is() -> None:
    told: list[tuple[int, int]] = []
    report = sweep(Scenario(payload=500, sector_size=1024), ("none",), lambda *now: told.append(now))
    total = report.operations + report.messages
    assert told == [(done, total) for done in range(1, total + 1)]


class TestTheSweepNotices:
    """Each takes one safeguard away from what is swept, and is found."""

    SCENARIO = replace(SMALL, shuffled=True)

    def found(self, *texts: str, scenario: Scenario = SCENARIO) -> None:
        report = sweep(scenario, ("bits", "weak"))
        assert not report.ok
        assert any(text in failure for failure in report.failures for text in texts), report.failures[:10]
        assert report.failures[0] in str(report)

    def test_a_loader_that_does_not_check_signatures(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def trusting(read: Callable[[int, int], bytes], size: int, key: object) -> Image:
            _, version, security, payload = struct.unpack(">4sIII", read(0, 16))
            if payload > size:
                raise NoImage("cut off")
            return Image(version, security, min(size, payload + 100), read(16 + payload, 32))

        monkeypatch.setattr(loader, "verify", trusting)
        forged = replace(SMALL, update=Update.FORGED)
        self.found("runs 6100 bytes that are no genuine image", scenario=forged)

    def test_a_loader_that_takes_all_for_confirmed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(SlotLog, "status", lambda *_: Status(State.CONFIRMED, 0, 2))
        self.found("an image that never confirmed", scenario=replace(SMALL, update=Update.SILENT))

    def test_a_sink_that_claims_what_it_has_not_written(self, monkeypatch: pytest.MonkeyPatch) -> None:
        real = PartitionSink._read_marks

        def claims_all(sink: PartitionSink) -> bytes:
            return bytes(byte | 1 for byte in real(sink))

        monkeypatch.setattr(PartitionSink, "_read_marks", claims_all)
        self.found("ended refused")

    def test_progress_that_is_lost(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(PartitionSink, "load", lambda _sink: None)
        self.found("bytes were fetched again, over 1024")

    def test_writes_to_what_runs(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Loader, "spare", lambda _loader, running: running.slot)
        self.found("protected")
