"""`sluice sim`: fleets, links, power cuts and the microcontroller, and what they say of bad input."""

import contextlib
import hashlib
import importlib
import json
import os
import pty
import random
import re
import resource
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from firmware_sim.fleet.profiles import parse, presets
from firmware_sim.microbit import FIRMWARE
from sluice.__main__ import main
from sluice.commands.sim import COMMANDS
from tests.sluice.support import COMMAND, ROOT, Service, environment, sluice
from tests.support.mosquitto import MosquittoServer
from tests.support.required import find_program, lacking
from tests.support.waiting import free_port, wait_until

Said = Callable[..., tuple[object, str, str]]
SIZE = 40_000
PEAK_BYTES_A_DEVICE = 150_000
"""2,000 devices take less than a GB with three times as much."""
FRAIL = """
[frail]
block_size = "512 B"
budget = "4 KiB"
flash = "100 kB/s"
save_every = "2 KiB"
power_cut_every = "400 ms"
power_cuts = 3
boot = "50 ms"

[field]
mix = { frail = 1, esp32 = 1, linux = 1, legacy = 1 }
"""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service on a Mosquitto of its own, with a file in the streams `fw` and `small`."""
    broker = MosquittoServer(tmp_path_factory.mktemp("mosquitto"))
    try:
        folder = tmp_path_factory.mktemp("service")
        with Service(folder, "--broker", broker.url) as service:
            for stream, size in (("fw", SIZE), ("small", 1500)):
                (folder / "fw.bin").write_bytes(content(size))
                flags = ["--http", service.http, "--state", service.state]
                done = sluice(["publish", "fw.bin", "--stream", stream, *flags], folder)
                assert done.returncode == 0, done.stderr
            yield service
    finally:
        broker.close()


@pytest.fixture
def service(tmp_path: Path, running: Service) -> Service:
    """What the simulators need to know of it is in the test's folder."""
    (tmp_path / "sluice.toml").write_text(f'broker = "{running.mqtt}"\nstream = "fw"\nramp = 1\n')
    (tmp_path / "field.toml").write_text(FRAIL)
    return running


def content(size: int) -> bytes:
    return random.Random(size).randbytes(size)


def sha256(size: int) -> str:
    return hashlib.sha256(content(size)).hexdigest()


@pytest.fixture
def said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Said:
    """`sluice` in this process, for what it says before it does anything: status, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))

    def call(*arguments: str) -> tuple[object, str, str]:
        try:
            status: object = main(arguments)
        except SystemExit as end:  # argparse's, of --help
            status = end.code
        return status, *capsys.readouterr()

    return call


def test_help_names_every_simulator(said: Said) -> None:
    status, stdout, _ = said("sim", "--help")
    assert status == 0
    assert all(f"\n  {name} " in stdout for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_a_simulator_has_examples(said: Said, name: str) -> None:
    status, stdout, _ = said("sim", name, "--help")
    assert status == 0
    assert f"usage: sluice sim {name}" in stdout
    assert f"\nexamples:\n  sluice sim {name}" in stdout


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        ([], "which command?"),
        (["flet"], "there is no command sim flet: did you mean fleet?"),
        (["fleet"], "sim fleet needs --stream"),
        (["fleet", "--stream", "s", "--devices", "0"], "devices is 0; it must be from 1 to 20000"),
        (["fleet", "--stream", "s", "--devices", "x"], "sim.devices is 'x'; it must be a whole number"),
        (["fleet", "--stream", "s", "--ramp", "-1"], "ramp is -1 s; it must be from 0 to 86400 s"),
        (["fleet", "--stream", "s", "--patience", "0"], "patience is 0 s; it must be from 1 to 86400 s"),
        (["fleet", "--stream", "s", "--thing-prefix", "a/"], "thing_prefix is 'a/'; it must be at most 120"),
        (
            ["fleet", "--stream", "s", "--profile", "x"],
            "no device profile 'x'; there are esp32, legacy",
        ),
        (["fleet", "--stream", "s", "--link", "x"], "no link profile 'x'; there are bad-wifi, lte-m"),
        (["fleet", "--stream", "s", "--profile-file", "bad.toml"], "[a] boot is 1; it must be a number with"),
        (["fleet", "--stream", "s", "--link-file", "bad.toml"], "[a] boot is not known; there are up, down"),
        (["fleet", "--stream", "s", "--plot", "x.pdf"], "x.pdf is neither a .png nor a .svg"),
        (["fleet", "--stream", "s", "--plot", "nowhere/x.png"], "there is no folder"),
        (["fleet", "--stream", "s", "--profil", "x"], "unknown argument --profil: did you mean --profile?"),
        (["link", "--listen", "here"], "listen is 'here'; it must be host:port"),
        (["link", "--broker", "mqtts://h"], "sim link needs mqtt://, without TLS"),
        (["links", "--link-file", "bad.toml"], "bad.toml: [a] boot is not known"),
        (["power", "--update", "best"], "update is 'best'; it must be of good, forged, rotten"),
        (["power", "--torn", "none,all"], "torn is 'all'; it must be of none, whole, prefix, bits, weak"),
        (["power", "--cuts", "0"], "cuts is 0; it must be from 1 to 20"),
        (["power", "--lost", "0.6"], "lost is 0.6; it must be from 0 to 0.5"),
        (["power", "--sector-size", "1000"], "flash of"),
        (["microbit", "--thing", "t"], "sim microbit needs --stream"),
    ],
)
def test_bad_input_is_status_2(tmp_path: Path, said: Said, arguments: list[str], wanted: str) -> None:
    (tmp_path / "bad.toml").write_text("[a]\nboot = 1\n")
    status, stdout, stderr = said("sim", *arguments)
    assert status == 2
    assert wanted in stderr
    assert stdout == ""


def test_a_file_that_is_not_there_is_status_1(said: Said) -> None:
    for flag in ("--profile-file", "--link-file"):
        status, _, stderr = said("sim", "fleet", "--stream", "s", flag, "nowhere.toml")
        assert status == 1
        assert "nowhere.toml: No such file" in stderr


class TestFleet:
    def test_a_mixed_fleet_over_a_bad_link_with_power_cuts(self, tmp_path: Path, service: Service) -> None:
        arguments = ["sim", "fleet", "--devices", "100", "--profile", "field", "--profile-file", "field.toml"]
        arguments += ["--link", "bad-wifi", "--seed", "5", "--sha256", sha256(SIZE), "--json"]
        result = sluice([*arguments, "--plot", "run.svg"], tmp_path)
        assert result.returncode == 0, result.stderr
        found = json.loads(result.stdout)
        devices = found["devices"]
        assert [one["thing"] for one in devices] == [f"sim-{number:02}" for number in range(100)]
        assert {(one["outcome"], one["sha256"], one["size"]) for one in devices} == {
            ("done", sha256(SIZE), SIZE)
        }
        assert {name: one["done"] for name, one in found["profiles"].items()} == {
            "esp32": 25,
            "frail": 25,
            "legacy": 25,
            "linux": 25,
        }
        assert found["ok"] is True
        assert found["total"]["power_cuts"] > 0
        assert found["total"]["max"] == max(one["seconds"] for one in devices)
        assert {one["profile"] for one in devices if one["power_cuts"]} == {"frail"}
        assert (tmp_path / "run.svg").read_text().lstrip().startswith("<?xml")
        assert "drawn to" in result.stderr

    def test_what_a_device_costs_in_memory(self, tmp_path: Path, service: Service) -> None:
        arguments = ["sim", "fleet", "--devices", "200", "--link", "lte-m", "--json"]
        result = sluice(arguments, tmp_path)
        assert result.returncode == 0, result.stderr
        found = json.loads(result.stdout)
        if found["memory_before"] == 0:
            pytest.skip("this system does not say what is resident")
        assert 0 < found["memory_peak"] - found["memory_before"] < 200 * PEAK_BYTES_A_DEVICE

    def test_its_table(self, tmp_path: Path, service: Service) -> None:
        result = sluice(["sim", "fleet", "--devices", "4", "--ramp", "0", "--profile", "linux"], tmp_path)
        assert result.returncode == 0, result.stderr
        assert "4 devices, linux over perfect, stream fw" in result.stdout
        assert re.search(r"linux +4 +4 +\d+\.\d ", result.stdout)
        assert "4 of 4 devices done in " in result.stdout

    def test_on_a_terminal_there_is_a_bar(self, tmp_path: Path, service: Service) -> None:
        arguments = ["sim", "fleet", "--devices", "10", "--ramp", "0.5", "--json"]
        terminal, slave = pty.openpty()
        environ = environment({"TERM": "xterm", "COLUMNS": "160", "HOME": str(tmp_path)})
        with subprocess.Popen(
            [*COMMAND, *arguments], cwd=tmp_path, env=environ, stderr=slave, stdout=subprocess.PIPE
        ) as process:
            os.close(slave)
            shown = b""
            # Linux ends a terminal whose other side is closed with an error.
            with contextlib.suppress(OSError):
                while data := os.read(terminal, 4096):
                    shown += data
            os.close(terminal)
            assert process.stdout is not None
            found = json.loads(process.stdout.read())
        assert process.returncode == 0
        assert found["ok"]
        assert "10 done" in shown.decode(), shown
        assert "400.0/400.0 kB" in shown.decode(), shown

    def test_a_rejection_is_status_4(self, tmp_path: Path, service: Service) -> None:
        result = sluice(["sim", "fleet", "--stream", "nowhere", "--devices", "3", "--ramp", "0"], tmp_path)
        assert result.returncode == 4
        assert "3 x ResourceNotFound: " in result.stdout

    def test_a_wrong_hash_is_status_5(self, tmp_path: Path, service: Service) -> None:
        arguments = ["sim", "fleet", "--devices", "3", "--ramp", "0", "--sha256", "0" * 64, "--json"]
        result = sluice(arguments, tmp_path)
        assert result.returncode == 5
        found = json.loads(result.stdout)
        assert found["total"]["failures"] == {"mismatch": 3}
        assert found["ok"] is False

    def test_nobody_there_is_status_3(self, tmp_path: Path) -> None:
        port = str(free_port())
        result = sluice(["sim", "fleet", "--stream", "s", "--broker", f"mqtt://127.0.0.1:{port}"], tmp_path)
        assert result.returncode == 3
        assert port in result.stderr

    def test_ctrl_c_prints_what_there_is(self, tmp_path: Path, service: Service) -> None:
        (tmp_path / "slow.toml").write_text(
            '[slow]\nblock_size = "256 B"\nin_flight = 1\nflash = "100 B/s"\n'
        )
        arguments = ["sim", "fleet", "--devices", "3", "--ramp", "0", "--json"]
        with subprocess.Popen(
            [*COMMAND, *arguments, "--profile", "slow", "--profile-file", "slow.toml"],
            cwd=tmp_path,
            env=environment({"HOME": str(tmp_path)}),
            stdout=subprocess.PIPE,
            stderr=(tmp_path / "log").open("wb"),
        ) as process:
            wait_until(lambda: "downloading" in (tmp_path / "log").read_text(), 60, "a line of progress")
            process.send_signal(signal.SIGINT)
            stdout, _ = process.communicate(timeout=60)
        assert process.returncode == 130
        found = json.loads(stdout)
        assert found["total"]["failures"] == {"unfinished": 3}
        assert all(0 < one["size"] == SIZE for one in found["devices"])

    def test_too_few_open_files_is_told(self, tmp_path: Path, service: Service) -> None:
        def lower() -> None:
            resource.setrlimit(resource.RLIMIT_NOFILE, (150, 150))

        result = subprocess.run(
            [*COMMAND, "sim", "fleet", "--devices", "200"],
            cwd=tmp_path,
            env=environment({"HOME": str(tmp_path)}),
            preexec_fn=lower,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert result.returncode == 2
        assert "200 devices need 264 open files, and the hard limit is 150: raise it" in result.stderr
        assert "or simulate 86 devices at most" in result.stderr

    def test_without_matplotlib_it_says_how_to_get_it(self, tmp_path: Path, service: Service) -> None:
        (tmp_path / "matplotlib.py").write_text("raise ImportError('not here')\n")
        extra = {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
        result = sluice(["sim", "fleet", "--devices", "2", "--plot", "run.png"], tmp_path, extra)
        assert result.returncode == 2
        assert "pip install 'sluice[sim]'" in result.stderr
        assert sluice(["sim", "fleet", "--devices", "2", "--ramp", "0"], tmp_path, extra).returncode == 0


class TestLinks:
    def test_all_are_named(self, tmp_path: Path) -> None:
        (tmp_path / "mast.toml").write_text('[mast]\nup = "375 kbit/s"\nloss = { up = "2 %" }\n')
        text = sluice(["sim", "links", "--link-file", "mast.toml"], tmp_path)
        assert text.returncode == 0, text.stderr
        assert re.search(r"mast +375 kbit/s +- +0 ms +2 / 0 % ", text.stdout)
        found = json.loads(sluice(["sim", "links", "--link-file", "mast.toml", "--json"], tmp_path).stdout)
        assert set(found) == {"perfect", "nb-iot", "lte-m", "bad-wifi", "satellite", "mast"}
        assert all(f"\n  {name} " in text.stdout for name in found)
        assert (found["mast"]["up"]["rate"], found["mast"]["down"]["rate"]) == (46875.0, None)

    @pytest.mark.parametrize("shown", [["--json"], []])
    def test_a_download_through_a_relay(self, tmp_path: Path, service: Service, shown: list[str]) -> None:
        (tmp_path / "lossy.toml").write_text('[lossy]\nloss = "5 %"\nduplicate = "5 %"\ndelay = "5 ms"\n')
        flags = ["--link", "lossy", "--link-file", "lossy.toml", "--listen", "127.0.0.1:0", *shown]
        with subprocess.Popen(
            [*COMMAND, "sim", "link", *flags],
            cwd=tmp_path,
            env=environment({"HOME": str(tmp_path)}),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        ) as process:
            assert process.stdout is not None
            first = process.stdout.readline()
            match = re.fullmatch(r"sluice link ready mqtt=(mqtt://127\.0\.0\.1:\d+)\n", first)
            assert match
            call = ["get", "--thing", "t", "--broker", match[1], "--block-size", "512", "--out", "got.bin"]
            got = sluice([*call, "--sha256", sha256(SIZE)], tmp_path)
            assert got.returncode == 0, got.stderr
            process.send_signal(signal.SIGINT)
            said, _ = process.communicate(timeout=30)
        assert process.returncode == 0
        if shown:
            counts = json.loads(said)
            assert counts["connections"] == 1
            assert counts["down"]["bytes"] > SIZE
            assert counts["down"]["messages"] > counts["up"]["messages"] > 0
            assert counts["up"]["lost"] + counts["down"]["lost"] > 0
        else:
            assert "1 connections, 0 cut, 0 refused, 0 not MQTT" in said
            assert re.search(r"to devices +\d+ +\d{5,} ", said)

    def test_a_port_that_is_taken(self, tmp_path: Path, service: Service) -> None:
        taken = service.mqtt.rpartition("/")[2]
        result = sluice(["sim", "link", "--listen", taken], tmp_path)
        assert result.returncode == 3
        assert f"cannot listen on {taken}" in result.stderr


class TestPower:
    SMALL = ("sim", "power", "--image-size", "1500", "--sector-size", "1024", "--block-size", "512")

    def test_a_sweep(self, tmp_path: Path) -> None:
        result = sluice([*self.SMALL, "--torn", "bits,weak", "--json"], tmp_path)
        assert result.returncode == 0, result.stderr
        found = json.loads(result.stdout)
        assert [row["kind"] for row in found["rows"]] == ["bits", "weak", "message"]
        assert all(row["runs"] == found["operations"] for row in found["rows"][:2])
        assert found["cuts"] >= sum(row["runs"] for row in found["rows"]) > 20
        assert (found["ok"], found["failures"], found["scenario"]["update"]) == (True, [], "good")

    def test_its_table(self, tmp_path: Path) -> None:
        result = sluice([*self.SMALL, "--torn", "none", "--update", "silent", "--seed", "3"], tmp_path)
        assert result.returncode == 0, result.stderr
        assert "silent image of 1500 bytes, blocks of 512" in result.stdout
        assert re.search(r"none +(\d+) +\d+ ", result.stdout)
        assert "every run ended in the right image" in result.stdout

    def test_what_is_broken_is_status_1(self, tmp_path: Path) -> None:
        # A sink that forgets its progress: each cut then has the whole image fetched again.
        (tmp_path / "broken.py").write_text(
            "import sys\n"
            "from device_client.flash_sinks import PartitionSink\n"
            "from sluice.__main__ import main\n"
            "PartitionSink.load = lambda sink: None\n"
            "sys.exit(main(sys.argv[1:]))\n"
        )
        for flags in (["--json"], []):
            result = subprocess.run(
                [COMMAND[0], "broken.py", *self.SMALL, "--torn", "none", *flags],
                cwd=tmp_path,
                env=environment({"HOME": str(tmp_path)}),
                capture_output=True,
                text=True,
                timeout=60,
            )
            assert result.returncode == 1, result.stderr
            assert "bytes were fetched again, over 1024" in result.stdout
            if flags:
                found = json.loads(result.stdout)
                assert found["ok"] is False
                assert found["failures"]
            else:
                assert re.search(r"\d+ runs FAILED:", result.stdout)


class TestMicrobit:
    def test_a_download(self, tmp_path: Path, service: Service) -> None:
        if find_program("qemu-system-arm") is None or not FIRMWARE.exists():
            lacking("microbit", "QEMU or its firmware is not installed")
        arguments = ["sim", "microbit", "--thing", "bit-1", "--stream", "small", "--json"]
        result = sluice([*arguments, "--sha256", sha256(1500)], tmp_path)
        assert result.returncode == 0, result.stderr
        found = json.loads(result.stdout)
        assert (found["size"], found["sha256"]) == (1500, sha256(1500))
        wrong = sluice([*arguments, "--sha256", "0" * 64], tmp_path)
        assert wrong.returncode == 5
        assert f"SHA-256 of the file is {sha256(1500)}, expected 000" in wrong.stderr
        assert sluice([*arguments[:4], "--stream", "nowhere"], tmp_path).returncode == 4

    def test_without_qemu_is_status_3_and_names_the_packages(self, tmp_path: Path) -> None:
        extra = {"PATH": str(tmp_path)}
        result = sluice(["sim", "microbit", "--thing", "bit-1", "--stream", "s"], tmp_path, extra)
        assert result.returncode == 3
        assert "qemu-system-arm and firmware-microbit-micropython" in result.stderr


class TestGuide:
    """docs/simulators.md"""

    TEXT = (ROOT / "docs" / "simulators.md").read_text()

    def test_its_commands_and_flags_are_those_there_are(self) -> None:
        named = re.findall(r"^sluice sim (\w+)(.*)$", self.TEXT, flags=re.M)
        assert {name for name, _ in named} <= set(COMMANDS)
        for name, rest in named:
            flags = importlib.import_module(f"sluice.commands.sim_{name}").FLAGS
            given = {flag.replace("-", "_") for flag in re.findall(r"--([a-z0-9-]+)", rest)}
            assert given <= set(flags), (name, given)

    def test_its_links_lead_somewhere(self) -> None:
        for target in re.findall(r"\]\(([^)#:]+)\)", self.TEXT):
            assert (ROOT / "docs" / target).exists(), target

    def test_its_table_and_sample_are_of_profiles_that_are(self) -> None:
        table = self.TEXT.partition("### Kinds of devices")[2].partition("```")[0]
        assert set(re.findall(r"^\| `(\w+)` \|", table, flags=re.M)) == set(presets())
        (sample,) = re.findall(r"^```toml\n(.*?)^```$", self.TEXT, flags=re.M | re.S)
        assert {profile.name for profile in parse(sample, known=presets())["site"]} == {"mast", "linux"}
        for row in re.findall(r"^\| `(\w+)` \| (\d+) KiB \| (\w+)", table, flags=re.M):
            (profile,) = presets()[row[0]]
            assert (profile.block_size, profile.encoding) == (int(row[1]) * 1024, row[2].lower())
