"""The README's commands, run as they stand there: only the ports are others."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

from sluice.__main__ import COMMANDS
from sluice.failure import UNREACHABLE
from sluice.flags import FLAGS
from tests.sluice.support import environment
from tests.support.required import find_program, lacking
from tests.support.waiting import free_port

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def blocks(language: str, heading: str) -> list[str]:
    """The blocks of code under that heading."""
    (section,) = (part for part in re.split(r"^## ", README, flags=re.M) if part.startswith(heading))
    return re.findall(rf"^```{language}\n(.*?)^```$", section, flags=re.M | re.S)


def test_mosquitto_aws_cli_and_a_device_in_ten_lines(tmp_path: Path) -> None:
    mosquitto = find_program("mosquitto")
    if mosquitto is None:
        lacking("mosquitto", "the README starts it")
    binaries = tmp_path / ".venv" / "bin"
    binaries.mkdir(parents=True)
    (binaries / "sluice").write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m sluice "$@"\n')
    (binaries / "sluice").chmod(0o755)
    (device,) = blocks("python", "A device in ten lines")
    assert len(device.splitlines()) <= 10
    (tmp_path / "device.py").write_text(device)
    # What a reader does without being told: waits until the servers are there, and ends them in the end.
    (tmp_path / "wait.py").write_text(
        "from tests.support.waiting import accepts, wait_until\n"
        "for port in (1883, 4580):\n"
        "    wait_until(lambda: accepts('127.0.0.1', port), 60)\n"
    )
    python = shlex.quote(sys.executable)
    parts = [
        "set -e\ntrap 'kill $(jobs -p); wait' EXIT\n",
        f"\n{python} wait.py\n".join(blocks("sh", "With Mosquitto and the AWS CLI")),
        f"\n{python} device.py\ncmp new.bin firmware.bin && echo device equal\n",
    ]
    mqtt, http = str(free_port()), str(free_port())
    (tmp_path / "sluice.toml").write_text(
        'state = "state"\nhttp = "127.0.0.1:4580"\nmqtt = "127.0.0.1:1883"\n'
    )
    for path in tmp_path.glob("*.*"):
        if path.is_file():
            path.write_text(path.read_text().replace("1883", mqtt).replace("4580", http))
    script = "".join(parts).replace("1883", mqtt).replace("4580", http)
    programs = os.pathsep.join(
        [str(Path(sys.executable).parent), os.environ["PATH"], str(Path(mosquitto).parent)]
    )
    result = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path,
        env=environment({"HOME": str(tmp_path), "PATH": programs}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"sluice ready http=http://127.0.0.1:{http} mqtt=mqtt://127.0.0.1:{mqtt}" in result.stdout
    assert "\nequal\n" in result.stdout
    assert "\ndevice equal\n" in result.stdout
    assert "stream/pump-1-5 version 1" in result.stdout


def test_the_make_targets_are_there() -> None:
    makefile = (ROOT / "Makefile").read_text()
    named = set(re.findall(r"^make (\w+)", "\n".join(blocks("sh", "Two commands")), flags=re.M))
    assert named == {"demo", "test"}
    for target in named | {"install"}:
        assert re.search(rf"^{target}:", makefile, flags=re.M), target


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / target).exists(), target


def test_commands_flags_and_statuses_are_those_there_are() -> None:
    assert set(re.findall(r"^\| `sluice (\w+)", README, flags=re.M)) <= set(COMMANDS)
    flags = {"--" + name.replace("_", "-") for name in FLAGS} | {"--config"}
    ours = "\n".join(line for line in README.splitlines() if "sluice" in line and "aws" not in line)
    assert set(re.findall(r"--[a-z0-9-]+", ours)) <= flags
    assert f"{UNREACHABLE} broker or API unreachable or taken" in README
