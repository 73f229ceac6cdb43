"""The session without I/O: what it says, what it hears, however it is cut, and what it never holds."""

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_client.mqtt import TOO_LONG, BrokerUnreachable, Session, SubscriptionRefused

TOPICS = ["a/data", "a/description"]
CONNACK = b"\x20\x02\x00\x00"
SUBACK = b"\x90\x04\x00\x01\x00\x00"


def session(buffer: int = 300, **settings: object) -> Session:
    return Session("me", TOPICS, bytearray(buffer), **settings)  # type: ignore[arg-type]


def packet(kind: int, body: bytes) -> bytes:
    length, head = len(body), bytes([kind])
    while length > 127:
        head += bytes([length & 127 | 128])
        length >>= 7
    return head + bytes([length]) + body


def publish(topic: str, payload: bytes, qos: int = 0, packet_id: int = 7) -> bytes:
    name = topic.encode()
    middle = packet_id.to_bytes(2, "big") if qos else b""
    return packet(0x30 | qos << 1, len(name).to_bytes(2, "big") + name + middle + payload)


def feed(one: Session, data: bytes, sizes: Iterable[int] = (), now: int = 0) -> list[tuple[str, bytes]]:
    """What comes out when `data` comes in reads of these sizes, and then of whatever there is room for."""
    heard = []
    reads = iter(sizes)
    while data:
        room = one.room()
        assert len(room) > 0
        count = min(len(room), len(data), next(reads, 1 << 30))
        room[:count] = data[:count]
        data = data[count:]
        one.filled(count, now)
        while (message := one.message()) is not None:
            heard.append((message[0], bytes(message[1])))
    return heard


def standing(buffer: int = 300, **settings: object) -> Session:
    """One whose topics are granted, and that has nothing more to say."""
    one = session(buffer, **settings)
    one.begin(0)
    assert feed(one, CONNACK + SUBACK) == []
    assert one.up
    one.take(0)
    return one


class TestSetup:
    def test_what_it_says(self) -> None:
        one = session(user="u", password="pw", keepalive=300)
        one.begin(0)
        head = b"\x00\x04MQTT\x04\xc2\x01\x2c"
        assert one.take(0) == packet(0x10, head + b"\x00\x02me\x00\x01u\x00\x02pw")
        assert one.take(0) == b""
        feed(one, CONNACK)
        assert not one.up
        topics = b"".join(len(name).to_bytes(2, "big") + name.encode() + b"\x00" for name in TOPICS)
        assert one.take(0) == packet(0x82, b"\x00\x01" + topics)
        feed(one, SUBACK)
        assert one.up

    @pytest.mark.parametrize(("code", "why"), [(2, "client id"), (5, "Not authorized"), (99, "99")])
    def test_a_refused_connection(self, code: int, why: str) -> None:
        one = session()
        with pytest.raises(BrokerUnreachable, match=f"refused the connection: {why}"):
            feed(one, bytes([0x20, 2, 0, code]))

    def test_a_refused_subscription(self) -> None:
        one = session()
        with pytest.raises(SubscriptionRefused, match=r"grant a/description$"):
            feed(one, CONNACK + b"\x90\x04\x00\x01\x00\x80")
        assert not one.up

    @pytest.mark.parametrize("keepalive", [1, 65536])
    def test_keepalive_out_of_bounds(self, keepalive: int) -> None:
        with pytest.raises(ValueError, match=f"keepalive {keepalive}"):
            session(keepalive=keepalive)

    def test_beginning_again_forgets_the_connection_before(self) -> None:
        one = standing()
        feed(one, publish("a/data", bytes(500))[:100])
        one.publish("x", b"unsent")
        one.begin(5)
        assert not one.up
        assert one.take(5)[0] == 0x10
        assert feed(one, CONNACK + SUBACK + publish("a/data", b"new")) == [("a/data", b"new")]


class TestHearing:
    @given(
        messages=st.lists(
            st.tuples(
                st.sampled_from([*TOPICS, "a", "else/where", ""]),
                st.one_of(st.binary(max_size=40), st.integers(100, 1500).map(bytes)),
                st.integers(0, 1),
            ),
            max_size=12,
        ),
        sizes=st.lists(st.integers(1, 400), max_size=60),
        buffer=st.integers(64, 700),
    )
    def test_every_message_that_fits_comes_out_however_it_is_cut(
        self, messages: list[tuple[str, bytes, int]], sizes: list[int], buffer: int
    ) -> None:
        one = standing(buffer)
        packets = [publish(*message) for message in messages]
        heard = feed(one, b"".join(packets), sizes)
        told = [
            message[:2] if len(raw) <= buffer else (TOO_LONG + message[0], b"%d" % buffer)
            for message, raw in zip(messages, packets, strict=True)
        ]
        fitting = [message for message, raw in zip(messages, packets, strict=True) if len(raw) <= buffer]
        assert heard == [one for one in told if one[0].removeprefix(TOO_LONG) in TOPICS]
        assert one.oversize == len(messages) - len(fitting)
        assert one.take(0) == b"\x40\x02\x00\x07" * sum(qos for _, _, qos in fitting)

    @given(st.binary(max_size=200), st.lists(st.integers(1, 9), max_size=40))
    def test_whatever_comes_ends_in_silence_or_an_error(self, data: bytes, sizes: list[int]) -> None:
        one = standing(64)
        try:
            feed(one, data, sizes)
        except (BrokerUnreachable, SubscriptionRefused):
            pass

    @pytest.mark.parametrize(
        "data",
        [
            b"\x30\xff\xff\xff\xff\x01",  # a length of five bytes
            b"\x30\x01a",  # no room for a topic's length
            b"\x30\x04\x00\x09ab",  # a topic past the end
            b"\x32\x03\x00\x01a",  # QoS 1 without a packet id
            publish("a/data", b"x", qos=2),
            b"\x82\x02\x00\x01",  # a SUBSCRIBE, which is for brokers
        ],
    )
    def test_what_is_not_mqtt(self, data: bytes) -> None:
        with pytest.raises(BrokerUnreachable, match="not MQTT"):
            feed(standing(), data)

    def test_a_payload_is_a_view_of_the_buffer(self) -> None:
        buffer = bytearray(300)
        one = Session("me", TOPICS, buffer)
        feed(one, CONNACK + SUBACK)
        raw = publish("a/data", b"payload")
        one.room()[: len(raw)] = raw
        one.filled(len(raw), 0)
        message = one.message()
        assert message is not None
        assert message[1].obj is buffer


class TestSending:
    def test_nothing_before_the_session_stands(self) -> None:
        one = session()
        one.begin(0)
        one.take(0)
        one.publish("x", b"y")
        assert one.take(0) == b""

    @given(st.lists(st.binary(max_size=20000), min_size=1, max_size=3))
    def test_messages_go_out_in_order(self, payloads: list[bytes]) -> None:
        one = standing()
        for payload in payloads:
            one.publish("a/get", payload)
        assert one.take(0) == b"".join(publish("a/get", payload) for payload in payloads)


class TestSilence:
    def test_a_silent_broker_is_asked_and_then_given_up(self) -> None:
        one = standing(keepalive=10)
        assert one.deadline == 5000
        one.poll(4999)
        assert one.take(4999) == b""
        one.poll(5000)
        assert one.take(5000) == b"\xc0\x00"
        assert one.deadline == 10000
        one.poll(9999)
        with pytest.raises(BrokerUnreachable, match="no answer within 10 s"):
            one.poll(10000)

    def test_an_answer_is_a_sign_of_life(self) -> None:
        one = standing(keepalive=10)
        one.poll(5000)
        one.take(5000)
        feed(one, b"\xd0\x00", now=6000)
        assert one.deadline == 10000  # half a keepalive after it last said something
        one.poll(10000)
        assert one.take(10000) == b"\xc0\x00"

    def test_a_broker_that_only_takes_is_asked_too(self) -> None:
        one = standing(keepalive=10)
        one.publish("x", b"y")
        one.take(4000)
        one.poll(5000)
        assert one.take(5000) == b"\xc0\x00"

    def test_a_session_that_never_stands_is_given_up_though_bytes_come(self) -> None:
        one = session(keepalive=10)
        one.begin(0)
        feed(one, CONNACK, now=9000)
        with pytest.raises(BrokerUnreachable, match="no answer"):
            one.poll(10000)


class TestWildcards:
    """Topics of which a level may be anything."""

    def one(self) -> Session:
        one = Session("me", ["a/+/data", "b/+/+", "c"], bytearray(300))
        one.begin(0)
        feed(one, CONNACK + b"\x90\x05\x00\x01\x00\x00\x00")
        assert one.up
        return one

    def test_bring_the_topic_that_it_was(self) -> None:
        topics = ["a/x/data", "a/x/data", "a/y/data", "c", "b/1/2", "a//data"]
        heard = feed(self.one(), b"".join(publish(topic, b"p") for topic in topics))
        assert [topic for topic, _ in heard] == topics

    @pytest.mark.parametrize("topic", ["a/data", "a/x/data/y", "a/x/other", "d/x/data", "b/1", "", "c/c"])
    def test_and_no_other(self, topic: str) -> None:
        one = self.one()
        assert feed(one, publish("a/x/data", b"") + publish(topic, b"p")) == [("a/x/data", b"")]

    def test_tell_which_message_was_too_long(self) -> None:
        topics = ["a/x/data", "a/x/other", "b/1/2", "c"]
        long = b"".join(publish(topic, bytes(300)) for topic in topics)
        expected = [(TOO_LONG + topic, b"300") for topic in topics if topic != "a/x/other"]
        assert feed(self.one(), long + publish("c", b"p")) == [*expected, ("c", b"p")]
        assert feed(self.one(), long + publish("c", b"p"), [1] * 2000) == [*expected, ("c", b"p")]

    def test_a_topic_that_is_too_long_itself_is_none(self) -> None:
        one = self.one()
        assert feed(one, publish("a/" + "x" * 300 + "/data", b"p") + publish("c", b"p")) == [("c", b"p")]
        assert one.oversize == 1

    def test_what_is_no_text_is_no_topic(self) -> None:
        with pytest.raises(BrokerUnreachable, match="not MQTT"):
            feed(self.one(), packet(0x30, b"\x00\x08a/\xff/data"))
