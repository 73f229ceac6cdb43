"""From an operation's result, or an error, to a response, by the model."""

import base64
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

from botocore.model import OperationModel, Shape

from broker_bridge.api.errors import ApiError
from broker_bridge.api.model import REST_JSON, LoadedService
from broker_bridge.api.wire import Response

_REST_TYPE = "application/json"


def result(loaded: LoadedService, operation: OperationModel, value: Mapping[str, object]) -> Response:
    """The response of an operation that succeeded. Raises LookupError for a member that the model lacks."""
    rest = loaded.protocol == REST_JSON
    headers = [("content-type", _content_type(loaded))]
    status = int(operation.http.get("responseCode", 200))
    shape = operation.output_shape
    if shape is None:
        return Response(status, b"", headers)
    payload = shape.serialization.get("payload") if rest else None
    body: dict[str, Any] = {}
    for name, inner in value.items():
        member = shape.members[name]
        if inner is None:
            continue
        location = member.serialization.get("location") if rest else None
        if location == "header":
            headers.append((member.serialization.get("name", name), _to_text(member, inner)))
        elif location == "statusCode":
            status = int(str(inner))
        elif location is not None:
            raise NotImplementedError(f"{operation.name}: {name} in {location}")
        elif payload is None or name == payload:
            body[member.serialization.get("name", name)] = _to_json(member, inner)
    if payload is None:
        return Response(status, _dump(body), headers)
    whole = shape.members[payload]
    raw = value.get(payload)
    if whole.type_name == "blob":
        headers[0] = ("content-type", "application/octet-stream")
        return Response(status, bytes(raw) if isinstance(raw, bytes | bytearray) else b"", headers)
    return Response(status, _dump(body.get(whole.serialization.get("name", payload), {})), headers)


def error(refusal: ApiError, loaded: LoadedService | None) -> Response:
    """The response that is an error: status and members by the model where it knows the error's shape."""
    status = refusal.status
    message_member = "message"
    shape = loaded.error_shape(refusal.code) if loaded is not None else None
    if shape is not None:
        status = shape.metadata.get("error", {}).get("httpStatusCode", status)
        message_member = next((name for name in shape.members if name.lower() == "message"), "message")
    body: dict[str, str] = {message_member: str(refusal), **refusal.members}
    headers = [("x-amzn-errortype", refusal.code), *refusal.response_headers()]
    if loaded is not None and loaded.protocol != REST_JSON:
        body = {"__type": refusal.code, **body}
    return Response(
        status,
        _dump(body),
        [("content-type", _content_type(loaded) if loaded is not None else _REST_TYPE), *headers],
    )


def _content_type(loaded: LoadedService) -> str:
    return _REST_TYPE if loaded.protocol == REST_JSON else f"application/x-amz-json-{loaded.json_version}"


def _dump(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()


def _to_json(shape: Shape, value: Any) -> Any:
    kind = shape.type_name
    if kind == "structure":
        if getattr(shape, "is_document_type", False):
            return value
        return {
            shape.members[name].serialization.get("name", name): _to_json(shape.members[name], inner)
            for name, inner in value.items()
            if inner is not None
        }
    if kind == "list":
        return [_to_json(shape.member, item) for item in value]
    if kind == "map":
        return {key: _to_json(shape.value, inner) for key, inner in value.items()}
    if kind == "blob":
        return base64.b64encode(value).decode()
    if kind == "timestamp":
        return _timestamp(shape.serialization.get("timestampFormat", "unixTimestamp"), value)
    return value


def _to_text(shape: Shape, value: Any) -> str:
    if shape.type_name == "boolean":
        return "true" if value else "false"
    if shape.type_name == "timestamp":
        return str(_timestamp(shape.serialization.get("timestampFormat", "rfc822"), value))
    return str(value)


def _timestamp(form: str, value: datetime) -> float | str:
    """Epoch seconds with milliseconds (what AWS IoT answers with), or as the model asks."""
    if value.tzinfo is None:
        raise ValueError(f"{value!r} has no time zone")
    utc = value.astimezone(UTC)
    if form == "unixTimestamp":
        return round(utc.timestamp(), 3)
    return (
        format_datetime(utc, usegmt=True)
        if form == "rfc822"
        else utc.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    )
