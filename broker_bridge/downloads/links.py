"""The URLs that the service itself serves: what is in them, and how they are signed. No I/O.

`{base}/objects/{bucket}/{key}?etag=…&expires=…&signature=…`: whoever has it may read those bytes until then.
The signature, HMAC-SHA256, covers all of it but the base, which a reverse proxy may change.
"""

import base64
import hmac
import re
from urllib.parse import parse_qsl, quote, unquote

from broker_bridge.storage.objects import ObjectRef

PREFIX = "/objects/"
"""What the path of every link begins with, below the base."""

_FIELDS = ["etag", "expires", "signature"]
_EXPIRES = re.compile(r"[0-9]{1,12}")


class LinkRefused(Exception):
    """The URL is not one that this service has signed."""


class LinkExpired(Exception):
    """The service has signed the URL, and its time is over."""


class Links:
    """Makes links and takes them back."""

    def __init__(self, secret: bytes, base: str) -> None:
        """`secret`: 32 bytes that nobody else knows. `base`: the URL of which `/objects/…` is asked for."""
        self._secret = secret
        self._base = base.rstrip("/")

    def url(self, ref: ObjectRef, expires: int) -> str:
        """A link to those bytes, good until `expires` (seconds since 1970). It has no character to be escaped
        in JSON. ValueError for an object with a version id: folders have none."""
        if ref.version_id is not None:
            raise ValueError(f"object {ref.key!r}: links name no versions")
        path = f"{quote(ref.bucket, safe='')}/{quote(ref.key)}"
        signature = self._signature(ref.bucket, ref.key, ref.etag, str(expires))
        etag = quote(ref.etag, safe="")
        return f"{self._base}{PREFIX}{path}?etag={etag}&expires={expires}&signature={signature}"

    def open(self, path: str, query: str, now: float) -> ObjectRef:
        """The bytes that a link to that path and query, both percent-encoded, is good for at `now`.

        LinkRefused for any difference from what was signed; LinkExpired.
        """
        try:
            names = unquote(path.removeprefix(PREFIX), errors="strict")
            given = parse_qsl(query, strict_parsing=True, errors="strict", max_num_fields=len(_FIELDS))
        except ValueError:
            raise LinkRefused("the URL is malformed") from None
        fields = dict(given)
        plain = path.startswith(PREFIX) and f"{path}{query}".isascii()
        if not plain or sorted(name for name, _ in given) != _FIELDS:
            raise LinkRefused("the URL has other fields than a signed one")
        bucket, _, key = names.partition("/")
        expected = self._signature(bucket, key, fields["etag"], fields["expires"])
        # As text: two spellings of the same bits do not pass either.
        if not hmac.compare_digest(expected.encode(), fields["signature"].encode()):
            raise LinkRefused("the signature does not match the URL")
        if now >= int(fields["expires"]):
            raise LinkExpired("the URL has expired")
        return ObjectRef(bucket, key, fields["etag"])

    def _signature(self, bucket: str, key: str, etag: str, expires: str) -> str:
        """In base64url: job documents have to fit small buffers. LinkRefused for what no link can hold."""
        # Neither digits nor ETags have a newline, and no bucket a slash: every text says one thing only.
        if not _EXPIRES.fullmatch(expires) or "\n" in etag or "/" in bucket:
            raise LinkRefused("the URL is malformed")
        text = f"sluice download 1\n{expires}\n{etag}\n{bucket}/{key}"
        digest = hmac.digest(self._secret, text.encode(), "sha256")
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
