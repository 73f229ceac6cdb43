"""Objects in S3, or in anything that speaks its wire (PROTOCOL "Whose bytes").

Every read is a ranged GetObject bound to the ETag by `If-Match`, or to a version by its id, and the answer is
believed only if its ETag, its Content-Range and its length are those asked for: a store that ignores a
condition, or a proxy that answers for another request, is found out here and not by a device.
"""

import random
import threading
import time
from collections.abc import Callable
from typing import Any, BinaryIO, TypeVar

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
)
from s3transfer.utils import ReadFileChunk  # type: ignore[import-untyped]
from urllib3.exceptions import HTTPError

from broker_bridge.storage.objects import (
    BucketMissing,
    ObjectChanged,
    ObjectForbidden,
    ObjectInfo,
    ObjectMissing,
    ObjectRef,
    StorageError,
    StoreUnavailable,
)

T = TypeVar("T")

_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 2.0

# Statuses of HeadObject that need a closer look, since its errors have no body: which of the missing is
# missing, and whether a 400 is about the version id or about the credentials.
_VAGUE = {400, 403, 404, 405}

# Refusals that S3 answers with 400; the rest of them come with 401 or 403.
_REFUSED = {"ExpiredToken", "InvalidToken", "TokenRefreshRequired"}

_PASSING = {408, 429}


class _BadAnswer(Exception):
    """An answer that is not the one to our question; asking again may help."""


class S3Store:
    """A store of objects in S3. Safe to use from several threads.

    Credentials come from boto3's usual chain; without any, every call raises StoreUnavailable, as for other
    faults of the set-up. With an `endpoint_url` buckets are addressed by path, else as AWS has it.

    A failed attempt is made again up to `attempts` times in all, after pauses of 0.1 s doubling to 2 s, give
    or take a half. None is begun, and no body waited for, later than `total_timeout` after the call: the
    longest that `head`, `check` and `read` take is `total_timeout + connect_timeout + read_timeout` (for
    a host of several addresses, one `connect_timeout` for each; a server that trickles its headers, which
    no store does, is not found out).
    """

    def __init__(
        self,
        *,
        endpoint_url: str | None = None,
        region: str | None = None,
        revalidate: float = 1.0,
        connections: int = 16,
        attempts: int = 4,
        connect_timeout: float = 3.0,
        read_timeout: float = 5.0,
        total_timeout: float = 15.0,
    ) -> None:
        """`connections`: kept open for reuse, no fewer than threads that read. Times in seconds."""
        self.revalidate = revalidate
        self._attempts = attempts
        self._total_timeout = total_timeout
        self._closed = threading.Event()
        # A session of our own: boto3's default one is shared by the process and not safe to make clients of.
        self._client: Any = boto3.session.Session().client(
            "s3",
            endpoint_url=endpoint_url,
            region_name=region,
            config=Config(
                connect_timeout=connect_timeout,
                read_timeout=read_timeout,
                max_pool_connections=connections,
                # We count ourselves: botocore does not see what goes wrong in a body, nor the total time.
                retries={"total_max_attempts": 1, "mode": "standard"},
                # Also for presigned URLs, which boto3 signs in the old way where the region still has it.
                signature_version="s3v4",
                s3={"addressing_style": "path" if endpoint_url else "auto"},
                # Checksums that other makers' stores do not know, and that do not fit a range.
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
                tcp_keepalive=True,
            ),
        )

    def head(self, bucket: str, key: str, version_id: str | None = None) -> ObjectInfo:
        """ObjectStore.head."""
        names = _names(bucket, key, version_id)

        def attempt(_: float) -> ObjectInfo:
            answer = self._head(names)
            return _info(int(answer["ContentLength"]), answer)

        return self._persist(names, attempt)

    def check_quick(self, ref: ObjectRef) -> bool:
        """ObjectStore.check_quick: never known without asking."""
        return False

    def read_quick(self, ref: ObjectRef, start: int, length: int) -> None:
        """ObjectStore.read_quick: there is always a network."""

    def check(self, ref: ObjectRef) -> None:
        """ObjectStore.check: one HeadObject."""
        names = _names(ref.bucket, ref.key, ref.version_id)
        self._persist(names, lambda _: _require_etag(ref, self._head(names | _condition(ref))))

    def read(self, ref: ObjectRef, start: int, length: int) -> bytes:
        """ObjectStore.read: one GetObject."""
        if length == 0:
            # There is no such thing as an empty Range.
            self.check(ref)
            return b""
        names = _names(ref.bucket, ref.key, ref.version_id)
        wanted = f"bytes {start}-{start + length - 1}"
        question = {**names, **_condition(ref), "Range": wanted.replace(" ", "=")}

        def attempt(deadline: float) -> bytes:
            answer = self._client.get_object(**question)
            with answer["Body"] as body:
                _require_etag(ref, answer)
                given = answer.get("ContentRange", "")
                if given.partition("/")[0] != wanted or answer.get("ContentLength") != length:
                    raise _BadAnswer(
                        f"{wanted} asked for, {answer.get('ContentLength')} bytes of "
                        f"{given or 'no range at all'} given"
                    )
                return _receive(body, length, deadline)

        return self._persist(names, attempt)

    def presigned_url(self, bucket: str, key: str, version_id: str | None, seconds: int) -> str:
        """ObjectStore.presigned_url: a GetObject, signed here. It ends sooner where the credentials do.

        No URL can bind S3 to an ETag: without a version id it gives what is there when it is asked.
        StoreUnavailable without credentials; ObjectMissing, BucketMissing for impossible names.
        """
        names = _names(bucket, key, version_id)
        return self._persist(
            names,
            lambda _: str(self._client.generate_presigned_url("get_object", Params=names, ExpiresIn=seconds)),
        )

    def put(self, bucket: str, key: str, source: BinaryIO, size: int) -> ObjectInfo:
        """ObjectStore.put: one PutObject, so that the ETag is not one of parts; at most 5 GiB on AWS.

        `source` is seekable. ValueError where it ends early. Takes as long as the upload does.
        """
        names = _names(bucket, key, None)
        start = source.tell()
        if (end := source.seek(0, 2)) - start < size:
            raise ValueError(f"the source ends after {end - start} of {size} bytes")

        def attempt(_: float) -> ObjectInfo:
            source.seek(start)
            body = ReadFileChunk(source, size, start + size) if size else b""
            return _info(size, self._client.put_object(**names, Body=body, ContentLength=size))

        return self._persist(names, attempt)

    def close(self) -> None:
        """ObjectStore.close: also cuts short the pauses between attempts."""
        self._closed.set()
        self._client.close()

    def _head(self, question: dict[str, str]) -> Any:
        try:
            return self._client.head_object(**question)
        except ClientError as error:
            if _status(error) in _VAGUE:
                self._client.get_object(**question, Range="bytes=0-0")["Body"].close()
            raise

    def _persist(self, names: dict[str, str], attempt: Callable[[float], T]) -> T:
        """What `attempt` returns (it is given its deadline), made again while that may help."""
        what = f"object {names['Key']!r} of bucket {names['Bucket']!r}"
        deadline = time.monotonic() + self._total_timeout
        for made in range(1, self._attempts + 1):
            try:
                return attempt(deadline)
            except ClientError as error:
                if meaning := _meaning(error, what, "VersionId" in names):
                    raise meaning from error
                reason: Exception = error
            except ParamValidationError as error:
                # Names that botocore does not let through: the key is never empty here.
                raise BucketMissing(f"{what}: {error}") from error
            except (NoCredentialsError, PartialCredentialsError, CredentialRetrievalError) as error:
                raise StoreUnavailable(f"{what}: no credentials for S3: {error}") from error
            except (BotoCoreError, HTTPError, _BadAnswer) as error:
                reason = error
            pause = min(_FIRST_PAUSE * 2 ** (made - 1), _LONGEST_PAUSE) * random.uniform(0.5, 1.5)  # noqa: S311
            if made == self._attempts or time.monotonic() + pause > deadline or self._closed.wait(pause):
                break
        raise StoreUnavailable(f"{what}: {reason} (attempt {made} of {self._attempts})") from reason


def _names(bucket: str, key: str, version_id: str | None) -> dict[str, str]:
    """The object's name as S3's operations take it. ObjectMissing where no object can have that name."""
    try:
        if not key.encode():
            raise ObjectMissing(f"bucket {bucket!r}: an object's key cannot be empty")
    except UnicodeEncodeError as error:
        raise ObjectMissing(f"object {key!r} of bucket {bucket!r}: the key is no valid Unicode") from error
    names = {"Bucket": bucket, "Key": key}
    return names if version_id is None else {**names, "VersionId": version_id}


def _condition(ref: ObjectRef) -> dict[str, str]:
    return {"IfMatch": f'"{ref.etag}"'} if ref.version_id is None else {}


def _status(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _meaning(error: ClientError, what: str, pinned: bool) -> StorageError | None:
    """What an error answer means; None where asking again may help."""
    status, code = _status(error), str(error.response.get("Error", {}).get("Code", ""))
    message = f"{what}: {error}"
    if status in (412, 416):
        # 416: the ETag holds and yet the object is shorter than the stream says.
        return ObjectChanged(message)
    if code in ("NoSuchBucket", "InvalidBucketName"):
        return BucketMissing(message)
    # 405: the version is a delete marker. 400 InvalidArgument: no version id could look like this one.
    if status in (404, 405) or code == "KeyTooLongError" or (pinned and code == "InvalidArgument"):
        return ObjectMissing(message)
    if status in (401, 403) or code in _REFUSED:
        return ObjectForbidden(message)
    if status >= 500 or status in _PASSING or code == "RequestTimeout":
        return None
    return StoreUnavailable(message)


def _info(size: int, answer: Any) -> ObjectInfo:
    # "null" is the id of what was stored while versioning was off: the next such object has it too.
    version_id = answer.get("VersionId")
    return ObjectInfo(size, _etag(answer), None if version_id == "null" else version_id)


def _etag(answer: Any) -> str:
    etag = str(answer.get("ETag", "")).strip('"')
    if not etag:
        raise _BadAnswer("an answer without an ETag")
    return etag


def _require_etag(ref: ObjectRef, answer: Any) -> None:
    if (etag := _etag(answer)) != ref.etag:
        raise ObjectChanged(
            f"object {ref.key!r} of bucket {ref.bucket!r}: its ETag is {etag}, the stream has {ref.etag}"
        )


def _receive(body: Any, length: int, deadline: float) -> bytes:
    """The body, `length` bytes; HTTPError where it ends early or stalls, _BadAnswer where it is too slow."""
    pieces = []
    left = length
    while left:
        # One look at the socket each: a `read` would wait for a body that trickles for ever.
        piece = body.read1(left)
        if not piece:
            raise _BadAnswer(f"the body ended {left} bytes early")
        pieces.append(piece)
        left -= len(piece)
        if left and time.monotonic() > deadline:
            raise _BadAnswer(f"the body was {left} bytes short when the time was up")
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)
