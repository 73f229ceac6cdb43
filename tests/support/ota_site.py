"""A broker and a service where images are published as OTA updates, with boto3, signed here."""

import signal
from pathlib import Path
from types import TracebackType
from typing import Any

import boto3
from botocore.config import Config
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256

from tests.sluice.support import Service
from tests.support.mosquitto import MosquittoServer
from tests.support.waiting import wait_until

CERTIFICATE = "/certs/signer.pem"
BUCKET = "firmware"


class OtaSite:
    """For the time of a `with`; `broker` and `service` as they are."""

    def __init__(self, folder: Path, *flags: str) -> None:
        (folder / "mosquitto").mkdir(parents=True)
        self.folder = folder
        self.broker = MosquittoServer(folder / "mosquitto")
        try:
            self.service = Service(folder, "--broker", self.broker.url, *flags)
        except BaseException:
            self.broker.close()
            raise
        self._flags = flags
        self.iot: Any = self._client()

    def _client(self) -> Any:
        config = Config(retries={"max_attempts": 1})
        return boto3.client("iot", endpoint_url=f"http://{self.service.http}", config=config)

    def kill(self) -> None:
        """SIGKILL to the service, and another one in its place, with what it had."""
        assert self.service.stop(signal.SIGKILL) == -signal.SIGKILL
        self.service.__exit__(None, None, None)
        self.service = Service(self.folder, "--broker", self.broker.url, *self._flags)
        self.iot = self._client()

    def __enter__(self) -> "OtaSite":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.service.__exit__(kind, error, trace)
        self.broker.close()

    def thing(self, name: str) -> str:
        """Its ARN."""
        return str(self.iot.create_thing(thingName=name)["thingArn"])

    def update(
        self, update_id: str, image: bytes, key: ec.EllipticCurvePrivateKey, *targets: str, **more: Any
    ) -> str:
        """Publishes the image, signed, for these targets; the job's id, once the job is there."""
        path = self.service.state / "objects" / BUCKET / f"{update_id}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(image)
        signature = key.sign(image, ec.ECDSA(SHA256()))
        self.iot.create_ota_update(
            otaUpdateId=update_id,
            targets=list(targets),
            roleArn="arn:aws:iam::123456789012:role/any",
            files=[
                {
                    "fileName": "/device/updates/fw.bin",
                    "fileLocation": {"s3Location": {"bucket": BUCKET, "key": path.name}},
                    "codeSigning": {
                        "customCodeSigning": {
                            # boto3 encodes what is a blob.
                            "signature": {"inlineDocument": signature},
                            "certificateChain": {"certificateName": CERTIFICATE},
                            "hashAlgorithm": "SHA256",
                            "signatureAlgorithm": "ECDSA",
                        }
                    },
                }
            ],
            **more,
        )
        found = wait_until(lambda: self._made(update_id), what=f"the job of {update_id}")
        assert found is not None
        assert found["otaUpdateStatus"] == "CREATE_COMPLETE", found.get("errorInfo")
        return str(found["awsIotJobId"])

    def _made(self, update_id: str) -> dict[str, Any] | None:
        found: dict[str, Any] = self.iot.get_ota_update(otaUpdateId=update_id)["otaUpdateInfo"]
        return found if found["otaUpdateStatus"] in ("CREATE_COMPLETE", "CREATE_FAILED") else None

    def execution(self, job_id: str, thing: str) -> tuple[str, dict[str, str]] | None:
        """Its status and details, once the job has reached the thing."""
        try:
            found = self.iot.describe_job_execution(jobId=job_id, thingName=thing)["execution"]
        except self.iot.exceptions.ResourceNotFoundException:
            return None
        return str(found["status"]), dict(found.get("statusDetails", {}).get("detailsMap", {}))

    def ended(self, job_id: str, thing: str) -> tuple[str, dict[str, str]]:
        """The same, once it is none to wait for."""

        def look() -> tuple[str, dict[str, str]] | None:
            found = self.execution(job_id, thing)
            return None if found is None or found[0] in ("QUEUED", "IN_PROGRESS") else found

        found = wait_until(look, 90, f"the end of {job_id} on {thing}")
        assert found is not None
        return found
