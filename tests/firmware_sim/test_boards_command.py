"""`sluice sim board`, as a user has it."""

import json
from pathlib import Path

import pytest

from tests.sluice.support import sluice


def test_an_update_from_nothing(tmp_path: Path) -> None:
    done = sluice(["sim", "board", "--cuts", "2", "--seed", "3", "--json"], tmp_path)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["outcome"], said["before"], said["version"], said["right"]) == ("confirmed", 2, 3, True)
    assert said["size"] > 24_000
    assert list(tmp_path.iterdir()) == []


def test_what_is_forged_is_refused(tmp_path: Path) -> None:
    done = sluice(["sim", "board", "--update", "forged", "--image-size", "5000"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert "version 2 ran, version 2 runs; the update is refused\nversion 3 is not signed" in done.stdout


@pytest.mark.parametrize(
    ("update", "version", "status", "says"),
    [
        ("good", 3, "SUCCEEDED", "accepted  v0.0.3"),
        ("silent", 2, "FAILED", "rejected: version 3 had its test boots and did not confirm itself"),
    ],
)
def test_an_ota_update(tmp_path: Path, update: str, version: int, status: str, says: str) -> None:
    done = sluice(["sim", "board", "--ota", "--update", update, "--seed", "4", "--json"], tmp_path)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["version"], said["right"]) == (version, True)
    assert (said["job"]["status"], said["job"]["statusDetails"]["reason"]) == (status, says)


@pytest.mark.parametrize(
    ("flags", "status", "says"),
    [
        (["--update", "rotten"], 2, "for a board it must be of good, forged"),
        (["--sector-size", "1000"], 2, "do not fit one another"),
        (["--sector-size", "0"], 2, "do not fit one another"),
        (["--image-size", "0"], 2, "image_size is 0; it must be 1 or more"),
        (["--micropython", "nowhere"], 1, "nowhere: tests/micropython/install.sh puts it"),
    ],
)
def test_what_cannot_be(tmp_path: Path, flags: list[str], status: int, says: str) -> None:
    done = sluice(["sim", "board", *flags], tmp_path)
    assert done.returncode == status
    assert says in done.stderr
