"""Why a request is refused (PROTOCOL "Rejections")."""

from enum import StrEnum


class Code(StrEnum):
    """The `o` of a `rejected` message."""

    INVALID_TOPIC = "InvalidTopic"
    INVALID_JSON = "InvalidJson"
    INVALID_CBOR = "InvalidCbor"
    INVALID_REQUEST = "InvalidRequest"
    UNAUTHORIZED = "Unauthorized"
    BLOCK_SIZE_OUT_OF_BOUNDS = "BlockSizeOutOfBounds"
    OFFSET_OUT_OF_BOUNDS = "OffsetOutOfBounds"
    BLOCK_COUNT_LIMIT_EXCEEDED = "BlockCountLimitExceeded"
    BLOCK_BITMAP_LIMIT_EXCEEDED = "BlockBitmapLimitExceeded"
    RESOURCE_NOT_FOUND = "ResourceNotFound"
    VERSION_MISMATCH = "VersionMismatch"
    ETAG_MISMATCH = "ETagMismatch"
    INTERNAL_ERROR = "InternalError"


class Rejection(Exception):
    """A request that is refused.

    `message` goes to the device: it names the field, the value and the bound, and never a bucket, a key or a
    path. `token` is the request's client token where it was given and valid.
    """

    def __init__(self, code: Code, message: str, token: str | None = None) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.token = token


class Malformed(Exception):
    """A payload that is not a well-formed JSON object or CBOR map."""
