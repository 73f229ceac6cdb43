"""Streams, with real boto3 against the running API."""

import hashlib
import threading
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from broker_bridge.storage.folder import FolderStore
from broker_bridge.storage.objects import ObjectForbidden, ObjectInfo, StoreUnavailable
from chunker.limits import Limits
from tests.api.running import ROLE, Running, arn, file_entry, refused


def test_a_stream_from_its_creation_to_its_end(api: Running, iot: Any) -> None:
    made = iot.create_stream(
        streamId="whole",
        description="Ünïcode 固件",
        files=[file_entry(7, key="conf.json"), file_entry(0)],
        roleArn=ROLE,
        tags=[{"Key": "fleet", "Value": "masts"}, {"Key": "empty"}],
    )
    del made["ResponseMetadata"]
    assert made == {
        "streamId": "whole",
        "streamArn": arn("whole"),
        "description": "Ünïcode 固件",
        "streamVersion": 1,
    }
    stream = api.registry.stream("whole")
    assert [(f.file_id, f.size, f.object.etag) for f in stream.files] == [
        (0, 5000, hashlib.md5(b"x" * 5000).hexdigest()),
        (7, 0, hashlib.md5(b"").hexdigest()),
    ]

    info = iot.describe_stream(streamId="whole")["streamInfo"]
    assert info == {
        "streamId": "whole",
        "streamArn": arn("whole"),
        "streamVersion": 1,
        "description": "Ünïcode 固件",
        "files": [file_entry(0), file_entry(7, key="conf.json")],
        "roleArn": ROLE,
        "createdAt": info["createdAt"],
        "lastUpdatedAt": info["createdAt"],
    }
    assert abs(info["createdAt"] - datetime.now(UTC)) < timedelta(minutes=5)
    assert iot.list_tags_for_resource(resourceArn=arn("whole"))["tags"] == [
        {"Key": "empty", "Value": ""},
        {"Key": "fleet", "Value": "masts"},
    ]

    assert iot.update_stream(streamId="whole", description="new")["streamVersion"] == 2
    after = iot.describe_stream(streamId="whole")["streamInfo"]
    assert after["description"] == "new"
    assert after["files"] == info["files"]
    assert after["createdAt"] == info["createdAt"]
    assert after["lastUpdatedAt"] >= info["lastUpdatedAt"]

    assert iot.update_stream(streamId="whole", files=[file_entry(255)], roleArn=ROLE + "2") is not None
    after = iot.describe_stream(streamId="whole")["streamInfo"]
    assert (after["files"], after["roleArn"], after["description"]) == ([file_entry(255)], ROLE + "2", "new")
    assert after["streamVersion"] == 3

    assert iot.delete_stream(streamId="whole")["ResponseMetadata"]["HTTPStatusCode"] == 200
    for call in (iot.describe_stream, iot.delete_stream, iot.update_stream):
        code, message, status = refused(partial(call, streamId="whole"))
        assert (code, status) == ("ResourceNotFoundException", 404)
        assert "whole" in message


def test_no_description_is_no_description(api: Running, iot: Any) -> None:
    made = iot.create_stream(streamId="plain", files=[file_entry()], roleArn=ROLE)
    assert "description" not in made
    assert "description" not in iot.describe_stream(streamId="plain")["streamInfo"]


def test_timestamps_are_epoch_seconds(tmp_path: Path) -> None:
    running = Running(tmp_path, clock=lambda: datetime(2026, 1, 2, 3, 4, 5, 678901, UTC))
    try:
        running.put("firmware", "app.bin", b"")
        running.client().create_stream(streamId="s", files=[file_entry()], roleArn=ROLE)
        body = running.send("GET", "/streams/s").body
        assert b'"createdAt":1767323045.679,' in body
    finally:
        running.close()


def test_a_stream_that_exists_is_named_whatever_its_objects(api: Running, iot: Any) -> None:
    iot.create_stream(streamId="twice", files=[file_entry()], roleArn=ROLE)
    with pytest.raises(iot.exceptions.ResourceAlreadyExistsException) as caught:
        iot.create_stream(streamId="twice", files=[file_entry(key="gone")], roleArn=ROLE)
    response = caught.value.response
    assert response["resourceId"] == "twice"
    assert response["resourceArn"] == arn("twice")
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 409


def test_of_many_who_create_the_same_stream_one_wins(api: Running, iot: Any) -> None:
    results: list[str] = []

    def create() -> None:
        try:
            iot.create_stream(streamId="race", files=[file_entry()], roleArn=ROLE)
            results.append("made")
        except iot.exceptions.ResourceAlreadyExistsException:
            results.append("exists")

    threads = [threading.Thread(target=create) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == ["exists"] * 5 + ["made"]


@pytest.mark.parametrize("verb", ["create_stream", "update_stream"])
@pytest.mark.parametrize(
    ("files", "code", "said"),
    [
        (
            [file_entry(key="gone")],
            "ResourceNotFoundException",
            "files[0].s3Location: there is no object 'gone'",
        ),
        (
            [file_entry(), file_entry(1, bucket="nowhere")],
            "ResourceNotFoundException",
            "files[1].s3Location.bucket: there is no bucket 'nowhere'",
        ),
        ([file_entry(key="../../registry.db")], "ResourceNotFoundException", "files[0].s3Location"),
        ([file_entry(key="/etc/passwd")], "ResourceNotFoundException", "files[0].s3Location"),
        ([file_entry(bucket="..", key="registry.db")], "ResourceNotFoundException", "files[0].s3Location"),
        ([file_entry(key="a\0b")], "ResourceNotFoundException", "files[0].s3Location"),
        ([file_entry(bucket="a\0b")], "ResourceNotFoundException", "files[0].s3Location"),
        ([file_entry(bucket="b/c")], "ResourceNotFoundException", "files[0].s3Location"),
        ([file_entry(key="k" * 5000)], "ResourceNotFoundException", "files[0].s3Location"),
        ([file_entry(bucket="b" * 5000)], "ResourceNotFoundException", "files[0].s3Location"),
        ([file_entry(3), file_entry(3)], "InvalidRequestException", "files[1].fileId: 3 is given twice"),
        ([], "InvalidRequestException", "files: number of items 0 is under the minimum of 1"),
        (
            [file_entry(i) for i in range(51)],
            "InvalidRequestException",
            "files: number of items 51 is over the maximum of 50",
        ),
    ],
)
def test_files_that_cannot_be_taken_in(
    api: Running, iot: Any, lax: Any, verb: str, files: list[Any], code: str, said: str
) -> None:
    with suppress(iot.exceptions.ResourceAlreadyExistsException):
        iot.create_stream(streamId="files-update_stream", files=[file_entry()], roleArn=ROLE)
    stream_id = f"files-{verb}"
    got = refused(lambda: getattr(lax, verb)(streamId=stream_id, files=files, roleArn=ROLE))
    assert got[0] == code
    assert said in got[1]
    assert str(api.folder) not in got[1]
    assert api.registry.stream("files-update_stream").version == 1


class Failing(FolderStore):
    """A folder whose reading fails as S3's does: the store's error is at hand, S3's 403 or 503 is not."""

    error: Exception | None = None

    def head(self, bucket: str, key: str, version_id: str | None = None) -> ObjectInfo:
        if self.error is not None:
            raise self.error
        return super().head(bucket, key, version_id)


@pytest.fixture
def failing(tmp_path: Path) -> Iterator[Running]:
    running = Running(
        tmp_path, store=Failing(tmp_path / "objects"), limits=Limits(files_per_stream=60, file_bytes=100)
    )
    running.put("firmware", "app.bin", b"x" * 100)
    running.put("firmware", "big.bin", b"x" * 101)
    yield running
    running.close()


@pytest.mark.parametrize(
    ("error", "code", "status"),
    [
        (ObjectForbidden("secret /path"), "UnauthorizedException", 401),
        (StoreUnavailable("secret /path"), "ServiceUnavailableException", 503),
        (OSError("secret /path"), "InternalFailureException", 500),
    ],
)
def test_a_store_that_fails_has_its_own_error_and_keeps_its_secrets(
    failing: Running, error: Exception, code: str, status: int
) -> None:
    failing.context.store.error = error  # type: ignore[attr-defined]
    client = failing.client()
    got = refused(lambda: client.create_stream(streamId="s", files=[file_entry()], roleArn=ROLE))
    assert (got[0], got[2]) == (code, status)
    assert "secret" not in got[1]
    failing.context.store.error = None  # type: ignore[attr-defined]
    client.create_stream(streamId="s", files=[file_entry()], roleArn=ROLE)


def test_limits_are_settings(failing: Running) -> None:
    client = failing.client(validate=False)
    got = refused(
        lambda: client.create_stream(streamId="s", files=[file_entry(0, key="big.bin")], roleArn=ROLE)
    )
    assert got[0] == "LimitExceededException"
    assert got[1] == "files[0]: the object has 101 bytes, over the maximum of 100"
    assert got[2] == 410
    client.create_stream(streamId="s", files=[file_entry(i) for i in range(60)], roleArn=ROLE)
    got = refused(lambda: client.update_stream(streamId="s", files=[file_entry(i) for i in range(61)]))
    assert got[1] == "files: number of items 61 is over the maximum of 60"


def test_update_reads_sizes_and_etags_again(api: Running, iot: Any) -> None:
    api.put("firmware", "grows.bin", b"one")
    iot.create_stream(streamId="grows", files=[file_entry(key="grows.bin")], roleArn=ROLE)
    api.put("firmware", "grows.bin", b"three")
    iot.update_stream(streamId="grows")
    (file,) = api.registry.stream("grows").files
    assert (file.size, file.object.etag) == (5, hashlib.md5(b"three").hexdigest())
    (api.objects / "firmware" / "grows.bin").unlink()
    assert refused(lambda: iot.update_stream(streamId="grows"))[0] == "ResourceNotFoundException"
    assert api.registry.stream("grows").version == 2


def test_updates_that_race_are_all_there_and_none_is_mixed(api: Running, iot: Any) -> None:
    iot.create_stream(streamId="updates", files=[file_entry()], roleArn=ROLE)
    done: list[int] = []

    def update(i: int) -> None:
        try:
            made = iot.update_stream(
                streamId="updates", files=[file_entry(i), file_entry(i + 100)], description=f"by {i}"
            )
        except iot.exceptions.ServiceUnavailableException:
            return
        assert made["description"] == f"by {i}"
        done.append(made["streamVersion"])

    threads = [threading.Thread(target=update, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stream = api.registry.stream("updates")
    assert done
    assert sorted(done) == list(range(2, stream.version + 1))
    last = [f.file_id for f in stream.files]
    assert stream.description == f"by {last[0]}"
    assert last == [last[0], last[0] + 100]


def test_an_update_begins_again_when_another_comes_between(tmp_path: Path) -> None:
    class Busy(FolderStore):
        meanwhile: Any = None

        def head(self, bucket: str, key: str, version_id: str | None = None) -> ObjectInfo:
            info = super().head(bucket, key, version_id)
            if self.meanwhile is not None:
                self.meanwhile()
            return info

    store = Busy(tmp_path / "objects")
    running = Running(tmp_path, store=store)
    try:
        running.put("firmware", "app.bin", b"1")
        client = running.client()
        client.create_stream(streamId="s", files=[file_entry()], roleArn=ROLE)
        left = [1]

        def bump() -> None:
            if left:
                left.pop()
                running.registry.update_stream(
                    "s", description="other", role_arn=None, files=None, now=datetime.now(UTC)
                )

        store.meanwhile = bump
        assert client.update_stream(streamId="s")["streamVersion"] == 3
        assert client.describe_stream(streamId="s")["streamInfo"]["description"] == "other"
        left[:] = [1] * 100
        code, _, status = refused(lambda: client.update_stream(streamId="s"))
        assert (code, status) == ("ServiceUnavailableException", 503)
    finally:
        running.close()


def test_the_last_version_is_the_last(api: Running, iot: Any) -> None:
    from sqlalchemy import update

    from broker_bridge.registry import schema

    iot.create_stream(streamId="old", files=[file_entry()], roleArn=ROLE)
    with api.registry._database.changing() as connection:
        connection.execute(
            update(schema.streams).where(schema.streams.c.stream_id == "old").values(version=65534)
        )
    assert iot.update_stream(streamId="old")["streamVersion"] == 65535
    assert refused(lambda: iot.update_stream(streamId="old"))[0] == "LimitExceededException"
