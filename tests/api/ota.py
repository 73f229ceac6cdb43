"""OTA updates of a running API."""

import json
from dataclasses import dataclass
from typing import Any

from tests.api.engine import settle
from tests.api.running import ROLE, Running, arn
from tests.support.waiting import wait_until

IMAGE = b"x" * 5000
COMING = ("CREATE_PENDING", "CREATE_IN_PROGRESS")
S3 = {"s3Location": {"bucket": "firmware", "key": "app.bin"}}
STREAM = {"stream": {"streamId": "mine", "fileId": 7}}


def a_file(**other: Any) -> dict[str, Any]:
    return {"fileName": "/fw.bin", "fileLocation": S3, **other}


def by_profile(name: str = "ecdsa", **other: Any) -> dict[str, Any]:
    return {"codeSigning": {"startSigningJobParameter": {"signingProfileName": name, **other}}}


def custom(signature: bytes, certificate: str | None = None) -> dict[str, Any]:
    chain = {"certificateName": "/certs/signer.pem"}
    if certificate is not None:
        chain["inlineDocument"] = certificate
    signed = {
        "signature": {"inlineDocument": signature},
        "certificateChain": chain,
        "hashAlgorithm": "SHA256",
        "signatureAlgorithm": "ECDSA",
    }
    return {"codeSigning": {"customCodeSigning": signed}}


@dataclass
class Updates:
    """OTA updates of a running API, for the thing `t` and the group `g`."""

    api: Running

    def __post_init__(self) -> None:
        self.iot = self.api.client()
        self.lax = self.api.client(validate=False)
        self.iot.create_thing(thingName="t")
        self.iot.create_thing_group(thingGroupName="g")
        self.iot.add_thing_to_thing_group(thingName="t", thingGroupName="g")

    def create(self, name: str, *files: dict[str, Any], **other: Any) -> Any:
        """The answer to CreateOTAUpdate. Boto3 does not look at what is asked for."""
        return self.lax.create_ota_update(
            **{
                "otaUpdateId": name,
                "targets": [arn("t", "thing")],
                "roleArn": ROLE,
                "files": list(files or (a_file(),)),
                **other,
            }
        )

    def get(self, name: str) -> Any:
        """The update as GetOTAUpdate shows it."""
        return self.iot.get_ota_update(otaUpdateId=name)["otaUpdateInfo"]

    def made(self, name: str) -> Any:
        """The same, when it is made."""
        wait_until(lambda: self.get(name)["otaUpdateStatus"] not in COMING, 60, "the end of the creation")
        found = self.get(name)
        assert found["otaUpdateStatus"] == "CREATE_COMPLETE", found
        return found

    def failed(self, name: str) -> Any:
        """Why it was not made."""
        wait_until(lambda: self.get(name)["otaUpdateStatus"] not in COMING, 60, "the end of the creation")
        found = self.get(name)
        assert found["otaUpdateStatus"] == "CREATE_FAILED"
        return found["errorInfo"]

    def document(self, name: str) -> Any:
        """What devices are told."""
        return json.loads(self.iot.get_job_document(jobId=f"AFR_OTA-{name}")["document"])["afr_ota"]

    def gone(self, name: str) -> bool:
        settle(self.api)
        return not any(one["otaUpdateId"] == name for one in self.iot.list_ota_updates()["otaUpdates"])
