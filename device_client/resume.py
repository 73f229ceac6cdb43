"""The record of a half-done download. Part of the device set: runs on MicroPython.

`(stream, file id, version, size, block size, held)`: bit i of `held` is set if block i is held. Whoever keeps
a record makes the blocks durable before it.
"""

import struct
from hashlib import sha256

from chunker.bitmap import find
from chunker.blocks import block_count

_HEAD = ">17sBQQIB"  # what it is, file id, version, size, block size, length of the stream's name
_WHAT = b"sluice download 1"
_HEAD_BYTES = struct.calcsize(_HEAD)


def encode_record(
    stream: str, file_id: int, version: int, size: int, block_size: int, held: "bytes | bytearray"
) -> bytes:
    """The record as bytes that end with their SHA-256; version and size under 2**64."""
    name = stream.encode()
    record = struct.pack(_HEAD, _WHAT, file_id, version, size, block_size, len(name)) + name + held
    return record + sha256(record).digest()


def decode_record(data: bytes) -> "tuple[str, int, int, int, int, bytes] | None":
    """The record, or None where `data` is torn, foreign or of another kind."""
    if data[: len(_WHAT)] != _WHAT or len(data) < _HEAD_BYTES or sha256(data[:-32]).digest() != data[-32:]:
        return None
    _, file_id, version, size, block_size, length = struct.unpack(_HEAD, data[:_HEAD_BYTES])
    held = data[_HEAD_BYTES + length : -32]
    count = block_count(size, block_size) if 256 <= block_size <= 131072 else -8
    if len(held) != (count + 7) // 8 or find(held, True, count, len(held) * 8) != len(held) * 8:
        return None
    stream = "".join([chr(byte) for byte in data[_HEAD_BYTES : _HEAD_BYTES + length]])  # names are ASCII
    return stream, file_id, version, size, block_size, held
