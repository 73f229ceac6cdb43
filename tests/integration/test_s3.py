"""The service over a real S3 wire with faults on it: what is broken is told, what is not goes on."""

import random
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from device_client.client import MemorySink, Rejected, download
from tests.conftest import MosquittoFactory
from tests.sluice.support import Service
from tests.support.faults import Answer, Exchange, FaultProxy
from tests.support.moto import MotoServer
from tests.support.waiting import wait_until

ROLE = "arn:aws:iam::000000000000:role/sluice"
SIZE = 3_000_001
RANGE = 512 * 1024


class Site:
    """A running service whose S3 is moto behind a proxy that can fail for chosen keys."""

    def __init__(self, service: Service, proxy: FaultProxy, moto: MotoServer) -> None:
        self.service = service
        self.proxy = proxy
        self.s3 = moto.client()
        self.bucket = moto.bucket()
        self.iot: Any = boto3.client("iot", endpoint_url=f"http://{service.http}", region_name="us-east-1")
        self.broken: dict[str, int] = {}
        """Status with which requests for a key are answered in the store's place."""
        proxy.always = self._answer

    def _answer(self, exchange: Exchange) -> None:
        key = exchange.path.partition("?")[0].rpartition("/")[2]
        if (status := self.broken.get(key)) is None:
            exchange.answer(exchange.forward())
        else:
            exchange.answer(Answer(status))

    def put(self, key: str, seed: int) -> bytes:
        data = random.Random(seed).randbytes(SIZE)
        self.s3.put_object(Bucket=self.bucket, Key=key, Body=data)
        return data

    def stream(self, stream: str, key: str, **location: str) -> None:
        place = {"bucket": self.bucket, "key": key, **location}
        files = [{"fileId": 0, "s3Location": place}]
        self.iot.create_stream(streamId=stream, roleArn=ROLE, files=files)

    def get(self, stream: str, thing: str = "mast-17") -> bytes:
        sink = MemorySink()
        download(self.service.mqtt, thing=thing, stream=stream, out=sink, block_size=16384, patience=60)
        return bytes(sink.data)

    def reads(self, key: str) -> int:
        return sum(
            exchange.method == "GET" and "range" in exchange.headers and f"/{key}" in exchange.path
            for exchange in self.proxy.requests
        )


@pytest.fixture
def site(tmp_path: Path, mosquitto: MosquittoFactory, moto_s3: MotoServer) -> Iterator[Site]:
    proxy = FaultProxy(moto_s3.endpoint_url)
    (tmp_path / "sluice.toml").write_text("[storage]\nretries = 2\ntimeout = 2\n")
    try:
        with Service(tmp_path, "--broker", mosquitto().url, "--s3-endpoint", proxy.endpoint_url) as service:
            yield Site(service, proxy, moto_s3)
    finally:
        proxy.close()


def test_a_failing_store_harms_nobody_else(site: Site) -> None:
    data = {key: site.put(key, seed) for seed, key in enumerate(("sick", "well"))}
    for key in data:
        site.stream(key, key)
    site.broken["sick"] = 500
    failures: list[Rejected] = []

    def ask() -> None:
        with pytest.raises(Rejected) as rejected:
            site.get("sick", "mast-1")
        failures.append(rejected.value)

    asking = threading.Thread(target=ask)
    asking.start()
    assert site.get("well", "mast-2") == data["well"]
    asking.join(60)
    assert [failure.code for failure in failures] == ["InternalError"]
    assert site.bucket not in failures[0].message
    site.broken.clear()
    assert site.get("sick") == data["sick"]


def test_each_range_is_read_once_however_many_ask(site: Site) -> None:
    data = site.put("fleet", 3)
    site.stream("fleet", "fleet")
    received: list[bytes] = []
    fleet = [
        threading.Thread(target=lambda thing=thing: received.append(site.get("fleet", thing)))
        for thing in (f"mast-{number}" for number in range(8))
    ]
    for device in fleet:
        device.start()
    for device in fleet:
        device.join(90)
    assert received == [data] * len(fleet)
    assert site.reads("fleet") == -(-SIZE // RANGE)


@pytest.mark.parametrize(("status", "code"), [(403, "Unauthorized"), (404, "ResourceNotFound")])
def test_what_the_store_refuses_is_told(site: Site, status: int, code: str) -> None:
    site.put("kept", 4)
    site.stream("kept", "kept")
    site.broken["kept"] = status
    with pytest.raises(Rejected) as rejected:
        site.get("kept")
    assert rejected.value.code == code


def test_an_overwritten_object_is_noticed_and_a_pinned_version_is_not_touched(site: Site) -> None:
    site.s3.put_bucket_versioning(Bucket=site.bucket, VersioningConfiguration={"Status": "Enabled"})
    old = random.Random(5).randbytes(SIZE)
    version = site.s3.put_object(Bucket=site.bucket, Key="fw", Body=old)["VersionId"]
    site.stream("latest", "fw")
    site.stream("pinned", "fw", version=version)
    assert site.get("latest") == site.get("pinned") == old
    site.put("fw", 6)

    def noticed() -> bool:
        try:
            assert site.get("latest") == old  # in the cache, and proven less than a second ago
        except Rejected as rejected:
            return rejected.code == "ETagMismatch"
        return False

    wait_until(noticed, timeout=20, what="the change to be noticed")
    assert site.get("pinned") == old
