"""Sums, percentiles and disagreements of a fleet, and how it is drawn."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_sim.fleet.plot import CannotDraw, draw
from firmware_sim.fleet.report import DeviceResult, Outcome, Report, percentile, summary, with_disagreements

ONE = DeviceResult(
    thing="sim-0",
    stream="fw",
    file_id=0,
    profile="esp32",
    link="lte-m",
    outcome=Outcome.DONE,
    started=1.0,
    seconds=2.0,
    size=1000,
    version=1,
    sha256="aa",
    received=1100,
    requests=3,
    duplicates=1,
    reconnects=2,
    power_cuts=4,
    resumed=500,
)
REJECTED = replace(ONE, outcome=Outcome.REJECTED, code="VersionMismatch", reason="it is another", sha256="")
LATE = replace(ONE, outcome=Outcome.TIMEOUT, reason="nothing new", sha256="", size=0)


def report(*devices: DeviceResult) -> Report:
    return Report(
        seed=3,
        seconds=9.0,
        cpu_seconds=1.0,
        late_mean=0.001,
        late_max=0.01,
        memory_before=1,
        memory_peak=2,
        devices=list(devices),
    )


@given(st.lists(st.integers(0, 50), min_size=1), st.sampled_from([0.5, 0.9, 0.99, 1.0]))
def test_a_percentile_is_the_least_value_that_enough_do_not_exceed(values: list[int], share: float) -> None:
    found = percentile(sorted(values), share)
    assert found in values
    assert sum(value <= found for value in values) >= share * len(values)
    assert sum(value < found for value in values) < share * len(values)


def test_only_those_that_are_done_have_times() -> None:
    slow = replace(ONE, seconds=8.0)
    total = summary([ONE, slow, REJECTED, LATE, LATE])
    assert (total.devices, total.done, total.size, total.received) == (5, 2, 2000, 5500)
    assert total.failures == {"timeout": 2, "VersionMismatch": 1}
    assert (total.p50, total.p90, total.max) == (2.0, 8.0, 8.0)
    nobody = summary([LATE])
    assert (nobody.p50, nobody.p99, nobody.max) == (None, None, None)


def test_profiles_are_told_apart_and_by_link_where_there_are_several() -> None:
    found = report(ONE, replace(ONE, profile="nrf"), replace(ONE, profile="nrf", link="nb-iot"), LATE)
    assert {name: one.devices for name, one in found.profiles.items()} == {
        "esp32": 2,
        "nrf, lte-m": 1,
        "nrf, nb-iot": 1,
    }
    assert not found.ok
    assert report(ONE).ok


def test_json_has_everything() -> None:
    whole = report(ONE, REJECTED)
    found = json.loads(json.dumps(whole.as_json()))
    assert found["devices"][1]["outcome"] == "rejected"
    assert found["devices"][1]["code"] == "VersionMismatch"
    assert found["total"]["done"] == found["profiles"]["esp32"]["done"] == 1
    assert (found["ok"], found["seed"], found["seconds"]) == (False, 3, 9.0)


def test_who_holds_other_bytes_than_most_is_a_mismatch() -> None:
    other, newer = replace(ONE, sha256="bb"), replace(ONE, sha256="cc", version=2)
    elsewhere = replace(ONE, sha256="dd", file_id=1)
    found = with_disagreements([other, ONE, ONE, newer, elsewhere, LATE])
    outcomes = [one.outcome for one in found]
    assert outcomes == [Outcome.MISMATCH, *[Outcome.DONE] * 4, Outcome.TIMEOUT]
    assert "SHA-256 bb, where most devices have aa" in found[0].reason


@pytest.mark.parametrize("devices", [[ONE, replace(ONE, profile="nrf", seconds=5.0), REJECTED], [LATE]])
def test_it_is_drawn(tmp_path: Path, devices: list[DeviceResult]) -> None:
    draw(report(*devices), tmp_path / "run.png", "a fleet")
    assert (tmp_path / "run.png").read_bytes().startswith(b"\x89PNG\r\n")
    draw(report(*devices), tmp_path / "run.svg", "a fleet")
    assert ElementTree.parse(tmp_path / "run.svg").getroot().tag.endswith("svg")


def test_what_cannot_be_drawn_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CannotDraw, match=r"neither a .png nor a .svg"):
        draw(report(ONE), tmp_path / "run.pdf", "a fleet")
    with pytest.raises(CannotDraw, match="there is no folder"):
        draw(report(ONE), tmp_path / "nowhere" / "run.png", "a fleet")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(CannotDraw, match=r"pip install 'sluice\[sim\]'"):
        draw(report(ONE), tmp_path / "run.png", "a fleet")
