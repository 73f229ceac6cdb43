"""MQTT control packets of a client, 3.1.1 and 5.0: what it sends as bytes, what it gets from bytes.

Parsers take a packet's body, that is all behind the fixed header, and raise MalformedPacket. `version` is 4
for MQTT 3.1.1 and 5 for MQTT 5.0, as on the wire.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

from broker_bridge.mqtt.properties import (
    IN_ACK,
    IN_CONNACK,
    IN_DISCONNECT,
    IN_PUBLISH,
    REASON_STRING,
    TOPIC_ALIAS,
    MalformedPacket,
    Properties,
    parse_properties,
)

V311: Final = 4
V5: Final = 5

CONNACK: Final = 2
PUBLISH: Final = 3
PUBACK: Final = 4
SUBACK: Final = 9
PINGRESP: Final = 13
DISCONNECT: Final = 14

PINGREQ: Final = b"\xc0\x00"
MAX_REMAINING: Final = 268_435_455
"""Longest body of a packet, bytes (MQTT 3.1.1, 2.2.3)."""

_CLEAN_START: Final = 0x02
_HAS_PASSWORD: Final = 0x40
_HAS_USERNAME: Final = 0x80
# None: the defaults are what we want (no topic aliases, the session ends with the connection), and amqtt,
# which looks at the version last, takes properties for a client id's length and waits for so many bytes.
_CONNECT_PROPERTIES: Final = b"\x00"
# MQTT 5 subscription options: Retain Handling 2, nothing that was retained is sent at subscribing.
_NO_RETAINED: Final = 0x20


class ConnAck(NamedTuple):
    """The server's answer to CONNECT. `reason` 0 is yes; else a code of the version that `old` tells.

    `old`: the server answered MQTT 5's CONNECT as a server of 3.1.1 does, without properties.
    """

    session_present: bool
    reason: int
    properties: Properties
    old: bool


class Publish(NamedTuple):
    """An incoming message; `size` is its payload's true length, bytes, and `packet_id` is 0 at QoS 0."""

    topic: str
    payload: bytes
    size: int
    qos: int
    retain: bool
    packet_id: int


class PubAck(NamedTuple):
    """The server has taken a QoS 1 message, or says with a `reason` from 0x80 on why not."""

    packet_id: int
    reason: int
    text: str | None


class SubAck(NamedTuple):
    """One reason for each filter, in their order: the granted QoS, or from 0x80 on a refusal."""

    packet_id: int
    reasons: bytes
    text: str | None


class Disconnect(NamedTuple):
    """The server ends the session (MQTT 5 only)."""

    reason: int
    text: str | None


def encode_varint(value: int) -> bytes:
    """A variable byte integer, 0 to MAX_REMAINING. ValueError beyond."""
    if not 0 <= value <= MAX_REMAINING:
        raise ValueError(f"a packet's length is {value}; it must be from 0 to {MAX_REMAINING}")
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def encode_binary(value: bytes) -> bytes:
    """`value` behind its length in two bytes. ValueError over 65535 bytes."""
    if len(value) > 0xFFFF:
        raise ValueError(f"a text is {len(value)} bytes long; it must be at most 65535")
    return len(value).to_bytes(2, "big") + value


def encode_connect(
    version: int, client_id: str, keep_alive: int, username: str | None = None, password: str | None = None
) -> bytes:
    """CONNECT, with a clean session that ends with the connection. `keep_alive` in seconds, 0–65535."""
    flags = _CLEAN_START
    credentials = b""
    if username is not None:
        flags |= _HAS_USERNAME
        credentials += encode_binary(username.encode())
    if password is not None:
        flags |= _HAS_PASSWORD
        credentials += encode_binary(password.encode())
    body = b"\x00\x04MQTT" + bytes([version, flags]) + keep_alive.to_bytes(2, "big")
    if version == V5:
        body += _CONNECT_PROPERTIES
    body += encode_binary(client_id.encode()) + credentials
    return b"\x10" + encode_varint(len(body)) + body


def encode_subscribe(version: int, packet_id: int, subscriptions: Sequence[tuple[str, int]]) -> bytes:
    """SUBSCRIBE to filters, each with the highest QoS wanted (0 or 1)."""
    body = packet_id.to_bytes(2, "big")
    options = 0
    if version == V5:
        body += b"\x00"
        options = _NO_RETAINED
    for topic_filter, qos in subscriptions:
        body += encode_binary(topic_filter.encode()) + bytes([qos | options])
    return b"\x82" + encode_varint(len(body)) + body


def encode_publish_start(version: int, topic: bytes, packet_id: int, payload_size: int) -> bytes:
    """PUBLISH up to its payload: fixed header, topic, and for QoS 1 the packet id; `packet_id` 0 is QoS 0.

    `payload_size` in bytes. Never retained, never a duplicate: nothing is sent twice.
    """
    tail = packet_id.to_bytes(2, "big") if packet_id else b""
    if version == V5:
        tail += b"\x00"
    header = encode_binary(topic) + tail
    return (b"\x32" if packet_id else b"\x30") + encode_varint(len(header) + payload_size) + header


def encode_puback(packet_id: int) -> bytes:
    """PUBACK: success, which both versions write alike."""
    return b"\x40\x02" + packet_id.to_bytes(2, "big")


def encode_disconnect(version: int, reason: int = 0) -> bytes:
    """DISCONNECT. MQTT 3.1.1 has no reasons: there it is the same for all."""
    return b"\xe0\x00" if version == V311 or reason == 0 else bytes([0xE0, 1, reason])


def parse_connack(version: int, body: bytes) -> ConnAck:
    """CONNACK's body. An MQTT 5 CONNECT may be answered by a server of 3.1.1, in its form."""
    if len(body) < 2:
        raise MalformedPacket("CONNACK is cut off")
    session_present, reason = body[0], body[1]
    if session_present > 1 or (session_present and reason):
        raise MalformedPacket("CONNACK has reserved flags")
    if len(body) == 2:
        return ConnAck(bool(session_present), reason, {}, old=version == V5)
    if version == V311:
        raise MalformedPacket("CONNACK has bytes behind its end")
    properties, end = parse_properties(body, 2, len(body), IN_CONNACK)
    _ended("CONNACK", body, end)
    _known_reason("CONNACK", reason, granted=0)
    return ConnAck(bool(session_present), reason, properties, old=False)


def parse_suback(version: int, body: bytes) -> SubAck:
    """SUBACK's body; at least one reason."""
    packet_id = _packet_id("SUBACK", body)
    text, start = None, 2
    if version == V5:
        properties, start = parse_properties(body, 2, len(body), IN_ACK)
        text = _text(properties)
    reasons = body[start:]
    if not reasons:
        raise MalformedPacket("SUBACK grants and refuses nothing")
    for reason in reasons:
        if version == V311 and reason > 2 and reason != 0x80:
            raise MalformedPacket(f"SUBACK has return code {reason}")
        _known_reason("SUBACK", reason, granted=2)
    return SubAck(packet_id, reasons, text)


def parse_puback(version: int, body: bytes) -> PubAck:
    """PUBACK's body; MQTT 5 leaves out a reason of success and empty properties."""
    packet_id = _packet_id("PUBACK", body)
    if len(body) == 2:
        return PubAck(packet_id, 0, None)
    if version == V311:
        raise MalformedPacket("PUBACK has bytes behind its end")
    reason = body[2]
    if reason != 0x10:
        _known_reason("PUBACK", reason, granted=0)
    return PubAck(packet_id, reason, _optional_text("PUBACK", body, 3, IN_ACK))


def parse_disconnect(version: int, body: bytes) -> Disconnect:
    """DISCONNECT's body; a server of MQTT 3.1.1 sends none."""
    if version == V311:
        raise MalformedPacket("DISCONNECT from a server of MQTT 3.1.1")
    if not body:
        return Disconnect(0, None)
    return Disconnect(body[0], _optional_text("DISCONNECT", body, 1, IN_DISCONNECT))


def parse_publish(version: int, flags: int, body: bytes) -> Publish:
    """PUBLISH's body. We subscribe at QoS 1 at most and allow no topic aliases: a server may send neither."""
    qos = flags >> 1 & 3
    if qos > 1:
        raise MalformedPacket(f"PUBLISH at QoS {qos}; 1 was the highest asked for")
    if not qos and flags & 8:
        raise MalformedPacket("PUBLISH at QoS 0 says that it is a duplicate")
    size = len(body)
    if size < 2:
        raise MalformedPacket("PUBLISH is cut off")
    offset = 2 + (body[0] << 8 | body[1])
    raw_topic = body[2:offset]
    packet_id = 0
    if offset + 2 * qos > size:
        raise MalformedPacket("PUBLISH is cut off")
    if qos:
        packet_id = body[offset] << 8 | body[offset + 1]
        if not packet_id:
            raise MalformedPacket("PUBLISH has packet id 0")
        offset += 2
    if version == V5:
        if offset < size and body[offset] == 0:
            offset += 1
        else:
            properties, offset = parse_properties(body, offset, size, IN_PUBLISH)
            if TOPIC_ALIAS in properties:
                raise MalformedPacket("PUBLISH has a topic alias; none was allowed")
    try:
        topic = raw_topic.decode()
    except UnicodeDecodeError:
        raise MalformedPacket("PUBLISH has a topic that is no UTF-8") from None
    if not topic or "\0" in topic or "+" in topic or "#" in topic:
        raise MalformedPacket("PUBLISH has a topic that is empty or has U+0000, + or # in it")
    return Publish(topic, body[offset:], size - offset, qos, flags & 1 == 1, packet_id)


def _packet_id(name: str, body: bytes) -> int:
    if len(body) < 2:
        raise MalformedPacket(f"{name} is cut off")
    packet_id = int.from_bytes(body[:2], "big")
    if not packet_id:
        raise MalformedPacket(f"{name} has packet id 0")
    return packet_id


def _known_reason(name: str, reason: int, *, granted: int) -> None:
    if granted < reason < 0x80:
        raise MalformedPacket(f"{name} has reason 0x{reason:02x}")


def _optional_text(name: str, body: bytes, start: int, allowed: frozenset[int]) -> str | None:
    if len(body) == start:
        return None
    properties, end = parse_properties(body, start, len(body), allowed)
    _ended(name, body, end)
    return _text(properties)


def _ended(name: str, body: bytes, end: int) -> None:
    if end != len(body):
        raise MalformedPacket(f"{name} has bytes behind its end")


def _text(properties: Properties) -> str | None:
    text = properties.get(REASON_STRING)
    return text if isinstance(text, str) else None
