"""MQTT 3.1.1 and 5 as a link sees it: where packets end, and which of them a link may lose. No I/O."""

from collections.abc import Iterator

CONNECT, PUBLISH = 1, 3
LARGEST = 0xFFFFFFF + 5  # a remaining length of four bytes, and the fixed header
V5 = 5

_TOPIC_ALIAS = 0x23
# Bytes behind the identifier of a PUBLISH property (MQTT 5, 2.2.2.2); text and binary data say their own.
_FIXED = {0x01: 1, 0x02: 4, _TOPIC_ALIAS: 2}
_STRINGS = {0x03: 1, 0x08: 1, 0x09: 1, 0x26: 2}
_SUBSCRIPTION_ID = 0x0B


class FramingError(ValueError):
    """No MQTT, or a packet over the bound: there is no going on with the stream."""


class Framer:
    """Cuts one way of a connection into whole packets.

    `largest`: bytes of the longest packet, its fixed header included, 2 to 268,435,460. What is kept is at
    most one such packet and what was fed last.
    """

    __slots__ = ("_held", "_largest", "_wanted")

    def __init__(self, largest: int) -> None:
        if not 2 <= largest <= LARGEST:
            raise ValueError(f"largest is {largest} bytes; it must be from 2 to {LARGEST}")
        self._largest = largest
        self._held = bytearray()
        self._wanted = 2  # bytes held with which it is worth looking again

    @property
    def held(self) -> int:
        """Bytes of a packet that is not whole yet."""
        return len(self._held)

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The packets that end in `data`, the next bytes of the stream; to be exhausted before the next call.

        Raises FramingError behind the last packet that was one.
        """
        held = self._held
        held += data
        at = 0
        while len(held) - at >= self._wanted:
            length = self._length(at)
            if length > len(held) - at:
                self._wanted = length
                break
            with memoryview(held) as view:  # bytes(held[…]) would copy twice
                packet = bytes(view[at : at + length])
            yield packet
            at += length
            self._wanted = 2
        del held[:at]

    def _length(self, at: int) -> int:
        """Of the packet at `at`, as far as what is held says: at least so many bytes are needed."""
        held = self._held
        if held[at] >> 4 == 0:
            raise FramingError("packet type 0 is reserved")
        remaining = 0
        for index in range(1, 5):
            if at + index == len(held):
                return index + 1
            byte = held[at + index]
            remaining |= (byte & 0x7F) << 7 * (index - 1)
            if byte < 0x80:
                length = 1 + index + remaining
                if length > self._largest:
                    raise FramingError(
                        f"a packet of type {held[at] >> 4} is {length} bytes long, over {self._largest}"
                    )
                return length
        raise FramingError("a remaining length has over four bytes")


def protocol_level(packet: bytes) -> int:
    """The protocol level that a CONNECT asks for: 4 is MQTT 3.1.1, 5 is MQTT 5. FramingError: no CONNECT."""
    if packet[0] != CONNECT << 4:
        raise FramingError(f"a session begins with byte 0x{packet[0]:02x}, not with CONNECT")
    body = _body(packet)
    end = 2 + int.from_bytes(packet[body : body + 2], "big") + body
    if end >= len(packet):
        raise FramingError("CONNECT is cut off")
    return packet[end]


def droppable(packet: bytes, level: int) -> bool:
    """Whether a link may lose, double or delay the packet against others: a PUBLISH at QoS 0.

    Not where it has a topic alias (MQTT 5): what an alias stands for is state of the session, and without
    that packet later messages would go to a wrong topic.
    """
    if packet[0] >> 4 != PUBLISH or packet[0] & 0x06:
        return False
    return level != V5 or not _has_alias(packet)


def _body(packet: bytes) -> int:
    body = 1
    while packet[body] > 0x7F:
        body += 1
    return body + 1


def _has_alias(packet: bytes) -> bool:
    """Whether a PUBLISH at QoS 0 of MQTT 5 has one; a malformed packet counts as if it had."""
    try:
        at = _body(packet)
        at += 2 + int.from_bytes(packet[at : at + 2], "big")
        length, at = _varint(packet, at)
        end = at + length
        while at < end:
            kind = packet[at]
            at += 1
            if kind == _TOPIC_ALIAS:
                return True
            if kind == _SUBSCRIPTION_ID:
                _, at = _varint(packet, at)
            elif kind in _FIXED:
                at += _FIXED[kind]
            else:
                for _ in range(_STRINGS[kind]):
                    at += 2 + int.from_bytes(packet[at : at + 2], "big")
    except (IndexError, KeyError):
        return True
    return at != end


def _varint(packet: bytes, at: int) -> tuple[int, int]:
    value = 0
    for index in range(4):
        value |= (packet[at + index] & 0x7F) << 7 * index
        if packet[at + index] < 0x80:
            return value, at + index + 1
    raise IndexError
