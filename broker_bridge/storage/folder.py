"""Objects in a folder: a bucket is a folder under the root, a key a path in it (PROTOCOL "Whose bytes").

An object's ETag is the MD5 of its content. It is remembered with the file's device, inode, size, mtime and
ctime and computed again when one of them differs, so that a check costs one stat while nothing changes.

Every write and rename stamps the ctime, which nobody can set; what a stamp cannot tell apart is two changes
within its granularity. So no hash is taken of a file that young: we wait until a further change is bound to
get another stamp. Out of reach remain files that are changed through a shared memory map, or by one write
call that lasts longer than that wait: both are stamped when they begin. Writers that rename a finished file
into place, as `put` does, are never in doubt.
"""
# Paths are bytes, whatever the locale: pathlib has text only.
# ruff: noqa: PTH116, PTH118, PTH123

import hashlib
import os
import secrets
import stat
import threading
import time
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple

from broker_bridge.storage.objects import (
    BucketMissing,
    Bytes,
    ObjectChanged,
    ObjectForbidden,
    ObjectInfo,
    ObjectMissing,
    ObjectRef,
    StorageError,
    StoreUnavailable,
)
from broker_bridge.storage.paths import (
    TEMPORARY,
    described,
    make_folder,
    open_file,
    resolve,
    storage_errors,
    sync_folder,
)

# Linux stamps files from a clock that moves once a tick, every 10 ms at the slowest (CONFIG_HZ=100; kernels
# from 6.13 on are finer). A stamp of whole seconds comes from a file system that keeps nothing finer; FAT,
# the coarsest, keeps steps of 2 s.
_FINE_NS = 50_000_000
_COARSE_NS = 2_050_000_000

# How often an answer is tried for while the file is being written, before it is given up.
_NOWAIT: int | None = getattr(os, "RWF_NOWAIT", None)
_ATTEMPTS = 5

_COPY_BYTES = 1 << 20


class _Identity(NamedTuple):
    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int


class _Known(NamedTuple):
    path: bytes
    identity: _Identity
    etag: str


def settling_ns(ctime_ns: int, now_ns: int) -> int:
    """Nanoseconds to wait until a change would be bound to get another ctime than `ctime_ns`; 0 for none.

    A stamp from the far future (the clock was set back) needs no wait: no change gets it now.
    """
    window = _FINE_NS if ctime_ns % 1_000_000_000 else _COARSE_NS
    age = now_ns - ctime_ns
    return window - age if -window < age < window else 0


class FolderStore:
    """A store of objects in the folders under `root`, which may be a link. Safe to use from several threads.

    Remembers the MD5 of the `remembered` objects used last; one that it forgot is read whole again.
    """

    revalidate = 0.0

    def __init__(self, root: Path, *, remembered: int = 4096) -> None:
        self._root = os.fsencode(root.absolute())
        self._remembered = remembered
        self._memory: OrderedDict[tuple[str, str], _Known] = OrderedDict()
        self._lock = threading.Lock()
        # So that a big file is hashed by one thread while others wait for the result. A fixed number of
        # locks: two objects that share one merely wait for each other.
        self._hashing = [threading.Lock() for _ in range(64)]

    def head(self, bucket: str, key: str, version_id: str | None = None) -> ObjectInfo:
        """ObjectStore.head. Reads the whole file where its MD5 is not known: seconds for a very big one."""
        _refuse_version(bucket, key, version_id)
        descriptor = self._open(bucket, key)
        try:
            known = self._known(bucket, key, descriptor)
        finally:
            os.close(descriptor)
        if known is None:
            raise StoreUnavailable(f"{described(bucket, key)}: keeps changing while it is read")
        return ObjectInfo(known.identity.size, known.etag)

    def check_quick(self, ref: ObjectRef) -> bool:
        """ObjectStore.check_quick: one stat."""
        with self._lock:
            known = self._recall(ref.bucket, ref.key)
        if known is None or known.etag != ref.etag or ref.version_id is not None:
            return False
        try:
            # By path and following links: the same inode and stamps are the bytes that were hashed, from
            # wherever they are reached; a file that took their place is another.
            now = os.stat(known.path)
        except OSError:
            return False
        # Field by field, most telling first: this runs for every request.
        was = known.identity
        return (
            now.st_ctime_ns == was.ctime_ns
            and now.st_ino == was.inode
            and now.st_size == was.size
            and now.st_mtime_ns == was.mtime_ns
            and now.st_dev == was.device
        )

    def check(self, ref: ObjectRef) -> None:
        """ObjectStore.check. Reads the whole file where it was touched since its MD5 was computed."""
        _refuse_version(ref.bucket, ref.key, ref.version_id)
        descriptor = self._open(ref.bucket, ref.key)
        try:
            self._require(ref, self._known(ref.bucket, ref.key, descriptor))
        finally:
            os.close(descriptor)

    def read(self, ref: ObjectRef, start: int, length: int) -> bytes:
        """ObjectStore.read."""
        _refuse_version(ref.bucket, ref.key, ref.version_id)
        for _ in range(_ATTEMPTS):
            descriptor = self._open(ref.bucket, ref.key)
            try:
                known = self._require(ref, self._known(ref.bucket, ref.key, descriptor))
                if start + length > known.identity.size:
                    raise ObjectChanged(
                        f"{described(ref.bucket, ref.key)}: {start + length} bytes expected, "
                        f"it has {known.identity.size}"
                    )
                with storage_errors(described(ref.bucket, ref.key), ObjectMissing):
                    data = _pread(descriptor, start, length)
                    after = _identity(os.fstat(descriptor))
            finally:
                os.close(descriptor)
            if len(data) == length and after == known.identity:
                return data
        raise ObjectChanged(f"{described(ref.bucket, ref.key)}: keeps changing while it is read")

    def read_quick(self, ref: ObjectRef, start: int, length: int) -> Bytes | None:
        """ObjectStore.read_quick: from the kernel's page cache, where the file system can tell."""
        if _NOWAIT is None or ref.version_id is not None:
            return None
        with self._lock:
            known = self._recall(ref.bucket, ref.key)
        if known is None or known.etag != ref.etag or start + length > known.identity.size:
            return None
        data = bytearray(length)
        try:
            descriptor = self._open(ref.bucket, ref.key)
            try:
                if (
                    _identity(os.fstat(descriptor)) == known.identity
                    and os.preadv(descriptor, [data], start, _NOWAIT) == length
                    and _identity(os.fstat(descriptor)) == known.identity
                ):
                    return data
            finally:
                os.close(descriptor)
        except (OSError, StorageError):
            pass
        return None

    def presigned_url(self, bucket: str, key: str, version_id: str | None, seconds: int) -> None:
        """ObjectStore.presigned_url: a folder has none."""

    def put(self, bucket: str, key: str, source: BinaryIO, size: int) -> ObjectInfo:
        """ObjectStore.put: a temporary file beside the object, and a rename. Makes the bucket's folder too.

        A process killed in the middle leaves a file whose name begins with `.sluice-tmp-`, which is never
        served. ValueError where `source` ends early; ObjectForbidden where no file can have that name.
        """
        try:
            place = resolve(self._root, bucket, key, new=True)
        except (BucketMissing, ObjectMissing) as error:
            # A name that cannot be found when reading cannot be had when writing.
            raise ObjectForbidden(str(error)) from error
        with storage_errors(described(bucket, key), ObjectForbidden):
            folder = make_folder(place)
            try:
                digest = _write(folder, place.name, source, size)
            finally:
                os.close(folder)
        return ObjectInfo(size, digest)

    def close(self) -> None:
        """ObjectStore.close: nothing is held open."""

    def _open(self, bucket: str, key: str) -> int:
        """A descriptor of a regular file; the caller closes it."""
        descriptor = open_file(self._root, bucket, key)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise ObjectMissing(f"{described(bucket, key)}: no regular file")
        return descriptor

    def _recall(self, bucket: str, key: str) -> _Known | None:
        known = self._memory.get((bucket, key))
        if known is not None:
            self._memory.move_to_end((bucket, key))
        return known

    def _known(self, bucket: str, key: str, descriptor: int) -> _Known | None:
        """What the open file is; None if it was changed each time while it was hashed."""
        with self._hashing[hash((bucket, key)) % len(self._hashing)]:
            for _ in range(_ATTEMPTS):
                before = _identity(os.fstat(descriptor))
                with self._lock:
                    known = self._recall(bucket, key)
                if known is not None and known.identity == before:
                    return known
                if wait := settling_ns(before.ctime_ns, time.time_ns()):
                    time.sleep(wait / 1e9)
                    if _identity(os.fstat(descriptor)) != before:
                        continue
                with storage_errors(described(bucket, key), ObjectMissing):
                    etag = _md5(descriptor)
                if _identity(os.fstat(descriptor)) == before:
                    known = _Known(os.path.join(self._root, bucket.encode(), key.encode()), before, etag)
                    self._remember(bucket, key, known)
                    return known
        return None

    def _remember(self, bucket: str, key: str, known: _Known) -> None:
        with self._lock:
            self._memory[bucket, key] = known
            self._memory.move_to_end((bucket, key))
            if len(self._memory) > self._remembered:
                self._memory.popitem(last=False)

    @staticmethod
    def _require(ref: ObjectRef, known: _Known | None) -> _Known:
        if known is None:
            raise ObjectChanged(f"{described(ref.bucket, ref.key)}: keeps changing while it is read")
        if known.etag != ref.etag:
            raise ObjectChanged(
                f"{described(ref.bucket, ref.key)}: its ETag is {known.etag}, the stream has {ref.etag}"
            )
        return known


def _refuse_version(bucket: str, key: str, version_id: str | None) -> None:
    if version_id is not None:
        raise ObjectMissing(f"{described(bucket, key)}: no version {version_id!r}: folders keep no versions")


def _identity(now: os.stat_result) -> _Identity:
    return _Identity(now.st_dev, now.st_ino, now.st_size, now.st_mtime_ns, now.st_ctime_ns)


def _md5(descriptor: int) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    buffer = bytearray(_COPY_BYTES)
    view = memoryview(buffer)
    offset = 0
    while count := os.preadv(descriptor, [buffer], offset):
        digest.update(view[:count])
        offset += count
    return digest.hexdigest()


def _pread(descriptor: int, start: int, length: int) -> bytes:
    """The bytes there, fewer only where the file ends. One call and one buffer, as a rule."""
    data = os.pread(descriptor, length, start)
    while len(data) < length and (more := os.pread(descriptor, length - len(data), start + len(data))):
        data += more
    return data


def _write(folder: int, name: bytes, source: BinaryIO, size: int) -> str:
    """Writes the file wholly or not at all, so that it survives a loss of power; returns its MD5."""
    temporary = TEMPORARY + secrets.token_hex(8).encode()
    digest = hashlib.md5(usedforsecurity=False)
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        with open(os.open(temporary, flags, 0o666, dir_fd=folder), "wb") as file:
            left = size
            while left:
                data = source.read(min(left, _COPY_BYTES))
                if not data:
                    raise ValueError(f"the source ended after {size - left} of {size} bytes")
                digest.update(data)
                file.write(data)
                left -= len(data)
            file.flush()
            os.fsync(file.fileno())
        os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary, dir_fd=folder)
        raise
    sync_folder(folder)
    return digest.hexdigest()
