"""The document of a job: what CreateJob is given, or the object in S3 that it names."""

from broker_bridge.api.context import Context
from broker_bridge.api.iot import objects
from broker_bridge.api.iot.errors import InvalidRequestException, UnauthorizedException
from broker_bridge.downloads import placeholders
from broker_bridge.storage import locations
from chunker.errors import Malformed
from chunker.strict_json import Decoder

MAX_BYTES = 32768
"""AWS's limit, which its model has for documents in a request, in characters."""
MAX_NESTING = 32
"""Depth (our choice); devices walk documents with small stacks."""

_DECODER = Decoder(nesting=MAX_NESTING, fractions=True)


def document(context: Context, given: str | None, source: str | None) -> str:
    """The document: a JSON object, as text. InvalidRequestException, and what reading the object raises."""
    if (given is None) is (source is None):
        raise InvalidRequestException("document: either document or documentSource is required, and one only")
    member = "document" if source is None else "documentSource"
    try:
        if source is None:
            raw = (given or "").encode()
            if len(raw) > MAX_BYTES:
                raise InvalidRequestException(
                    f"document: {len(raw)} bytes are over the maximum of {MAX_BYTES}"
                )
        else:
            raw = _read(context, source)
        text = _text(member, raw)
        _check_placeholders(context, member, text)
    except UnauthorizedException as error:
        # Not among the errors that CreateJob has.
        raise InvalidRequestException(str(error)) from None
    return text


def _read(context: Context, source: str) -> bytes:
    try:
        at = locations.parse(source, endpoint=context.s3_endpoint)
    except ValueError as error:
        raise InvalidRequestException(
            f"documentSource: {source[:256]!r} is no URL of an object in S3: {error}"
        ) from None
    return objects.read(context, "documentSource", at.bucket, at.key, at.version_id, MAX_BYTES)


def _text(member: str, raw: bytes) -> str:
    try:
        _DECODER.decode(raw)
        return raw.decode()
    except (Malformed, UnicodeDecodeError) as error:
        raise InvalidRequestException(f"{member}: it is not one JSON object: {error}") from None


def _check_placeholders(context: Context, member: str, text: str) -> None:
    """That devices will get URLs that lead somewhere (our choice: AWS looks only when a device asks).

    Each object has to be there, and to be the one that the placeholder pins.
    """
    try:
        named = set(placeholders.named(text, endpoint=context.s3_endpoint))
    except placeholders.BadPlaceholder as error:
        raise InvalidRequestException(f"{member}: {error}") from None
    for one in named:
        info = objects.head(context, member, one.bucket, one.key, one.version_id)
        if one.etag not in (None, info.etag):
            raise InvalidRequestException(
                f"{member}: the ETag of {one.key[:256]!r} in bucket {one.bucket[:64]!r} is {info.etag}"
            )
