"""OTA updates through boto3: from a request to the stream and the job that firmware knows, and away again."""

import base64
import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker_bridge.ota.signing import verifies
from broker_bridge.storage.s3 import S3Store
from tests.api.engine import settle
from tests.api.ota import IMAGE, STREAM, Updates, a_file, by_profile, custom
from tests.api.running import REGION, ROLE, Running, arn, file_entry, refused
from tests.ota.making import certificate_pem, making, openssl, pem, private_key, profiles, public_pem
from tests.support import faults
from tests.support.faults import FaultProxy
from tests.support.moto import REGION as S3_REGION
from tests.support.moto import MotoServer
from tests.support.waiting import wait_until


def test_from_s3_signed_by_a_profile(updates: Updates) -> None:
    answer = updates.create("plain", a_file(fileType=3, fileVersion="1.2", **by_profile()))
    assert answer["otaUpdateStatus"] == "CREATE_PENDING"
    assert (answer["awsIotJobId"], answer["awsIotJobArn"]) == ("AFR_OTA-plain", arn("AFR_OTA-plain", "job"))
    assert answer["otaUpdateArn"] == arn("plain", "otaupdate")
    info = updates.made("plain")
    assert info["protocols"] == ["MQTT"]
    assert info["targetSelection"] == "SNAPSHOT"
    assert info["targets"] == [arn("t", "thing")]
    assert "errorInfo" not in info
    (file,) = info["otaUpdateFiles"]
    stream = file["fileLocation"].pop("stream")
    assert file == a_file(fileType=3, fileVersion="1.2", **by_profile())
    assert (stream["fileId"], len(stream["streamId"])) == (0, 44)
    assert stream["streamId"].startswith("AFR_OTA-")
    described = updates.iot.describe_stream(streamId=stream["streamId"])["streamInfo"]
    assert described["files"] == [file_entry(0)]
    assert described["roleArn"] == ROLE
    document = updates.document("plain")
    (told,) = document["files"]
    signature = told.pop("sig-sha256-ecdsa")
    assert document == {
        "protocols": ["MQTT"],
        "streamname": stream["streamId"],
        "files": [
            {
                "filepath": "/fw.bin",
                "filesize": 5000,
                "fileid": 0,
                "certfile": "/ecdsa.pem",
                "fileType": 3,
            }
        ],
    }
    key = public_pem(private_key("ecdsa"))
    assert verifies(key, "sig-sha256-ecdsa", hashlib.sha256(IMAGE).digest(), signature)
    job = updates.iot.describe_job(jobId="AFR_OTA-plain")["job"]
    assert job["status"] == "IN_PROGRESS"
    settle(updates.api)
    device = updates.api.client(service="iot-jobs-data")
    queued = device.get_pending_job_executions(thingName="t")["queuedJobs"]
    assert "AFR_OTA-plain" in [one["jobId"] for one in queued]


def test_many_files_signed_by_rsa(updates: Updates) -> None:
    other = {"s3Location": {"bucket": "firmware", "key": "second.bin"}}
    path = {"signingProfileParameter": {"certificatePathOnDevice": "/elsewhere.pem"}}
    updates.create(
        "many", a_file(**by_profile("rsa")), a_file(fileLocation=other, **by_profile("rsa", **path))
    )
    updates.made("many")
    first, second = updates.document("many")["files"]
    assert (first["fileid"], first["filesize"], first["certfile"]) == (0, 5000, "/rsa.pem")
    assert (second["fileid"], second["filesize"], second["certfile"]) == (1, 6, "/elsewhere.pem")
    key, digest = public_pem(private_key("rsa")), hashlib.sha256(b"second").digest()
    assert verifies(key, "sig-sha256-rsa", digest, second["sig-sha256-rsa"])


def test_from_a_stream_signed_by_openssl(updates: Updates, tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_bytes(pem(private_key("ecdsa")))
    signature = openssl("dgst", "-sha256", "-sign", tmp_path / "key.pem", given=IMAGE).stdout
    asked = a_file(fileLocation=STREAM, **custom(signature, certificate_pem("ecdsa")))
    updates.create("stream", asked)
    info = updates.made("stream")
    assert info["otaUpdateFiles"] == [asked]
    document = updates.document("stream")
    assert document["streamname"] == "mine"
    (file,) = document["files"]
    assert (file["fileid"], file["certfile"]) == (7, "/certs/signer.pem")
    assert file["sig-sha256-ecdsa"] == base64.b64encode(signature).decode()


def test_a_signature_of_another_image_reaches_no_device(updates: Updates, tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_bytes(pem(private_key("ecdsa")))
    signature = openssl("dgst", "-sha256", "-sign", tmp_path / "key.pem", given=b"older").stdout
    updates.create("wrong", a_file(**custom(signature, certificate_pem("ecdsa"))))
    error = updates.failed("wrong")
    assert error["code"] == "InvalidRequestException"
    assert "its signature is not one of this object" in error["message"]
    code, _, _ = refused(lambda: updates.iot.describe_job(jobId="AFR_OTA-wrong"))
    assert code == "ResourceNotFoundException"
    # Without force: there is no job.
    updates.iot.delete_ota_update(otaUpdateId="wrong")
    wait_until(lambda: updates.gone("wrong"), what="the end of the update")


def test_over_http(updates: Updates) -> None:
    updates.create("http", a_file(**by_profile()), protocols=["HTTP"])
    updates.made("http")
    document = updates.document("http")
    assert list(document) == ["protocols", "files"]
    (file,) = document["files"]
    assert file["auth_scheme"] == "aws.s3.presigned"
    etag = hashlib.md5(IMAGE).hexdigest()
    assert file["update_data_url"] == (
        f"${{aws:iot:s3-presigned-url-v2:https://s3.{REGION}.amazonaws.com/firmware/app.bin?etag={etag}}}"
    )
    job = updates.iot.describe_job(jobId="AFR_OTA-http")["job"]
    assert job["presignedUrlConfig"] == {"roleArn": ROLE, "expiresInSec": 1800}


def test_all_that_is_the_job_s_reaches_it(updates: Updates) -> None:
    rollout = {
        "maximumPerMinute": 100,
        "exponentialRate": {
            "baseRatePerMinute": 5,
            "incrementFactor": 1.5,
            "rateIncreaseCriteria": {"numberOfNotifiedThings": 10},
        },
    }
    criteria = [
        {
            "failureType": "FAILED",
            "action": "CANCEL",
            "thresholdPercentage": 3.5,
            "minNumberOfExecutedThings": 10,
        }
    ]
    updates.create(
        "full",
        description="all of it",
        targets=[arn("g", "thinggroup"), arn("t", "thing"), arn("t", "thing")],
        targetSelection="CONTINUOUS",
        protocols=["MQTT", "HTTP"],
        awsJobExecutionsRolloutConfig=rollout,
        awsJobAbortConfig={"abortCriteriaList": criteria},
        awsJobTimeoutConfig={"inProgressTimeoutInMinutes": 30},
        awsJobPresignedUrlConfig={"expiresInSec": 60},
        additionalParameters={"build": "17"},
        tags=[{"Key": "sluice:bytes-per-second", "Value": "1 MiB"}, {"Key": "team", "Value": "a"}],
    )
    info = updates.made("full")
    assert info["awsJobExecutionsRolloutConfig"] == rollout
    assert info["awsJobPresignedUrlConfig"] == {"expiresInSec": 60}
    assert (info["description"], info["targetSelection"]) == ("all of it", "CONTINUOUS")
    assert info["additionalParameters"] == {"build": "17"}
    job = updates.iot.describe_job(jobId="AFR_OTA-full")["job"]
    assert job["targets"] == [arn("t", "thing"), arn("g", "thinggroup")]
    assert (job["description"], job["targetSelection"]) == ("all of it", "CONTINUOUS")
    assert job["jobExecutionsRolloutConfig"] == rollout
    assert job["abortConfig"] == {"criteriaList": criteria}
    assert job["timeoutConfig"] == {"inProgressTimeoutInMinutes": 30}
    assert job["presignedUrlConfig"] == {"roleArn": ROLE, "expiresInSec": 60}
    tags = updates.iot.list_tags_for_resource(resourceArn=job["jobArn"])["tags"]
    assert tags == [{"Key": "sluice:bytes-per-second", "Value": "1 MiB"}]


def test_its_tags(updates: Updates) -> None:
    made = updates.create("tagged", tags=[{"Key": "a", "Value": "1"}])
    named = {"resourceArn": made["otaUpdateArn"]}
    updates.iot.tag_resource(**named, tags=[{"Key": "b", "Value": "2"}])
    updates.iot.untag_resource(**named, tagKeys=["a"])
    assert updates.iot.list_tags_for_resource(**named)["tags"] == [{"Key": "b", "Value": "2"}]
    call = lambda: updates.iot.list_tags_for_resource(resourceArn=arn("no", "otaupdate"))  # noqa: E731
    assert refused(call)[0] == "ResourceNotFoundException"


def test_pages_and_statuses(updates: Updates) -> None:
    for i in range(5):
        updates.create(f"page{i}")
        updates.made(f"page{i}")
    newest = [f"page{i}" for i in reversed(range(5))]
    listed: list[str] = []
    token: dict[str, str] = {}
    while True:
        page = updates.iot.list_ota_updates(maxResults=2, otaUpdateStatus="CREATE_COMPLETE", **token)
        listed += [one["otaUpdateId"] for one in page["otaUpdates"]]
        if "nextToken" not in page:
            break
        token = {"nextToken": page["nextToken"]}
    assert listed[:5] == newest
    assert len(listed) == len(set(listed))
    assert updates.iot.list_ota_updates(otaUpdateStatus="DELETE_FAILED")["otaUpdates"] == []
    assert refused(lambda: updates.iot.list_ota_updates(**token))[0] == "InvalidRequestException"


@pytest.mark.parametrize("delete_stream", [True, False])
def test_deletion(updates: Updates, delete_stream: bool) -> None:
    name = f"gone-{delete_stream}"
    updates.create(name)
    file = updates.made(name)["otaUpdateFiles"][0]
    stream = file["fileLocation"]["stream"]["streamId"]
    code, message, _ = refused(lambda: updates.iot.delete_ota_update(otaUpdateId=name))
    assert code == "InvalidRequestException"
    assert message == (
        f"otaUpdateId: job AFR_OTA-{name} is IN_PROGRESS, not COMPLETED or CANCELED; "
        "forceDeleteAWSJob deletes it all the same"
    )
    updates.iot.cancel_job(jobId=f"AFR_OTA-{name}", force=True)
    settle(updates.api)
    updates.iot.delete_ota_update(otaUpdateId=name, deleteStream=delete_stream)
    wait_until(lambda: updates.gone(name), 60, "the end of the update")
    assert refused(lambda: updates.get(name))[0] == "ResourceNotFoundException"
    assert refused(lambda: updates.iot.describe_job(jobId=f"AFR_OTA-{name}"))[2] == 404
    if delete_stream:
        assert refused(lambda: updates.iot.describe_stream(streamId=stream))[2] == 404
    else:
        updates.iot.delete_stream(streamId=stream)
    # The id is free.
    updates.create(name)
    updates.made(name)


def test_deletion_by_force(updates: Updates) -> None:
    updates.create("force", a_file(fileLocation=STREAM))
    updates.made("force")
    updates.iot.delete_ota_update(otaUpdateId="force", deleteStream=True, forceDeleteAWSJob=True)
    assert updates.get("force")["otaUpdateStatus"] == "DELETE_IN_PROGRESS"
    wait_until(lambda: updates.gone("force"), 60, "the end of the update")
    # It is not the update's own.
    updates.iot.describe_stream(streamId="mine")


@pytest.fixture
def pending(tmp_path: Path) -> Iterator[Updates]:
    """OTA updates that nobody makes."""
    running = Running(tmp_path)
    running.put("firmware", "app.bin", IMAGE)
    yield Updates(running)
    running.close()


def test_nothing_is_deleted_while_it_is_made(pending: Updates) -> None:
    pending.create("u")
    code, message, _ = refused(lambda: pending.iot.delete_ota_update(otaUpdateId="u"))
    assert code == "InvalidRequestException"
    assert "update u is CREATE_PENDING" in message
    pending.iot.delete_ota_update(otaUpdateId="u", forceDeleteAWSJob=True)
    assert pending.get("u")["otaUpdateStatus"] == "DELETE_IN_PROGRESS"


def test_what_fails_is_shown_with_its_reason(pending: Updates) -> None:
    pending.create("u")
    pending.iot.delete_thing(thingName="t")
    with making(pending.api.registry, pending.api.context.store):
        error = pending.failed("u")
    assert error == {"code": "ResourceNotFoundException", "message": "targets: there is no thing t"}
    assert pending.get("u")["otaUpdateFiles"] == [a_file()]
    assert pending.iot.list_streams()["streams"] == []


@pytest.fixture
def in_s3(tmp_path: Path, moto_s3: MotoServer) -> Iterator[Updates]:
    """OTA updates whose objects are in S3, which are made where the test says."""
    store = S3Store(endpoint_url=moto_s3.endpoint_url, region=S3_REGION)
    running = Running(tmp_path, store=store, signing=profiles("ecdsa"))
    yield Updates(running)
    running.close()


def test_objects_of_s3_and_their_versions(in_s3: Updates, moto_s3: MotoServer) -> None:
    s3, bucket = moto_s3.client(), moto_s3.bucket()
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    first = s3.put_object(Bucket=bucket, Key="a/b c", Body=IMAGE)["VersionId"]
    second = s3.put_object(Bucket=bucket, Key="a/b c", Body=b"newer")["VersionId"]
    updates, registry, store = in_s3, in_s3.api.registry, in_s3.api.context.store
    pinned = {"s3Location": {"bucket": bucket, "key": "a/b c", "version": first}}
    newest = {"s3Location": {"bucket": bucket, "key": "a/b c"}}
    both = {"protocols": ["MQTT", "HTTP"]}
    updates.create("pinned", a_file(fileLocation=pinned, **by_profile()), **both)
    updates.create("newest", a_file(fileLocation=newest, **by_profile()), **both)
    s3.put_object(Bucket=bucket, Key="a/b c", Body=b"newest")
    with making(registry, store, profiles("ecdsa")):
        stream = updates.made("pinned")["otaUpdateFiles"][0]["fileLocation"]["stream"]["streamId"]
        assert updates.iot.describe_stream(streamId=stream)["streamInfo"]["files"] == [
            {"fileId": 0, **pinned}
        ]
        file = updates.made("newest")["otaUpdateFiles"][0]["fileLocation"]
        assert file["s3Location"] == newest["s3Location"], "as it was given"
        described = updates.iot.describe_stream(streamId=file["stream"]["streamId"])["streamInfo"]
        assert described["files"][0]["s3Location"] == {**newest["s3Location"], "version": second}
        # What is signed is what was there when it was asked for, and no newer one.
        key = public_pem(private_key("ecdsa"))
        for name, content in (("pinned", IMAGE), ("newest", b"newer")):
            (file,) = updates.document(name)["files"]
            assert file["filesize"] == len(content)
            digest = hashlib.sha256(content).digest()
            assert verifies(key, "sig-sha256-ecdsa", digest, file["sig-sha256-ecdsa"])
        url = f"${{aws:iot:s3-presigned-url-v2:https://s3.{REGION}.amazonaws.com/{bucket}/a/b%20c?"
        assert updates.document("pinned")["files"][0]["update_data_url"] == f"{url}versionId={first}}}"
        assert updates.document("newest")["files"][0]["update_data_url"] == f"{url}versionId={second}}}"
    missing = {"s3Location": {"bucket": bucket, "key": "x"}}
    code, _, _ = refused(lambda: updates.create("missing", a_file(fileLocation=missing)))
    assert code == "ResourceNotFoundException"


def test_objects_of_s3_without_versions(in_s3: Updates, moto_s3: MotoServer) -> None:
    s3, bucket = moto_s3.client(), moto_s3.bucket()
    etag = s3.put_object(Bucket=bucket, Key="k", Body=IMAGE)["ETag"].strip('"')
    updates, registry, store = in_s3, in_s3.api.registry, in_s3.api.context.store
    file = a_file(fileLocation={"s3Location": {"bucket": bucket, "key": "k"}}, **by_profile())
    updates.create("u", file, protocols=["HTTP"])
    with making(registry, store, profiles("ecdsa")):
        updates.made("u")
    assert updates.document("u")["files"][0]["update_data_url"].endswith(f"/{bucket}/k?etag={etag}}}")
    updates.create("overwritten", file)
    s3.put_object(Bucket=bucket, Key="k", Body=b"newer")
    with making(registry, store, profiles("ecdsa")):
        assert updates.failed("overwritten")["code"] == "ETagMismatch"


def test_a_version_that_the_service_may_not_read(tmp_path: Path, moto_s3: MotoServer) -> None:
    s3, bucket = moto_s3.client(), moto_s3.bucket()
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    s3.put_object(Bucket=bucket, Key="k", Body=IMAGE)
    proxy = FaultProxy(moto_s3.endpoint_url)
    proxy.always = lambda exchange: (
        faults.status(403)(exchange) if "versionId" in exchange.path else exchange.answer(exchange.forward())
    )
    running = Running(tmp_path, store=S3Store(endpoint_url=proxy.endpoint_url, region=S3_REGION))
    try:
        file = a_file(fileLocation={"s3Location": {"bucket": bucket, "key": "k"}})
        code, message, _ = refused(lambda: Updates(running).create("u", file))
        assert code == "UnauthorizedException"
        assert message.startswith("files[0].fileLocation.s3Location: the service may not read version")
    finally:
        running.close()
        proxy.close()
