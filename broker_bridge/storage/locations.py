"""URLs of objects in S3, as people and AWS's consoles write them: which bucket, which key, which version.

The shapes: `https://s3.REGION.amazonaws.com/BUCKET/KEY` and `https://BUCKET.s3.REGION.amazonaws.com/KEY`,
each also without the region (S3's guide, "Path-style requests", "Virtual-hosted-style requests"); by path on
an S3-compatible store of one's own; and `s3://BUCKET/KEY`. The region is not looked at: a store has its own.
"""

import re
from dataclasses import dataclass
from urllib.parse import quote, unquote, urlsplit

# The region, `dualstack` and the like stand between `s3` and the domain, or nothing.
_HOST = re.compile(
    r"(?:(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])\.)?s3[.-](?:[a-z0-9-]+\.){0,2}amazonaws\.com(?:\.cn)?"
)
# `?versionId=` is also written encoded in AWS IoT's guide, at the end of placeholders.
_PIN = re.compile(r"(?P<version>\?versionId=|%3[Ff]versionId%3[Dd])|\?etag=")
_ETAG = re.compile(r"[\x21\x23-\x7e]+")


@dataclass(frozen=True, slots=True)
class Location:
    """An object by name, and which one of those that had that name where the URL says so."""

    bucket: str
    key: str
    version_id: str | None = None
    etag: str | None = None
    """The bytes that are meant, by their ETag: `?etag=` is not S3's but ours, for stores without versions."""


def parse(url: str, *, endpoint: str | None = None) -> Location:
    """What an URL names whose key is percent-encoded, with `versionId` or `etag` at its end where it has one.

    `endpoint`: the URL of an S3-compatible store, on which buckets are addressed by path. ValueError.
    """
    pin = _PIN.search(url)
    name, value = (url, None) if pin is None else (url[: pin.start()], url[pin.end() :])
    if value == "" or re.search("[?&#]", name + (value or "")):
        raise ValueError("of a query nothing but versionId or etag is known")
    bucket, key = (unquote(part, errors="strict") for part in _names(name, endpoint))
    if "/" in bucket:
        raise ValueError("a bucket's name has no slash")
    if pin is None or value is None:
        return Location(bucket, key)
    value = unquote(value, errors="strict")
    if pin["version"]:
        return Location(bucket, key, version_id=value)
    if not _ETAG.fullmatch(value):
        raise ValueError("its ETag is none (RFC 9110: visible characters but quotes)")
    return Location(bucket, key, etag=value)


def parse_plain(url: str, *, endpoint: str | None = None) -> Location:
    """What an URL names whose key stands as it is, `%`, `?` and `#` included. ValueError."""
    return Location(*_names(url, endpoint))


def path_style(location: Location, region: str) -> str:
    """The URL of an object on AWS, by path and percent-encoded: `parse` takes it back apart."""
    url = f"https://s3.{region}.amazonaws.com/{quote(location.bucket, safe='')}/{quote(location.key)}"
    if location.version_id is not None:
        return f"{url}?versionId={quote(location.version_id, safe='')}"
    return url if location.etag is None else f"{url}?etag={quote(location.etag, safe='')}"


def _names(url: str, endpoint: str | None) -> tuple[str, str]:
    scheme, there, rest = url.partition("://")
    if not there or scheme not in ("https", "http", "s3"):
        raise ValueError("it must begin with https:// or s3://")
    host, _, path = rest.partition("/")
    if scheme == "s3":
        bucket, key = host, path
    elif (match := _HOST.fullmatch(host.lower())) and match["bucket"]:
        bucket, key = match["bucket"], path
    elif match or (endpoint is not None and host.lower() == urlsplit(endpoint).netloc.lower()):
        bucket, _, key = path.partition("/")
    else:
        raise ValueError("its host is not S3's")
    if not bucket or not key:
        raise ValueError("a bucket and a key are needed")
    return bucket, key
