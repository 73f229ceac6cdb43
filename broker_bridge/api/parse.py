"""From a request to the parameters of an operation, by its model: where each sits, and what type it has.

Values come out as Python's: str, int, float, bool, bytes (blob), aware datetime (timestamp), list, dict. What
they may be beyond their type is `validate`'s. A null member is an absent one, and members that the model does
not know are ignored, both as AWS does it.
"""

import base64
import binascii
import math
import re
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, NoReturn

from botocore.model import OperationModel, Shape

from broker_bridge.api.errors import InvalidParameter
from broker_bridge.api.routes import Query
from broker_bridge.api.wire import Request
from chunker.errors import Malformed
from chunker.strict_json import Decoder

MAX_NESTING = 64
"""Depth of a body. The deepest input of the `iot` model has 11 levels."""

_RANGES = {"integer": 31, "long": 63}
_INTEGER = re.compile(r"-?[0-9]{1,19}")
_NUMBER = re.compile(r"-?[0-9]{1,30}(\.[0-9]{1,30})?([eE][+-]?[0-9]{1,3})?")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DECODER = Decoder(nesting=MAX_NESTING, fractions=True)


def parameters(
    operation: OperationModel, request: Request, labels: dict[str, str], query: Query, rest: bool
) -> dict[str, Any]:
    """The input's members that are there, by their names in the model. Raises InvalidParameter.

    `rest`: the members are where the model says (rest-json), else all of them are in the body (json).
    """
    shape = operation.input_shape
    if shape is None:
        return {}
    values: dict[str, Any] = {}
    in_body: list[str] = []
    for name, member in shape.members.items():
        location = member.serialization.get("location") if rest else None
        wire = member.serialization.get("name", name)
        if location == "uri":
            values[name] = _from_text(member, labels[wire], name, "iso8601")
        elif location == "querystring":
            _take_query(values, member, [value for key, value in query if key == wire], name)
        elif location == "header":
            if (text := request.headers.get(wire.lower())) is not None:
                values[name] = _from_text(member, text, name, "rfc822")
        elif location is None:
            in_body.append(name)
        else:
            raise NotImplementedError(f"{operation.name}: {name} in {location}")
    payload = shape.serialization.get("payload") if rest else None
    if payload is not None:
        if request.body:
            values[payload] = _payload(shape.members[payload], request.body, payload)
    elif in_body or not rest:
        body = _body(request.body)
        for name in in_body:
            member = shape.members[name]
            value = body.get(member.serialization.get("name", name))
            if value is not None:
                values[name] = _from_json(member, value, name)
    return values


def _take_query(values: dict[str, Any], shape: Shape, given: list[str], name: str) -> None:
    if shape.type_name == "list":
        if given:
            values[name] = [
                _from_text(shape.member, text, f"{name}[{i}]", "iso8601") for i, text in enumerate(given)
            ]
        return
    if len(given) > 1:
        raise InvalidParameter(f"{name}: given {len(given)} times, may be given once")
    if given:
        values[name] = _from_text(shape, given[0], name, "iso8601")


def _payload(shape: Shape, body: bytes, name: str) -> Any:
    if shape.type_name == "blob":
        return body
    if shape.type_name == "string":
        return _decode(body)
    return _from_json(shape, _body(body), name)


# Text: path, query string, headers


def _from_text(shape: Shape, text: str, path: str, timestamps: str) -> Any:
    kind = shape.type_name
    if kind == "string":
        return text
    if kind in _RANGES:
        if not _INTEGER.fullmatch(text):
            _wrong(path, "an integer")
        return _integer(kind, int(text), path)
    if kind == "boolean":
        if text not in ("true", "false"):
            _wrong(path, "true or false")
        return text == "true"
    if kind in ("float", "double"):
        if not _NUMBER.fullmatch(text):
            _wrong(path, "a number")
        return _float(float(text), path)
    if kind == "timestamp":
        return _timestamp(shape.serialization.get("timestampFormat", timestamps), text, path)
    if kind == "blob":
        return _blob(text, path)
    raise NotImplementedError(f"{path}: {kind} as text")


# JSON


def _body(body: bytes) -> dict[str, Any]:
    """The body's members; none for an empty body."""
    if not body:
        return {}
    try:
        return _DECODER.decode(body)
    except Malformed as error:
        raise InvalidParameter(f"the body is not one JSON object: {error}") from None


def _decode(body: bytes) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        raise InvalidParameter(f"the body is not UTF-8 at byte {error.start}") from None


def _from_json(shape: Shape, value: Any, path: str) -> Any:
    kind = shape.type_name
    if kind == "string":
        return _string(value, path)
    if kind == "structure":
        return _structure(shape, value, path)
    if kind == "list":
        if type(value) is not list:
            _wrong(path, "a list")
        return [_from_json(shape.member, item, f"{path}[{i}]") for i, item in enumerate(value)]
    if kind == "map":
        if type(value) is not dict:
            _wrong(path, "an object")
        return {
            _string(key, f"{path}'s key {key[:64]!r}"): _from_json(shape.value, item, f"{path}[{key[:64]!r}]")
            for key, item in value.items()
            if item is not None
        }
    if kind in _RANGES:
        # Not `isinstance`: to Python, true is an integer.
        if type(value) is not int:
            _wrong(path, "an integer")
        return _integer(kind, value, path)
    if kind == "boolean":
        if type(value) is not bool:
            _wrong(path, "true or false")
        return value
    if kind in ("float", "double"):
        if type(value) not in (int, float):
            _wrong(path, "a number")
        return _float(float(value), path)
    if kind == "timestamp":
        return _timestamp(shape.serialization.get("timestampFormat", "unixTimestamp"), value, path)
    if kind == "blob":
        return _blob(value, path)
    raise NotImplementedError(f"{path}: {kind} in JSON")


def _structure(shape: Shape, value: Any, path: str) -> dict[str, Any]:
    if type(value) is not dict:
        _wrong(path, "an object")
    if getattr(shape, "is_document_type", False):
        return dict(value)
    members = {}
    for name, member in shape.members.items():
        inner = value.get(member.serialization.get("name", name))
        if inner is not None:
            members[name] = _from_json(member, inner, f"{path}.{name}")
    return members


# Values


def _string(value: Any, path: str) -> str:
    if type(value) is not str:
        _wrong(path, "a string")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InvalidParameter(f"{path}: a lone surrogate in it, which is no Unicode text") from None
    return str(value)


def _integer(kind: str, value: int, path: str) -> int:
    bits = _RANGES[kind]
    if not -(1 << bits) <= value < 1 << bits:
        raise InvalidParameter(f"{path}: it must be an integer of {bits + 1} bits")
    return value


def _float(value: float, path: str) -> float:
    if not math.isfinite(value):
        _wrong(path, "a number within the range of a double")
    return value


def _blob(value: Any, path: str) -> bytes:
    try:
        return base64.b64decode(_string(value, path), validate=True)
    except (binascii.Error, ValueError):
        _wrong(path, "Base64 text")


def _timestamp(form: str, value: Any, path: str) -> datetime:
    """In UTC. `unixTimestamp` is seconds since 1970 as a number, in text as well."""
    try:
        if form == "unixTimestamp":
            if type(value) is str and _NUMBER.fullmatch(value):
                value = float(value)
            if type(value) not in (int, float):
                _wrong(path, "seconds since 1970 as a number")
            return _EPOCH + timedelta(seconds=value)
        text = _string(value, path)
        parsed = parsedate_to_datetime(text) if form == "rfc822" else datetime.fromisoformat(text)
        # Without a zone it is UTC, as botocore takes it.
        return parsed.astimezone(UTC) if parsed.tzinfo else parsed.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        _wrong(path, f"a time ({form}) from year 1 to 9999")


def _wrong(path: str, expected: str) -> NoReturn:
    raise InvalidParameter(f"{path}: it must be {expected}")
