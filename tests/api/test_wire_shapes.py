"""What comes back, held against the model: no member that it lacks, none that botocore's parser loses."""

import pytest

from tests.api.conforming import Call, check_calls, check_complete
from tests.api.running import ROLE, Running, arn, file_entry

CREATE = {"files": [file_entry()], "roleArn": ROLE, "description": "d", "tags": [{"Key": "k"}]}
TAGGED = {"resourceArn": arn("a"), "tags": [{"Key": "k", "Value": "v"}]}

CALLS: list[Call] = [
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


def test_answers_are_what_the_model_says(api: Running) -> None:
    check_calls(api, CALLS)


def test_every_operation_and_both_outcomes_are_among_them() -> None:
    streams = ("CreateStream", "DescribeStream", "UpdateStream", "DeleteStream", "ListStreams")
    check_complete(
        CALLS, (*streams, "TagResource", "UntagResource", "ListTagsForResource", "DescribeEndpoint")
    )


@pytest.mark.parametrize("answer_of", ["/streams/none", "/nothing", "/streams/a.b"])
def test_errors_have_their_type_in_the_header(api: Running, answer_of: str) -> None:
    answer = api.send("GET", answer_of)
    assert answer.code
    assert list(answer.json) == ["message"]
    assert len(answer.headers["x-amzn-requestid"]) == 36
