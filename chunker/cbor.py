"""The little CBOR (RFC 8949) a device needs. Part of the device set: runs on MicroPython."""


def _head(major: int, value: int) -> bytes:
    if value < 24:
        return bytes([major << 5 | value])
    power = 0 if value < 0x100 else 1 if value < 0x10000 else 2 if value < 0x100000000 else 3
    return bytes([major << 5 | 24 + power]) + value.to_bytes(1 << power, "big")


def encode(fields: "dict[str, int | str | bytes | bytearray]") -> bytes:
    """A map of text to integers (0 to 2**64 - 1), text and byte strings, in the dict's order."""
    out = _head(5, len(fields))
    for key, value in fields.items():
        for item in (key, value):
            if isinstance(item, int):
                out += _head(0, item)
            else:
                raw = item.encode() if isinstance(item, str) else item
                out += _head(3 if isinstance(item, str) else 2, len(raw)) + raw
    return out


def decode(data: memoryview) -> "dict[str, object]":
    """The map that `data` is, whole; ValueError if it is anything else. Byte strings are views of `data`.

    Floats and simple values become None. No tags, no indefinite lengths, no maps or arrays as keys.
    """
    above: list[tuple[list[object], int, bool]] = []  # what is around the array or map being read
    items: list[object] = []
    left, is_map, at, size = 1, False, 0, len(data)
    while left or above:
        if not left:
            done = _fields(items) if is_map else items
            items, left, is_map = above.pop()
            items.append(done)
            continue
        left -= 1
        head = data[at] if at < size else 0xFF
        major, value = head >> 5, head & 31
        at += 1
        if value > 23:
            start = at
            at += 1 << (value - 24)
            if value > 27 or at > size:
                raise ValueError("CBOR not well-formed, or ends early")
            value = int.from_bytes(data[start:at], "big")
        if major < 2:
            items.append(-1 - value if major else value)
        elif major == 7:
            items.append(None)
        elif major == 6 or value > size - at or len(above) > 8:
            raise ValueError("CBOR tag, nested too deep, or ends early")
        elif major < 4:
            at += value
            items.append(data[at - value : at] if major == 2 else str(data[at - value : at], "utf-8"))
        else:
            above.append((items, left, is_map))
            items, left, is_map = [], value * (major - 3), major == 5
    if at != size or not isinstance(items[0], dict):
        raise ValueError("not one CBOR map")
    return items[0]


def _fields(items: "list[object]") -> "dict[object, object]":
    fields = {items[i]: items[i + 1] for i in range(0, len(items), 2) if isinstance(items[i], (int, str))}
    if 2 * len(fields) != len(items):
        raise ValueError("CBOR key twice, or neither text nor number")
    return fields
