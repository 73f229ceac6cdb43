"""The whole: `sluice serve`, jobs and OTA updates with boto3, and a device that fetches over HTTP."""

import json
import os
import urllib.request
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit

import boto3
import pytest

from device_client.client import download
from tests.api.running import Running, arn
from tests.api.running import refused as refusal
from tests.conftest import MosquittoFactory
from tests.sluice.support import Service, sluice
from tests.support.moto import MotoServer
from tests.support.waiting import free_port, wait_until

DATA = os.urandom(150_000)
ROLE = "arn:aws:iam::000000000000:role/any"
THING = "arn:aws:iot:us-east-1:000000000000:thing/mast-1"
URL = "https://s3.us-east-1.amazonaws.com/firmware/fw.bin"


def client(service: Service, name: str) -> Any:
    return boto3.client(name, endpoint_url=f"http://{service.http}", region_name="us-east-1")  # type: ignore[call-overload,unused-ignore]


def put(service: Service, content: bytes) -> None:
    folder = service.state / "objects" / "firmware"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "new").write_bytes(content)
    (folder / "new").rename(folder / "fw.bin")


def document_of(service: Service, job_id: str) -> Any:
    """That of the thing's job, once it has reached it."""
    data = client(service, "iot-jobs-data")

    def found() -> Any:
        try:
            return data.describe_job_execution(thingName="mast-1", jobId=job_id, includeJobDocument=True)
        except data.exceptions.ResourceNotFoundException:
            return None

    return json.loads(wait_until(found, what="the job's execution")["execution"]["jobDocument"])


def fetch(url: str, **headers: str) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=60) as answer:
            return answer.status, answer.read()
    except HTTPError as error:
        return error.code, error.read()


def test_a_job_over_http(tmp_path: Path, mosquitto: MosquittoFactory) -> None:
    broker = mosquitto().url
    with Service(tmp_path, "--broker", broker) as service:
        iot = client(service, "iot")
        iot.create_thing(thingName="mast-1")
        put(service, DATA)
        document = json.dumps({"file": f"${{aws:iot:s3-presigned-url:{URL}}}", "run": [1, "now"]})
        iot.create_job(
            jobId="j",
            targets=[THING],
            document=document,
            presignedUrlConfig={"roleArn": ROLE, "expiresInSec": 300},
        )
        assert iot.get_job_document(jobId="j")["document"] == document
        got = document_of(service, "j")
        url = got.pop("file")
        assert got == {"run": [1, "now"]}
        assert url.startswith(f"http://{service.http}/objects/firmware/fw.bin?")
        assert fetch(url, Range="bytes=100-199") == (206, DATA[100:200])
        assert fetch(url) == (200, DATA)
        put(service, DATA[::-1])
        assert fetch(url)[0] == 412
        metrics = fetch(f"http://{service.http}/metrics")[1].decode()
        for line in ('downloads_total{status="206"} 1.0', f"download_bytes_total {len(DATA) + 100:.1f}"):
            assert f"sluice_{line}" in metrics
        # As with AWS, a job that names no version is of what is there when a device asks.
        assert fetch(document_of(service, "j")["file"]) == (200, DATA[::-1])
        put(service, DATA)
        assert service.stop() == 0
        assert "Traceback" not in service.log_path.read_text()
    with Service(tmp_path, "--broker", broker) as service:
        parts = urlsplit(url)
        assert fetch(parts._replace(netloc=service.http).geturl()) == (200, DATA), "it outlives a restart"


def test_an_ota_update_over_http_is_of_what_was_signed(tmp_path: Path, mosquitto: MosquittoFactory) -> None:
    port = free_port()
    (tmp_path / "sluice.toml").write_text(
        f'[downloads]\nlisten = "127.0.0.1:{port}"\nurl = "http://localhost:{port}/"\n'
    )
    with Service(tmp_path, "--broker", mosquitto().url) as service:
        iot = client(service, "iot")
        iot.create_thing(thingName="mast-1")
        put(service, DATA)
        signing = {
            "signature": {"inlineDocument": b"signature"},
            "certificateChain": {"certificateName": "/certs/signer.pem"},
            "hashAlgorithm": "SHA256",
            "signatureAlgorithm": "ECDSA",
        }
        at_s3 = {"bucket": "firmware", "key": "fw.bin"}
        iot.create_stream(streamId="s", roleArn=ROLE, files=[{"fileId": 7, "s3Location": at_s3}])
        for update, location in (
            ("object", {"s3Location": at_s3}),
            ("stream", {"stream": {"streamId": "s", "fileId": 7}}),
        ):
            entry = {"fileName": "/fw.bin", "fileLocation": location}
            iot.create_ota_update(
                otaUpdateId=update,
                targets=[THING],
                protocols=["HTTP"],
                files=[{**entry, "codeSigning": {"customCodeSigning": signing}}],
                roleArn=ROLE,
            )

        def file_of(update: str) -> Any:
            (file,) = document_of(service, f"AFR_OTA-{update}")["afr_ota"]["files"]
            return file

        urls = [file_of(update)["update_data_url"] for update in ("object", "stream")]
        assert file_of("object")["auth_scheme"] == "aws.s3.presigned"
        for url in urls:
            assert url.startswith(f"http://localhost:{port}/objects/firmware/fw.bin?")
            assert fetch(url, Range="bytes=0-1023") == (206, DATA[:1024])
        # Nothing of the API is to be had where devices fetch their files.
        for path in ("/things", "/healthz", "/metrics", "/"):
            assert fetch(f"http://127.0.0.1:{port}{path}")[0] == 403
        put(service, DATA[::-1])
        iot.update_stream(streamId="s", files=[{"fileId": 7, "s3Location": at_s3}])
        later = [file_of(update)["update_data_url"] for update in ("object", "stream")]
        for url in (*urls, *later):
            assert fetch(url)[0] == 412, "neither the old URLs nor new ones give other bytes"


@pytest.mark.parametrize(
    ("refused", "document"),
    [
        ("ResourceNotFoundException", "${aws:iot:s3-presigned-url:https://s3.amazonaws.com/firmware/gone}"),
        ("InvalidRequestException", "${aws:iot:s3-presigned-url:https://example.com/firmware/fw.bin}"),
        ("InvalidRequestException", "${aws:iot:s3-presigned-url-upload:https://s3.amazonaws.com/firmware/k}"),
        ("InvalidRequestException", f"${{aws:iot:s3-presigned-url-v2:{URL}?etag=0f}}"),
        ("ResourceNotFoundException", f"${{aws:iot:s3-presigned-url-v2:{URL}?versionId=1}}"),
    ],
)
def test_a_job_that_leads_nowhere_is_not_made(tmp_path: Path, refused: str, document: str) -> None:
    api = Running(tmp_path)
    try:
        iot = api.client()
        api.put("firmware", "fw.bin", DATA)
        iot.create_thing(thingName="mast-1")
        target = arn("mast-1", "thing")
        code, message, _ = refusal(
            lambda: iot.create_job(jobId="j", targets=[target], document=json.dumps({"u": document}))
        )
        assert code == refused
        assert message.startswith("document")
        assert iot.list_jobs()["jobs"] == []
    finally:
        api.close()


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ('listen = "0.0.0.0:1"', "give downloads.url too"),
        ('listen = "here"', "host:port"),
        ('url = "ftp://h"', "http[s]://host[:port][/path]"),
        ('url = "https://h/?x=1"', "http[s]://host[:port][/path]"),
        ("connections = 0", "from 1 to 800"),
    ],
)
def test_settings_that_make_no_sense(tmp_path: Path, table: str, message: str) -> None:
    (tmp_path / "sluice.toml").write_text(f"[downloads]\n{table}\n")
    result = sluice(["config"], tmp_path)
    assert result.returncode == 2
    assert message in result.stderr


def test_an_update_of_a_version_in_s3_that_is_overwritten(
    tmp_path: Path, mosquitto: MosquittoFactory, moto_s3: MotoServer
) -> None:
    """The signed bytes come over MQTT and HTTP all the same."""
    s3, bucket, broker = moto_s3.client(), moto_s3.bucket(), mosquitto().url
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    s3.put_object(Bucket=bucket, Key="fw.bin", Body=DATA)
    with Service(tmp_path, "--broker", broker, "--s3-endpoint", moto_s3.endpoint_url) as service:
        iot = client(service, "iot")
        iot.create_thing(thingName="mast-1")
        iot.create_ota_update(
            otaUpdateId="u",
            targets=[THING],
            protocols=["MQTT", "HTTP"],
            roleArn=ROLE,
            files=[{"fileName": "/fw", "fileLocation": {"s3Location": {"bucket": bucket, "key": "fw.bin"}}}],
        )
        s3.put_object(Bucket=bucket, Key="fw.bin", Body=DATA[::-1])
        document = document_of(service, "AFR_OTA-u")["afr_ota"]
        (file,) = document["files"]
        s3.delete_object(Bucket=bucket, Key="fw.bin")
        assert file["update_data_url"].startswith(f"{moto_s3.endpoint_url}/{bucket}/fw.bin?")
        assert fetch(file["update_data_url"]) == (200, DATA)
        download(broker, thing="mast-1", stream=document["streamname"], out=tmp_path / "got")
        assert (tmp_path / "got").read_bytes() == DATA
