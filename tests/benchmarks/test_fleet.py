"""A fleet's "exact" must mean something: the bare responder serves zeros, and only that arrives."""

import secrets
from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks.plot import drawing
from benchmarks.report import Goal, Row, table
from benchmarks.rig import Program
from tests.conftest import MosquittoFactory

SIZE = 300_001
DEVICES = 3


@pytest.mark.parametrize("encoding", ["cbor", "json"])
@pytest.mark.parametrize("wrong", [None, 0, 131_072, SIZE - 1])
def test_checking_devices_find_one_wrong_byte(
    mosquitto: MosquittoFactory, tmp_path: Path, encoding: str, wrong: int | None
) -> None:
    expected = bytearray(SIZE)
    if wrong is not None:
        expected[wrong] = 1 + secrets.randbelow(255)
    source = tmp_path / "source"
    source.write_bytes(expected)
    broker = mosquitto()
    at = {"host": broker.host, "port": broker.port, "size": SIZE}
    spec = {
        "stream": "bench",
        "block_size": 4096,
        "plan": "once",
        "encoding": encoding,
        "source": str(source),
    }
    with Program("bare", **at), Program("fleet", **at, **spec, devices=DEVICES) as fleet:
        fleet.ask("go")
        report = fleet.ask("wait", 60)
    assert len(report["done"]) == (DEVICES if wrong is None else 0)
    assert len(report["failed"]) == (0 if wrong is None else DEVICES)
    assert all("other bytes than expected" in failure for failure in report["failed"])


def test_the_table_and_the_plot_say_what_was_missed() -> None:
    rows = [
        Row("slow & late", 80.0, "ms", 1.0, Goal("<=", 20, "ms"), 79.0),
        Row("fast", 0.95, "", goal=Goal(">=", 0.9, "of bare")),
        Row("absent", None, "", note="not here"),
    ]
    lines = table(rows).splitlines()
    assert lines[2].split()[-1] == "missed"
    assert lines[3].split()[-1] == "met"
    assert "not available" in lines[4]
    machine: dict[str, object] = dict.fromkeys(("cores", "system", "python", "uvloop", "mosquitto"), "x")
    texts = [element.text for element in ElementTree.fromstring(drawing(rows, machine)).iter()]
    assert "slow & late" in texts
    assert "absent" not in texts
