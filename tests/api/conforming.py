"""Answers held against the model: no member that it lacks, none that botocore's parser loses."""

import json
from collections.abc import Iterable
from typing import Any

from botocore.loaders import Loader
from botocore.model import ServiceModel
from botocore.parsers import create_parser

from tests.api.running import Running

MODEL = ServiceModel(Loader().load_service_model("iot", "service-2"), "iot")

Call = tuple[str, str, str, Any, int]
"""Operation, method, target, body, and the status that is to come back."""

_KINDS = {
    "string": (str,),
    "integer": (int,),
    "long": (int,),
    "boolean": (bool,),
    "timestamp": (int, float),
}


def conforms(shape: Any, wire: Any, where: str) -> None:
    """Every member of the answer stands in the model, with its type."""
    if shape.type_name == "structure":
        assert set(wire) <= set(shape.members), where
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
        assert type(wire) in _KINDS[shape.type_name], where


def check_calls(api: Running, calls: Iterable[Call]) -> None:
    """Makes the calls, and holds status, members, types and errors of their answers against the model."""
    parser = create_parser("rest-json")
    for name, method, target, body, status in calls:
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
