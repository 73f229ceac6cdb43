"""One real service at one real Mosquitto, with streams that the AWS SDK made."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from tests.conformance.device import Device
from tests.sluice.support import Service
from tests.support.mosquitto import MosquittoServer
from tests.support.moto import ACCESS_KEY, REGION, SECRET_KEY

PERMISSIONS = """
[[permissions]]
streams = ["closed"]
things = ["insider", "mast-*"]
"""


def content(size: int, seed: int) -> bytes:
    """Bytes of which no two places look alike."""
    return b"".join((seed * 1_000_003 + at).to_bytes(8, "big") for at in range(0, size + 8, 8))[:size]


FILES = {0: content(300_123, 1), 1: content(51_200, 2), 7: b"", 255: b"!", 40: content(256, 3)}
"""The files of stream `fw`, by file id."""
VERSION = 2
"""Its version."""


def iot_client(http: str) -> Any:
    """An unmodified client of the AWS SDK."""
    return boto3.client(
        "iot",
        endpoint_url=f"http://{http}",
        region_name=REGION,
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
        config=Config(retries={"total_max_attempts": 1}),
    )


def stream_files(keys: dict[int, str], bucket: str = "firmware") -> list[dict[str, Any]]:
    """Files as CreateStream takes them, file id → key."""
    return [{"fileId": i, "s3Location": {"bucket": bucket, "key": key}} for i, key in keys.items()]


@dataclass
class Running:
    """What the tests talk to."""

    service: Service
    broker: MosquittoServer
    objects: Path
    iot: Any
    things: "itertools.count[int]"

    def thing(self) -> str:
        """A thing's name that no test had before: whatever it hears is the answer to this test."""
        return f"t:{next(self.things)}"

    def put(self, key: str, data: bytes) -> None:
        path = self.objects / "firmware" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def create(self, stream: str, keys: dict[int, str], **more: Any) -> None:
        self.iot.create_stream(
            streamId=stream, files=stream_files(keys), roleArn="arn:aws:iam::000000000000:role/r", **more
        )


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory, no_real_aws: None) -> Iterator[Running]:
    """The service, ready."""
    folder = tmp_path_factory.mktemp("conformance")
    objects = folder / "objects"
    # The listener hears every thing at once: no device does, and no broker queues that much for one.
    broker = MosquittoServer(
        tmp_path_factory.mktemp("mosquitto"), "max_queued_messages 0\nmax_inflight_messages 0"
    )
    (folder / "sluice.toml").write_text(PERMISSIONS)
    try:
        with Service(folder, "--broker", broker.url, "--objects", objects) as service:
            started = Running(service, broker, objects, iot_client(service.http), itertools.count())
            for file_id, data in FILES.items():
                started.put(f"fw/{file_id}", data)
            keys = {file_id: f"fw/{file_id}" for file_id in FILES}
            started.create("fw", {0: "fw/0"})
            started.iot.update_stream(streamId="fw", description="für den Mast", files=stream_files(keys))
            started.create("closed", {0: "fw/0"})
            yield started
            assert service.process.poll() is None, service.log_path.read_text()
            assert "Traceback" not in service.log_path.read_text(), service.log_path.read_text()
    finally:
        broker.close()


@pytest.fixture
def device(running: Running) -> Iterator[Device]:
    """Hears what is said to every thing."""
    device = Device(running.broker.port, "$aws/things/+/streams/#")
    yield device
    device.close()
