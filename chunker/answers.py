"""What the service says to devices (PROTOCOL "DescribeStream", "GetStream", "Rejections"). CPython only.

Compact on purpose: no floats, no tags, plain integers, the shortest heads (DEVICES "File delivery" 4, 5).
"""

import json
import struct
from binascii import b2a_base64
from collections.abc import Iterable

from chunker.errors import Rejection
from chunker.topics import CBOR

Buffer = bytes | memoryview


def description(
    encoding: str, token: str | None, version: int, text: str | None, files: Iterable[tuple[int, int]]
) -> bytes:
    """The answer to DescribeStream; `files` are (file id, size in bytes) in ascending file id."""
    answer: dict[str, object] = {} if token is None else {"c": token}
    answer["s"] = version
    if text is not None:
        answer["d"] = text
    answer["r"] = [{"f": file_id, "z": size} for file_id, size in files]
    return _encode(answer, encoding)


def rejected(encoding: str, rejection: Rejection) -> bytes:
    """A `rejected` message."""
    answer: dict[str, object] = {"o": str(rejection.code), "m": rejection.message}
    if rejection.token is not None:
        answer["c"] = rejection.token
    return _encode(answer, encoding)


def block_prefix(encoding: str, token: str | None) -> bytes:
    """The start of a block's payload, the only part of it that depends on who asked."""
    if encoding == CBOR:
        return b"\xa4" if token is None else b"\xa5\x61c" + _cbor(token)
    return b"{" if token is None else b'{"c":' + _json(token) + b","


class BlockHeads:
    """What stands between prefix and bytes in the blocks of one file at one block size, the same for all.

    A payload is `block_prefix(…) + heads[i] + body(bytes)`. A head is built once; of more than MAX_HEADS all
    are built again.
    """

    MAX_HEADS = 4096

    def __init__(self, encoding: str, file_id: int, block_size: int, size: int) -> None:
        self._cbor = encoding == CBOR
        self._file_id = file_id
        self._block_size = block_size
        self._size = size
        self._around = self._around_index(block_size)
        self._made: dict[int, bytes] = {}
        self.encoded = not self._cbor
        """Whether `body` changes anything."""

    def __getitem__(self, index: int) -> bytes:
        """The head of block `index`, 0 <= index < block_count."""
        head = self._made.get(index)
        if head is None:
            if len(self._made) >= self.MAX_HEADS:
                self._made.clear()
            head = self._made[index] = self._make(index)
        return head

    def of(self, indexes: Iterable[int]) -> list[bytes]:
        """The heads of many blocks."""
        try:
            return list(map(self._made.__getitem__, indexes))
        except KeyError:
            return [self[index] for index in indexes]

    def _make(self, index: int) -> bytes:
        length = self._size - index * self._block_size
        before, after = self._around if length >= self._block_size else self._around_index(length)
        return before + (_head(0, index) if self._cbor else b"%d" % index) + after

    def _around_index(self, length: int) -> tuple[bytes, bytes]:
        """What stands before and after `i` in the head of a block of `length` bytes."""
        if not self._cbor:
            return b'"f":%d,"l":%d,"i":' % (self._file_id, length), b',"p":"'
        before = b"\x61f" + _head(0, self._file_id) + b"\x61l" + _head(0, length) + b"\x61i"
        return before, b"\x61p" + _head(2, length)

    def body(self, data: Buffer) -> Buffer:
        """A block's bytes as they follow the head: as they are in CBOR, Base64 and the closing in JSON."""
        return data if self._cbor else b2a_base64(data, newline=False) + b'"}'


def _encode(answer: dict[str, object], encoding: str) -> bytes:
    return _cbor(answer) if encoding == CBOR else _json(answer)


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8")


def _cbor(value: object) -> bytes:
    if isinstance(value, int):
        return _head(0, value)
    if isinstance(value, str):
        text = value.encode("utf-8")
        return _head(3, len(text)) + text
    if isinstance(value, list):
        return _head(4, len(value)) + b"".join(_cbor(item) for item in value)
    assert isinstance(value, dict)
    return _head(5, len(value)) + b"".join(_cbor(key) + _cbor(item) for key, item in value.items())


def _head(major: int, argument: int) -> bytes:
    """A CBOR head with the shortest argument (RFC 8949 section 3), 0 <= argument < 2^64."""
    if argument < 24:
        return bytes(((major << 5) | argument,))
    for info, size, form in ((24, 1, ">BB"), (25, 2, ">BH"), (26, 4, ">BI")):
        if argument < 1 << (8 * size):
            return struct.pack(form, (major << 5) | info, argument)
    return struct.pack(">BQ", (major << 5) | 27, argument)
