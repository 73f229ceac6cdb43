"""What a device is told when the store or the registry cannot give what it asked for: the one place."""

from broker_bridge.registry.streams import Stream, StreamFile
from broker_bridge.storage.objects import (
    BucketMissing,
    ObjectChanged,
    ObjectForbidden,
    ObjectMissing,
)
from chunker.errors import Code, Rejection
from chunker.requests import GetRequest


def not_stored(error: BaseException, file: StreamFile, token: str | None) -> Rejection:
    """The rejection for a StorageError met while reading `file`; anything unknown is an InternalError."""
    which = f"the object behind f (file id) {file.file_id}"
    match error:
        case ObjectChanged():
            return Rejection(
                Code.ETAG_MISMATCH, f"{which} was overwritten since the stream took it in", token
            )
        case ObjectMissing() | BucketMissing():
            return Rejection(Code.RESOURCE_NOT_FOUND, f"{which} is gone", token)
        case ObjectForbidden():
            return Rejection(Code.UNAUTHORIZED, f"the service may not read {which}", token)
    return Rejection(Code.INTERNAL_ERROR, f"{which} could not be read now; ask again later", token)


def no_stream(token: str | None) -> Rejection:
    """There is no stream of the topic's name."""
    return Rejection(Code.RESOURCE_NOT_FOUND, "there is no such stream", token)


def not_permitted(token: str | None) -> Rejection:
    """The settings do not let this thing have this stream."""
    return Rejection(Code.UNAUTHORIZED, "this thing may not have this stream", token)


def other_version(get: GetRequest, stream: Stream) -> Rejection:
    """The request's `s` is not the stream's version."""
    return Rejection(
        Code.VERSION_MISMATCH,
        f"s (stream version) is {_shown(get.version)}; the stream is at version {stream.version}",
        get.token,
    )


def no_file(get: GetRequest, stream: Stream) -> Rejection:
    """The request's `f` is not in the stream."""
    files = ", ".join(str(file.file_id) for file in stream.files)
    return Rejection(
        Code.RESOURCE_NOT_FOUND,
        f"f (file id) is {_shown(get.file_id)}; the stream has {files}",
        get.token,
    )


def no_block(get: GetRequest, size: int, total: int) -> Rejection:
    """None of the blocks asked for is in the file."""
    return Rejection(
        Code.RESOURCE_NOT_FOUND,
        f"no wanted block from o (block offset) {get.offset} on is in the file: at l (block size) "
        f"{get.block_size} its {size} bytes are {total} blocks",
        get.token,
    )


def internal(token: str | None) -> Rejection:
    """Something failed that the device has no part in."""
    return Rejection(Code.INTERNAL_ERROR, "the service could not answer; ask again later", token)


def _shown(value: int | None) -> str:
    return str(value) if value is None or abs(value) < 1 << 64 else "beyond 64 bits"
