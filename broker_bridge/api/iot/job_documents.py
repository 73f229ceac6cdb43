"""The document of a job: what CreateJob is given, or the object in S3 that it names."""

import re
from urllib.parse import parse_qs, unquote, urlsplit

from broker_bridge.api.context import Context
from broker_bridge.api.iot import objects
from broker_bridge.api.iot.errors import InvalidRequestException, UnauthorizedException
from chunker.errors import Malformed
from chunker.strict_json import Decoder

MAX_BYTES = 32768
"""AWS's limit, which its model has for documents in a request, in characters."""
MAX_NESTING = 32
"""Depth (our choice); devices walk documents with small stacks."""

_DECODER = Decoder(nesting=MAX_NESTING, fractions=True)
_PLACEHOLDER = "${aws:iot:s3-presigned-url"
# The region, `dualstack` and the like stand between `s3` and the domain, or nothing.
_HOST = re.compile(
    r"(?:(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])\.)?s3[.-](?:[a-z0-9-]+\.){0,2}amazonaws\.com(?:\.cn)?"
)


def document(context: Context, given: str | None, source: str | None) -> str:
    """The document: a JSON object, as text. InvalidRequestException, and what reading the object raises."""
    if (given is None) is (source is None):
        raise InvalidRequestException("document: either document or documentSource is required, and one only")
    member = "document" if source is None else "documentSource"
    if source is None:
        raw = (given or "").encode()
        if len(raw) > MAX_BYTES:
            raise InvalidRequestException(f"document: {len(raw)} bytes are over the maximum of {MAX_BYTES}")
    else:
        try:
            raw = objects.read(context, "documentSource", *_location(source), MAX_BYTES)
        except UnauthorizedException as error:
            # Not among the errors that CreateJob has.
            raise InvalidRequestException(str(error)) from None
    try:
        _DECODER.decode(raw)
        text = raw.decode()
    except (Malformed, UnicodeDecodeError) as error:
        raise InvalidRequestException(f"{member}: it is not one JSON object: {error}") from None
    if _PLACEHOLDER in text:
        # A device would be sent the placeholder itself.
        raise InvalidRequestException(f"{member}: {_PLACEHOLDER}:…}} is not offered by this service")
    return text


def _location(source: str) -> tuple[str, str, str | None]:
    """Bucket, key and version id, from a URL of S3 in either style, or `s3://bucket/key`."""
    try:
        url = urlsplit(source)
        host = url.hostname or ""
    except ValueError:
        raise _no_location(source) from None
    path = unquote(url.path.removeprefix("/"))
    if url.scheme == "s3":
        bucket, key = url.netloc, path
    else:
        match = _HOST.fullmatch(host)
        if url.scheme not in ("https", "http") or match is None:
            raise _no_location(source)
        if match["bucket"] is not None:
            bucket, key = match["bucket"], path
        else:
            bucket, _, key = path.partition("/")
    if not bucket or not key:
        raise _no_location(source)
    return bucket, key, parse_qs(url.query).get("versionId", [None])[0]


def _no_location(source: str) -> InvalidRequestException:
    return InvalidRequestException(f"documentSource: {source[:256]!r} is no URL of an object in S3")
