"""What devices ask for, decoded strictly (PROTOCOL "DescribeStream", "GetStream"). CPython only.

The checks run in PROTOCOL's order ("Rejections"): encoding, types with the client token first, bounds. The
rest of the order (stream, permission, version, file, blocks, storage) is the service's.
"""

import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass

from chunker.blocks import block_count
from chunker.errors import Code, Malformed, Rejection
from chunker.limits import Limits
from chunker.strict_cbor import decode_map
from chunker.strict_json import decode_object
from chunker.topics import CBOR, JSON

MAX_PAYLOAD = 65536
"""A longer payload is refused without being decoded, bytes."""

_THING = re.compile(r"[a-zA-Z0-9:_-]{1,128}")
_STREAM = re.compile(r"[a-zA-Z0-9_-]{1,128}")
_HEX_PREFIX = ("0x", "0X")


@dataclass(frozen=True, slots=True)
class GetRequest:
    """A GetStream request within its bounds."""

    token: str | None
    version: int | None
    file_id: int
    block_size: int
    offset: int
    count: int
    """Most blocks to send: `n`, and no more than fit in `Limits.request_bytes`."""
    bitmap: bytes | None

    def wanted(self, size: int) -> range | list[int]:
        """The blocks of a file of `size` bytes that answer this request, ascending; empty if none does."""
        total = block_count(size, self.block_size)
        if self.bitmap is None:
            return range(self.offset, max(self.offset, min(self.offset + self.count, total)))
        return _set_bits(self.bitmap, self.offset, total, self.count)


def check_topic(thing: str, stream: str, encoding: str) -> None:
    """Raises InvalidTopic for a name outside its alphabet or an unknown encoding (PROTOCOL "Topics")."""
    if _THING.fullmatch(thing) is None:
        raise Rejection(Code.INVALID_TOPIC, "the thing name must be 1 to 128 of [a-zA-Z0-9:_-]")
    if _STREAM.fullmatch(stream) is None:
        raise Rejection(Code.INVALID_TOPIC, "the stream id must be 1 to 128 of [a-zA-Z0-9_-]")
    if encoding not in (CBOR, JSON):
        raise Rejection(Code.INVALID_TOPIC, "the topic must end in /cbor or /json")


def decode_describe(payload: bytes, encoding: str, limits: Limits) -> str | None:
    """The client token of a DescribeStream request; an empty payload has none. Raises Rejection."""
    return _token(_entries(payload, encoding), limits) if payload else None


def decode_get(payload: bytes, encoding: str, limits: Limits) -> GetRequest:
    """A GetStream request. Raises Rejection, with the token where that was valid."""
    entries = _entries(payload, encoding)
    token = _token(entries, limits)
    try:
        return _get_request(entries, token, encoding, limits)
    except Rejection as rejection:
        rejection.token = token
        raise


def oversized(size: int) -> Rejection:
    """The answer to a payload of more than MAX_PAYLOAD bytes."""
    return Rejection(Code.INVALID_REQUEST, f"the payload has {size} bytes; at most {MAX_PAYLOAD} are read")


def _entries(payload: bytes, encoding: str) -> Mapping[str, object]:
    if len(payload) > MAX_PAYLOAD:
        raise oversized(len(payload))
    try:
        return decode_map(payload) if encoding == CBOR else decode_object(payload)
    except Malformed as error:
        code = Code.INVALID_CBOR if encoding == CBOR else Code.INVALID_JSON
        kind = "CBOR map" if encoding == CBOR else "JSON object"
        raise Rejection(code, f"the payload is not one well-formed {kind}: {error}") from None


def _token(entries: Mapping[str, object], limits: Limits) -> str | None:
    if "c" not in entries:
        return None
    token = entries["c"]
    if type(token) is not str:
        raise Rejection(Code.INVALID_REQUEST, "c (client token) must be text")
    try:
        length = len(token.encode("utf-8"))
    except UnicodeEncodeError:
        raise Rejection(Code.INVALID_REQUEST, "c (client token) holds a lone surrogate") from None
    if length > limits.client_token_bytes:
        raise Rejection(
            Code.INVALID_REQUEST,
            f"c (client token) has {length} bytes in UTF-8; at most {limits.client_token_bytes} are allowed",
        )
    return token


def _get_request(
    entries: Mapping[str, object], token: str | None, encoding: str, limits: Limits
) -> GetRequest:
    version = _integer(entries, "s", "stream version")
    file_id = _integer(entries, "f", "file id")
    block_size = _integer(entries, "l", "block size")
    offset = _integer(entries, "o", "block offset")
    count = _integer(entries, "n", "number of blocks")
    bitmap = _bitmap(entries["b"], encoding) if "b" in entries else None
    if file_id is None:
        raise Rejection(Code.INVALID_REQUEST, "f (file id) is required")
    if block_size is None:
        raise Rejection(Code.INVALID_REQUEST, "l (block size) is required")
    if not limits.block_size_min <= block_size <= limits.block_size_max:
        raise _out_of_bounds(
            Code.BLOCK_SIZE_OUT_OF_BOUNDS,
            "l (block size)",
            block_size,
            limits.block_size_min,
            limits.block_size_max,
        )
    offset = 0 if offset is None else offset
    if not 0 <= offset <= limits.block_offset_max:
        raise _out_of_bounds(
            Code.OFFSET_OUT_OF_BOUNDS, "o (block offset)", offset, 0, limits.block_offset_max
        )
    count = 0 if count is None else count
    if not 0 <= count <= limits.block_count_max:
        raise _out_of_bounds(
            Code.BLOCK_COUNT_LIMIT_EXCEEDED, "n (number of blocks)", count, 0, limits.block_count_max
        )
    if bitmap is not None and len(bitmap) >= limits.bitmap_bytes:
        raise Rejection(
            Code.BLOCK_BITMAP_LIMIT_EXCEEDED,
            f"b (bitmap) has {len(bitmap)} bytes; it must have fewer than {limits.bitmap_bytes}",
        )
    fitting = limits.request_bytes // block_size
    return GetRequest(token, version, file_id, block_size, offset, min(count or fitting, fitting), bitmap)


def _integer(entries: Mapping[str, object], field: str, name: str) -> int | None:
    if field not in entries:
        return None
    value = entries[field]
    if type(value) is not int:  # `isinstance` would let booleans through
        raise Rejection(Code.INVALID_REQUEST, f"{field} ({name}) must be an integer")
    return value


def _bitmap(value: object, encoding: str) -> bytes:
    if encoding == CBOR:
        if type(value) is not bytes:
            raise Rejection(Code.INVALID_REQUEST, "b (bitmap) must be a byte string")
        bitmap = value
    else:
        if type(value) is not str:
            raise Rejection(Code.INVALID_REQUEST, "b (bitmap) must be hexadecimal text")
        try:
            bitmap = binascii.unhexlify(value[2:] if value.startswith(_HEX_PREFIX) else value)
        except ValueError:
            raise Rejection(
                Code.INVALID_REQUEST, "b (bitmap) must be an even number of hexadecimal digits"
            ) from None
    if not bitmap.strip(b"\0"):
        raise Rejection(Code.INVALID_REQUEST, "b (bitmap) must have a bit set")
    return bitmap


def _set_bits(bitmap: bytes, offset: int, stop: int, most: int) -> list[int]:
    """Up to `most` of the blocks below `stop` whose bits are set, counted from `offset`, ascending."""
    blocks: list[int] = []
    skipped = len(bitmap) - len(bitmap.lstrip(b"\0"))
    block = offset + 8 * skipped
    for byte in memoryview(bitmap)[skipped:]:
        if block >= stop:
            break
        for bit in _BITS[byte]:
            blocks.append(block + bit)
        if len(blocks) >= most:
            break
        block += 8
    while blocks and blocks[-1] >= stop:
        blocks.pop()
    del blocks[most:]
    return blocks


_BITS = tuple(tuple(bit for bit in range(8) if byte >> bit & 1) for byte in range(256))


def _out_of_bounds(code: Code, name: str, value: int, low: int, high: int) -> Rejection:
    shown = str(value) if abs(value) < 1 << 64 else "beyond 64 bits"
    return Rejection(code, f"{name} is {shown}; it must be from {low} to {high}")
