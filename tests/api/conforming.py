"""Answers held against the model: no member it lacks, none missing, none that botocore's parser loses."""

import json
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

from botocore.loaders import Loader
from botocore.model import ServiceModel
from botocore.parsers import create_parser

from tests.api.operations import EVERY
from tests.api.running import Running

Call = tuple[str, str, str, Any, int]
"""Operation, method, target, body, and the status that is to come back."""
Step = Call | Callable[[Running], None]
"""A call, or something that happens between calls."""

_KINDS = {
    "string": str,
    "blob": str,
    "integer": int,
    "long": int,
    "boolean": bool,
    "double": float,
    "timestamp": float,
}
_SIGNED = "AWS4-HMAC-SHA256 Credential=AKID/20260101/{}/{}/aws4_request, SignedHeaders=host, Signature=0"


@cache
def model_of(service: str) -> ServiceModel:
    """The service's model, by its name in botocore."""
    return ServiceModel(Loader().load_service_model(service, "service-2"), service)


def conforms(shape: Any, wire: Any, where: str) -> None:
    """Every member of the answer stands in the model, with its type; what the model requires is there."""
    if shape.type_name == "structure":
        assert set(shape.required_members) <= set(wire) <= set(shape.members), where
        for name, value in wire.items():
            conforms(shape.members[name], value, f"{where}.{name}")
    elif shape.type_name == "list":
        for value in wire:
            conforms(shape.member, value, f"{where}[]")
    elif shape.type_name == "map":
        for key, value in wire.items():
            conforms(shape.key, key, f"{where}'s key")
            conforms(shape.value, value, f"{where}[{key}]")
    else:
        assert type(wire) is _KINDS[shape.type_name], where
        assert not getattr(shape, "enum", None) or wire in shape.enum, where


def check_calls(api: Running, steps: Iterable[Step], service: str = "iot") -> None:
    """Makes the calls, and holds status, members, types and errors of their answers against the model."""
    model, parser = model_of(service), create_parser("rest-json")
    headers = {
        "content-type": "application/json",
        "authorization": _SIGNED.format(api.context.region, model.signing_name),
    }
    for step in steps:
        if not isinstance(step, tuple):
            step(api)
            continue
        name, method, target, body, status = step
        operation = model.operation_model(name)
        answer = api.send(method, target, None if body is None else json.dumps(body).encode(), headers)
        where = f"{name} {target}: {answer.body!r}"
        assert answer.status == status, where
        assert answer.headers["content-type"] == "application/json", where
        parsed = parser.parse(
            {"status_code": status, "headers": answer.headers, "body": answer.body}, operation.output_shape
        )
        if status != 200:
            code = parsed["Error"]["Code"]
            assert code in {shape.name for shape in operation.error_shapes}, where
            shape = model.shape_for(code)
            assert shape.metadata["error"]["httpStatusCode"] == status
            assert parsed["Error"]["Message"] == answer.json["message"] != ""
            conforms(shape, answer.json, code)
        elif operation.output_shape is None:
            assert answer.body == b"", where
        else:
            conforms(operation.output_shape, answer.json, name)
            del parsed["ResponseMetadata"]
            assert set(parsed) == set(answer.json), where


def check_complete(steps: Iterable[Step], operations: Iterable[str], service: str = "iot") -> None:
    """Each of the operations is called, and is both answered and refused; all of them are to be there."""
    names = set(operations)
    assert names <= EVERY[service]
    for answered in (True, False):
        called = {step[0] for step in steps if isinstance(step, tuple) and (step[4] == 200) is answered}
        assert called == names
