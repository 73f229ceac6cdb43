"""Properties of MQTT 5.0 packets that a server sends (MQTT 5.0, 2.2.2): strict parsing."""

from typing import Final

Value = int | str | bytes
Properties = dict[int, Value]

SESSION_EXPIRY: Final = 0x11
ASSIGNED_CLIENT_ID: Final = 0x12
SERVER_KEEP_ALIVE: Final = 0x13
REASON_STRING: Final = 0x1F
RECEIVE_MAXIMUM: Final = 0x21
TOPIC_ALIAS_MAXIMUM: Final = 0x22
TOPIC_ALIAS: Final = 0x23
MAXIMUM_QOS: Final = 0x24
MAXIMUM_PACKET_SIZE: Final = 0x27

_SUBSCRIPTION_ID: Final = 0x0B
_USER_PROPERTY: Final = 0x26

_BYTE, _UINT16, _UINT32, _VARINT, _TEXT, _BINARY, _PAIR = range(7)
_KINDS: Final = {
    0x01: _BYTE,  # payload format indicator
    0x02: _UINT32,  # message expiry interval
    0x03: _TEXT,  # content type
    0x08: _TEXT,  # response topic
    0x09: _BINARY,  # correlation data
    _SUBSCRIPTION_ID: _VARINT,
    SESSION_EXPIRY: _UINT32,
    ASSIGNED_CLIENT_ID: _TEXT,
    SERVER_KEEP_ALIVE: _UINT16,
    0x15: _TEXT,  # authentication method
    0x16: _BINARY,  # authentication data
    0x1A: _TEXT,  # response information
    0x1C: _TEXT,  # server reference
    REASON_STRING: _TEXT,
    RECEIVE_MAXIMUM: _UINT16,
    TOPIC_ALIAS_MAXIMUM: _UINT16,
    TOPIC_ALIAS: _UINT16,
    MAXIMUM_QOS: _BYTE,
    0x25: _BYTE,  # retain available
    _USER_PROPERTY: _PAIR,
    MAXIMUM_PACKET_SIZE: _UINT32,
    0x28: _BYTE,  # wildcard subscription available
    0x29: _BYTE,  # subscription identifiers available
    0x2A: _BYTE,  # shared subscription available
}
IN_CONNACK: Final = frozenset(
    {0x11, 0x12, 0x13, 0x15, 0x16, 0x1A, 0x1C, 0x1F, 0x21, 0x22, 0x24, 0x25, 0x26, 0x27, 0x28, 0x29, 0x2A}
)
IN_PUBLISH: Final = frozenset({0x01, 0x02, 0x03, 0x08, 0x09, 0x0B, 0x23, 0x26})
IN_ACK: Final = frozenset({0x1F, 0x26})
IN_DISCONNECT: Final = frozenset({0x1C, 0x1F, 0x26})
# Properties whose value 0 is a protocol error (MQTT 5.0, 3.2.2.3.3, 3.2.2.3.6, 3.3.2.3.4, 3.3.2.3.8).
_NEVER_ZERO: Final = frozenset({_SUBSCRIPTION_ID, RECEIVE_MAXIMUM, TOPIC_ALIAS, MAXIMUM_PACKET_SIZE})


class MalformedPacket(Exception):
    """Bytes that are no MQTT packet, or none that a server may send."""


def parse_varint(data: bytes, start: int, end: int) -> tuple[int, int]:
    """A variable byte integer of `data[start:end]` and the offset behind it (MQTT 5.0, 1.5.5).

    MalformedPacket where it is cut off, longer than four bytes, or longer than it need be.
    """
    value = shift = 0
    for offset in range(start, min(end, start + 4)):
        byte = data[offset]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if byte == 0 and shift:
                raise MalformedPacket("a length is written in more bytes than it needs")
            return value, offset + 1
        shift += 7
    raise MalformedPacket("a length is cut off or longer than four bytes")


def parse_text(data: bytes, start: int, end: int) -> tuple[str, int]:
    """A UTF-8 string with its two bytes of length, and the offset behind it. MalformedPacket."""
    raw, offset = _binary(data, start, end)
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise MalformedPacket("a text is no UTF-8") from None
    if "\0" in text:
        raise MalformedPacket("a text holds U+0000")
    return text, offset


def parse_properties(data: bytes, start: int, end: int, allowed: frozenset[int]) -> tuple[Properties, int]:
    """The properties that begin with their length at `start`, and the offset behind them.

    User properties are checked and left out: nobody here reads them. MalformedPacket, also for a property
    that does not belong into this packet or comes twice.
    """
    length, offset = parse_varint(data, start, end)
    stop = offset + length
    if stop > end:
        raise MalformedPacket("properties reach past the packet's end")
    found: Properties = {}
    while offset < stop:
        identifier = data[offset]  # a varint in the standard, but none is above 127
        if identifier not in allowed:
            raise MalformedPacket(f"property 0x{identifier:02x} does not belong here")
        value, offset = _value(_KINDS[identifier], data, offset + 1, stop)
        if identifier == _USER_PROPERTY:
            continue
        if identifier in _NEVER_ZERO and value == 0:
            raise MalformedPacket(f"property 0x{identifier:02x} is 0")
        # Overlapping subscriptions give one message several subscription ids; every other comes once.
        if identifier in found and identifier != _SUBSCRIPTION_ID:
            raise MalformedPacket(f"property 0x{identifier:02x} comes twice")
        if _KINDS[identifier] == _BYTE and value not in (0, 1):
            raise MalformedPacket(f"property 0x{identifier:02x} is {value!r}; it must be 0 or 1")
        found[identifier] = value
    return found, offset


def _value(kind: int, data: bytes, start: int, end: int) -> tuple[Value, int]:
    if kind == _TEXT:
        return parse_text(data, start, end)
    if kind == _BINARY:
        return _binary(data, start, end)
    if kind == _VARINT:
        return parse_varint(data, start, end)
    if kind == _PAIR:
        _, offset = parse_text(data, start, end)
        return parse_text(data, offset, end)
    stop = start + (1, 2, 4)[kind]
    if stop > end:
        raise MalformedPacket("a property is cut off")
    return int.from_bytes(data[start:stop], "big"), stop


def _binary(data: bytes, start: int, end: int) -> tuple[bytes, int]:
    offset = start + 2
    if offset > end:
        raise MalformedPacket("the length of a text is cut off")
    stop = offset + int.from_bytes(data[start:offset], "big")
    if stop > end:
        raise MalformedPacket("a text is cut off")
    return data[offset:stop], stop
