"""`sluice sim update`: a fleet of its own process that takes what `sluice rollout` offers."""

import hashlib
import json
import random
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from sluice.__main__ import main
from tests.sluice.support import COMMAND, environment, sluice
from tests.support.ota_site import OtaSite
from tests.support.waiting import wait_until

IMAGE = random.Random(8).randbytes(20_000)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OtaSite]:
    with OtaSite(tmp_path_factory.mktemp("ota") / "site") as site:
        yield site


@pytest.fixture
def folder(tmp_path: Path, site: OtaSite) -> Path:
    """With settings, keys and a file."""
    lines = {"broker": site.broker.url, "http": site.service.http, "state": str(site.service.state)}
    (tmp_path / "sluice.toml").write_text("".join(f'{name} = "{value}"\n' for name, value in lines.items()))
    (tmp_path / "fw.bin").write_bytes(IMAGE)
    key = ec.generate_private_key(ec.SECP256R1())
    form = Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    (tmp_path / "signer.key").write_bytes(key.private_bytes(*form))
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "signer.pub").write_bytes(public)
    return tmp_path


def fleet(folder: Path, *flags: str) -> "subprocess.Popen[str]":
    """Ten devices, as a process that runs."""
    return subprocess.Popen(
        [*COMMAND, "sim", "update", "--devices", "10", "--ramp", "0", "--profile", "linux", *flags],
        cwd=folder,
        env=environment({"HOME": str(folder)}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def members(site: OtaSite, group: str) -> int:
    try:
        return len(site.iot.list_things_in_thing_group(thingGroupName=group)["things"])
    except site.iot.exceptions.ResourceNotFoundException:
        return 0


def signer(folder: Path) -> ec.EllipticCurvePrivateKey:
    key = load_pem_private_key((folder / "signer.key").read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key


def test_a_fleet_takes_what_is_rolled_out_and_is_held_against_the_job(folder: Path, site: OtaSite) -> None:
    flags = ["--group", "masts", "--id", "v2", "--public-key", "signer.pub", "--json"]
    with fleet(
        folder, *flags, "--fail-self-test", "20%", "--power-cuts", "10%", "--plot", "run.svg"
    ) as process:
        wait_until(lambda: members(site, "masts") == 10, 60, "the things")
        rollout = ["rollout", "fw.bin", "--group", "masts", "--id", "v2", "--key", "signer.key", "--detach"]
        done = sluice(rollout, folder)
        assert done.returncode == 0, done.stderr
        stdout, stderr = process.communicate(timeout=90)
    assert process.returncode == 0, stderr
    found = json.loads(stdout)
    sha256 = hashlib.sha256(IMAGE).hexdigest()
    assert found["job"]["job_id"] == "AFR_OTA-v2"
    assert found["job"]["wrong"] == {}
    assert (found["job"]["updated"], found["job"]["sha256"]) == (8, sha256)
    assert (found["job"]["counts"], found["job"]["reached"]) == ({"FAILED": 2, "SUCCEEDED": 8}, 10)
    assert [one["sha256"] for one in found["devices"]] == [
        sha256 if one["works"] else "" for one in found["devices"]
    ]
    assert found["timeline"][-1][1] == {"succeeded": 8, "failed": 2}
    assert (folder / "run.svg").read_text().lstrip().startswith("<?xml")


def test_without_an_id_it_runs_until_it_is_told_to_stop(folder: Path, site: OtaSite) -> None:
    flags = ["--group", "others", "--signing-key", "signer.key", "--thing-prefix", "other-"]
    with fleet(folder, *flags) as process:
        wait_until(lambda: members(site, "others") == 10, 60, "the things")
        group = site.iot.describe_thing_group(thingGroupName="others")["thingGroupArn"]
        site.update("now", IMAGE, signer(folder), group)
        for number in range(10):
            assert site.ended("AFR_OTA-now", f"other-{number}")[0] == "SUCCEEDED"
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 0, stderr
    assert "10 devices, linux over perfect, group others" in stdout
    assert " 10 " in stdout


@pytest.mark.parametrize(
    ("flags", "status", "wanted"),
    [
        ([], 2, "sim update needs --group"),
        (["--group", "g"], 2, "needs --public-key, or --signing-key"),
        (["--group", "g", "--public-key", "nowhere"], 1, "cannot read"),
        (["--group", "g", "--public-key", "fw.bin"], 2, "is no key to verify with"),
        (["--group", "g", "--signing-key", "signer.pub"], 2, "is no key to verify with"),
        (["--group", "g", "--fail-self-test", "3"], 2, "sim.fail_self_test is '3'; it must be a percentage"),
        (["--group", "g", "--power-cuts", "101%"], 2, "sim.power_cuts is '101%'; it must be a percentage"),
        (["--group", "g", "--devices", "0"], 2, "devices is 0; it must be from 1 to 20000"),
        (["--group", "g", "--public-key", "signer.pub", "--http", "127.0.0.1:9"], 3, "no service answers at"),
    ],
)
def test_what_cannot_be(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    flags: list[str],
    status: int,
    wanted: str,
) -> None:
    monkeypatch.chdir(folder)
    assert main(["sim", "update", *flags]) == status
    assert wanted in capsys.readouterr().err
