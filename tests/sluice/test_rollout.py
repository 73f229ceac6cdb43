"""`sluice rollout` as a process: a real service, a real broker, devices that answer as they like."""

import base64
import hashlib
import json
import os
import pty
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from sluice.__main__ import main
from tests.conftest import MosquittoFactory
from tests.sluice.rollout_support import Answer, Fleet
from tests.sluice.support import COMMAND, SECONDS, Service, environment, sluice
from tests.support.mosquitto import MosquittoServer
from tests.support.waiting import free_port, wait_until

IMAGE = bytes(range(256)) * 40
LIGHT = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8)


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key that signs."""
    path = tmp_path_factory.mktemp("key") / "signer.key"
    made = ec.generate_private_key(ec.SECP256R1())
    path.write_bytes(made.private_bytes(*LIGHT, serialization.NoEncryption()))
    return path


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, key: Path) -> Iterator[Service]:
    """A service on a Mosquitto, with a signing profile."""
    broker = MosquittoServer(tmp_path_factory.mktemp("mosquitto"))
    folder = tmp_path_factory.mktemp("service")
    (folder / "sluice.toml").write_text(
        f'[[signing]]\nprofile = "prod"\nkey = {json.dumps(str(key))}\ncertificate_path = "/prod.pem"\n'
    )
    try:
        with Service(folder, "--broker", broker.url) as running:
            yield running
    finally:
        broker.close()


class Ended(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


class Desk:
    """Where somebody types: a folder with an image, and the service's address.

    Commands run in this process, since a start of Python and boto3 takes longer than all that they do.
    """

    def __init__(self, folder: Path, service: Service, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self.flags = ["--http", service.http, "--state", str(service.state)]
        self._capsys = capsys
        (folder / "fw.bin").write_bytes(IMAGE)

    def run(self, *arguments: str | Path) -> Ended:
        return self._main("rollout", *arguments, "--http", self.flags[1])

    def roll_out(self, *arguments: str | Path) -> Ended:
        return self._main("rollout", "fw.bin", *arguments, *self.flags)

    def _main(self, *arguments: str | Path) -> Ended:
        self._capsys.readouterr()
        status = main([str(argument) for argument in arguments])
        return Ended(status, *self._capsys.readouterr())

    def begin(self, *arguments: str | Path, stderr: int = subprocess.PIPE) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [*COMMAND, "rollout", "fw.bin", *map(str, arguments), *self.flags],
            cwd=self.folder,
            env=environment({"HOME": str(self.folder), "TERM": "xterm"}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            # Interrupts are for it to hear also where whoever runs the tests ignores them.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler) and None,
        )


@pytest.fixture
def desk(
    tmp_path: Path, service: Service, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Desk:
    for name in os.environ:
        if name.startswith("SLUICE_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return Desk(tmp_path, service, capsys)


def document(fleet: Fleet, rollout: str) -> Any:
    """The one file of the job's document, with the stream beside it."""
    found = json.loads(fleet.iot.get_job_document(jobId=f"AFR_OTA-{rollout}")["document"])["afr_ota"]
    (file,) = found["files"]
    return {**file, "streamname": found["streamname"]}


def test_all_things_of_a_group_get_a_file_signed_here(desk: Desk, service: Service, key: Path) -> None:
    with Fleet(service, "good", 5) as fleet:
        result = desk.roll_out("--group", "good", "--key", key, "--id", "good-1", "--path", "/fw.bin")
        assert (result.returncode, result.stderr.count("Traceback")) == (0, 0), result.stderr
        assert result.stdout == "rollout good-1: COMPLETED, 5 of 5 things done (5 SUCCEEDED)\n"
        assert hashlib.sha256(IMAGE).hexdigest() in result.stderr
        assert sorted(fleet.reached) == fleet.names
        file = document(fleet, "good-1")
        assert (file["filepath"], file["filesize"]) == ("/fw.bin", len(IMAGE))
        assert file["certfile"] == "/device/certs/signer.pem"
        public = serialization.load_pem_private_key(key.read_bytes(), None).public_key()
        assert isinstance(public, ec.EllipticCurvePublicKey)
        public.verify(base64.b64decode(file["sig-sha256-ecdsa"]), IMAGE, ec.ECDSA(hashes.SHA256()))
        assert key.read_text() not in service.log_path.read_text()

        status = desk.run("status", "good-1", "--json")
        look = json.loads(status.stdout)
        assert (look["status"], look["settled"], look["total"]) == ("COMPLETED", True, 5)
        assert look["counts"] == {**dict.fromkeys(look["counts"], 0), "succeeded": 5}
        listed = json.loads(desk.run("list", "--json").stdout)
        assert ("good-1", "COMPLETED") in [(row["id"], row["status"]) for row in listed]
        assert "good-1  " in desk.run("list").stdout
        # It has ended: there is nothing left to be done to it.
        assert desk.run("pause", "good-1").returncode == 1
        canceled = desk.run("cancel", "good-1")
        assert (canceled.returncode, "InvalidRequestException" in canceled.stderr) == (4, True)


def test_a_profile_of_the_service_or_a_signature_of_elsewhere(
    desk: Desk, service: Service, key: Path
) -> None:
    with Fleet(service, "lone", 1) as fleet:
        arguments = ["--thing", fleet.names[0], "--signing-profile", "prod", "--id", "lone-1"]
        assert desk.roll_out(*arguments).returncode == 0
        assert document(fleet, "lone-1")["certfile"] == "/prod.pem"
        private = serialization.load_pem_private_key(key.read_bytes(), None)
        assert isinstance(private, ec.EllipticCurvePrivateKey)
        signature = private.sign(IMAGE, ec.ECDSA(hashes.SHA256()))
        for number, text in ((2, signature), (3, base64.encodebytes(signature))):
            (desk.folder / "fw.sig").write_bytes(text)
            by = ["--thing", fleet.names[0], "--signature", "fw.sig", "--id", f"lone-{number}"]
            assert desk.roll_out(*by).returncode == 0
            file = document(fleet, f"lone-{number}")
            assert file["sig-sha256-ecdsa"] == base64.b64encode(signature).decode()


def test_a_bad_image_ends_with_its_first_stage(desk: Desk, service: Service, key: Path) -> None:
    def fail(_thing: str) -> Answer:
        return {"status": "FAILED", "statusDetails": {"reason": "self test: no radio"}}

    with Fleet(service, "bad", 20, fail) as fleet:
        result = desk.roll_out(
            *("--group", "bad", "--key", key, "--id", "bad-1", "--stages", "10%@50%:1h / 100%", "--json")
        )
        assert result.returncode == 1, result.stderr
        looks = [json.loads(text) for text in result.stdout.splitlines()]
        last = looks[-1]
        assert (last["status"], last["reason_code"], last["stage"]) == ("CANCELED", "STAGE_FAILED", 1)
        assert "at least 1 had to succeed, and 2 did not" in last["comment"]
        assert len(fleet.reached) == 2
        (failed,) = last["failures"]
        assert (failed["state"], failed["count"]) == ("FAILED", 2)
        assert failed["reason"] == "self test: no radio"
        assert sorted(failed["things"]) == sorted(fleet.reached)
        assert [look["status"] for look in looks].count("CREATE_PENDING") <= 1
        shown = desk.run("status", "bad-1").stdout
        assert "STAGE_FAILED: stage 1 of 2" in shown
        assert "2 x FAILED: self test: no radio (" in shown


def test_abort_criteria_and_timeouts_are_the_jobs(desk: Desk, service: Service, key: Path) -> None:
    with Fleet(service, "abort", 4, lambda _: {"status": "REJECTED"}) as fleet:
        result = desk.roll_out(
            *("--group", "abort", "--key", key, "--id", "abort-1", "--max-per-minute", "2"),
            *("--abort-on", "FAILED:5%, REJECTED:50%:1", "--device-timeout", "7", "--file-type", "3"),
        )
        assert result.returncode == 1
        assert "ABORT_CRITERIA_MET" in result.stdout
        job = fleet.job("abort-1")
        assert len(fleet.reached) < 4
        assert job["jobExecutionsRolloutConfig"] == {"maximumPerMinute": 2}
        assert job["timeoutConfig"] == {"inProgressTimeoutInMinutes": 7}
        assert [entry["minNumberOfExecutedThings"] for entry in job["abortConfig"]["criteriaList"]] == [10, 1]
        assert document(fleet, "abort-1")["fileType"] == 3


def test_pause_resume_and_cancel(desk: Desk, service: Service, key: Path) -> None:
    """Detached: the rollout is the service's, and everything is done by its id."""
    answers: dict[str, Answer] = {}
    with Fleet(service, "slow", 10, lambda thing: answers.get(thing)) as fleet:
        begun = desk.roll_out(
            *("--group", "slow", "--key", key, "--id", "slow-1", "--canary", "10%", "--detach", "--json")
        )
        assert begun.returncode == 0, begun.stderr
        assert json.loads(begun.stdout)["job_id"] == "AFR_OTA-slow-1"
        wait_until(lambda: fleet.reached, 60, "the canary is told")
        job = fleet.job("slow-1")
        assert job["comment"] == "stage 1 of 2: 10 %, 1 of 10 things, at least 1 must succeed"
        assert desk.run("pause", "slow-1").returncode == 0
        assert json.loads(desk.run("status", "slow-1", "--json").stdout)["status"] == "PAUSED"
        # The stages are a tag: they are changed as any other.
        stages = [{"Key": "sluice:stages", "Value": "50@10/100"}]
        fleet.iot.tag_resource(resourceArn=job["jobArn"], tags=stages)
        assert desk.run("resume", "AFR_OTA-slow-1").stdout == "rollout AFR_OTA-slow-1 goes on\n"
        wait_until(lambda: len(fleet.reached) == 5, 60, "half of them are told")
        assert desk.run("cancel", "slow-1").returncode == 0
        ended = wait_until(lambda: _settled(desk, "slow-1"), 60, "all that were queued are canceled")
        assert (ended["status"], ended["counts"]["canceled"]) == ("CANCELED", 5)
        followed = desk.run("follow", "slow-1")
        assert followed.returncode == 1
        assert "CANCELED_BY_OPERATOR" in followed.stdout


def _settled(desk: Desk, rollout: str) -> Any:
    look = json.loads(desk.run("status", rollout, "--json").stdout)
    return look if look["settled"] else None


def test_an_interrupt_leaves_the_rollout_running(desk: Desk, service: Service, key: Path) -> None:
    with Fleet(service, "live", 3, lambda _: {"status": "IN_PROGRESS"}) as fleet:
        # A terminal, for the live view; what is drawn there is read in the end.
        leader, follower = pty.openpty()
        process = desk.begin("--group", "live", "--key", key, "--id", "live-1", stderr=follower)
        os.close(follower)
        drawn = b""
        while b"IN_PROGRESS" not in drawn or b"3" not in drawn.rpartition(b"IN_PROGRESS")[2]:
            drawn += os.read(leader, 4096)
        process.send_signal(signal.SIGINT)
        try:
            while data := os.read(leader, 4096):
                drawn += data
        except OSError:
            pass  # Linux's word for the end of a terminal
        os.close(leader)
        assert process.wait(SECONDS) == 130
        assert process.stdout is not None
        process.stdout.close()
        text = drawn.decode()
        assert "the rollout goes on without this command" in text
        assert "sluice rollout follow live-1" in text
        assert fleet.job("live-1")["status"] == "IN_PROGRESS"


def test_what_cannot_be_made(desk: Desk, service: Service, key: Path) -> None:
    result = desk.roll_out("--group", "nobody", "--key", key)
    assert (result.returncode, "ResourceNotFoundException" in result.stderr) == (4, True)
    assert desk.run("status", "nothing").returncode == 4
    away = sluice(["rollout", "status", "x", "--http", f"127.0.0.1:{free_port()}"], desk.folder)
    assert (away.returncode, away.stdout) == (3, "")
    assert "no service answers" in away.stderr
    assert "Traceback" not in away.stderr
    with Fleet(service, "empty", 0):
        result = desk.roll_out("--group", "empty", "--key", key)
        assert (result.returncode, "no thing was reached" in result.stderr) == (1, True)


def test_an_update_that_the_service_cannot_make_fails(desk: Desk, service: Service, key: Path) -> None:
    """The file changes between its signing and its storing: the signature is of other bytes."""
    with Fleet(service, "changed", 1) as fleet:
        other = desk.folder / "other.pem"
        made = ec.generate_private_key(ec.SECP256R1())
        other.write_bytes(made.private_bytes(*LIGHT, serialization.NoEncryption()))
        (desk.folder / "fw.sig").write_bytes(b"\x30\x06\x02\x01\x01\x02\x01\x01")
        chain = made.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        stored = desk.roll_out("--group", "changed", "--signature", "fw.sig", "--id", "changed-0", "--detach")
        assert stored.returncode == 0
        info = fleet.iot.get_ota_update(otaUpdateId="changed-0")["otaUpdateInfo"]
        custom = info["otaUpdateFiles"][0]["codeSigning"]["customCodeSigning"]
        custom["certificateChain"]["inlineDocument"] = chain.decode()
        fleet.iot.create_ota_update(
            otaUpdateId="changed-1",
            targets=info["targets"],
            roleArn="arn:aws:iam::000000000000:role/sluice",
            files=[
                {
                    "fileName": "fw.bin",
                    "fileLocation": {"s3Location": info["otaUpdateFiles"][0]["fileLocation"]["s3Location"]},
                    "codeSigning": {"customCodeSigning": custom},
                }
            ],
        )
        wait_until(
            lambda: (
                fleet.iot.get_ota_update(otaUpdateId="changed-1")["otaUpdateInfo"]["otaUpdateStatus"]
                == "CREATE_FAILED"
            ),
            60,
        )
        followed = desk.run("follow", "changed-1")
        assert followed.returncode == 1
        assert "changed-1 cannot be made: " in followed.stderr


def test_a_killed_service_goes_on_and_so_does_who_follows(
    tmp_path: Path, mosquitto: MosquittoFactory, key: Path
) -> None:
    (tmp_path / "sluice.toml").write_text(f'http = "127.0.0.1:{free_port()}"\nstate = "state"\n')
    (tmp_path / "fw.bin").write_bytes(IMAGE)
    flags = ["--broker", mosquitto().url]
    address = (tmp_path / "sluice.toml").read_text().split('"')[1]
    flags += ["--http", address]
    with Service(tmp_path, *flags) as service, Fleet(service, "kill", 4) as fleet:
        process = subprocess.Popen(
            [*COMMAND, "rollout", "fw.bin", "--group", "kill", "--key", str(key), "--id", "kill-1"]
            + ["--stages", "25@100:3s/100", "--json"],
            cwd=tmp_path,
            env=environment({"HOME": str(tmp_path)}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        looks = []
        for text in process.stdout:
            looks.append(json.loads(text))
            if looks[-1]["soaks_until"] is not None:
                break
        assert len(fleet.reached) == 1
        service.stop(signal.SIGKILL)
        with Service(tmp_path, *flags):
            looks += [json.loads(text) for text in process.stdout]
            assert process.wait(SECONDS) == 0
        process.stdout.close()
    assert [look["stage"] for look in looks][-1] == 2
    assert looks[-1]["counts"]["succeeded"] == 4
    assert sorted(set(fleet.reached)) == fleet.names
