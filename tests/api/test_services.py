"""Further services are modules: one with X-Amz-Target, one with a path that `iot` has too, and odd places."""

from collections.abc import Iterator
from datetime import UTC, datetime
from types import ModuleType
from typing import Any

import pytest

from broker_bridge.api import iot as iot_service
from broker_bridge.api.context import Context
from broker_bridge.api.errors import ApiError
from broker_bridge.api.model import LoadedService
from broker_bridge.api.service import Service
from tests.api.running import Running, refused


class ValidationException(ApiError):
    """As Kinesis calls a request that breaks its model."""


class ResourceNotFoundException(ApiError):
    """As Kinesis and the jobs data plane call it."""


def module(*functions: Any) -> ModuleType:
    made = ModuleType("made")
    for function in functions:
        function.__module__ = "made"
        setattr(made, function.__name__, function)
    return made


def put_record(
    context: Context, *, stream_name: str, data: bytes, partition_key: str, **more: Any
) -> dict[str, object]:
    if stream_name == "gone":
        raise ResourceNotFoundException("StreamName: there is none")
    return {"ShardId": data.decode("latin-1"), "SequenceNumber": partition_key + "".join(more)}


def get_shard_iterator(
    context: Context, *, timestamp: datetime, stream_name: str, shard_id: str, shard_iterator_type: str
) -> dict[str, object]:
    return {"ShardIterator": timestamp.isoformat()}


def get_pending_job_executions(context: Context, *, thing_name: str) -> dict[str, object]:
    return {"queuedJobs": [{"jobId": thing_name, "queuedAt": 5}]}


def describe_job_execution(
    context: Context, *, job_id: str, thing_name: str, **more: Any
) -> dict[str, object]:
    return {"execution": {"jobId": job_id, "thingName": thing_name, "statusDetails": {"a": str(more)}}}


def get_thing_shadow(context: Context, *, thing_name: str, shadow_name: str = "") -> dict[str, object]:
    return {"payload": thing_name.encode() + shadow_name.encode()}


def publish(context: Context, *, topic: str, **more: Any) -> dict[str, object]:
    PUBLISHED.append((topic, more))
    return {}


PUBLISHED: list[Any] = []


def made(name: str, signing_name: str, functions: ModuleType, **more: Any) -> Service:
    return Service(
        name=name,
        signing_name=signing_name,
        modules=(functions,),
        invalid=ValidationException,
        amend=lambda _: {},
        translate=lambda _: None,
        **more,
    )


KINESIS = made("kinesis", "kinesis", module(put_record, get_shard_iterator), target_prefix="Kinesis_20131202")
JOBS = made("iot-jobs-data", "iot-jobs-data", module(get_pending_job_executions, describe_job_execution))
DATA = made("iot-data", "iotdata", module(get_thing_shadow, publish))


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory, no_real_aws: None) -> Iterator[Running]:
    running = Running(tmp_path_factory.mktemp("several"), services=[iot_service.SERVICE, KINESIS, JOBS, DATA])
    yield running
    running.close()


def test_targets_lead_to_operations(several: Running) -> None:
    kinesis = several.client(service="kinesis")
    assert kinesis.put_record(StreamName="s", Data=b"\xff\x00", PartitionKey="é")["ShardId"] == "ÿ\0"
    assert refused(lambda: kinesis.put_record(StreamName="gone", Data=b"", PartitionKey="p")) == (
        "ResourceNotFoundException",
        "StreamName: there is none",
        400,
    )
    moment = datetime(2026, 1, 2, 3, 4, 5, 250000, UTC)
    assert (
        kinesis.get_shard_iterator(
            StreamName="s", ShardId="0", ShardIteratorType="AT_TIMESTAMP", Timestamp=moment
        )["ShardIterator"]
        == moment.isoformat()
    )
    code, message, status = refused(lambda: kinesis.list_shards(StreamName="s"))
    assert (code, status) == ("UnknownOperationException", 404)
    assert "ListShards of kinesis is not implemented" in message


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"{", "the body is not one JSON object"),
        (b'{"StreamName":"s","PartitionKey":"p","Data":"*"}', "Data: it must be Base64 text"),
        (b'{"StreamName":"s","PartitionKey":"p","Data":5}', "Data: it must be a string"),
        (b'{"StreamName":"s","PartitionKey":"p"}', "Data: required, and missing"),
        (b'{"StreamName":"s\\n","Data":"AA==","PartitionKey":"p"}', "StreamName: it does not match"),
    ],
)
def test_bodies_by_target_are_held_against_the_model(several: Running, body: bytes, said: str) -> None:
    headers = {"x-amz-target": "Kinesis_20131202.PutRecord", "content-type": "application/x-amz-json-1.1"}
    answer = several.send("POST", "/", body, headers)
    assert (answer.status, answer.code) == (400, "ValidationException")
    assert answer.headers["content-type"] == "application/x-amz-json-1.1"
    assert answer.json["__type"] == "ValidationException"
    assert answer.json["message"].startswith(said)


@pytest.mark.parametrize("when", ["1e400", "NaN", '"x"', "true", "1e15", "-1e15", "[]"])
def test_times_that_are_none(several: Running, when: str) -> None:
    headers = {"x-amz-target": "Kinesis_20131202.GetShardIterator"}
    body = f'{{"StreamName":"s","ShardId":"0","ShardIteratorType":"LATEST","Timestamp":{when}}}'
    answer = several.send("POST", "/", body.encode(), headers)
    assert (answer.status, answer.code) == (400, "ValidationException")


@pytest.mark.parametrize(
    ("method", "target", "status", "code"),
    [
        ("POST", "Kinesis_20131202.Nonsense", 404, "UnknownOperationException"),
        ("POST", "Kinesis_20131202.", 404, "UnknownOperationException"),
        ("POST", "DynamoDB_20120810.GetItem", 404, "UnknownOperationException"),
        ("GET", "Kinesis_20131202.PutRecord", 405, "MethodNotAllowedException"),
    ],
)
def test_targets_that_lead_nowhere(
    several: Running, method: str, target: str, status: int, code: str
) -> None:
    answer = several.send(method, "/", b"{}", {"x-amz-target": target})
    assert (answer.status, answer.code) == (status, code)


def test_a_path_that_two_services_have_is_the_signed_ones(several: Running) -> None:
    jobs = several.client(service="iot-jobs-data")
    assert jobs.get_pending_job_executions(thingName="t")["queuedJobs"] == [{"jobId": "t", "queuedAt": 5}]
    execution = jobs.describe_job_execution(
        jobId="j", thingName="t", includeJobDocument=True, executionNumber=1 << 40
    )["execution"]
    assert execution["statusDetails"] == {
        "a": str({"include_job_document": True, "execution_number": 1 << 40})
    }
    code, message, _ = refused(lambda: several.client().list_job_executions_for_thing(thingName="t"))
    assert (code, message) == ("ResourceNotFoundException", "there is no thing t")
    assert several.send("GET", "/things/t/jobs").json["message"] == message


def test_payloads_and_headers(several: Running) -> None:
    data = several.client(service="iot-data")
    answer = data.get_thing_shadow(thingName="t", shadowName="s")
    assert answer["payload"].read() == b"ts"
    data.publish(topic="a/b", payload=b"\xff", qos=1, retain=True, contentType="x/y", messageExpiry=7)
    topic, more = PUBLISHED.pop()
    assert topic == "a/b"
    assert more == {
        "payload": b"\xff",
        "qos": 1,
        "retain": True,
        "content_type": "x/y",
        "message_expiry": 7,
    }
    got = several.send("POST", "/topics/a?qos=2", b"", {"authorization": SIGNED})
    assert got.json["message"] == "qos: 2 is over the maximum of 1"
    got = several.send(
        "POST", "/topics/a", b"", {"authorization": SIGNED, "x-amz-mqtt5-payload-format-indicator": "JPEG"}
    )
    assert got.json["message"].startswith("payloadFormatIndicator: 'JPEG' is none of ")


SIGNED = (
    "AWS4-HMAC-SHA256 Credential=AKID/20260101/us-east-1/iotdata/aws4_request, SignedHeaders=a, Signature=0"
)


def test_a_service_that_its_model_contradicts_is_not_loaded(several: Running) -> None:
    for wrong in (
        made("kinesis", "kinesis", module(put_record)),
        made("kinesis", "wrong", module(put_record), target_prefix="Kinesis_20131202"),
        made("s3", "s3", module()),
    ):
        with pytest.raises(ValueError, match=wrong.name):
            LoadedService(wrong, several.context)
