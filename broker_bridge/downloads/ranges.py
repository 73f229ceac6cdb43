"""Which bytes a GET asks for, and under which conditions (RFC 9110, sections 13 and 14). No I/O.

There is no Last-Modified, so that conditions on dates never hold and are ignored, as the RFC wants it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

# More digits than that are no length of anything; the field is then ignored, which a server always may.
_RANGE = re.compile(r"bytes=[ \t]*(?P<first>[0-9]{0,19})-(?P<last>[0-9]{0,19})[ \t]*", re.IGNORECASE)
_TAGS = re.compile(r'[ \t]*(?P<weak>W/)?"(?P<tag>[\x21\x23-\x7e\x80-\xff]*)"[ \t]*(?:,|$)')


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes of a file, from `start` up to, not including, `end`."""

    start: int
    end: int


class RangeNotSatisfiable(Exception):
    """None of the bytes asked for exist (416)."""


class PreconditionFailed(Exception):
    """If-Match names other bytes than these (412)."""


class NotModified(Exception):
    """If-None-Match names these bytes: whoever asks has them (304)."""


def wanted(method: str, headers: Mapping[str, str], size: int, etag: str) -> Span | None:
    """The range to be sent of a file of `size` bytes with that strong ETag; None: all of it (200).

    `headers` by lower-case name. A field that is malformed, in other units or of several ranges is ignored.
    PreconditionFailed, NotModified, RangeNotSatisfiable.
    """
    if (match := headers.get("if-match")) is not None and not _lists(match, etag, strong=True):
        raise PreconditionFailed
    if (match := headers.get("if-none-match")) is not None and _lists(match, etag, strong=False):
        raise NotModified
    if method != "GET" or "range" not in headers:
        return None
    if "if-range" in headers and headers["if-range"].strip() != f'"{etag}"':
        return None
    return _span(headers["range"], size)


def _span(field: str, size: int) -> Span | None:
    match = _RANGE.fullmatch(field.strip())
    if match is None or not (match["first"] or match["last"]):
        return None
    if not match["first"]:
        length = int(match["last"])
        if length == 0:
            raise RangeNotSatisfiable
        # Of an empty file a suffix is the whole, and there is no way to name an empty range.
        return Span(max(0, size - length), size) if size else None
    first = int(match["first"])
    last = int(match["last"]) if match["last"] else size - 1
    if match["last"] and last < first:
        return None
    if first >= size:
        raise RangeNotSatisfiable
    return Span(first, min(last, size - 1) + 1)


def _lists(field: str, etag: str, *, strong: bool) -> bool:
    """Whether `*` or a list of entity tags includes `etag`. Malformed rests are left out."""
    if field.strip() == "*":
        return True
    at = 0
    while match := _TAGS.match(field, at):
        if match["tag"] == etag and not (strong and match["weak"]):
            return True
        at = match.end()
    return False
