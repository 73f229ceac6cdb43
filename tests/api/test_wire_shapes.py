"""What comes back, held against the model: no member that it lacks, none that botocore's parser loses."""

import json
from typing import Any

import pytest
from botocore.loaders import Loader
from botocore.model import ServiceModel
from botocore.parsers import create_parser

from tests.api.running import ROLE, Running, arn, file_entry

MODEL = ServiceModel(Loader().load_service_model("iot", "service-2"), "iot")
CREATE = {"files": [file_entry()], "roleArn": ROLE, "description": "d", "tags": [{"Key": "k"}]}
TAGGED = {"resourceArn": arn("a"), "tags": [{"Key": "k", "Value": "v"}]}

CALLS: list[tuple[str, str, str, Any, int]] = [
    ("CreateStream", "POST", "/streams/a", CREATE, 200),
    ("CreateStream", "POST", "/streams/b", CREATE, 200),
    ("CreateStream", "POST", "/streams/a", CREATE, 409),
    ("CreateStream", "POST", "/streams/c", {**CREATE, "files": [file_entry(key="gone")]}, 404),
    ("CreateStream", "POST", "/streams/c", {**CREATE, "tags": [{"Key": f"{i}"} for i in range(51)]}, 410),
    ("CreateStream", "POST", "/streams/c", {}, 400),
    ("DescribeStream", "GET", "/streams/a", None, 200),
    ("DescribeStream", "GET", "/streams/c", None, 404),
    ("DescribeStream", "GET", "/streams/c.d", None, 400),
    ("UpdateStream", "PUT", "/streams/a", {"description": "é"}, 200),
    ("UpdateStream", "PUT", "/streams/c", {}, 404),
    ("UpdateStream", "PUT", "/streams/a", {"files": 1}, 400),
    ("ListStreams", "GET", "/streams?maxResults=1", None, 200),
    ("ListStreams", "GET", "/streams?nextToken=x", None, 400),
    ("TagResource", "POST", "/tags", TAGGED, 200),
    ("TagResource", "POST", "/tags", {**TAGGED, "tags": [{"Key": f"{i}"} for i in range(51)]}, 410),
    ("TagResource", "POST", "/tags", {**TAGGED, "resourceArn": arn("c")}, 404),
    ("TagResource", "POST", "/tags", {}, 400),
    ("ListTagsForResource", "GET", f"/tags?resourceArn={arn('a')}", None, 200),
    ("ListTagsForResource", "GET", f"/tags?resourceArn={arn('c')}", None, 404),
    ("ListTagsForResource", "GET", "/tags", None, 400),
    ("UntagResource", "POST", "/untag", {"resourceArn": arn("a"), "tagKeys": ["k"]}, 200),
    ("UntagResource", "POST", "/untag", {"resourceArn": arn("c"), "tagKeys": ["k"]}, 404),
    ("UntagResource", "POST", "/untag", {"resourceArn": "x", "tagKeys": []}, 400),
    ("DescribeEndpoint", "GET", "/endpoint?endpointType=iot%3AData-ATS", None, 200),
    ("DescribeEndpoint", "GET", "/endpoint?endpointType=x", None, 400),
    ("DeleteStream", "DELETE", "/streams/a", None, 200),
    ("DeleteStream", "DELETE", "/streams/a", None, 404),
    ("DeleteStream", "DELETE", "/streams/c.d", None, 400),
]


def conforms(shape: Any, wire: Any, where: str) -> None:
    """Every member of the answer stands in the model, with its type."""
    if shape.type_name == "structure":
        assert set(wire) <= set(shape.members), where
        for name, value in wire.items():
            conforms(shape.members[name], value, f"{where}.{name}")
    elif shape.type_name == "list":
        for value in wire:
            conforms(shape.member, value, f"{where}[]")
    else:
        kinds = {"string": (str,), "integer": (int,), "timestamp": (int, float)}[shape.type_name]
        assert type(wire) in kinds, where


def test_answers_are_what_the_model_says(api: Running) -> None:
    parser = create_parser("rest-json")
    for name, method, target, body, status in CALLS:
        operation = MODEL.operation_model(name)
        sent = None if body is None else json.dumps(body).encode()
        answer = api.send(method, target, sent, {"content-type": "application/json"})
        where = f"{name} {target}: {answer.body!r}"
        assert answer.status == status, where
        assert answer.headers["content-type"] == "application/json"
        parsed = parser.parse(
            {"status_code": status, "headers": answer.headers, "body": answer.body}, operation.output_shape
        )
        if status == 200:
            conforms(operation.output_shape, answer.json, name)
            del parsed["ResponseMetadata"]
            assert set(parsed) == set(answer.json), where
            continue
        code = parsed["Error"]["Code"]
        assert code in {shape.name for shape in operation.error_shapes}, where
        shape = MODEL.shape_for(code)
        assert shape.metadata["error"]["httpStatusCode"] == status
        assert parsed["Error"]["Message"] == answer.json["message"] != ""
        conforms(shape, answer.json, code)


def test_every_operation_and_both_outcomes_are_among_them() -> None:
    for outcome in (True, False):
        assert {name for name, *_, status in CALLS if (status == 200) is outcome} == {
            *("CreateStream", "DescribeStream", "UpdateStream", "DeleteStream", "ListStreams"),
            *("TagResource", "UntagResource", "ListTagsForResource", "DescribeEndpoint"),
        }


@pytest.mark.parametrize("answer_of", ["/streams/none", "/nothing", "/streams/a.b"])
def test_errors_have_their_type_in_the_header(api: Running, answer_of: str) -> None:
    answer = api.send("GET", answer_of)
    assert answer.code
    assert list(answer.json) == ["message"]
    assert len(answer.headers["x-amzn-requestid"]) == 36
