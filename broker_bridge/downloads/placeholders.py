"""`${aws:iot:s3-presigned-url:…}` in job documents (AWS IoT developer guide, "Presigned URLs").

There are two that stand for a download. In `-v2` the object's URL is percent-encoded and may name a version;
in the older one, which has no suffix, it is not and may not. A document is never written anew: what surrounds
its placeholders reaches devices byte by byte as it was given.
"""

import json
import re
from collections.abc import Callable, Iterator

from broker_bridge.storage import locations
from broker_bridge.storage.locations import Location
from broker_bridge.storage.objects import ObjectRef

_START = "${aws:iot:s3-presigned-url"
_PLACEHOLDER = re.compile(r'\$\{aws:iot:s3-presigned-url(?P<kind>[^:"}\\]*)(?::(?P<url>(?:[^}"\\]|\\.)*)\})?')
_PLAIN, _ENCODED = {"", "-v1"}, {"-v2"}


class BadPlaceholder(ValueError):
    """A placeholder that names no object; the message quotes it."""


def placeholder(ref: ObjectRef, region: str) -> str:
    """One that stands for exactly those bytes, by version id where there is one and else by ETag.

    To be put into JSON text as it is: nothing in it needs an escape there.
    """
    pinned = Location(ref.bucket, ref.key, ref.version_id, None if ref.version_id else ref.etag)
    return f"{_START}-v2:{locations.path_style(pinned, region)}}}"


def named(document: str, *, endpoint: str | None = None) -> Iterator[Location]:
    """The objects that its placeholders name, in their order. `endpoint` as in `locations.parse`.

    BadPlaceholder for one that names none, and for those of other kinds, as `-upload`.
    """
    for match in _PLACEHOLDER.finditer(document):
        yield _location(match, endpoint)


def replace(document: str, url_of: Callable[[Location], str], *, endpoint: str | None = None) -> str:
    """The document with what `url_of` returns, which needs no escape in JSON, in place of its placeholders.

    One that names no object stays as it is: CreateJob lets none in, and a device knows it for what it is.
    """

    def url(match: "re.Match[str]") -> str:
        try:
            location = _location(match, endpoint)
        except BadPlaceholder:
            return match[0]
        return url_of(location)

    return _PLACEHOLDER.sub(url, document) if _START in document else document


def _location(match: "re.Match[str]", endpoint: str | None) -> Location:
    quoted = match[0][:256]
    if match["url"] is None:
        raise BadPlaceholder(f"{quoted}: it has no URL, or no end")
    try:
        # It stands in JSON text, where `/` may be written `\\/`.
        url = json.loads(f'"{match["url"]}"')
        url.encode()
        if match["kind"] in _ENCODED:
            return locations.parse(url, endpoint=endpoint)
        if match["kind"] in _PLAIN:
            # The guide's oldest form has bucket and key alone.
            return locations.parse_plain(url if "://" in url else f"s3://{url}", endpoint=endpoint)
    except ValueError as error:
        raise BadPlaceholder(f"{quoted}: no URL of an object in S3: {error}") from None
    raise BadPlaceholder(f"{quoted}: of these, s3-presigned-url and s3-presigned-url-v2 are offered")
