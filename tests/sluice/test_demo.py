"""`sluice demo`: the whole path, and nothing left of it."""

import hashlib
import json
import os
import signal
import subprocess
from pathlib import Path

import psutil
import pytest

from tests.sluice.support import COMMAND, environment, sluice
from tests.support.waiting import wait_until


def environment_of(folder: Path) -> dict[str, str]:
    """All that the demo writes goes below `folder`; a mark finds its processes."""
    (folder / "tmp").mkdir(exist_ok=True)
    return environment({"HOME": str(folder), "TMPDIR": str(folder / "tmp"), "DEMO_MARK": str(folder)})


def processes_of(folder: Path) -> list[psutil.Process]:
    """Those that carry the mark of `folder`."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("DEMO_MARK") == str(folder):
                found.append(process)
        except psutil.Error:
            continue
    return found


def left_behind(folder: Path) -> list[str]:
    return [path.name for path in (folder / "tmp").iterdir()]


def test_a_file_arrives_and_nothing_stays(tmp_path: Path) -> None:
    data = os.urandom(500_000)
    (tmp_path / "fw.bin").write_bytes(data)
    extra = environment_of(tmp_path)
    result = sluice(["demo", "fw.bin", "--json", "--block-size", "65536"], tmp_path, extra)
    assert result.returncode == 0, result.stderr
    figures = json.loads(result.stdout)
    sha256 = hashlib.sha256(data).hexdigest()
    assert (figures["sha256_published"], figures["sha256_received"]) == (sha256, sha256)
    assert (figures["size"], figures["blocks"], figures["equal"]) == (500_000, 8, True)
    assert left_behind(tmp_path) == []
    wait_until(lambda: not processes_of(tmp_path), what="the end of all processes")


def test_without_a_file_it_makes_one(tmp_path: Path) -> None:
    result = sluice(["demo", "--block-size", "128 KiB"], tmp_path, environment_of(tmp_path))
    assert result.returncode == 0, result.stderr
    rows = dict(line.split(maxsplit=1) for line in result.stdout.splitlines() if not line.startswith("sha"))
    assert rows["file"] == "python-stdlib.tar"
    assert int(rows["size"]) > 1_000_000
    assert rows["equal"] == "yes"
    assert left_behind(tmp_path) == []


def test_the_callers_settings_do_not_reach_its_service(tmp_path: Path) -> None:
    (tmp_path / "fw.bin").write_bytes(b"abc")
    (tmp_path / "sluice.toml").write_text(
        'broker = "mqtt://127.0.0.1:9"\nhttp = "127.0.0.1:9"\nsha256 = "%s"' % ("0" * 64)
    )
    extra = {**environment_of(tmp_path), "SLUICE_BUCKET": "other"}
    assert sluice(["demo", "fw.bin"], tmp_path, extra).returncode == 0


def test_a_missing_file(tmp_path: Path) -> None:
    result = sluice(["demo", "nowhere"], tmp_path, environment_of(tmp_path))
    assert result.returncode == 1
    assert "there is no file nowhere" in result.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_nothing_behind(tmp_path: Path, number: int) -> None:
    with (tmp_path / "big.bin").open("wb") as file:
        file.truncate(200_000_000)
    process = subprocess.Popen(
        [*COMMAND, "demo", "big.bin", "--block-size", "4096"],
        cwd=tmp_path,
        env=environment_of(tmp_path),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell's background job ignores SIGINT, and so would all that it starts.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL) and None,
    )
    with process:
        received = wait_until(lambda: list((tmp_path / "tmp").glob("*/*received*")), 90, "the first blocks")
        assert received
        process.send_signal(number)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert "Traceback" not in stderr
    assert left_behind(tmp_path) == []
    wait_until(lambda: not processes_of(tmp_path), what="the end of all processes")
