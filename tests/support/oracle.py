"""What PROTOCOL says to a request, written down a second time and as plainly as possible.

Nothing here comes from our own decoders: CBOR follows the pseudo-code of RFC 8949 appendix C, JSON is the
standard library's, the checks are PROTOCOL's tables with the default quotas.
"""

import json
import re
import struct
from dataclasses import dataclass
from typing import Any

DEEPEST = 16


class NotWellFormed(Exception):
    """The payload is no CBOR map or JSON object as PROTOCOL wants it."""


@dataclass(frozen=True)
class Rejected:
    """A `rejected` message with that code, and that token where it is not None."""

    code: str
    token: str | None = None


@dataclass(frozen=True)
class Blocks:
    """Those blocks of file `file_id`, in that order."""

    file_id: int
    block_size: int
    indexes: tuple[int, ...]
    token: str | None = None


@dataclass(frozen=True)
class Described:
    """A `description`."""

    token: str | None = None


class Opaque:
    """A value that is no integer, text or byte string."""


OPAQUE = Opaque()


def entries_of(payload: bytes, encoding: str) -> dict[str, Any]:
    """The entries with text keys. NotWellFormed."""
    return cbor_entries(payload) if encoding == "cbor" else json_entries(payload)


# CBOR


class _Cbor:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, count: int) -> bytes:
        if count > len(self.data) - self.at:
            raise NotWellFormed("ends early")
        taken = self.data[self.at : self.at + count]
        self.at += count
        return taken

    def item(self, depth: int, breakable: bool = False) -> Any:
        """A value, equal to another only if both are the same in the data model; "break" for a break."""
        initial = self.take(1)[0]
        major, info = initial >> 5, initial & 0x1F
        value = info
        if 24 <= info <= 27:
            value = int.from_bytes(self.take(1 << (info - 24)), "big")
        elif info in (28, 29, 30):
            raise NotWellFormed("reserved")
        elif info == 31:
            return self.indefinite(major, depth, breakable)
        if major == 0:
            return ("int", value)
        if major == 1:
            return ("int", -1 - value)
        if major == 2:
            return ("bytes", self.take(value))
        if major == 3:
            return ("text", self.text(value))
        if major == 7:
            return self.simple(info, value)
        if depth >= DEEPEST:
            raise NotWellFormed("too deep")
        if major == 4:
            if value > len(self.data):
                raise NotWellFormed("ends early")
            return ("array", *(self.item(depth + 1) for _ in range(value)))
        if major == 5:
            if value > len(self.data):
                raise NotWellFormed("ends early")
            return self.map([(self.item(depth + 1), self.item(depth + 1)) for _ in range(value)])
        return ("tag", value, self.item(depth + 1))

    def text(self, length: int) -> str:
        try:
            return self.take(length).decode("utf-8")
        except UnicodeDecodeError:
            raise NotWellFormed("no UTF-8") from None

    def simple(self, info: int, value: int) -> Any:
        if info in (25, 26, 27):
            number = struct.unpack(
                {25: ">e", 26: ">f", 27: ">d"}[info], self.data[self.at - (1 << info - 24) : self.at]
            )
            return ("float", struct.pack(">d", *number))
        if info == 24 and value < 32:
            raise NotWellFormed("simple value")
        return ("simple", value)

    def indefinite(self, major: int, depth: int, breakable: bool) -> Any:
        if major == 7:
            if breakable:
                return "break"
            raise NotWellFormed("break")
        if major in (2, 3):
            strings = []
            while (initial := self.take(1)[0]) != 0xFF:
                if initial >> 5 != major or initial & 0x1F == 31:
                    raise NotWellFormed("string")
                self.at -= 1
                strings.append(self.item(depth)[1])
            return ("bytes", b"".join(strings)) if major == 2 else ("text", "".join(strings))
        if major not in (4, 5):
            raise NotWellFormed("indefinite")
        if depth >= DEEPEST:
            raise NotWellFormed("too deep")
        items = []
        while (item := self.item(depth + 1, breakable=True)) != "break":
            items.append(item)
            if major == 5:
                items.append(self.item(depth + 1))
        if major == 4:
            return ("array", *items)
        return self.map(list(zip(items[::2], items[1::2], strict=True)))

    def map(self, pairs: list[tuple[Any, Any]]) -> Any:
        if len({key for key, _ in pairs}) != len(pairs):
            raise NotWellFormed("duplicate key")
        return ("map", frozenset(pairs))


def cbor_entries(payload: bytes) -> dict[str, Any]:
    """The entries of a map with text keys."""
    if not payload or payload[0] >> 5 != 5:
        raise NotWellFormed("no map")
    reader = _Cbor(payload)
    _, pairs = reader.item(0)
    if reader.at != len(payload):
        raise NotWellFormed("trailing bytes")
    return {
        key[1]: value[1] if value[0] in ("int", "bytes", "text") else OPAQUE
        for key, value in pairs
        if key[0] == "text"
    }


# JSON


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    if len(set(names)) != len(names):
        raise NotWellFormed("duplicate key")
    return dict(pairs)


def _constant(name: str) -> Any:
    raise NotWellFormed(name)


def _whole(digits: str) -> int:
    # Python refuses to convert thousands of digits; what is that long is out of every bound.
    return int(digits) if len(digits) < 1000 else int(digits[:1000])


def json_entries(payload: bytes) -> dict[str, Any]:
    """The entries of an object."""
    try:
        text = payload.decode("utf-8")
    except UnicodeDecodeError:
        raise NotWellFormed("no UTF-8") from None
    outside_strings = re.sub(r'"(?:[^"\\]|\\.)*"', "", text, flags=re.DOTALL)
    depth = deepest = 0
    for character in outside_strings:
        depth += (character in "[{") - (character in "]}")
        deepest = max(deepest, depth)
    if deepest > DEEPEST:
        raise NotWellFormed("too deep")
    try:
        value = json.loads(text, object_pairs_hook=_no_duplicates, parse_constant=_constant, parse_int=_whole)
    except ValueError:
        raise NotWellFormed("no JSON") from None
    if not isinstance(value, dict):
        raise NotWellFormed("no object")
    return {key: item if type(item) in (int, str) else OPAQUE for key, item in value.items()}


# The tables


def describe(payload: bytes, encoding: str, *, exists: bool = True, size: int | None = None) -> Any:
    """Described or Rejected."""
    if (len(payload) if size is None else size) > 64 * 1024:
        return Rejected("InvalidRequest")
    if not payload:
        return Described() if exists else Rejected("ResourceNotFound")
    try:
        entries = entries_of(payload, encoding)
    except NotWellFormed:
        return Rejected("InvalidCbor" if encoding == "cbor" else "InvalidJson")
    if not _good_token(entries):
        return Rejected("InvalidRequest")
    token = entries.get("c")
    return Described(token) if exists else Rejected("ResourceNotFound", token)


def get(payload: bytes, encoding: str, *, version: int, files: dict[int, int]) -> Blocks | Rejected:
    """What answers a GetStream request for a stream at `version` whose files are id → size in bytes."""
    if len(payload) > 64 * 1024:
        return Rejected("InvalidRequest")
    try:
        entries = entries_of(payload, encoding)
    except NotWellFormed:
        return Rejected("InvalidCbor" if encoding == "cbor" else "InvalidJson")
    if not _good_token(entries):
        return Rejected("InvalidRequest")
    token = entries.get("c")

    def rejected(code: str) -> Rejected:
        return Rejected(code, token)

    if any(type(entries[field]) is not int for field in "sflon" if field in entries):
        return rejected("InvalidRequest")
    if "f" not in entries or "l" not in entries:
        return rejected("InvalidRequest")
    bitmap = None
    if "b" in entries:
        bitmap = _bitmap(entries["b"], encoding)
        if bitmap is None or not any(bitmap):
            return rejected("InvalidRequest")
    file_id, block_size = entries["f"], entries["l"]
    offset, count = entries.get("o", 0), entries.get("n", 0)
    if not 256 <= block_size <= 131072:
        return rejected("BlockSizeOutOfBounds")
    if not 0 <= offset <= 98304:
        return rejected("OffsetOutOfBounds")
    if not 0 <= count <= 98304:
        return rejected("BlockCountLimitExceeded")
    if bitmap is not None and len(bitmap) >= 12288:
        return rejected("BlockBitmapLimitExceeded")
    if entries.get("s", version) != version:
        return rejected("VersionMismatch")
    if file_id not in files:
        return rejected("ResourceNotFound")
    indexes = wanted(files[file_id], block_size, offset, count, bitmap)
    if not indexes:
        return rejected("ResourceNotFound")
    return Blocks(file_id, block_size, tuple(indexes), token)


def wanted(size: int, block_size: int, offset: int, count: int, bitmap: bytes | None) -> list[int]:
    """The blocks that answer a request within its bounds."""
    fitting = 131072 // block_size
    existing = -(-size // block_size)
    most = min(count, fitting) if count else fitting
    if bitmap is None:
        chosen = [offset + k for k in range(most)]
    else:
        chosen = [offset + k for k in range(8 * len(bitmap)) if bitmap[k // 8] & (1 << (k % 8))]
    return [index for index in chosen if index < existing][:most]


def _good_token(entries: dict[str, Any]) -> bool:
    if "c" not in entries:
        return True
    token = entries["c"]
    if not isinstance(token, str) or any(0xD800 <= ord(character) < 0xE000 for character in token):
        return False
    return len(token.encode()) <= 64


def _bitmap(value: Any, encoding: str) -> bytes | None:
    if encoding == "cbor":
        return value if isinstance(value, bytes) else None
    if not isinstance(value, str):
        return None
    found = re.fullmatch(r"(?:0[xX])?((?:[0-9a-fA-F]{2})*)", value)
    return bytes.fromhex(found[1]) if found else None
