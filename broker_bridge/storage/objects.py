"""What a store of objects is to the rest of the service, whichever it is (PROTOCOL "Whose bytes")."""

from dataclasses import dataclass
from typing import BinaryIO, Protocol


@dataclass(frozen=True, slots=True)
class ObjectRef:
    """The exact bytes a stream took in: an object and its ETag, and its version id where it has one."""

    bucket: str
    key: str
    etag: str
    version_id: str | None = None

    def __hash__(self) -> int:
        # Caches look references up for every request; the four fields' tuple costs three times as much.
        return hash(self.etag)


Bytes = bytes | bytearray
"""What was read, never changed again."""


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """An object as it is now. `size` in bytes; `etag` without quotes; `version_id` where the bucket keeps
    versions."""

    size: int
    etag: str
    version_id: str | None = None


class StorageError(Exception):
    """A store could not do what was asked. The message may name bucket and key: for logs, not for devices."""


class BucketMissing(StorageError):
    """There is no such bucket."""


class ObjectMissing(StorageError):
    """There is no such object or object version."""


class ObjectForbidden(StorageError):
    """The store refuses to let the service read the object (S3: 403), or write it."""


class ObjectChanged(StorageError):
    """The object's bytes are no longer those of the ETag asked for (S3: 412)."""


class StoreUnavailable(StorageError):
    """The store failed, after the retries it was allowed."""


class ObjectStore(Protocol):
    """A store of objects. Calls block; they may come from several threads at once."""

    revalidate: float
    """Seconds for which a check is trusted; 0 where checks are cheap and done at every request."""

    def head(self, bucket: str, key: str, version_id: str | None = None) -> ObjectInfo:
        """The object as it is now. BucketMissing, ObjectMissing, ObjectForbidden, StoreUnavailable."""

    def check_quick(self, ref: ObjectRef) -> bool:
        """True if a look of a few microseconds proves that the object is still `ref`'s bytes.

        False says nothing but that only `check` can tell. Fit for an event loop, as `read_quick` is.
        """

    def read_quick(self, ref: ObjectRef, start: int, length: int) -> Bytes | None:
        """As `read`, where nothing has to be waited for, neither disk nor network. Else None."""

    def check(self, ref: ObjectRef) -> None:
        """Returns if the object is still `ref`'s bytes; raises what `read` would raise if it is not."""

    def read(self, ref: ObjectRef, start: int, length: int) -> bytes:
        """Exactly `length` bytes from `start`, all of them `ref`'s.

        ObjectChanged, ObjectMissing, BucketMissing, ObjectForbidden, StoreUnavailable.
        """

    def presigned_url(self, bucket: str, key: str, version_id: str | None, seconds: int) -> str | None:
        """An URL of the store's own that gives the object to whoever has it, for so many seconds from now.

        None where the store serves nobody (folders). Nothing is looked at: the object need not be there.
        """

    def put(self, bucket: str, key: str, source: BinaryIO, size: int) -> ObjectInfo:
        """Stores `size` bytes of `source` under `key`: wholly or not at all. Creates no bucket in S3."""

    def close(self) -> None:
        """Releases connections and files."""
