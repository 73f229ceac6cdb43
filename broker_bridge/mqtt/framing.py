"""A byte stream cut into MQTT packets, without I/O; what is too long to be kept is skipped as it streams."""

from collections.abc import Iterator
from typing import Final, NamedTuple

from broker_bridge.mqtt.packets import PUBLISH, V5, Publish, parse_publish
from broker_bridge.mqtt.properties import MalformedPacket, parse_varint

MAX_PROPERTIES: Final = 65536
"""Bytes of properties that a message may have to be kept."""
MAX_OTHER: Final = 131072
"""Longest body of any other packet, bytes."""


class Frame(NamedTuple):
    """A packet other than PUBLISH: its type, and all behind the fixed header."""

    kind: int
    body: bytes


class Framer:
    """Cuts what a server of `version` sends into packets.

    A message with a payload over `max_payload` bytes comes without it, and so does one with more than
    MAX_PROPERTIES of properties, whose `size` then is above `max_payload` too.
    """

    def __init__(self, version: int, max_payload: int) -> None:
        self._version = version
        self._max_payload = max_payload
        # What has come of a packet that is not whole yet, and the length at which to look at it again.
        self._partial = bytearray()
        self._wanted = 0
        # An oversized message under way, and how many of its bytes are still to be skipped.
        self._skipped: Publish | None = None
        self._skip = 0

    def feed(self, data: bytes) -> Iterator[Publish | Frame]:
        """The packets that end in `data`, the next bytes of the stream; to be exhausted before the next call.

        Raises MalformedPacket; there is no going on after that.
        """
        if self._partial:
            self._partial += data
            if len(self._partial) < self._wanted:
                return
            data = bytes(self._partial)
            self._partial.clear()
        offset, size = 0, len(data)
        while True:
            if self._skipped is not None:
                step = min(self._skip, size - offset)
                offset += step
                self._skip -= step
                if self._skip:
                    return
                yield self._skipped
                self._skipped = None
            if size - offset < 2:
                break
            first = data[offset]
            remaining = data[offset + 1]
            body = offset + 2
            if remaining > 0x7F:
                # parse_varint cannot tell "cut off" from "too long": only the latter has four bytes.
                if size - offset < 5 and min(data[offset + 1 :]) > 0x7F:
                    break
                remaining, body = parse_varint(data, offset + 1, size)
            wanted = remaining
            if first >> 4 != PUBLISH:
                if first & 0x0F:
                    raise MalformedPacket(f"reserved flags 0x{first & 15:x} in a packet of type {first >> 4}")
                if remaining > MAX_OTHER:
                    raise MalformedPacket(f"a packet of type {first >> 4} of {remaining} bytes")
            elif remaining > self._max_payload:
                wanted = self._look_into(first & 0x0F, data[body : body + remaining], remaining)
                if self._skipped is not None:
                    offset, self._skip = body, remaining
                    continue
            if body + wanted > size:
                self._keep(data[offset:], body - offset + wanted)
                return
            offset = body + remaining
            if first >> 4 == PUBLISH:
                yield parse_publish(self._version, first & 0x0F, data[body:offset])
            else:
                yield Frame(first >> 4, data[body:offset])
        if offset < size:
            self._keep(data[offset:], size - offset + 1)

    def _keep(self, partial: bytes, wanted: int) -> None:
        self._partial += partial
        self._wanted = wanted

    def _look_into(self, flags: int, body: bytes, remaining: int) -> int:
        """Decides about a long packet from what there is of its body; returns how much of it is wanted.

        That is all of it where the payload is within the bound: only topic or properties are long. Where it
        is not, the message is noted without it, to be skipped.
        """
        if len(body) < 2:
            return 2
        start = 2 + int.from_bytes(body[:2], "big") + 2 * (flags >> 1 & 3)
        if start > remaining:
            raise MalformedPacket("PUBLISH is cut off")
        if len(body) < start:
            return start
        behind = start
        properties = 0
        if self._version == V5:
            length = body[start : start + 4]
            if len(length) < 4 and (not length or min(length) > 0x7F) and len(body) < remaining:
                return len(body) + 1
            properties, behind = parse_varint(body, start, len(body))
        size = remaining - behind - properties
        if size < 0:
            raise MalformedPacket("properties reach past the packet's end")
        if properties > MAX_PROPERTIES:
            size = max(remaining - start, self._max_payload + 1)
        if size <= self._max_payload:
            return remaining
        header = body[:start] + (b"\x00" if self._version == V5 else b"")
        self._skipped = parse_publish(self._version, flags, header)._replace(size=size)
        return remaining
