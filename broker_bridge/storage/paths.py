"""From a bucket and a key to a file inside the bucket's folder, and never to one outside of it.

A bucket is a folder under the root, a key a path in it. Links are followed as long as they stay inside: the
path is resolved first, has to lie in the bucket, and is then walked folder by folder without following any
link, so that whoever swaps a folder for a link in between gets an error and not a file from elsewhere.
"""
# Names are bytes, whatever the locale, and relative to open folders: pathlib has neither.
# ruff: noqa: PTH103, PTH118

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

from broker_bridge.storage.objects import (
    BucketMissing,
    ObjectForbidden,
    ObjectMissing,
    StorageError,
    StoreUnavailable,
)

TEMPORARY = b".sluice-tmp-"
"""How the names of half-written files begin. No bucket and no part of a key may begin so."""

MAX_KEY_BYTES = 1024
"""S3's bound on a key in UTF-8, kept here too so that both stores hold the same keys."""

# Linux: a handle that needs no read permission on the folder, as a path does not.
_FOLDER = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Opening a FIFO or a device must neither wait for its other end nor make it our terminal.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC

_ABSENT = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ENXIO, errno.ENODEV}
# The last two are met in writing: what has the name already is of the other kind.
_REFUSED = {errno.EACCES, errno.EPERM, errno.EROFS, errno.EISDIR, errno.EEXIST}


class Place(NamedTuple):
    """Where a key lies: the real path of the root, then names to descend by, none of them a link."""

    root: bytes
    bucket: list[bytes]
    folders: list[bytes]
    name: bytes


@contextmanager
def storage_errors(what: str, absent: type[StorageError]) -> Iterator[None]:
    """Turns the system's errors into a store's; `absent` is what "there is no such thing" means here."""
    try:
        yield
    except OSError as error:
        if error.errno in _ABSENT:
            raise absent(f"{what}: {error.strerror}") from error
        if error.errno in _REFUSED:
            raise ObjectForbidden(f"{what}: {error.strerror}") from error
        raise StoreUnavailable(f"{what}: {error.strerror or error}") from error


def _bucket_name(bucket: str) -> bytes:
    name = _file_name(bucket)
    if name is None:
        raise BucketMissing(f"bucket {bucket!r}: no folder can have that name")
    return name


def _key_names(bucket: str, key: str) -> list[bytes]:
    names = [name for part in key.split("/") if (name := _file_name(part)) is not None]
    if len(names) <= key.count("/"):
        raise ObjectMissing(
            f"{described(bucket, key)}: an empty, '.', '..', hidden or undecodable name in it"
        )
    if len(b"/".join(names)) > MAX_KEY_BYTES:
        raise ObjectMissing(f"{described(bucket, key)}: the key is longer than {MAX_KEY_BYTES} bytes")
    return names


def described(bucket: str, key: str) -> str:
    """An object's name as error messages have it."""
    return f"object {key!r} of bucket {bucket!r}"


def resolve(root: bytes, bucket: str, key: str, *, new: bool = False) -> Place:
    """Where the key lies once links are followed. `new`: its last name is taken as it is, link or not.

    BucketMissing or ObjectMissing where the name is none, or where a link leads out.
    """
    real_root = os.path.realpath(root)
    real_bucket = os.path.realpath(os.path.join(real_root, _bucket_name(bucket)))
    bucket_path = _below(real_root, real_bucket)
    if not bucket_path:
        raise BucketMissing(f"bucket {bucket!r}: a link that leads out of the root")
    names = _key_names(bucket, key)
    if new:
        *folders, name = names
        path = _below(real_bucket, os.path.realpath(os.path.join(real_bucket, *folders)))
        path = None if path is None else [*path, name]
    else:
        path = _below(real_bucket, os.path.realpath(os.path.join(real_bucket, *names)))
    if not path or any(name.startswith(TEMPORARY) for name in path):
        raise ObjectMissing(f"{described(bucket, key)}: it leads out of the bucket, or to a hidden file")
    return Place(real_root, bucket_path, path[:-1], path[-1])


def open_file(root: bytes, bucket: str, key: str) -> int:
    """A descriptor of what has that key, for reading; whoever calls closes it, and looks if it is a file.

    BucketMissing, ObjectMissing, ObjectForbidden, StoreUnavailable.
    """
    place = resolve(root, bucket, key)
    with storage_errors(f"bucket {bucket!r}", BucketMissing):
        folder = _descend(os.open(place.root, _FOLDER), place.bucket)
    with storage_errors(described(bucket, key), ObjectMissing):
        folder = _descend(folder, place.folders)
        try:
            return os.open(place.name, _FILE, dir_fd=folder)
        finally:
            os.close(folder)


def make_folder(place: Place) -> int:
    """A descriptor of the folder of `place`, made where it is missing, as are those above it. OSError."""
    os.makedirs(place.root, exist_ok=True)
    return _descend(os.open(place.root, _FOLDER), [*place.bucket, *place.folders], make=True)


def sync_folder(folder: int) -> None:
    """Makes what was created or renamed in a folder survive a loss of power. OSError."""
    # An O_PATH descriptor cannot be synced itself.
    descriptor = os.open(b".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _file_name(part: str) -> bytes | None:
    try:
        name = part.encode()
    except UnicodeEncodeError:
        return None
    if name in (b"", b".", b"..") or b"/" in name or b"\0" in name or name.startswith(TEMPORARY):
        return None
    return name


def _below(parent: bytes, child: bytes) -> list[bytes] | None:
    """The names that lead from `parent` to `child`: empty where they are the same, None if it is outside."""
    if child == parent:
        return []
    prefix = parent.rstrip(b"/") + b"/"
    return child[len(prefix) :].split(b"/") if child.startswith(prefix) else None


def _descend(folder: int, names: list[bytes], *, make: bool = False) -> int:
    """Walks down from `folder`, which it closes, and returns the descriptor of the last folder."""
    for name in names:
        try:
            try:
                below = os.open(name, _FOLDER, dir_fd=folder)
            except FileNotFoundError:
                if not make:
                    raise
                with suppress(FileExistsError):
                    os.mkdir(name, dir_fd=folder)
                sync_folder(folder)
                below = os.open(name, _FOLDER, dir_fd=folder)
        finally:
            os.close(folder)
        folder = below
    return folder
