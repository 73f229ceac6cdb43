"""Objects in S3: real boto3 against a real S3 wire, with faults in between."""

import hashlib
import io
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from broker_bridge.storage.objects import (
    BucketMissing,
    ObjectChanged,
    ObjectForbidden,
    ObjectMissing,
    ObjectRef,
    StoreUnavailable,
)
from broker_bridge.storage.s3 import S3Store
from tests.support import faults
from tests.support.faults import Answer, Fault, FaultProxy
from tests.support.moto import REGION, MotoServer

DATA = os.urandom(200_000)


@pytest.fixture
def proxy(moto_s3: MotoServer) -> Iterator[FaultProxy]:
    server = FaultProxy(moto_s3.endpoint_url)
    yield server
    server.close()


def store_at(endpoint_url: str, **options: Any) -> S3Store:
    options = {"attempts": 3, "read_timeout": 30.0, "total_timeout": 60.0, **options}
    return S3Store(endpoint_url=endpoint_url, region=REGION, **options)


@pytest.fixture
def store(proxy: FaultProxy) -> Iterator[S3Store]:
    made = store_at(proxy.endpoint_url)
    yield made
    made.close()


@pytest.fixture
def bucket(moto_s3: MotoServer) -> str:
    return moto_s3.bucket()


@pytest.fixture
def ref(moto_s3: MotoServer, bucket: str) -> ObjectRef:
    return upload(moto_s3, bucket, DATA)


def upload(moto_s3: MotoServer, bucket: str, data: bytes, key: str = "fw/ü 1.bin") -> ObjectRef:
    answer = moto_s3.client().put_object(Bucket=bucket, Key=key, Body=data)
    return ObjectRef(bucket, key, answer["ETag"].strip('"'))


# --- as it should be


def test_head_check_and_ranges(store: S3Store, proxy: FaultProxy, ref: ObjectRef) -> None:
    info = store.head(ref.bucket, ref.key)
    assert (info.size, info.etag) == (len(DATA), hashlib.md5(DATA).hexdigest())
    store.check(ref)
    assert store.check_quick(ref) is False
    assert store.read(ref, 0, len(DATA)) == DATA
    assert store.read(ref, 131_072, 65_536) == DATA[131_072:196_608]
    assert store.read(ref, len(DATA) - 1, 1) == DATA[-1:]
    assert store.read(ref, 5, 0) == b""
    reads = [request for request in proxy.requests if request.method == "GET"]
    assert all(request.headers["if-match"] == f'"{ref.etag}"' for request in reads)
    assert [request.headers["range"] for request in reads][1] == "bytes=131072-196607"
    assert not any("checksum" in name for request in proxy.requests for name in request.headers)
    assert proxy.connections == 1


def test_an_empty_object(store: S3Store, moto_s3: MotoServer, bucket: str) -> None:
    ref = upload(moto_s3, bucket, b"")
    assert store.head(bucket, ref.key).size == 0
    store.check(ref)


def test_a_bodys_content_encoding_is_no_business_of_ours(
    store: S3Store, moto_s3: MotoServer, bucket: str
) -> None:
    answer = moto_s3.client().put_object(Bucket=bucket, Key="k", Body=DATA, ContentEncoding="gzip")
    ref = ObjectRef(bucket, "k", answer["ETag"].strip('"'))
    assert store.read(ref, 10, 100) == DATA[10:110]


def test_versions_are_pinned(store: S3Store, proxy: FaultProxy, moto_s3: MotoServer, bucket: str) -> None:
    client = moto_s3.client()
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    first = client.put_object(Bucket=bucket, Key="k", Body=b"first")
    client.put_object(Bucket=bucket, Key="k", Body=b"second")
    third = store.put(bucket, "k", io.BytesIO(b"third"), 5)
    assert third == store.head(bucket, "k")
    assert third.version_id not in (None, first["VersionId"])
    marker = client.delete_object(Bucket=bucket, Key="k")
    ref = ObjectRef(bucket, "k", first["ETag"].strip('"'), first["VersionId"])
    assert store.head(bucket, "k", ref.version_id).size == 5
    store.check(ref)
    assert store.read(ref, 1, 4) == b"irst"
    assert all("if-match" not in request.headers for request in proxy.requests)
    for gone in (None, marker["VersionId"], "no-such-version"):
        with pytest.raises(ObjectMissing):
            store.head(bucket, "k", gone)
        with pytest.raises(ObjectMissing):
            store.check(ObjectRef(bucket, "k", ref.etag, gone))
        with pytest.raises(ObjectMissing):
            store.read(ObjectRef(bucket, "k", ref.etag, gone), 0, 1)


def test_what_has_no_version_is_told_without(
    store: S3Store, proxy: FaultProxy, moto_s3: MotoServer, ref: ObjectRef
) -> None:
    assert store.head(ref.bucket, ref.key).version_id is None

    def suspended(exchange: faults.Exchange) -> None:
        answer = exchange.forward()
        answer.headers["x-amz-version-id"] = "null"
        exchange.answer(answer)

    proxy.inject(suspended)
    assert store.head(ref.bucket, ref.key).version_id is None


def test_a_store_that_ignores_version_ids_is_found_out(
    store: S3Store, moto_s3: MotoServer, bucket: str
) -> None:
    # No versioning: moto then serves the only object there is under the id "null".
    ref = upload(moto_s3, bucket, b"first")
    upload(moto_s3, bucket, b"other")
    with pytest.raises((ObjectChanged, ObjectMissing)):
        store.read(ObjectRef(bucket, ref.key, ref.etag, "null"), 0, 1)


def test_put(store: S3Store, proxy: FaultProxy, bucket: str) -> None:
    source = io.BytesIO(b"...." + DATA + b"rest")
    source.seek(4)
    info = store.put(bucket, "a/b", source, len(DATA))
    assert (info.size, info.etag) == (len(DATA), hashlib.md5(DATA).hexdigest())
    assert store.read(ObjectRef(bucket, "a/b", info.etag), 0, len(DATA)) == DATA
    assert store.put(bucket, "empty", io.BytesIO(), 0).size == 0
    with pytest.raises(ValueError, match="ends after 3 of 4 bytes"):
        store.put(bucket, "short", io.BytesIO(b"one"), 4)
    proxy.inject(faults.status(503, "SlowDown"), faults.reset)
    source.seek(4)
    assert store.put(bucket, "again", source, len(DATA)) == info
    with pytest.raises(BucketMissing):
        store.put("bucket-that-is-none", "k", io.BytesIO(b"one"), 3)


def test_many_threads_read_at_once(store: S3Store, ref: ObjectRef) -> None:
    failures = []

    def read(start: int) -> None:
        if store.read(ref, start, 1000) != DATA[start : start + 1000]:
            failures.append(start)

    threads = [threading.Thread(target=read, args=(start,)) for start in range(0, 20_000, 1000)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


# --- what is not there, not ours, or not the same any more


def test_missing_objects_and_buckets_are_told_apart(store: S3Store, bucket: str) -> None:
    for call in calls(store, ObjectRef(bucket, "gone", "0" * 32)):
        with pytest.raises(ObjectMissing):
            call()
    for call in calls(store, ObjectRef("bucket-that-is-none", "gone", "0" * 32)):
        with pytest.raises(BucketMissing):
            call()
    for name in ("", "not/a bucket"):
        with pytest.raises(BucketMissing):
            store.head(name, "k")
    for key in ("", "\ud800"):
        with pytest.raises(ObjectMissing):
            store.head(bucket, key)


def calls(store: S3Store, ref: ObjectRef) -> list[Callable[[], object]]:
    return [
        lambda: store.head(ref.bucket, ref.key, ref.version_id),
        lambda: store.check(ref),
        lambda: store.read(ref, 0, 1),
    ]


def test_an_overwritten_object_is_changed(store: S3Store, moto_s3: MotoServer, ref: ObjectRef) -> None:
    upload(moto_s3, ref.bucket, b"other")
    for call in calls(store, ref)[1:]:
        with pytest.raises(ObjectChanged):
            call()
    upload(moto_s3, ref.bucket, DATA)
    store.check(ref)
    assert store.read(ref, 0, 1) == DATA[:1]


def test_a_store_that_ignores_conditions_is_found_out(
    store: S3Store, proxy: FaultProxy, moto_s3: MotoServer, ref: ObjectRef
) -> None:
    proxy.always = faults.without_headers("If-Match")
    upload(moto_s3, ref.bucket, DATA[::-1])
    for call in calls(store, ref)[1:]:
        with pytest.raises(ObjectChanged):
            call()


def test_an_object_overwritten_between_attempts_is_changed(
    store: S3Store, proxy: FaultProxy, moto_s3: MotoServer, ref: ObjectRef
) -> None:
    overwrite = faults.after(lambda: upload(moto_s3, ref.bucket, DATA[::-1]))
    proxy.inject(faults.cut_after(100_000), overwrite)
    with pytest.raises(ObjectChanged):
        store.read(ref, 0, len(DATA))


def test_an_object_shorter_than_the_stream_says_is_changed(store: S3Store, ref: ObjectRef) -> None:
    with pytest.raises(ObjectChanged):
        store.read(ref, len(DATA) + 10, 1)


@pytest.mark.parametrize(
    ("code", "error"),
    [(403, "AccessDenied"), (403, "SignatureDoesNotMatch"), (401, "Unauthorized"), (400, "ExpiredToken")],
)
def test_refusals_are_forbidden_and_not_repeated(
    store: S3Store, proxy: FaultProxy, ref: ObjectRef, code: int, error: str
) -> None:
    proxy.always = lambda exchange: faults.status(code, "" if exchange.method == "HEAD" else error)(exchange)
    for call in calls(store, ref):
        with pytest.raises(ObjectForbidden):
            call()
    # No more than HEAD, botocore's own look for the bucket's region, and the GET that says why.
    assert len(proxy.requests) <= 3 * 3
    with pytest.raises(ObjectForbidden):
        store.put(ref.bucket, ref.key, io.BytesIO(b"one"), 3)


def test_no_credentials_are_the_set_ups_failure(
    proxy: FaultProxy, ref: ObjectRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name)
    store = store_at(proxy.endpoint_url)
    for call in calls(store, ref):
        with pytest.raises(StoreUnavailable, match="no credentials for S3"):
            call()
    assert not proxy.requests


# --- faults on the way


def wrong_range(answer: Answer) -> None:
    answer.headers["content-range"] = "bytes 1001-151000/200000"


def the_whole(answer: Answer) -> Answer:
    return Answer(200, {"etag": answer.headers["etag"]}, DATA)


def shorter(answer: Answer) -> None:
    answer.body = answer.body[:-1]
    del answer.headers["content-length"]


def no_etag(answer: Answer) -> None:
    del answer.headers["etag"]


PASSING: dict[str, Fault] = {
    "500": faults.status(500, "InternalError"),
    "500 without a body": faults.status(500),
    "502 in HTML": lambda exchange: exchange.answer(Answer(502, {}, b"<html><h1>Bad gateway</h1>")),
    "503 SlowDown": faults.status(503, "SlowDown"),
    "429": faults.status(429, "TooManyRequests"),
    "400 RequestTimeout": faults.status(400, "RequestTimeout"),
    "reset": faults.reset,
    "closed": faults.no_answer,
    "body cut": faults.cut_after(70_000),
    "body cut at once": faults.cut_after(0),
    "body reset": faults.cut_after(70_000, with_reset=True),
    "wrong range": faults.edited(wrong_range),
    "whole object": faults.edited(the_whole),
    "a byte short": faults.edited(shorter),
    "no ETag": faults.edited(no_etag),
}


@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING.keys())
def test_passing_faults_are_got_over(store: S3Store, proxy: FaultProxy, ref: ObjectRef, fault: Fault) -> None:
    proxy.inject(fault, fault)
    assert store.read(ref, 1000, 150_000) == DATA[1000:151_000]
    assert len(proxy.requests) == 3


@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING.keys())
def test_lasting_faults_end(proxy: FaultProxy, ref: ObjectRef, fault: Fault) -> None:
    store = store_at(proxy.endpoint_url, attempts=2)
    proxy.always = fault
    with pytest.raises(StoreUnavailable, match="attempt 2 of 2"):
        store.read(ref, 1000, 150_000)
    assert len(proxy.requests) == 2
    proxy.always = lambda exchange: exchange.answer(exchange.forward())
    assert store.read(ref, 0, 10) == DATA[:10]


@pytest.mark.parametrize("fault", [faults.status(500), faults.status(503), faults.reset, faults.no_answer])
def test_checks_get_over_faults_too(store: S3Store, proxy: FaultProxy, ref: ObjectRef, fault: Fault) -> None:
    proxy.inject(fault, fault)
    store.check(ref)
    proxy.inject(fault, fault)
    assert store.head(ref.bucket, ref.key).etag == ref.etag
    proxy.inject(fault, fault, fault)
    with pytest.raises(StoreUnavailable):
        store.check(ref)


def test_a_store_that_says_nothing_is_given_up(proxy: FaultProxy, ref: ObjectRef) -> None:
    store = store_at(proxy.endpoint_url, attempts=2, read_timeout=0.3)
    proxy.inject(faults.stall, faults.stall)
    with pytest.raises(StoreUnavailable):
        store.read(ref, 0, 10)
    assert store.read(ref, 0, 10) == DATA[:10]


def test_a_body_that_trickles_is_given_up(proxy: FaultProxy, ref: ObjectRef) -> None:
    # Each byte comes well within the read timeout; all of them would take more than an hour.
    store = store_at(proxy.endpoint_url, read_timeout=10.0, total_timeout=1.0)
    proxy.always = faults.trickle(0.02)
    with pytest.raises(StoreUnavailable, match="when the time was up"):
        store.read(ref, 0, len(DATA))


def test_a_slow_answer_within_the_bounds_is_taken(store: S3Store, proxy: FaultProxy, ref: ObjectRef) -> None:
    proxy.inject(faults.late(0.3), faults.trickle(0.005))
    assert store.read(ref, 0, 20) == DATA[:20]
    assert store.read(ref, 20, 20) == DATA[20:40]
    assert len(proxy.requests) == 2


def test_no_attempt_is_made_after_the_time_is_up(proxy: FaultProxy, ref: ObjectRef) -> None:
    store = store_at(proxy.endpoint_url, attempts=1000, total_timeout=0.5)
    proxy.always = faults.status(503, "SlowDown")
    with pytest.raises(StoreUnavailable, match="of 1000"):
        store.read(ref, 0, 10)
    assert 2 <= len(proxy.requests) < 20


def test_nobody_listens(ref: ObjectRef) -> None:
    store = store_at("http://127.0.0.1:9", attempts=2)
    for call in calls(store, ref):
        with pytest.raises(StoreUnavailable):
            call()


def test_closing_ends_the_pauses(proxy: FaultProxy, ref: ObjectRef) -> None:
    store = store_at(proxy.endpoint_url, attempts=1000, total_timeout=600.0)
    proxy.always = faults.status(503, "SlowDown")
    outcome: list[Exception] = []

    def read() -> None:
        try:
            store.read(ref, 0, 10)
        except StoreUnavailable as error:
            outcome.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    while len(proxy.requests) < 2:
        time.sleep(0.01)
    store.close()
    thread.join(60)
    assert not thread.is_alive()
    assert outcome


def test_messages_name_the_object_and_the_cause(store: S3Store, proxy: FaultProxy, ref: ObjectRef) -> None:
    proxy.always = faults.status(503, "SlowDown")
    with pytest.raises(StoreUnavailable) as caught:
        store.read(ref, 0, 10)
    assert ref.bucket in str(caught.value)
    assert "SlowDown" in str(caught.value)
    assert caught.value.__cause__ is not None


# --- which store


def test_folders_do_without_boto3(tmp_path: Any) -> None:
    program = (
        "import sys, pathlib\n"
        "from broker_bridge.storage.open import open_store\n"
        "import broker_bridge.storage.cache\n"
        f"store = open_store(folder=pathlib.Path({str(tmp_path)!r}))\n"
        "assert type(store).__name__ == 'FolderStore' and store.revalidate == 0\n"
        "sys.exit('boto3' in sys.modules or 'botocore' in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_open_store_at_an_endpoint(moto_s3: MotoServer, ref: ObjectRef) -> None:
    from broker_bridge.storage.open import open_store

    store = open_store(s3_endpoint=moto_s3.endpoint_url, region=REGION, revalidate=2.5)
    assert store.revalidate == 2.5
    assert store.read(ref, 0, 5) == DATA[:5]
    store.close()
