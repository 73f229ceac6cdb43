"""Tags (of streams; those of others are with them), and DescribeEndpoint."""

import uuid
from collections.abc import Callable
from typing import Any

import pytest

from tests.api.running import ROLE, Running, arn, file_entry, refused


def tags_of(iot: Any, name: str) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in iot.list_tags_for_resource(resourceArn=arn(name))["tags"]}


@pytest.fixture
def tagged(iot: Any) -> str:
    name = f"tags-{uuid.uuid4()}"
    iot.create_stream(streamId=name, files=[file_entry()], roleArn=ROLE, tags=[{"Key": "a", "Value": "1"}])
    return name


def test_tags_are_added_replaced_and_removed(iot: Any, tagged: str) -> None:
    iot.tag_resource(
        resourceArn=arn(tagged), tags=[{"Key": "a", "Value": "2"}, {"Key": "ключ /=+-@:._", "Value": "\x01é"}]
    )
    assert tags_of(iot, tagged) == {"a": "2", "ключ /=+-@:._": "\x01é"}
    iot.untag_resource(resourceArn=arn(tagged), tagKeys=["a", "never-there"])
    iot.untag_resource(resourceArn=arn(tagged), tagKeys=["a"])
    assert tags_of(iot, tagged) == {"ключ /=+-@:._": "\x01é"}


def test_tags_go_with_their_stream(iot: Any, tagged: str) -> None:
    iot.delete_stream(streamId=tagged)
    assert refused(lambda: tags_of(iot, tagged))[0] == "ResourceNotFoundException"
    iot.create_stream(streamId=tagged, files=[file_entry()], roleArn=ROLE)
    assert tags_of(iot, tagged) == {}


def test_a_stream_has_at_most_50_tags(iot: Any, tagged: str) -> None:
    many = [{"Key": f"k{i}", "Value": ""} for i in range(50)]
    code, message, status = refused(lambda: iot.tag_resource(resourceArn=arn(tagged), tags=many))
    assert (code, status) == ("LimitExceededException", 410)
    assert "51" in message
    assert "50" in message
    assert tags_of(iot, tagged) == {"a": "1"}
    iot.tag_resource(resourceArn=arn(tagged), tags=many[:49])
    assert len(tags_of(iot, tagged)) == 50
    too_many = [*many, {"Key": "one more", "Value": ""}]
    got = refused(
        lambda: iot.create_stream(streamId="many-tags", files=[file_entry()], roleArn=ROLE, tags=too_many)
    )
    assert got[0] == "LimitExceededException"
    assert refused(lambda: iot.describe_stream(streamId="many-tags"))[0] == "ResourceNotFoundException"


@pytest.mark.parametrize(
    ("tags", "said"),
    [
        ([{"Key": "aws:mine", "Value": "1"}], "tags[0].Key: 'aws:mine' begins with 'aws:'"),
        ([{"Key": "AWS:mine", "Value": "1"}], "tags[0].Key: 'AWS:mine' begins with 'aws:'"),
        ([{"Key": "x", "Value": "1"}, {"Key": "x", "Value": "1"}], "tags[1].Key: 'x' is given twice"),
        ([{"Value": "1"}], "tags[0].Key: required, and missing"),
        ([{"Key": "", "Value": "1"}], "tags[0].Key: length 0 is under the minimum of 1"),
        ([{"Key": "k" * 129, "Value": "1"}], "tags[0].Key: length 129 is over the maximum of 128"),
        ([{"Key": "k", "Value": "v" * 257}], "tags[0].Value: length 257 is over the maximum of 256"),
        ([{"Key": "k\n", "Value": "v"}], "tags[0].Key: it does not match the pattern"),
        ([{"Key": "k#", "Value": "v"}], "tags[0].Key: it does not match the pattern"),
        ([{"Key": 1, "Value": "v"}], "tags[0].Key: it must be a string"),
    ],
)
def test_tags_that_cannot_be(lax: Any, iot: Any, tagged: str, tags: Any, said: str) -> None:
    calls: list[Callable[[], Any]] = [
        lambda: lax.tag_resource(resourceArn=arn(tagged), tags=tags),
        lambda: lax.create_stream(streamId="bad-tags", files=[file_entry()], roleArn=ROLE, tags=tags),
    ]
    for call in calls:
        code, message, status = refused(call)
        assert (code, status) == ("InvalidRequestException", 400)
        assert message.startswith(said)
    assert tags_of(iot, tagged) == {"a": "1"}


@pytest.mark.parametrize(
    ("resource", "said"),
    [
        ("arn:aws:iot:us-east-1:123456789012:stream/x", "region is 'us-east-1', not 'eu-central-1'"),
        ("arn:aws:iot:eu-central-1:000000000000:stream/x", "account is '000000000000', not '123456789012'"),
        (
            "arn:aws:iot:eu-central-1:123456789012:thing/x",
            "type is 'thing', not 'stream' or 'thinggroup'",
        ),
        ("arn:aws:s3:eu-central-1:123456789012:stream/x", "not an ARN of AWS IoT"),
        ("arn:aws-cn:iot:eu-central-1:123456789012:stream/x", "not an ARN of AWS IoT"),
        (arn(""), "no name of a stream"),
        (arn("x/y"), "no name of a stream"),
        (arn("x" * 129), "no name of a stream"),
        (arn("x\n"), "not an ARN"),
        ("x", "not an ARN"),
        ("", "not an ARN"),
        ("arn:" * 10000, "not an ARN"),
    ],
)
def test_only_arns_of_ours_have_tags(iot: Any, api: Running, resource: str, said: str) -> None:
    for call in (
        lambda: iot.tag_resource(resourceArn=resource, tags=[]),
        lambda: iot.untag_resource(resourceArn=resource, tagKeys=["k"]),
        *([lambda: iot.list_tags_for_resource(resourceArn=resource)] if len(resource) < 1000 else []),
    ):
        code, message, status = refused(call)
        assert (code, status) == ("InvalidRequestException", 400)
        assert message.startswith("resourceArn: ")
        assert said in message


def test_tags_of_a_stream_that_is_not_there(iot: Any) -> None:
    for call in (
        lambda: iot.tag_resource(resourceArn=arn("not-there"), tags=[{"Key": "k", "Value": "v"}]),
        lambda: iot.untag_resource(resourceArn=arn("not-there"), tagKeys=["k"]),
        lambda: iot.list_tags_for_resource(resourceArn=arn("not-there")),
    ):
        code, message, status = refused(call)
        assert (code, status) == ("ResourceNotFoundException", 404)
        assert "not-there" in message


def test_tags_have_one_page(iot: Any, tagged: str) -> None:
    got = refused(lambda: iot.list_tags_for_resource(resourceArn=arn(tagged), nextToken="AAAA"))
    assert (got[0], got[1].split(":")[0]) == ("InvalidRequestException", "nextToken")
    assert "nextToken" not in iot.list_tags_for_resource(resourceArn=arn(tagged))


@pytest.mark.parametrize("kind", [{}, {"endpointType": "iot:Data"}, {"endpointType": "iot:Data-ATS"}])
def test_the_endpoint_is_the_broker(iot: Any, kind: dict[str, str]) -> None:
    assert iot.describe_endpoint(**kind)["endpointAddress"] == "broker.example:1883"


@pytest.mark.parametrize("kind", ["iot:CredentialProvider", "iot:Jobs", "iot:data", "", "x" * 128, "x" * 129])
def test_other_endpoints_are_refused(lax: Any, kind: str) -> None:
    code, message, _ = refused(lambda: lax.describe_endpoint(endpointType=kind))
    assert code == "InvalidRequestException"
    assert message.startswith("endpointType: ")
