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

    Keys that are not text are dropped; floats and simple values become None. No tags, no indefinite lengths.
    """
    try:
        fields, end = _item(data, 0, 8)  # deep: a description needs 3, and a small machine's stack is short
    except IndexError:
        raise ValueError("CBOR ends early") from None
    if end != len(data) or not isinstance(fields, dict):
        raise ValueError("not one CBOR map")
    return fields


def _item(data: memoryview, at: int, depth: int) -> "tuple[object, int]":
    major, value = data[at] >> 5, data[at] & 31
    at += 1
    if value > 23:
        start = at
        at += 1 << (value - 24)
        if value > 27 or at > len(data):
            raise ValueError("CBOR head cut short or not well-formed")
        value = int.from_bytes(data[start:at], "big")
    if major < 2:
        return (-1 - value if major else value), at
    if major == 7:
        return None, at
    if major == 6 or depth == 0 or value > len(data) - at:
        raise ValueError("CBOR tag, nested too deep, or ends early")
    if major < 4:
        text = data[at : at + value]
        return (text if major == 2 else str(text, "utf-8")), at + value
    items: list[object] = []
    fields: dict[str, object] = {}
    for _ in range(value):
        item, at = _item(data, at, depth - 1)
        if major == 4:
            items.append(item)
            continue
        held, at = _item(data, at, depth - 1)
        if isinstance(item, str):
            if item in fields:
                raise ValueError("CBOR key twice")
            fields[item] = held
    return (items if major == 4 else fields), at
