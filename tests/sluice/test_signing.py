"""The keys that sign OTA updates: as settings, and in a service that is killed over it."""

import base64
import json
import signal
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from sluice.failure import USAGE, SettingsError
from sluice.loading import load
from tests.conftest import MosquittoFactory
from tests.ota.making import openssl, pem, private_key, public_pem
from tests.sluice.support import Service, sluice
from tests.support.waiting import wait_until

TOML = '[[signing]]\nprofile = "mast"\nkey = "keys/signer.pem"\ncertificate_path = "/certs/signer.pem"\n'
ACCOUNT = "000000000000"


def test_paths_begin_at_the_file_s_folder(tmp_path: Path) -> None:
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "my.toml").write_text(TOML)
    found = load({}, environ={}, config="conf/my.toml", folder=tmp_path)
    (entry,) = found.settings.signing
    assert (entry.profile, entry.certificate_path, entry.password_env) == ("mast", "/certs/signer.pem", None)
    assert entry.key == tmp_path / "conf" / "keys" / "signer.pem"
    table = {"profile": "p", "key": "k", "certificate_path": "/c", "password_env": "PASSWORD"}
    found = load({}, environ={"SLUICE_SIGNING": json.dumps([table])}, folder=tmp_path)
    assert found.settings.signing[0].key == tmp_path / "k"
    assert found.settings.signing[0].password_env == "PASSWORD"


@pytest.mark.parametrize(
    ("toml", "words"),
    [
        ('[[signing]]\nprofile = "p"\n', "signing is .*profile and key and certificate_path"),
        (TOML + 'password = "x"\n', "signing is "),
        (TOML.replace('"keys/signer.pem"', "1"), "whose key is text"),
        (TOML + TOML, r"signing\[1\]\.profile is 'mast', as another's"),
    ],
)
def test_what_is_no_profile(toml: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "sluice.toml").write_text(toml)
    with pytest.raises(SettingsError, match=words):
        load({}, environ={}, folder=tmp_path)


def test_a_service_does_not_start_without_its_key(tmp_path: Path) -> None:
    (tmp_path / "sluice.toml").write_text(TOML)
    done = sluice(["serve", "--http", "127.0.0.1:0", "--mqtt", "127.0.0.1:0"], tmp_path)
    assert done.returncode == USAGE
    assert "signing[0].key: cannot read" in done.stderr
    assert "Traceback" not in done.stderr
    shown = sluice(["config", "--json"], tmp_path)
    (entry,) = json.loads(shown.stdout)["signing"]["value"]
    assert entry["key"] == str(tmp_path / "keys" / "signer.pem")


def client(service: Service) -> Any:
    return boto3.client(
        "iot",
        endpoint_url=f"http://{service.http}",
        region_name="us-east-1",
        config=Config(retries={"total_max_attempts": 1}),
    )


def test_a_killed_service_signs_at_its_next_start(tmp_path: Path, mosquitto: MosquittoFactory) -> None:
    image = bytes(range(256)) * 40_000
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "signer.pem").write_bytes(pem(private_key("ecdsa")))
    (tmp_path / "sluice.toml").write_text(TOML)
    bucket = tmp_path / "state" / "objects" / "firmware"
    bucket.mkdir(parents=True)
    (bucket / "fw.bin").write_bytes(image)
    broker = mosquitto()
    with Service(tmp_path, "--broker", broker.url) as service:
        iot = client(service)
        iot.create_thing(thingName="t")
        iot.create_ota_update(
            otaUpdateId="u",
            targets=[f"arn:aws:iot:us-east-1:{ACCOUNT}:thing/t"],
            roleArn=f"arn:aws:iam::{ACCOUNT}:role/any",
            files=[
                {
                    "fileName": "/fw.bin",
                    "fileLocation": {"s3Location": {"bucket": "firmware", "key": "fw.bin"}},
                    "codeSigning": {"startSigningJobParameter": {"signingProfileName": "mast"}},
                }
            ],
        )
        assert service.stop(signal.SIGKILL) == -signal.SIGKILL
    with Service(tmp_path, "--broker", broker.url) as service:
        iot = client(service)

        def info() -> Any:
            return iot.get_ota_update(otaUpdateId="u")["otaUpdateInfo"]

        wait_until(lambda: info()["otaUpdateStatus"] == "CREATE_COMPLETE", 60, "the end of the creation")
        document = json.loads(iot.get_job_document(jobId="AFR_OTA-u")["document"])["afr_ota"]
        streams = [stream["streamId"] for stream in iot.list_streams()["streams"]]
        assert streams == [document["streamname"]]
        assert service.stop() == 0
    (tmp_path / "signature").write_bytes(base64.b64decode(document["files"][0]["sig-sha256-ecdsa"]))
    (tmp_path / "public.pem").write_text(public_pem(private_key("ecdsa")))
    verify = ("dgst", "-sha256", "-verify", tmp_path / "public.pem", "-signature", tmp_path / "signature")
    assert openssl(*verify, bucket / "fw.bin").stdout == b"Verified OK\n"
