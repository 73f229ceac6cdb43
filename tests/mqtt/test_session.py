"""The session without a socket: any fragmentation means the same, and every wait ends."""

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker_bridge.mqtt import framing, packets
from broker_bridge.mqtt.packets import V5, V311
from broker_bridge.mqtt.session import (
    EARLY_MESSAGES,
    Cause,
    Ended,
    Event,
    Message,
    NotTaken,
    Phase,
    Ready,
    Retained,
    Session,
)

BOUND = 300
SUBSCRIPTIONS = [("a/+", 1), ("b/+", 1)]


def new(version: int = V311, keep_alive: int = 30) -> Session:
    session = Session(
        version=version, client_id="c", subscriptions=SUBSCRIPTIONS, max_payload=BOUND, keep_alive=keep_alive
    )
    session.connect(0.0)
    session.take_output()
    return session


def connack(version: int, properties: bytes = b"") -> bytes:
    if version == V311:
        return b"\x20\x02\x00\x00"
    return bytes([0x20, 3 + len(properties), 0, 0, len(properties)]) + properties


def suback(version: int, *codes: int) -> bytes:
    body = b"\x00\x01" + (b"\x00" if version == V5 else b"") + bytes(codes or (1, 1))
    return bytes([0x90, len(body)]) + body


def ready(version: int = V311, properties: bytes = b"", keep_alive: int = 30) -> Session:
    session = new(version, keep_alive)
    assert session.receive(connack(version, properties) + suback(version), 0.0) == [Ready()]
    session.take_output()
    return session


def publish(
    version: int,
    topic: str = "a/b",
    payload: bytes = b"",
    packet_id: int = 0,
    flags: int = 0,
    extra: bytes = b"",
) -> bytes:
    """A PUBLISH from a server; `extra` is its properties without their length."""
    head = struct.pack("!H", len(topic.encode())) + topic.encode()
    if packet_id:
        head += struct.pack("!H", packet_id)
        flags |= 2
    if version == V5:
        head += packets.encode_varint(len(extra)) + extra
    return bytes([0x30 | flags]) + packets.encode_varint(len(head) + len(payload)) + head + payload


USER_PROPERTY = b"\x26\x00\x01k\x00\xf0" + b"v" * 240


@st.composite
def streams(draw: st.DrawFn) -> tuple[int, bytes]:
    """What a server may send after CONNECT, sometimes with noise at the end."""
    version = draw(st.sampled_from([V311, V5]))
    pieces = [connack(version), suback(version)]
    for _ in range(draw(st.integers(0, 6))):
        pieces.append(
            draw(
                st.one_of(
                    st.builds(
                        publish,
                        st.just(version),
                        st.sampled_from(["a", "a/ä", "t" * 400]),
                        st.integers(0, 2 * BOUND).map(bytes),
                        st.integers(0, 9),
                        st.sampled_from([0, 1]),
                        st.sampled_from([b"", USER_PROPERTY, USER_PROPERTY * 3]),
                    ),
                    st.just(b"\xd0\x00"),
                    st.integers(1, 9).map(packets.encode_puback),
                )
            )
        )
    pieces.append(
        draw(st.one_of(st.just(b""), st.binary(max_size=8), st.just(b"\xe0\x00"), st.just(b"\x32\x02\0\0")))
    )
    return version, b"".join(pieces)


def run(version: int, stream: bytes, cuts: list[int]) -> tuple[list[Event], bytes]:
    session = new(version)
    events: list[Event] = []
    begin = 0
    for end in [*sorted(cuts), len(stream)]:
        events += session.receive(stream[begin:end], 0.0)
        begin = end
    return events, session.take_output()


@settings(deadline=None)
@given(streams(), st.data())
def test_any_fragmentation_means_the_same(generated: tuple[int, bytes], data: st.DataObject) -> None:
    version, stream = generated
    whole = run(version, stream, [])
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=12))
    assert run(version, stream, cuts) == whole


@settings(deadline=None, max_examples=25)
@given(streams())
def test_byte_by_byte_means_the_same(generated: tuple[int, bytes]) -> None:
    version, stream = generated
    assert run(version, stream, list(range(len(stream)))) == run(version, stream, [])


@settings(deadline=None)
@given(st.sampled_from([V311, V5]), st.binary(max_size=80), st.booleans())
def test_noise_never_raises(version: int, noise: bytes, connected: bool) -> None:
    session = ready(version) if connected else new(version)
    events = session.receive(noise, 0.0)
    ended = [event for event in events if isinstance(event, Ended)]
    assert bool(ended) == session.over
    assert session.receive(b"\xff\xff", 0.0) == [] or not ended


@pytest.mark.parametrize("version", [V311, V5])
def test_messages_are_acknowledged_and_oversized_ones_not_kept(version: int) -> None:
    session = ready(version)
    stream = b"".join(
        [
            publish(version, payload=b"x" * BOUND, packet_id=7),
            publish(version, payload=b"x" * (BOUND + 1), packet_id=8),
            publish(version, payload=b"again", packet_id=7, flags=8),
            publish(version, payload=b"small"),
        ]
    )
    assert session.receive(stream, 0.0) == [
        Message("a/b", b"x" * BOUND, BOUND),
        Message("a/b", b"", BOUND + 1),
        Message("a/b", b"again", 5),
        Message("a/b", b"small", 5),
    ]
    assert session.take_output() == b"".join(packets.encode_puback(i) for i in (7, 8, 7))


def test_a_huge_message_is_skipped_as_it_streams() -> None:
    session = ready()
    size = 64 * 1024 * 1024
    packet_start = b"\x30" + packets.encode_varint(size + 5) + b"\x00\x03a/b"
    assert session.receive(packet_start + bytes(1000), 0.0) == []
    piece = bytes(1 << 20)
    for _ in range(63):
        assert session.receive(piece, 0.0) == []
        # Nothing of it is kept anywhere.
        assert len(session._framer._partial) == 0
    rest = size - 1000 - 63 * len(piece)
    assert session.receive(bytes(rest) + publish(V311, payload=b"next"), 0.0) == [
        Message("a/b", b"", size),
        Message("a/b", b"next", 4),
    ]


def test_huge_properties_are_not_kept_either() -> None:
    session = ready(V5)
    extra = USER_PROPERTY * (framing.MAX_PROPERTIES // len(USER_PROPERTY) + 1)
    stream = publish(V5, payload=b"small", extra=extra)
    events = session.receive(stream[:1000], 0.0) + session.receive(stream[1000:], 0.0)
    assert [type(event) for event in events] == [Message]
    assert isinstance(events[0], Message)
    assert events[0].payload == b""
    assert events[0].size > BOUND


def test_long_properties_with_a_small_payload_are_kept() -> None:
    stream = publish(V5, payload=b"small", extra=USER_PROPERTY * 20, packet_id=3)
    assert ready(V5).receive(stream, 0.0) == [Message("a/b", b"small", 5)]


def test_retained_messages_are_not_answered_again() -> None:
    session = ready()
    assert session.receive(publish(V311, payload=b"x", packet_id=1, flags=1), 0.0) == [Retained()]
    assert session.take_output() == packets.encode_puback(1)


def test_messages_before_suback_come_after_ready_and_are_bounded() -> None:
    session = new()
    early = publish(V311, payload=b"x") * (EARLY_MESSAGES + 5)
    assert session.receive(connack(V311) + early, 0.0) == []
    events = session.receive(suback(V311), 0.0)
    assert events[0] == Ready()
    assert events[1:] == [Message("a/b", b"x", 1)] * EARLY_MESSAGES


@pytest.mark.parametrize(
    ("version", "stream", "cause", "says"),
    [
        (V311, b"\x20\x02\x00\x05", Cause.REFUSED, "not authorized (return code 5)"),
        (V311, b"\x20\x02\x00\x04", Cause.REFUSED, "bad user name or password"),
        (V5, b"\x20\x03\x00\x86\x00", Cause.REFUSED, "bad user name or password (0x86)"),
        (V5, b"\x20\x07\x00\x97\x04\x1f\x00\x01x", Cause.REFUSED, "quota exceeded (0x97): 'x'"),
        (V5, b"\x20\x02\x00\x01", Cause.VERSION, ""),
        (V5, b"\x20\x02\x00\x00", Cause.VERSION, ""),
        (V5, b"\x20\x03\x00\x84\x00", Cause.VERSION, ""),
        (V311, b"\x20\x02\x01\x00", Cause.MALFORMED, "clean"),
        (V311, b"\x30\x03\x00\x01a", Cause.MALFORMED, "before CONNACK"),
        (V311, b"\xd0\x00", Cause.MALFORMED, "before CONNACK"),
        (V311, b"\x21\x02\x00\x00", Cause.MALFORMED, "reserved flags"),
        (V311, connack(V311) + suback(V311, 1, 0x80), Cause.REFUSED, "b/+ refused"),
        (V5, connack(V5) + suback(V5, 0x87, 1), Cause.REFUSED, "a/+ refused: not authorized (0x87)"),
        (V311, connack(V311) + suback(V311, 1), Cause.MALFORMED, "does not match"),
        (V311, connack(V311) * 2, Cause.MALFORMED, "nothing asked for"),
        (V5, connack(V5) + suback(V5) + b"\xe0\x01\x8b", Cause.DISCONNECTED, "server shutting down (0x8b)"),
        (V5, connack(V5) + suback(V5) + b"\xf0\x00", Cause.MALFORMED, "type 15"),
        (V311, connack(V311) + suback(V311) + b"\xd0\xff\xff\xff\x7f", Cause.MALFORMED, "bytes"),
        (V311, connack(V311) + suback(V311) + b"\x30\x80\x80\x80\x80", Cause.MALFORMED, "length"),
        (V5, connack(V5) + suback(V5) + publish(V5, extra=b"\x23\0\x01"), Cause.MALFORMED, "alias"),
    ],
)
def test_ends(version: int, stream: bytes, cause: Cause, says: str) -> None:
    session = new(version)
    last = session.receive(stream, 0.0)[-1]
    assert isinstance(last, Ended)
    assert last.cause is cause
    assert says in last.text
    assert session.receive(publish(version), 0.0) == []
    assert session.tick(1e9) == []


def test_silence_ends_each_wait() -> None:
    for version, wait in ((V5, 5.0), (V311, 10.0)):
        session = new(version)
        assert session.deadline() == wait
        assert session.tick(wait - 0.1) == []
        [event] = session.tick(wait)
        assert isinstance(event, Ended)
        assert event.cause is Cause.UNANSWERED
    session = new()
    session.receive(connack(V311), 3.0)
    assert session.phase is Phase.SUBSCRIBING
    [event] = session.tick(session.deadline())
    assert session.deadline() == 13.0
    assert isinstance(event, Ended)
    assert event.cause is Cause.SILENT


def test_pings_at_three_quarters_and_gives_up_after_another_half() -> None:
    session = ready(keep_alive=40)
    assert session.tick(29.9) == []
    assert session.pending_output == 0
    for now in (30.0, 60.0):
        assert session.deadline() == now
        assert session.tick(now) == []
        assert session.take_output() == packets.PINGREQ
        assert session.receive(b"\xd0\x00", now + 19) == []
    session.tick(90.0)
    # Other traffic is no answer: a broker that has stopped reading may well go on sending.
    session.receive(publish(V311), 100.0)
    assert session.tick(109.9) == []
    [event] = session.tick(110.0)
    assert isinstance(event, Ended)
    assert event.cause is Cause.SILENT


def test_limits_of_the_server() -> None:
    properties = b"\x21\x00\x03" + b"\x13\x00\x08" + b"\x24\x00" + b"\x27\x00\x00\x10\x00" + b"\x12\x00\x02me"
    session = ready(V5, properties, keep_alive=40)
    assert (session.window, session.max_qos, session.max_packet_size) == (3, 0, 4096)
    assert session.client_id == "me"
    assert session.deadline() == 6.0
    # A longer keep-alive of the server's does not make us slower to notice its death.
    assert ready(V5, b"\x13\xff\xff", keep_alive=40).deadline() == 30.0
    assert ready(V5, b"\x13\x00\x00", keep_alive=40).deadline() == 30.0


@pytest.mark.parametrize(
    ("maximum", "window", "for_data"), [(1, 1, 1), (2, 2, 1), (8, 8, 4), (20, 20, 16), (999, 20, 16)]
)
def test_window_and_its_reserve(maximum: int, window: int, for_data: int) -> None:
    session = ready(V5, b"\x21" + struct.pack("!H", maximum))
    assert (session.control_slots, session.data_slots) == (window, for_data)
    ids = [session.take_packet_id(0.0) for _ in range(window)]
    assert len(set(ids)) == window
    assert session.control_slots == 0
    assert session.data_slots <= 0
    session.receive(packets.encode_puback(ids[0]) + packets.encode_puback(60000), 0.0)
    assert session.control_slots == 1


def test_packet_ids_wrap_and_pass_over_those_in_use() -> None:
    session = ready()
    stuck = session.take_packet_id(0.0)
    seen = set()
    for _ in range(70000):
        packet_id = session.take_packet_id(0.0)
        assert 1 <= packet_id <= 65535
        assert packet_id != stuck
        seen.add(packet_id)
        session.receive(packets.encode_puback(packet_id), 0.0)
    assert len(seen) == 65534


def test_a_message_never_acknowledged_ends_the_session() -> None:
    session = ready(keep_alive=40)
    session.take_packet_id(1.0)
    for now in (30.0, 60.0):
        assert session.tick(now) == []
        session.receive(b"\xd0\x00", now)
    [event] = session.tick(90.0)
    assert isinstance(event, Ended)
    assert "acknowledged" in event.text


def test_a_message_not_taken_is_reported_and_its_place_is_free() -> None:
    session = ready(V5)
    packet_id = session.take_packet_id(0.0)
    [event] = session.receive(b"\x40\x03" + struct.pack("!H", packet_id) + b"\x97", 0.0)
    assert event == NotTaken("quota exceeded (0x97)")
    assert session.unacknowledged == 0
    packet_id = session.take_packet_id(0.0)
    # "No matching subscribers" is no error: nobody listens, which is the device's affair.
    assert session.receive(b"\x40\x03" + struct.pack("!H", packet_id) + b"\x10", 0.0) == []
