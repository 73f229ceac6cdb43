"""Strict decoding of CBOR requests (PROTOCOL "Rejections", `InvalidCbor`; RFC 8949).

Integers, text and byte strings come out as themselves. Everything else (arrays, maps, tags, floats, simple
values, booleans and null among them) is of no use to a request and comes out as a tuple, so that it is taken
for none of them.
"""

import struct
from typing import Any

from chunker.errors import Malformed

MAX_NESTING = 16

Item = int | str | bytes | tuple[object, ...]

_BREAK = ("break",)
_FLOATS = {25: ">e", 26: ">f", 27: ">d"}


def decode_map(payload: bytes) -> dict[str, Item]:
    """The entries with text keys of one CBOR map; others are checked and left out. Raises Malformed."""
    try:
        if payload[0] >> 5 != 5:
            raise Malformed("not a map")
        entries, end = _pairs(payload, 0, 1)
    except IndexError:
        raise Malformed("the payload ends within an item") from None
    except UnicodeDecodeError:
        raise Malformed("a text string is not UTF-8") from None
    if end != len(payload):
        raise Malformed(f"{len(payload) - end} bytes follow the map")
    return {key: value for key, value in entries if type(key) is str}


def _pairs(data: bytes, at: int, depth: int) -> tuple[list[tuple[Item, Item]], int]:
    """The entries of the map whose head is at `at`, and where it ends."""
    if depth > MAX_NESTING:
        raise Malformed(f"nested over {MAX_NESTING} deep")
    count, at = _argument(data, at)
    if count is not None and count * 2 > len(data) - at:
        raise Malformed("a length goes past the payload")
    entries: list[tuple[Item, Item]] = []
    keys: set[Item] = set()
    while count is None or len(entries) < count:
        key, at = _item(data, at, depth)
        if key is _BREAK:
            if count is not None:
                raise Malformed("a break where none may be")
            break
        value, at = _item(data, at, depth)
        if value is _BREAK:
            raise Malformed("a break where none may be")
        if type(key) is tuple:
            # Bytes, since Python's hash of numbers, alone or in tuples, is no secret: a device could make
            # thousands of different keys of one hash, and finding duplicates among them is quadratic.
            key = ("key", _canonical(key))
        keys.add(key)
        entries.append((key, value))
    if len(keys) != len(entries):
        raise Malformed("a map has the same key twice")
    return entries, at


def _item(data: bytes, at: int, depth: int) -> tuple[Item, int]:
    """The item whose head is at `at`, and where it ends. IndexError where the payload ends within it."""
    head = data[at]
    if head < 0x18:  # small integers first: most of what devices send
        return head, at + 1
    major = head >> 5
    if major == 5:
        entries, at = _pairs(data, at, depth + 1)
        return ("map", entries), at
    if major == 7:
        return _simple(data, at)
    argument, at = _argument(data, at)
    if major == 0 or major == 1:
        if argument is None:
            raise Malformed("an integer of indefinite length")
        return (argument if major == 0 else -1 - argument), at
    if major == 2 or major == 3:
        string, at = _string(data, at, argument, major)
        return (string if major == 2 else string.decode("utf-8")), at
    if depth >= MAX_NESTING:
        raise Malformed(f"nested over {MAX_NESTING} deep")
    if major == 4:
        return _array(data, at, argument, depth + 1)
    if argument is None:
        raise Malformed("a tag of indefinite length")
    content, at = _item(data, at, depth + 1)
    if content is _BREAK:
        raise Malformed("a break where none may be")
    return ("tag", argument, content), at


def _array(data: bytes, at: int, count: int | None, depth: int) -> tuple[Item, int]:
    if count is not None and count > len(data) - at:
        raise Malformed("a length goes past the payload")
    items: list[Item] = []
    while count is None or len(items) < count:
        item, at = _item(data, at, depth)
        if item is _BREAK:
            if count is not None:
                raise Malformed("a break where none may be")
            break
        items.append(item)
    return ("array", items), at


def _string(data: bytes, at: int, length: int | None, major: int) -> tuple[bytes, int]:
    if length is not None:
        end = at + length
        if end > len(data):
            raise Malformed("a length goes past the payload")
        return data[at:end], end
    strings: list[bytes] = []
    while data[at] != 0xFF:
        if data[at] >> 5 != major:
            raise Malformed("a string of indefinite length holds something else")
        length, at = _argument(data, at)
        if length is None:
            raise Malformed("a string of indefinite length within another")
        string, at = _string(data, at, length, major)
        if major == 3:
            string.decode("utf-8")  # RFC 8949 section 3.2.3: each on its own
        strings.append(string)
    return b"".join(strings), at + 1


def _argument(data: bytes, at: int) -> tuple[int | None, int]:
    """The argument of the head at `at` (None: indefinite length), and where what follows it begins."""
    info = data[at] & 31
    at += 1
    if info < 24:
        return info, at
    if info < 28:
        end = at + (1 << (info - 24))
        if end > len(data):
            raise Malformed("the payload ends within an item")
        return int.from_bytes(data[at:end], "big"), end
    if info == 31:
        return None, at
    raise Malformed(f"additional information {info} is reserved")


def _simple(data: bytes, at: int) -> tuple[Item, int]:
    info = data[at] & 31
    if info == 31:
        return _BREAK, at + 1
    value, end = _argument(data, at)
    if info == 24 and value is not None and value < 32:
        raise Malformed(f"simple value {value} in two bytes")
    if info in _FLOATS:
        number: float = struct.unpack(_FLOATS[info], data[at + 1 : end])[0]
        return ("float", struct.pack(">d", number)), end
    return ("simple", value), end


def _canonical(item: Any) -> bytes:
    """The same for two items only if they are the same in CBOR's data model, however they were encoded.

    A map's keys come as `_pairs` left them, so that nothing within a key is gone through twice.
    """
    if type(item) is int:
        return b"int %d," % item
    if type(item) is not tuple:
        kind, content = ("text", item.encode("utf-8")) if type(item) is str else ("bytes", item)
    elif item[0] == "array":
        kind, content = "array", b"".join(map(_canonical, item[1]))
    elif item[0] == "map":
        kind, content = "map", b"".join(sorted(_canonical(key) + _canonical(value) for key, value in item[1]))
    elif item[0] == "tag":
        kind, content = f"tag {item[1]}", _canonical(item[2])
    elif item[0] == "simple":
        kind, content = f"simple {item[1]}", b""
    else:
        kind, content = item
    return b"%s %d:%s" % (kind.encode(), len(content), content)
