"""Streams of objects in S3 (a moto server)."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from broker_bridge.storage.s3 import S3Store
from tests.api.running import ROLE, Running, refused
from tests.support.moto import REGION, MotoServer


@pytest.fixture
def in_s3(tmp_path: Path, moto_s3: MotoServer) -> Iterator[Running]:
    running = Running(tmp_path, store=S3Store(endpoint_url=moto_s3.endpoint_url, region=REGION))
    yield running
    running.close()


def entry(bucket: str, key: str, **more: str) -> dict[str, Any]:
    return {"fileId": 0, "s3Location": {"bucket": bucket, "key": key, **more}}


def test_a_version_of_an_object_is_pinned_and_shown(in_s3: Running, moto_s3: MotoServer) -> None:
    s3, bucket = moto_s3.client(), moto_s3.bucket()
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    first = s3.put_object(Bucket=bucket, Key="a/ключ", Body=b"one")
    second = s3.put_object(Bucket=bucket, Key="a/ключ", Body=b"three")
    iot = in_s3.client()
    pinned = entry(bucket, "a/ключ", version=first["VersionId"])
    iot.create_stream(streamId="pinned", files=[pinned], roleArn=ROLE)
    assert iot.describe_stream(streamId="pinned")["streamInfo"]["files"] == [pinned]
    (file,) = in_s3.registry.stream("pinned").files
    assert (file.size, file.object.etag) == (3, first["ETag"].strip('"'))
    iot.update_stream(streamId="pinned")
    (file,) = in_s3.registry.stream("pinned").files
    assert (file.size, file.object.version_id) == (3, first["VersionId"])
    iot.update_stream(streamId="pinned", files=[entry(bucket, "a/ключ")])
    (file,) = in_s3.registry.stream("pinned").files
    assert (file.size, file.object.etag) == (5, second["ETag"].strip('"'))


@pytest.mark.parametrize("key", ["gone", "a\0b", "k" * 2000, "\x01", "../x", "/", "é\u202e"])
def test_objects_that_are_not_there(in_s3: Running, moto_s3: MotoServer, key: str) -> None:
    bucket = moto_s3.bucket()
    iot = in_s3.client()
    code, message, _ = refused(
        lambda: iot.create_stream(streamId="s", files=[entry(bucket, key)], roleArn=ROLE)
    )
    assert code == "ResourceNotFoundException"
    assert message.startswith("files[0].s3Location")


@pytest.mark.parametrize(
    "bucket", ["nowhere-at-all", "UPPER", "a b", "b/c", "x" * 300, "é", "a\0b", "..", "arn:x"]
)
def test_buckets_that_are_not_there(in_s3: Running, bucket: str) -> None:
    iot = in_s3.client()
    code, message, _ = refused(
        lambda: iot.create_stream(streamId="s", files=[entry(bucket, "k")], roleArn=ROLE)
    )
    assert code == "ResourceNotFoundException"
    assert message.startswith("files[0].s3Location")


@pytest.mark.parametrize("version", ["no-such-version", "", "\n", "x" * 3000])
def test_versions_that_are_not_there(in_s3: Running, moto_s3: MotoServer, version: str) -> None:
    bucket = moto_s3.bucket()
    moto_s3.client().put_object(Bucket=bucket, Key="k", Body=b"")
    iot = in_s3.client()
    code, _, status = refused(
        lambda: iot.create_stream(streamId="s", files=[entry(bucket, "k", version=version)], roleArn=ROLE)
    )
    assert status < 500, code
