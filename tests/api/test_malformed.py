"""Requests as nobody's client sends them: always a 4xx with AWS's kind of body, and the service unharmed."""

import base64
import json
import random
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from broker_bridge.api.dispatch import Dispatcher
from broker_bridge.api.iot import SERVICE
from broker_bridge.api.wire import Request
from tests.api.running import ROLE, Running, file_entry

GOOD: dict[str, Any] = {"files": [file_entry()], "roleArn": ROLE}


def with_file(**changes: Any) -> dict[str, Any]:
    return {**GOOD, "files": [{**file_entry(), **changes}]}


def location(**changes: Any) -> dict[str, Any]:
    return with_file(s3Location={"bucket": "firmware", "key": "app.bin", **changes})


@pytest.fixture(autouse=True)
def unharmed(api: Running) -> Iterator[None]:
    """After each test the API answers, and nothing was created."""
    yield
    assert api.send("GET", "/streams").json == {"streams": []}


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"{", "the body is not one JSON object"),
        (b"[]", "the body is not one JSON object: not an object"),
        (b"null", "the body is not one JSON object: not an object"),
        (b'"x"', "the body is not one JSON object: not an object"),
        (b"1", "the body is not one JSON object: not an object"),
        (b"{} {}", "the body is not one JSON object"),
        (b"\xef\xbb\xbf{}", "the body is not one JSON object"),
        (b"\xff", "the body is not one JSON object: not UTF-8 at byte 0"),
        (b'{"description":"\xed\xa0\x80"}', "the body is not one JSON object: not UTF-8"),
        (b"\x00", "the body is not one JSON object"),
        (b"{'a':1}", "the body is not one JSON object"),
        (b'{"a":1,}', "the body is not one JSON object"),
        (b'{"a":NaN}', "the body is not one JSON object: NaN"),
        (b'{"a":-Infinity}', "the body is not one JSON object: -Infinity"),
        (b'{"a":01}', "the body is not one JSON object"),
        (b'{"a":"\n"}', "the body is not one JSON object"),
        (b'{"a":1,"a":1}', "the body is not one JSON object: an object has the same key twice"),
        (b'{"a":{"b":1,"\\u0062":1}}', "the body is not one JSON object: an object has the same key twice"),
        (b'{"a":' * 100 + b"1" + b"}" * 100, "the body is not one JSON object: nested over 64 deep"),
        (b'{"a":' + b"[" * 64 + b"]" * 64 + b"}", "the body is not one JSON object: nested over 64 deep"),
        (b"[" * 500_000, "the body is not one JSON object: nested over 64 deep"),
        (b'{"a":' * 100_000, "the body is not one JSON object: nested over 64 deep"),
        (b'{"a":' + b"9" * 500_000 + b"}", "files: required, and missing"),
        (b"", "files: required, and missing"),
        (b"{}", "files: required, and missing"),
    ],
)
def test_bodies_that_are_no_json_object(api: Running, body: bytes, said: str) -> None:
    answer = api.send("POST", "/streams/x", body, {"content-type": "application/json"})
    assert (answer.status, answer.code) == (400, "InvalidRequestException")
    assert answer.headers["content-type"] == "application/json"
    assert answer.json["message"].startswith(said)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({**GOOD, "roleArn": None}, "roleArn: required, and missing"),
        ({**GOOD, "roleArn": "x" * 19}, "roleArn: length 19 is under the minimum of 20"),
        ({**GOOD, "roleArn": "x" * 2049}, "roleArn: length 2049 is over the maximum of 2048"),
        ({**GOOD, "roleArn": 5}, "roleArn: it must be a string"),
        ({**GOOD, "description": ""}, "description: it does not match the pattern"),
        ({**GOOD, "description": "x" * 2029}, "description: length 2029 is over the maximum of 2028"),
        ({**GOOD, "description": "a\nb"}, "description: it does not match the pattern"),
        ({**GOOD, "description": "a\u200b"}, "description: it does not match the pattern"),
        ({**GOOD, "description": "\ud800"}, "description: a lone surrogate"),
        ({**GOOD, "description": True}, "description: it must be a string"),
        ({**GOOD, "files": {}}, "files: it must be a list"),
        ({**GOOD, "files": [None]}, "files[0]: it must be an object"),
        ({**GOOD, "files": [[]]}, "files[0]: it must be an object"),
        ({**GOOD, "files": [{}]}, "files[0].fileId: required, and missing"),
        ({**GOOD, "tags": [None]}, "tags[0]: it must be an object"),
        ({**GOOD, "tags": {"Key": "k"}}, "tags: it must be a list"),
        (with_file(fileId=None), "files[0].fileId: required, and missing"),
        (with_file(fileId=256), "files[0].fileId: 256 is over the maximum of 255"),
        (with_file(fileId=-1), "files[0].fileId: -1 is under the minimum of 0"),
        (with_file(fileId=1.0), "files[0].fileId: it must be an integer"),
        (with_file(fileId=True), "files[0].fileId: it must be an integer"),
        (with_file(fileId="0"), "files[0].fileId: it must be an integer"),
        (with_file(fileId=1 << 31), "files[0].fileId: it must be an integer of 32 bits"),
        (with_file(fileId=10**300), "files[0].fileId: it must be an integer of 32 bits"),
        (with_file(s3Location=None), "files[0].s3Location: required, and missing"),
        (with_file(s3Location="s3://b/k"), "files[0].s3Location: it must be an object"),
        (location(bucket=None), "files[0].s3Location.bucket: required, and missing"),
        (location(key=None), "files[0].s3Location.key: required, and missing"),
        (location(bucket=""), "files[0].s3Location.bucket: length 0 is under the minimum of 1"),
        (location(key=""), "files[0].s3Location.key: length 0 is under the minimum of 1"),
        (location(key=["k"]), "files[0].s3Location.key: it must be a string"),
        (location(key="\udfff"), "files[0].s3Location.key: a lone surrogate"),
        (location(version=7), "files[0].s3Location.version: it must be a string"),
    ],
)
def test_members_that_break_the_model_are_named(api: Running, body: dict[str, Any], said: str) -> None:
    for method in ("POST", "PUT"):
        answer = api.send(method, "/streams/x", json.dumps(body).encode())
        if method == "PUT" and said.startswith(("roleArn: required", "tags")):
            # UpdateStream needs no role and knows no tags.
            assert answer.status == 404
            continue
        assert (answer.status, answer.code) == (400, "InvalidRequestException")
        assert answer.json["message"].startswith(said)


@pytest.mark.parametrize(
    ("segment", "said"),
    [
        ("", "streamId: length 0 is under the minimum of 1"),
        ("x" * 129, "streamId: length 129 is over the maximum of 128"),
        ("a.b", "streamId: it does not match the pattern [a-zA-Z0-9_-]+"),
        ("..", "streamId: it does not match the pattern"),
        ("a%2Fb", "streamId: it does not match the pattern"),
        ("a%0A", "streamId: it does not match the pattern"),
        ("%00", "streamId: it does not match the pattern"),
        ("%C3%A9", "streamId: it does not match the pattern"),
        ("a+b", "streamId: it does not match the pattern"),
        ("%", "streamId: it does not match the pattern"),
        ("%ff", "the path is not percent-encoded UTF-8"),
        ("x" * 20000, "streamId: length 20000 is over the maximum of 128"),
    ],
)
def test_stream_ids_that_break_the_model(api: Running, segment: str, said: str) -> None:
    for method in ("GET", "POST", "PUT", "DELETE"):
        answer = api.send(method, f"/streams/{segment}", json.dumps(GOOD).encode())
        assert (answer.status, answer.code) == (400, "InvalidRequestException")
        assert answer.json["message"].startswith(said)


def test_a_stream_id_of_any_length_that_may_be(api: Running) -> None:
    for name in ("x", "-", "_" * 128):
        assert api.send("POST", f"/streams/{name}", json.dumps(GOOD).encode()).status == 200
        assert api.send("DELETE", f"/streams/{name}").status == 200


def test_a_percent_encoded_name_is_that_name(api: Running) -> None:
    assert api.send("POST", "/streams/%61b", json.dumps(GOOD).encode()).json["streamId"] == "ab"
    assert api.send("DELETE", "/streams/ab").status == 200


def test_members_that_the_model_does_not_know_are_ignored(api: Running) -> None:
    body = {**with_file(more=[{}]), "streamId": "other", "extra": {"a": [1.5, None]}, "description": None}
    answer = api.send("POST", "/streams/x", json.dumps(body).encode())
    assert answer.json["streamId"] == "x"
    assert "description" not in answer.json
    assert api.send("DELETE", "/streams/x").status == 200


# Anything at all, by the thousand, without sockets: what `handle` makes of it is what the client gets.

MEMBERS = ["files", "fileId", "s3Location", "bucket", "key", "version", "roleArn", "description"]
MEMBERS += ["tags", "Key", "Value", "tagKeys", "resourceArn", "extra"]
JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(), max_size=20)
    | st.sampled_from(
        ["firmware", "app.bin", "conf.json", "\ud800", "a\0b", "../x", ROLE, "aws:x", "iot:Data"]
    ),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(MEMBERS),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)
NEARLY = st.fixed_dictionaries(
    {"files": st.just([file_entry()]), "roleArn": st.just(ROLE)}, optional={"tags": JSON_VALUES}
) | st.fixed_dictionaries(
    {"resourceArn": st.text() | st.just("arn:aws:iot:eu-central-1:123456789012:stream/x")},
    optional={"tags": JSON_VALUES, "tagKeys": JSON_VALUES},
)


def corrupt(body: bytes, seed: int) -> bytes:
    """Some bytes changed, inserted or gone."""
    rng = random.Random(seed)
    changed = bytearray(body)
    for _ in range(rng.randrange(4)):
        at = rng.randrange(len(changed) + 1)
        changed[at : at + rng.randrange(3)] = bytes(
            rng.choices(b'{}[]",:\\u\x00\xff0e-. tn', k=rng.randrange(3))
        )
    return bytes(changed)


PATHS = st.sampled_from(
    [b"/streams/x", b"/streams", b"/tags", b"/untag", b"/endpoint", b"/streams/", b"/"]
) | (st.text(max_size=30).map(lambda text: ("/" + quote(text, safe="/%")).encode()))
QUERIES = st.sampled_from(
    [b"", b"maxResults=1", b"nextToken=%", b"isAscendingOrder=true", b"resourceArn=x"]
) | (st.binary(max_size=40))


@pytest.fixture(scope="module")
def dispatcher(api: Running) -> Dispatcher:
    return Dispatcher([SERVICE], api.context)


@settings(
    max_examples=300,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    database=None,
)
@given(
    method=st.sampled_from(["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "BREW"]),
    path=PATHS,
    query=QUERIES,
    body=st.binary(max_size=60)
    | st.tuples(JSON_VALUES | NEARLY, st.integers(0, 1 << 32)).map(
        lambda pair: corrupt(json.dumps(pair[0]).encode(), pair[1])
    ),
    headers=st.dictionaries(
        st.sampled_from(["authorization", "x-amz-target", "origin", "content-type"]),
        st.text(max_size=40),
        max_size=2,
    ),
)
def test_whatever_comes_is_answered(
    api: Running,
    dispatcher: Dispatcher,
    method: str,
    path: bytes,
    query: bytes,
    body: bytes,
    headers: dict[str, str],
) -> None:
    response = dispatcher.handle(Request(method, path, query, headers, body))
    assert response.status < 500
    fields = dict(response.headers)
    assert len(fields["x-amzn-RequestId"]) == 36
    if response.status >= 400:
        assert fields["x-amzn-errortype"].isalpha()
        assert json.loads(response.body)["message"]
        assert str(api.folder) not in response.body.decode()
        assert b"Traceback" not in response.body
    for value in fields.values():
        value.encode("latin-1")
        assert "\n" not in value
    for stream in api.registry.streams(after=None, limit=100, ascending=True):
        api.registry.delete_stream(stream.stream_id)


def test_the_same_over_real_sockets(api: Running) -> None:
    rng = random.Random(1)
    good = json.dumps(GOOD).encode()
    for seed in range(150):
        body = corrupt(good, seed)
        method = rng.choice(["POST", "PUT", "DELETE", "GET"])
        path = rng.choice(
            ["/streams/x", "/untag", "/tags", "/streams/" + base64.b64encode(body[:20]).decode()]
        )
        answer = api.send(method, path, body)
        assert answer.status < 500
        assert answer.headers["x-amzn-requestid"]
        if answer.status >= 400:
            assert answer.json["message"]
        api.send("DELETE", "/streams/x")
