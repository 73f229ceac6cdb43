"""Where objects are in S3, the URLs are S3's own: real boto3, a real S3 wire, and urllib as the device."""

import os
import urllib.request
from collections.abc import Iterator
from urllib.error import HTTPError
from urllib.parse import parse_qs, quote, urlsplit

import pytest

from broker_bridge.downloads.links import Links
from broker_bridge.downloads.placeholders import named
from broker_bridge.downloads.resolving import Resolver
from broker_bridge.storage.s3 import S3Store
from tests.support.moto import REGION, MotoServer

DATA = os.urandom(100_000)


@pytest.fixture
def store(moto_s3: MotoServer) -> Iterator[S3Store]:
    made = S3Store(endpoint_url=moto_s3.endpoint_url, region=REGION)
    yield made
    made.close()


@pytest.fixture
def resolver(store: S3Store, moto_s3: MotoServer) -> Resolver:
    return Resolver(store, Links(b"k" * 32, "http://ours"), endpoint=moto_s3.endpoint_url)


def fetch(url: str, **headers: str) -> tuple[int, bytes]:
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=60) as answer:
        return answer.status, answer.read()


def test_a_device_gets_s3s_url(resolver: Resolver, moto_s3: MotoServer) -> None:
    bucket, key = moto_s3.bucket(), "fw ü+1%.bin"
    moto_s3.client().put_object(Bucket=bucket, Key=key, Body=DATA)
    for placeholder in (
        f"${{aws:iot:s3-presigned-url:https://s3.{REGION}.amazonaws.com/{bucket}/{key}}}",
        f"${{aws:iot:s3-presigned-url-v2:https://{bucket}.s3.amazonaws.com/{quote(key)}}}",
        f"${{aws:iot:s3-presigned-url-v2:{moto_s3.endpoint_url}/{bucket}/{quote(key)}}}",
    ):
        url = resolver.resolve(placeholder, 120)
        assert url.startswith(moto_s3.endpoint_url + "/")
        query = parse_qs(urlsplit(url).query)
        assert (query["X-Amz-Algorithm"], query["X-Amz-Expires"]) == (["AWS4-HMAC-SHA256"], ["120"])
        assert not set(url) & set('"\\ '), "nothing that JSON would escape"
        assert fetch(url) == (200, DATA)
        assert fetch(url, Range="bytes=4096-8191") == (206, DATA[4096:8192])


def test_a_version_is_the_one_that_was_named(resolver: Resolver, moto_s3: MotoServer) -> None:
    bucket, client = moto_s3.bucket(), moto_s3.client()
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    version = client.put_object(Bucket=bucket, Key="k", Body=DATA)["VersionId"]
    client.put_object(Bucket=bucket, Key="k", Body=b"newer")
    url = f"${{aws:iot:s3-presigned-url-v2:https://s3.amazonaws.com/{bucket}/k"
    assert fetch(resolver.resolve(f"{url}?versionId={version}}}", 60))[1] == DATA
    assert fetch(resolver.resolve(f"{url}%3FversionId%3D{version}}}", 60))[1] == DATA
    assert fetch(resolver.resolve(f"{url}}}", 60))[1] == b"newer"


def test_nothing_is_asked_of_s3_to_make_one(resolver: Resolver, moto_s3: MotoServer) -> None:
    url = resolver.resolve("${aws:iot:s3-presigned-url:s3://no-such-bucket/k}", 60)
    with pytest.raises(HTTPError) as caught:
        fetch(url)
    assert caught.value.code == 404


def test_without_credentials_it_leads_nowhere(
    resolver: Resolver, moto_s3: MotoServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name)
    store = S3Store(endpoint_url=moto_s3.endpoint_url, region=REGION)
    try:
        without = Resolver(store, Links(b"k" * 32, "http://ours"))
        assert "etag=none&" in without.resolve("${aws:iot:s3-presigned-url:s3://bucket/k}", 60)
    finally:
        store.close()


def test_a_foreign_endpoint_is_no_place_of_objects() -> None:
    with pytest.raises(ValueError, match="host"):
        list(named("${aws:iot:s3-presigned-url:http://minio.example/b/k}", endpoint="http://other.example"))
