"""Our packets against the codecs of amqtt (3.1.1) and paho (5.0), and malformed ones by the thousand."""

import asyncio
import struct
from typing import Any

import pytest
from amqtt.adapters import BufferReader
from amqtt.mqtt.connack import ConnackPacket
from amqtt.mqtt.connect import ConnectPacket
from amqtt.mqtt.puback import PubackPacket
from amqtt.mqtt.publish import PublishPacket
from amqtt.mqtt.suback import SubackPacket
from amqtt.mqtt.subscribe import SubscribePacket
from hypothesis import given, settings
from hypothesis import strategies as st
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from broker_bridge.mqtt import packets, properties
from broker_bridge.mqtt.packets import V5, V311
from broker_bridge.mqtt.properties import MalformedPacket, parse_varint

texts = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=40)
topics = st.text(
    st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="+#"), min_size=1, max_size=40
)
packet_ids = st.integers(1, 65535)
payloads = st.one_of(st.binary(max_size=50), st.integers(100, 20000).map(bytes))


def read(kind: Any, data: bytes) -> Any:
    """What amqtt's codec makes of a packet."""
    return asyncio.run(kind.from_stream(BufferReader(data)))


def body_of(packet: bytes) -> bytes:
    """All behind the fixed header."""
    return packet[parse_varint(packet, 1, len(packet))[1] :]


@settings(deadline=None)
@given(texts, st.integers(0, 65535), st.none() | texts.filter(bool), st.none() | texts.filter(bool))
def test_connect_as_amqtt_reads_it(
    client_id: str, keep_alive: int, username: str | None, password: str | None
) -> None:
    if username is None:
        password = None
    packet = read(ConnectPacket, packets.encode_connect(V311, client_id, keep_alive, username, password))
    assert (packet.proto_name, packet.proto_level, packet.clean_session_flag) == ("MQTT", 4, True)
    assert packet.keep_alive == keep_alive
    assert client_id in ("", packet.client_id)  # amqtt makes one up for an empty one
    assert (packet.username, packet.password) == (username, password)
    assert not packet.will_flag


@settings(deadline=None)
@given(packet_ids, st.lists(st.tuples(topics, st.integers(0, 1)), min_size=1, max_size=4))
def test_subscribe_as_amqtt_reads_it(packet_id: int, subscriptions: list[tuple[str, int]]) -> None:
    packet = read(SubscribePacket, packets.encode_subscribe(V311, packet_id, subscriptions))
    assert packet.variable_header.packet_id == packet_id
    assert packet.payload.topics == subscriptions


@settings(deadline=None)
@given(topics, st.integers(0, 65535), payloads)
def test_publish_both_ways(topic: str, packet_id: int, payload: bytes) -> None:
    start = packets.encode_publish_start(V311, topic.encode(), packet_id, len(payload))
    packet = read(PublishPacket, start + payload)
    assert (packet.topic_name, packet.data, packet.qos) == (topic, payload, 1 if packet_id else 0)
    assert not packet.retain_flag
    assert not packet.dup_flag
    if packet_id:
        assert packet.packet_id == packet_id
    theirs = PublishPacket.build(topic, payload, packet_id or None, False, packet.qos, True).to_bytes()
    got = packets.parse_publish(V311, theirs[0] & 15, body_of(theirs))
    assert got == (topic, payload, len(payload), packet.qos, True, packet_id)


@settings(deadline=None)
@given(packet_ids, st.lists(st.sampled_from([0, 1, 2, 0x80]), min_size=1, max_size=5), st.integers(0, 5))
def test_answers_of_311_as_amqtt_writes_them(packet_id: int, codes: list[int], code: int) -> None:
    suback = packets.parse_suback(V311, body_of(SubackPacket.build(packet_id, codes).to_bytes()))
    assert (suback.packet_id, list(suback.reasons)) == (packet_id, codes)
    puback = PubackPacket.build(packet_id).to_bytes()
    assert packets.parse_puback(V311, body_of(puback)).packet_id == packet_id
    assert packets.encode_puback(packet_id) == puback
    connack = ConnackPacket.build(0, code).to_bytes()
    assert packets.parse_connack(V311, body_of(connack)) == (False, code, {}, False)
    assert packets.parse_connack(V5, body_of(connack)).old


@settings(deadline=None)
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "ReceiveMaximum": st.integers(1, 65535),
            "MaximumQoS": st.integers(0, 1),
            "MaximumPacketSize": st.integers(1, packets.MAX_REMAINING),  # as far as paho goes
            "ServerKeepAlive": st.integers(0, 65535),
            "AssignedClientIdentifier": texts,
            "ReasonString": texts,
            "SessionExpiryInterval": st.integers(0, 2**32 - 1),
            "UserProperty": st.tuples(texts, texts),
            "AuthenticationData": st.binary(max_size=20),
        },
    )
)
def test_connack_properties_as_paho_writes_them(values: dict[str, Any]) -> None:
    theirs = Properties(PacketTypes.CONNACK)  # type: ignore[no-untyped-call]
    for name, value in values.items():
        setattr(theirs, name, value)
    packed = theirs.pack()  # type: ignore[no-untyped-call]
    got = packets.parse_connack(V5, b"\x00\x00" + packed).properties
    numbers = {
        "ReceiveMaximum": properties.RECEIVE_MAXIMUM,
        "MaximumQoS": properties.MAXIMUM_QOS,
        "MaximumPacketSize": properties.MAXIMUM_PACKET_SIZE,
        "ServerKeepAlive": properties.SERVER_KEEP_ALIVE,
        "AssignedClientIdentifier": properties.ASSIGNED_CLIENT_ID,
        "ReasonString": properties.REASON_STRING,
        "SessionExpiryInterval": properties.SESSION_EXPIRY,
        "AuthenticationData": 0x16,
    }
    assert got == {numbers[name]: value for name, value in values.items() if name != "UserProperty"}


@settings(deadline=None)
@given(
    topics,
    st.integers(0, 65535),
    payloads,
    st.lists(st.tuples(texts, texts), max_size=3),
    st.binary(max_size=9),
)
def test_publish_of_5_with_properties_as_paho_writes_them(
    topic: str, packet_id: int, payload: bytes, pairs: list[tuple[str, str]], correlation: bytes
) -> None:
    extra = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    extra.CorrelationData = correlation
    extra.MessageExpiryInterval = 7
    for pair in pairs:
        extra.UserProperty = pair
    raw = topic.encode()
    head = struct.pack("!H", len(raw)) + raw + (struct.pack("!H", packet_id) if packet_id else b"")
    packed = extra.pack()  # type: ignore[no-untyped-call]
    got = packets.parse_publish(V5, 2 if packet_id else 0, head + packed + payload)
    assert got == (topic, payload, len(payload), int(packet_id > 0), False, packet_id)


@settings(deadline=None)
@given(st.sampled_from([V311, V5]), st.integers(0, 15), st.binary(max_size=60))
def test_noise_is_a_packet_or_malformed(version: int, flags: int, noise: bytes) -> None:
    for parse in (
        packets.parse_connack,
        packets.parse_suback,
        packets.parse_puback,
        packets.parse_disconnect,
    ):
        try:
            parse(version, noise)
        except MalformedPacket:
            pass
    try:
        packets.parse_publish(version, flags, noise)
    except MalformedPacket:
        pass


@pytest.mark.parametrize(
    ("flags", "body"),
    [
        (0, b""),
        (0, b"\x00"),
        (0, b"\x00\x05ab"),
        (0, b"\x00\x00payload"),
        (0, b"\x00\x01+payload"),
        (0, b"\x00\x03a/#payload"),
        (0, b"\x00\x02a\x00payload"),
        (0, b"\x00\x01\xffpayload"),
        (2, b"\x00\x01a\x00\x00payload"),
        (2, b"\x00\x01a\x00"),
        (4, b"\x00\x01a\x00\x01"),
        (6, b"\x00\x01a\x00\x01"),
        (8, b"\x00\x01apayload"),
    ],
)
def test_malformed_publish(flags: int, body: bytes) -> None:
    with pytest.raises(MalformedPacket):
        packets.parse_publish(V311, flags, body)


@pytest.mark.parametrize(
    "properties_",
    [
        b"\x05",  # past the end
        b"\x03\x23\x00\x01",  # a topic alias: none was allowed
        b"\x02\x01\x02",  # payload format 2
        b"\x04\x01\x00\x01\x00",  # twice
        b"\x02\x21\x00",  # not a property of PUBLISH
        b"\x03\x26\x00\x01",  # half a pair
        b"\x80\x00",  # a length longer than it need be
        b"\x80\x80\x80\x80\x01",
    ],
)
def test_malformed_properties(properties_: bytes) -> None:
    with pytest.raises(MalformedPacket):
        packets.parse_publish(V5, 0, b"\x00\x01a" + properties_)


def test_malformed_answers() -> None:
    for version, body in (
        (V311, b"\x00"),
        (V311, b"\x02\x00"),
        (V311, b"\x01\x05"),
        (V311, b"\0\0\0"),
        (V5, b"\0\x01\0"),
    ):
        with pytest.raises(MalformedPacket):
            packets.parse_connack(version, body)
    for version, body in (
        (V311, b"\0\0\x01"),
        (V311, b"\0\x01"),
        (V311, b"\0\x01\x03"),
        (V5, b"\0\x01\0\x7f"),
    ):
        with pytest.raises(MalformedPacket):
            packets.parse_suback(version, body)
    with pytest.raises(MalformedPacket):
        packets.parse_disconnect(V311, b"")
    with pytest.raises(MalformedPacket):
        packets.parse_puback(V5, b"\0\x01\0\0extra")


@settings(deadline=None)
@given(st.integers(0, packets.MAX_REMAINING))
def test_varints(value: int) -> None:
    encoded = packets.encode_varint(value)
    assert parse_varint(encoded + b"\x00", 0, 5) == (value, len(encoded))


def test_bounds_of_what_is_encoded() -> None:
    with pytest.raises(ValueError, match="65535"):
        packets.encode_binary(bytes(65536))
    with pytest.raises(ValueError, match="268435455"):
        packets.encode_publish_start(V311, b"a", 0, packets.MAX_REMAINING)
