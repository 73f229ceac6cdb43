"""OTA updates that cannot be: each error names member, value and bound; answers are as the model has them."""

import base64
from pathlib import Path
from typing import Any

import pytest

from chunker.limits import Limits
from tests.api.conforming import Step, check_calls, check_complete
from tests.api.operations import IOT
from tests.api.ota import IMAGE, S3, STREAM, Updates, a_file, by_profile, custom
from tests.api.running import ROLE, Running, arn, refused
from tests.ota.making import certificate_pem
from tests.support.waiting import wait_until

INVALID, MISSING, EXISTS = (
    ("InvalidRequestException", 400),
    ("ResourceNotFoundException", 404),
    ("ResourceAlreadyExistsException", 409),
)
LIMIT = ("LimitExceededException", 410)

LONG = "u" * 57


@pytest.mark.parametrize(
    ("asked", "expected", "words"),
    [
        ({"otaUpdateId": LONG}, INVALID, "otaUpdateId: 57 characters are over the maximum of 56"),
        ({"otaUpdateId": "a.b"}, INVALID, "otaUpdateId"),
        ({"otaUpdateId": "taken"}, EXISTS, "otaUpdateId: OTA update taken exists already"),
        ({"otaUpdateId": "job"}, EXISTS, "otaUpdateId: job AFR_OTA-job exists already"),
        ({"targets": []}, INVALID, "targets"),
        ({"targets": [arn("no", "thing")]}, MISSING, "there is no thing no"),
        ({"targets": [arn("no", "thinggroup")]}, MISSING, "there is no thing group no"),
        ({"targets": [arn("mine")]}, INVALID, "targets[0]: its resource type is 'stream'"),
        ({"targets": ["t"]}, INVALID, "targets[0]: it is not an ARN"),
        ({"targets": [arn(f"t{i}", "thing") for i in range(101)]}, LIMIT, "targets: 101 are over"),
        ({"roleArn": "x"}, INVALID, "roleArn: length 1 is under the minimum of 20"),
        ({"protocols": ["FTP"]}, INVALID, "protocols[0]: 'FTP' is none of MQTT, HTTP"),
        ({"protocols": ["MQTT", "MQTT"]}, INVALID, "protocols: MQTT is given twice"),
        ({"tags": [{"Key": "sluice:none", "Value": "1"}]}, INVALID, "none of Sluice's tags"),
        ({"tags": [{"Key": f"{i}"} for i in range(51)]}, LIMIT, "tags: OTA update new would have 51"),
        ({"awsJobPresignedUrlConfig": {"expiresInSec": 59}}, INVALID, "expiresInSec: 59 is under"),
        (
            {"awsJobTimeoutConfig": {"inProgressTimeoutInMinutes": 0}},
            INVALID,
            "awsJobTimeoutConfig.inProgressTimeoutInMinutes: 0 is not within 1 and 10080",
        ),
        (
            {
                "awsJobAbortConfig": {
                    "abortCriteriaList": [
                        {
                            "failureType": "ALL",
                            "action": "CANCEL",
                            "thresholdPercentage": 0,
                            "minNumberOfExecutedThings": 1,
                        }
                    ]
                }
            },
            INVALID,
            "awsJobAbortConfig.abortCriteriaList[0].thresholdPercentage: it must be over 0",
        ),
        (
            {
                "awsJobExecutionsRolloutConfig": {
                    "exponentialRate": {
                        "baseRatePerMinute": 1,
                        "incrementFactor": 1,
                        "rateIncreaseCriteria": {"numberOfNotifiedThings": 1},
                    }
                }
            },
            INVALID,
            "incrementFactor: 1.0 is under the minimum of 1.1",
        ),
        (
            {
                "awsJobExecutionsRolloutConfig": {
                    "exponentialRate": {
                        "baseRatePerMinute": 1,
                        "incrementFactor": 2,
                        "rateIncreaseCriteria": {},
                    }
                }
            },
            INVALID,
            "awsJobExecutionsRolloutConfig.exponentialRate.rateIncreaseCriteria",
        ),
    ],
)
def test_what_cannot_be_an_update(
    updates: Updates, asked: dict[str, Any], expected: tuple[str, int], words: str
) -> None:
    if asked.get("otaUpdateId") == "taken":
        updates.create("taken")
    if asked.get("otaUpdateId") == "job":
        updates.iot.create_job(jobId="AFR_OTA-job", targets=[arn("t", "thing")], document="{}")
    code, message, status = refused(lambda: updates.create("new", **asked))
    assert (code, status) == expected
    assert words in message
    assert refused(lambda: updates.get("new"))[0] == "ResourceNotFoundException"


def located(**location: Any) -> dict[str, Any]:
    return a_file(fileLocation=location)


@pytest.mark.parametrize(
    ("files", "expected", "words"),
    [
        ([], INVALID, "files: number of items 0"),
        ([a_file()] * 51, INVALID, "files: number of items 51"),
        ([{"fileLocation": S3}], INVALID, "files[0].fileName: required"),
        ([{"fileName": "x"}], INVALID, "files[0].fileLocation: required"),
        ([a_file(fileName="")], INVALID, "files[0].fileName: it must not be empty"),
        ([a_file(fileName="a\\b")], INVALID, "files[0].fileName: '\\\\' cannot be told"),
        ([a_file(fileType=256)], INVALID, "files[0].fileType: 256 is over"),
        ([located()], INVALID, "files[0].fileLocation: stream or s3Location"),
        ([located(**S3, **STREAM)], INVALID, "files[0].fileLocation: stream or s3Location"),
        ([a_file(), located(**STREAM)], INVALID, "files: all of them must be in S3, or all in one"),
        ([located(**STREAM), located(**STREAM)], INVALID, "fileLocation.stream.fileId: 7 is given twice"),
        ([located(stream={"streamId": "mine"})], INVALID, "fileLocation.stream.fileId: required"),
        ([located(stream={"streamId": "none", "fileId": 7})], MISSING, "there is no stream none"),
        ([located(stream={"streamId": "mine", "fileId": 8})], MISSING, "stream mine has no file 8"),
        (
            [located(s3Location={"bucket": "none", "key": "x"})],
            MISSING,
            "files[0].fileLocation.s3Location.bucket: there is no bucket 'none'",
        ),
        ([located(s3Location={"bucket": "firmware", "key": "x"})], MISSING, "no object 'x'"),
        ([located(s3Location={"bucket": "firmware"})], INVALID, "s3Location.key: required"),
        ([located(s3Location={"bucket": "firmware", "key": "empty.bin"})], INVALID, "the object is empty"),
        ([a_file(**by_profile("none"))], INVALID, "has no profile 'none'"),
        ([a_file(codeSigning={"awsSignerJobId": "x"})], INVALID, "there is no AWS Signer here"),
        ([a_file(**custom(b"x", "no certificate"))], INVALID, "certificateChain.inlineDocument: "),
        ([a_file(**custom(b"x", certificate_pem("rsa")))], INVALID, "another kind than the signature"),
    ],
)
def test_files_that_no_update_can_have(
    updates: Updates, files: list[Any], expected: tuple[str, int], words: str
) -> None:
    code, message, status = refused(lambda: updates.create("new", files=files))
    assert (code, status) == expected
    assert words in message


def test_the_errors_of_the_others(updates: Updates) -> None:
    iot = updates.iot
    assert refused(lambda: iot.get_ota_update(otaUpdateId="none"))[0] == "ResourceNotFoundException"
    assert refused(lambda: iot.get_ota_update(otaUpdateId="a.b"))[0] == "InvalidRequestException"
    assert refused(lambda: iot.delete_ota_update(otaUpdateId="none"))[0] == "ResourceNotFoundException"
    assert refused(lambda: iot.delete_ota_update(otaUpdateId="a.b"))[0] == "InvalidRequestException"
    assert refused(lambda: iot.list_ota_updates(maxResults=251))[0] == "InvalidRequestException"
    assert refused(lambda: iot.list_ota_updates(otaUpdateStatus="X"))[0] == "InvalidRequestException"
    assert refused(lambda: iot.list_ota_updates(nextToken="X"))[0] == "InvalidRequestException"


def test_a_limit_of_file_size(tmp_path: Path) -> None:
    running = Running(tmp_path, limits=Limits(file_bytes=4999))
    try:
        running.put("firmware", "app.bin", IMAGE)
        code, message, _ = refused(lambda: Updates(running).create("u"))
    finally:
        running.close()
    assert (code, message) == (
        "LimitExceededException",
        "files[0].fileLocation: the object has 5000 bytes, over the maximum of 4999",
    )


SIGNED = custom(b"s")["codeSigning"]
SIGNED["customCodeSigning"]["signature"]["inlineDocument"] = base64.b64encode(b"signature").decode()
MANY = [{"Key": f"{i}"} for i in range(51)]
CREATE = {
    "description": "d",
    "targets": [arn("t", "thing")],
    "protocols": ["MQTT", "HTTP"],
    "targetSelection": "SNAPSHOT",
    "awsJobExecutionsRolloutConfig": {"maximumPerMinute": 10},
    "awsJobPresignedUrlConfig": {"expiresInSec": 3600},
    "awsJobTimeoutConfig": {"inProgressTimeoutInMinutes": 10080},
    "files": [
        {
            **a_file(fileType=0, fileVersion="1", attributes={"k": "v"}),
            "codeSigning": SIGNED,
        }
    ],
    "roleArn": ROLE,
    "additionalParameters": {"k": "v"},
    "tags": [{"Key": "k"}],
}


def made(api: Running) -> None:
    """The update has its document, and so a stream to show."""
    wait_until(lambda: api.registry.ota.get("wire").document, 60, "the update's document")


CALLS: list[Step] = [
    ("CreateOTAUpdate", "POST", "/otaUpdates/wire", CREATE, 200),
    ("CreateOTAUpdate", "POST", "/otaUpdates/wire", CREATE, 409),
    ("CreateOTAUpdate", "POST", "/otaUpdates/two", {**CREATE, "targets": [arn("no", "thing")]}, 404),
    ("CreateOTAUpdate", "POST", "/otaUpdates/two", {**CREATE, "files": []}, 400),
    (
        "CreateOTAUpdate",
        "POST",
        "/otaUpdates/two",
        {**CREATE, "tags": [{"Key": f"{i}"} for i in range(51)]},
        410,
    ),
    made,
    ("GetOTAUpdate", "GET", "/otaUpdates/wire", None, 200),
    ("GetOTAUpdate", "GET", "/otaUpdates/two", None, 404),
    ("GetOTAUpdate", "GET", "/otaUpdates/a.b", None, 400),
    ("ListOTAUpdates", "GET", "/otaUpdates?maxResults=1", None, 200),
    ("ListOTAUpdates", "GET", "/otaUpdates?otaUpdateStatus=X", None, 400),
    ("DeleteOTAUpdate", "DELETE", "/otaUpdates/wire", None, 400),
    ("DeleteOTAUpdate", "DELETE", "/otaUpdates/two", None, 404),
    ("DeleteOTAUpdate", "DELETE", "/otaUpdates/wire?deleteStream=x", None, 400),
    ("DeleteOTAUpdate", "DELETE", "/otaUpdates/wire?deleteStream=true&forceDeleteAWSJob=true", None, 200),
    ("GetOTAUpdate", "GET", "/otaUpdates/wire", None, 200),
]


def test_answers_are_what_the_model_says(updates: Updates) -> None:
    check_calls(updates.api, CALLS)
    check_complete(CALLS, {name for name in IOT if "OTA" in name})
