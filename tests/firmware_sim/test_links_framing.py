"""Framing for the relay: at every split, at every bound, and what may be dropped."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_sim.links.framing import LARGEST, Framer, FramingError, droppable, protocol_level


def varint(value: int) -> bytes:
    """As MQTT writes a length."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def packet(first: int, body: bytes = b"") -> bytes:
    return bytes([first]) + varint(len(body)) + body


def text(value: str) -> bytes:
    return len(value.encode()).to_bytes(2, "big") + value.encode()


def publish(flags: int = 0, properties: bytes | None = None, payload: bytes = b"\x00block") -> bytes:
    """PUBLISH; of MQTT 5 where `properties` are given."""
    body = text("$aws/things/t/streams/s/data/cbor") + (b"\x00\x07" if flags & 6 else b"")
    if properties is not None:
        body += varint(len(properties)) + properties
    return packet(0x30 | flags, body + payload)


CONNECT_311 = packet(0x10, text("MQTT") + b"\x04\x02\x00\x3c" + text("mast"))
CONNECT_5 = packet(0x10, text("MQTT") + b"\x05\x02\x00\x3c\x00" + text("mast"))

PACKETS = st.lists(st.builds(packet, st.integers(0x10, 0xFF), st.binary(max_size=300)), max_size=8)


class TestFramer:
    @given(PACKETS, st.data())
    def test_any_split_gives_the_same_packets(self, packets: list[bytes], data: st.DataObject) -> None:
        stream = b"".join(packets)
        cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=10)))
        framer = Framer(4096)
        seen = []
        for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
            seen += list(framer.feed(stream[start:end]))
        assert seen == packets
        assert framer.held == 0

    def test_byte_by_byte_a_packet_comes_with_its_last_byte(self) -> None:
        sizes = [0, 1, 127, 128, 16_383, 16_384]
        framer = Framer(20_000)
        for size in sizes:
            whole = packet(0x30, bytes(size))
            for byte in whole[:-1]:
                assert list(framer.feed(bytes([byte]))) == []
            assert framer.held == len(whole) - 1
            assert list(framer.feed(whole[-1:])) == [whole]

    def test_a_length_of_four_bytes(self) -> None:
        whole = packet(0x30, bytes(2_097_152))
        assert len(varint(2_097_152)) == 4
        framer = Framer(LARGEST)
        seen = [
            one
            for start in range(0, len(whole), 65_536)
            for one in framer.feed(whole[start : start + 65_536])
        ]
        assert seen == [whole]

    def test_the_longest_passes_and_one_byte_more_does_not(self) -> None:
        assert list(Framer(1002).feed(packet(0x30, bytes(998))[:3])) == []
        assert len(list(Framer(1001).feed(packet(0x30, bytes(998))))) == 1
        with pytest.raises(FramingError, match="a packet of type 3 is 1002 bytes long, over 1001"):
            list(Framer(1001).feed(packet(0x30, bytes(999))[:3]))  # known from its header, before it is kept

    @pytest.mark.parametrize(
        ("stream", "told"),
        [
            (b"\x00\x00", "packet type 0 is reserved"),
            (b"\x30\xff\xff\xff\xff", "a remaining length has over four bytes"),
        ],
    )
    def test_what_is_no_mqtt(self, stream: bytes, told: str) -> None:
        with pytest.raises(FramingError, match=told):
            list(Framer(LARGEST).feed(stream))

    def test_what_was_before_an_error_comes(self) -> None:
        good = packet(0x30, b"good")
        packets = Framer(100).feed(good + good + b"\x00\x00")
        assert [next(packets), next(packets)] == [good, good]
        with pytest.raises(FramingError):
            next(packets)

    @given(st.binary(max_size=200))
    def test_any_bytes_are_packets_or_an_error(self, stream: bytes) -> None:
        framer = Framer(64)
        try:
            packets = list(framer.feed(stream))
        except FramingError:
            return
        assert b"".join(packets) == stream[: len(stream) - framer.held]
        assert framer.held <= 64

    @pytest.mark.parametrize("largest", [1, LARGEST + 1])
    def test_bounds(self, largest: int) -> None:
        with pytest.raises(ValueError, match=f"largest is {largest} bytes; it must be from 2 to {LARGEST}"):
            Framer(largest)


class TestConnect:
    @pytest.mark.parametrize(("connect", "level"), [(CONNECT_311, 4), (CONNECT_5, 5)])
    def test_the_level(self, connect: bytes, level: int) -> None:
        assert protocol_level(connect) == level

    @pytest.mark.parametrize(
        ("first", "told"),
        [
            (publish(), "a session begins with byte 0x30, not with CONNECT"),
            (b"\x16\x03\x01\x00", "a session begins with byte 0x16, not with CONNECT"),  # TLS
            (packet(0x10), "CONNECT is cut off"),
            (packet(0x10, text("MQTT")), "CONNECT is cut off"),
            (packet(0x10, b"\xff\xffMQ"), "CONNECT is cut off"),
        ],
    )
    def test_no_session(self, first: bytes, told: str) -> None:
        with pytest.raises(FramingError, match=told):
            protocol_level(first)


class TestDroppable:
    @pytest.mark.parametrize("level", [4, 5])
    @pytest.mark.parametrize("kind", [one for one in range(1, 16) if one != 3])
    def test_only_publish_is(self, kind: int, level: int) -> None:
        assert not droppable(packet(kind << 4 | (2 if kind in (6, 8, 10) else 0), b"\x00\x01"), level)

    @pytest.mark.parametrize(
        ("flags", "expected"),
        [(0, True), (1, True), (8, True), (2, False), (3, False), (4, False), (10, False)],
    )
    def test_by_qos(self, flags: int, expected: bool) -> None:
        assert droppable(publish(flags), 4) is expected
        assert droppable(publish(flags, b""), 5) is expected

    @pytest.mark.parametrize(
        ("properties", "expected"),
        [
            (b"", True),
            (b"\x01\x01", True),
            (b"\x02\x00\x00\x00\x23", True),
            (b"\x03" + text("text/#"), True),
            (b"\x08" + text("#") + b"\x09" + text("##"), True),
            (b"\x0b\xa3\x23", True),
            (b"\x26" + text("#") + text("#"), True),
            (b"\x23\x00\x01", False),
            (b"\x01\x01\x26" + text("a") + text("b") + b"\x0b\x05\x23\x00\x09", False),
            # Malformed: the broker's business, and passed on.
            (b"\x7f\x00", False),
            (b"\x02\x00", False),
            (b"\x0b\xff\xff\xff\xff", False),
        ],
    )
    def test_what_sets_or_uses_a_topic_alias_is_not(self, properties: bytes, expected: bool) -> None:
        assert droppable(publish(0, properties, payload=b"#" * 40), 5) is expected

    def test_a_packet_of_311_has_no_properties(self) -> None:
        assert droppable(publish(payload=b"\x03\x23\x00\x01"), 4)

    @given(st.binary(max_size=60))
    def test_any_packet_is_or_is_not(self, body: bytes) -> None:
        assert droppable(packet(0x30, body), 5) in (True, False)
