"""Routes: every operation's own URL leads to it, and everything else has a 4xx that says what is wrong."""

import inspect
import re
from typing import Any

import pytest
from botocore import xform_name
from botocore.loaders import Loader
from botocore.model import ServiceModel

from broker_bridge.api import iot, jobs_data
from broker_bridge.api.errors import MethodNotAllowedException, UnknownOperationException
from broker_bridge.api.model import LoadedService
from broker_bridge.api.routes import Router
from broker_bridge.api.service import Service
from tests.api.operations import EVERY, IOT
from tests.api.running import Running


def model(name: str) -> Any:
    return ServiceModel(Loader().load_service_model(name, "service-2"), name)


def routes(name: str) -> dict[str, tuple[str, str]]:
    service = model(name)
    return {
        op: (service.operation_model(op).http["method"], service.operation_model(op).http["requestUri"])
        for op in service.operation_names
    }


@pytest.mark.parametrize("service", ["iot", "iot-jobs-data", "iot-data", "iotwireless"])
def test_every_operation_is_reached_at_its_own_url(service: str) -> None:
    known = routes(service)
    router = Router(known)
    for operation, (method, uri) in known.items():
        names = re.findall(r"\{([^}]*)\}", uri)
        labels = {name.rstrip("+"): f"v{i}" + "/é" * name.endswith("+") for i, name in enumerate(names)}
        path = uri
        for name in names:
            path = path.replace("{" + name + "}", labels[name.rstrip("+")])
        match = router.match(method, path.encode(), [])
        assert (match.operation, match.labels) == (operation, labels)


def test_a_literal_wins_over_a_label_if_it_has_the_method() -> None:
    router = Router(
        {
            "Literal": ("GET", "/a/b"),
            "Label": ("PUT", "/a/{x}"),
            "LabelGet": ("GET", "/a/{x}"),
            "Deep": ("GET", "/{x}/b/c"),
            "Rest": ("GET", "/{x}/{y+}"),
            "Fixed": ("GET", "/a/b?only&v=2"),
        }
    )
    assert router.match("GET", b"/a/b", []).operation == "Literal"
    assert router.match("GET", b"/a/b", [("v", "2"), ("only", ""), ("z", "")]).operation == "Fixed"
    assert router.match("GET", b"/a/b", [("v", "3"), ("only", "")]).operation == "Literal"
    assert router.match("PUT", b"/a/b", []).operation == "Label"
    assert router.match("GET", b"/a/%62", []).operation == "Literal"
    assert router.match("GET", b"/a/x%2Fy", []).labels == {"x": "x/y"}
    assert router.match("GET", b"/a/b/c", []).operation == "Deep"
    assert router.match("GET", b"/a/b/d/e", []).labels == {"x": "a", "y": "b/d/e"}
    with pytest.raises(MethodNotAllowedException) as caught:
        router.match("DELETE", b"/a/b", [])
    assert caught.value.allowed == ["GET", "HEAD", "PUT"]
    with pytest.raises(UnknownOperationException):
        router.match("GET", b"/a", [])


@pytest.mark.parametrize("service", [iot.SERVICE, jobs_data.SERVICE], ids=lambda service: service.name)
def test_functions_have_the_members_of_their_operations(api: Running, service: Service) -> None:
    loaded = LoadedService(service, api.context)
    assert set(loaded.operations) == EVERY[service.name]
    for name, operation in loaded.operations.items():
        shape = operation.model.input_shape
        parameters = inspect.signature(operation.function).parameters
        assert next(iter(parameters)) == "context"
        members = {xform_name(member): member in shape.required_members for member in shape.members}
        assert {n: p.default is p.empty for n, p in parameters.items() if n != "context"} == members, (
            f"{name}: arguments, and which of them are required"
        )


def test_operations_that_are_not_here_are_named(api: Running) -> None:
    for operation, (method, uri) in routes("iot").items():
        if operation in IOT:
            continue
        answer = api.send(method, re.sub(r"\{[^}]*\}", "x", uri))
        assert (answer.status, answer.code) == (404, "UnknownOperationException"), operation
        assert answer.json == {"message": f"{operation} of iot is not implemented by this service"}


@pytest.mark.parametrize(
    "target", ["/", "/nothing", "/streams/a/b", "//streams", "/streams/a/", "*", "/%2Fstreams"]
)
def test_unknown_routes(api: Running, target: str) -> None:
    answer = api.send("GET", target)
    assert (answer.status, answer.code) == (404, "UnknownOperationException")
    assert answer.json["message"]


def test_wrong_methods_are_told_the_right_ones(api: Running) -> None:
    answer = api.send("PATCH", "/streams/x")
    assert (answer.status, answer.code) == (405, "MethodNotAllowedException")
    assert answer.headers["allow"] == "DELETE, GET, HEAD, POST, PUT"
    assert "message" in answer.json
    assert api.send("POST", "/streams", b"{}").status == 405
    for path in ("/healthz", "/metrics"):
        assert api.send("POST", path, b"").status == 405


def test_options_names_the_methods_and_lets_no_page_in(api: Running) -> None:
    answer = api.send("OPTIONS", "/streams/x", headers={"origin": "http://evil.example"})
    assert (answer.status, answer.body) == (204, b"")
    assert answer.headers["allow"] == "DELETE, GET, HEAD, POST, PUT"
    assert not [name for name in answer.headers if name.startswith("access-control")]
    assert api.send("OPTIONS", "/nothing").status == 404


def test_head_is_get_without_a_body(api: Running) -> None:
    head, get = api.send("HEAD", "/streams"), api.send("GET", "/streams")
    assert (head.status, head.body) == (200, b"")
    assert head.headers["content-length"] == get.headers["content-length"] == str(len(get.body))
    assert api.send("HEAD", "/streams/nothing").status == 404


def test_web_pages_change_nothing(api: Running) -> None:
    for method, path in (
        ("POST", "/streams/x"),
        ("POST", "/untag"),
        ("PUT", "/streams/x"),
        ("DELETE", "/streams/x"),
    ):
        answer = api.send(method, path, b"{}", {"origin": "null", "content-type": "text/plain"})
        assert (answer.status, answer.code) == (403, "AccessDeniedException")


SCOPE = "AWS4-HMAC-SHA256 Credential=AKID/20260101/us-east-1/{}/aws4_request, SignedHeaders=host, Signature=0"


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({}, 200, ""),
        ({"authorization": "Basic abc"}, 200, ""),
        ({"authorization": SCOPE.format("iot")}, 200, ""),
        ({"authorization": "AWS4-ECDSA-P256-SHA256 Credential=AKID/20260101/iot/aws4_request, S=0"}, 200, ""),
        ({"authorization": SCOPE.format("sqs")}, 404, "UnknownOperationException"),
        ({"authorization": "AWS4-HMAC-SHA256"}, 400, "IncompleteSignatureException"),
        ({"authorization": "AWS4-HMAC-SHA256 Credential=a/b/c"}, 400, "IncompleteSignatureException"),
        ({"x-amz-target": "Kinesis_20131202.PutRecord"}, 404, "UnknownOperationException"),
        ({"x-amz-target": ""}, 404, "UnknownOperationException"),
    ],
)
def test_the_service_is_known_before_the_path(
    api: Running, headers: dict[str, str], status: int, code: str
) -> None:
    answer = api.send("GET", "/streams", headers=headers)
    assert (answer.status, answer.code) == (status, code)
    assert answer.headers["x-amzn-requestid"]


def test_a_presigned_url_names_its_service_too(api: Running) -> None:
    scope = "X-Amz-Credential=AKID%2F20260101%2Fus-east-1%2F{}%2Faws4_request"
    assert api.send("GET", "/streams?" + scope.format("iot")).status == 200
    assert api.send("GET", "/streams?" + scope.format("sqs")).status == 404
    assert api.send("GET", "/streams?X-Amz-Credential=x").code == "IncompleteSignatureException"
