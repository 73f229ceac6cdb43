"""Puts a file into a stream: first the object into the store, then the stream over the AWS API.

The object's key is `{stream}/{sha256}/{name}`, so that no key ever gets other bytes, and what the stream held
before stays where it is.
"""

import hashlib
import os
import re
import stat
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from broker_bridge.storage.objects import BucketMissing, ObjectForbidden, ObjectMissing, StorageError
from broker_bridge.storage.open import open_store
from sluice.calling import api, failures, role
from sluice.failure import USAGE, Failure
from sluice.settings import Settings

Report = Callable[[int, int], None]
"""Is told how many bytes of how many are stored."""

_READ_BYTES = 1 << 20
_NAME_LENGTH = 100
_TRIES = 3


@dataclass(frozen=True, slots=True)
class Stored:
    """An object as it is in the store now."""

    bucket: str
    key: str
    size: int
    """Bytes."""
    sha256: str
    """64 hexadecimal digits."""
    changed: bool
    """False where these very bytes were there already."""


@dataclass(frozen=True, slots=True)
class Published:
    """What stands in the stream now. `changed` is false where all of it stood there already."""

    stream_arn: str
    stream_version: int
    file_id: int
    bucket: str
    key: str
    size: int
    sha256: str
    changed: bool
    warnings: tuple[str, ...]


def publish(path: Path, stream: str, settings: Settings, report: Report | None = None) -> Published:
    """Stores the file and creates the stream, or sets the file in it; other files of the stream stay.

    Failure names what is wrong: the file, the store, the API (status 3), or what the API says (status 4).
    UpdateStream knows no expected version: where somebody else changed the stream at the same time, a warning
    says that their change may be undone.
    """
    stored = store(path, stream, settings, report)
    arn, version, changed, warnings = _set_file(settings, stream, stored)
    return Published(
        arn,
        version,
        settings.file,
        stored.bucket,
        stored.key,
        stored.size,
        stored.sha256,
        changed,
        tuple(warnings),
    )


def store(path: Path, prefix: str, settings: Settings, report: Report | None = None) -> Stored:
    """Stores the file as an object under `{prefix}/{sha256}/{name}`. Failure: the file, or the store."""
    with _opened(path) as source:
        size, sha256, md5 = _hashes(source, path)
        key = f"{prefix}/{sha256}/{object_name(path.name)}"
        changed = _store_object(settings, key, _Verified(source, size, sha256, report), size, md5)
    return Stored(settings.bucket, key, size, sha256, changed)


def object_name(name: str) -> str:
    """`name` as the end of a key that every store and URL takes: ASCII letters, digits, `_`, `.` and `-`."""
    plain = re.sub(r"[^A-Za-z0-9._-]", "_", name)[-_NAME_LENGTH:]
    return re.sub(r"^[.]", "_", plain) or "file"


def _opened(path: Path) -> BinaryIO:
    if str(path) == "-":
        raise Failure("publish takes a file: standard input has neither a name nor a length", USAGE)
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise Failure(f"{path} is a folder; publish takes one file (a stream can hold several)", USAGE)
        if not stat.S_ISREG(mode):
            raise Failure(f"{path} is no regular file", USAGE)
        return path.open("rb")
    except OSError as error:
        raise Failure(f"cannot read {path}: {error.strerror}") from None


def _hashes(source: BinaryIO, path: Path) -> tuple[int, str, str]:
    """Size in bytes, SHA-256, and the MD5 that is the ETag of an object put in one piece."""
    sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    size = 0
    try:
        while data := source.read(_READ_BYTES):
            sha256.update(data)
            md5.update(data)
            size += len(data)
        source.seek(0)
    except OSError as error:
        raise Failure(f"cannot read {path}: {error.strerror}") from None
    return size, sha256.hexdigest(), md5.hexdigest()


class _Verified:
    """The file as a store reads it: from its start to its end, as often as it likes.

    If the bytes are others than those hashed, the read that would complete them is an OSError, so that no
    store takes the object. `changed` says so, since stores wrap what they meet.
    """

    def __init__(self, source: BinaryIO, size: int, sha256: str, report: Report | None) -> None:
        self._source = source
        self._size = size
        self._sha256 = sha256
        self._report = report
        self._hash = hashlib.sha256()
        self._hashed = 0
        self.changed = False

    def read(self, size: int = -1) -> bytes:
        """The next bytes."""
        start = self._source.tell()
        if start == 0:
            self._hash, self._hashed = hashlib.sha256(), 0
        if start != self._hashed:
            raise OSError("read out of order")
        data = self._source.read(size)
        self._hash.update(data)
        self._hashed += len(data)
        if self._hashed >= self._size and self._hash.hexdigest() != self._sha256:
            self.changed = True
        if self.changed:
            raise OSError("the file changed")
        if self._report is not None:
            self._report(self._hashed, self._size)
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """To a place in the file."""
        return self._source.seek(offset, whence)

    def tell(self) -> int:
        """The place in the file."""
        return self._source.tell()


def _store_object(settings: Settings, key: str, source: _Verified, size: int, md5: str) -> bool:
    """Stores the object; false where these very bytes are there already."""
    bucket = settings.bucket
    store = open_store(
        folder=None if _in_s3(settings) else settings.objects,
        s3_endpoint=settings.storage.s3_endpoint,
        region=settings.region,
        attempts=settings.storage.retries,
        timeout=settings.storage.timeout,
    )
    try:
        # A store may forbid to look, and yet take objects.
        with suppress(BucketMissing, ObjectMissing, ObjectForbidden):
            held = store.head(bucket, key)
            if held.size == size and held.etag == md5:
                return False
        store.put(bucket, key, cast(BinaryIO, source), size)
    except BucketMissing:
        raise Failure(f"there is no bucket {bucket}: create it, or name another with --bucket") from None
    except Exception as error:
        # What a store makes of a read that fails is its own: boto3 with awscrt raises that one's errors.
        if source.changed or isinstance(error, ValueError):
            raise Failure("the file changed while it was being published; nothing was published") from None
        if isinstance(error, StorageError | OSError):
            raise Failure(f"the object cannot be stored: {error}") from None
        raise
    finally:
        store.close()
    return True


def _set_file(settings: Settings, stream: str, stored: Stored) -> tuple[str, int, bool, list[str]]:
    """The stream's ARN and version with the file in it, whether that is news, and warnings."""
    entry = {"fileId": settings.file, "s3Location": {"bucket": stored.bucket, "key": stored.key}}
    with failures(settings, whereabouts(settings, stored)):
        client = api(settings)
        for _ in range(_TRIES):
            try:
                info = client.describe_stream(streamId=stream)["streamInfo"]
            except client.exceptions.ResourceNotFoundException:
                try:
                    made = client.create_stream(streamId=stream, files=[entry], roleArn=role(settings))
                    return made["streamArn"], made["streamVersion"], True, []
                except client.exceptions.ResourceAlreadyExistsException:
                    continue  # somebody else made it in between: now it is an update
            if not stored.changed and entry in info["files"]:
                return info["streamArn"], info["streamVersion"], False, []
            others = [file for file in info["files"] if file["fileId"] != settings.file]
            made = client.update_stream(streamId=stream, files=[*others, entry])
            warnings = []
            if made["streamVersion"] != info["streamVersion"] + 1:
                warnings.append(
                    f"stream {stream} was changed by somebody else at the same time; "
                    "a file that they set may be gone: look at it, and publish that file again"
                )
            return made["streamArn"], made["streamVersion"], True, warnings
    raise Failure(f"stream {stream} was created and deleted by somebody else all the while")


def whereabouts(settings: Settings, stored: Stored) -> str:
    """Where the object is, for whom the service says that it is not there."""
    return (
        f"; the object is {stored.bucket}/{stored.key} in {_place(settings)}, "
        "which must be the service's store too"
    )


def _place(settings: Settings) -> str:
    return settings.storage.s3_endpoint or "S3" if _in_s3(settings) else str(settings.objects)


def _in_s3(settings: Settings) -> bool:
    return settings.storage.s3 or settings.storage.s3_endpoint is not None
