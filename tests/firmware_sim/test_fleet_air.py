"""The link's model on a device's own connection: what arrives, when, and when no more is taken."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_sim.fleet.air import Air, Way
from firmware_sim.links.framing import FramingError
from firmware_sim.links.model import Direction, Link, LinkProfile
from firmware_sim.links.model import Way as WayProfile

WORST = WayProfile(rate=1000, delay=100, jitter=50, loss=0.2, duplicate=0.2, reorder=0.2)


def publish(payload: bytes, qos: int = 0) -> bytes:
    body = b"\x00\x01t" + (b"\x00\x07" if qos else b"") + payload
    return bytes((0x30 | qos << 1, len(body))) + body


@given(
    sent=st.lists(st.tuples(st.integers(0, 1), st.binary(max_size=100)), max_size=40),
    cuts=st.lists(st.integers(1, 60)),
)
def test_what_arrives_and_when_is_the_models_to_say(sent: list[tuple[int, bytes]], cuts: list[int]) -> None:
    packets = [publish(payload, qos) for qos, payload in sent]
    stream, way, model = b"".join(packets), Way(Direction(WORST, 5), 1 << 20), Direction(WORST, 5)
    expected = sorted(
        ((at, place), packet)
        for place, packet in enumerate(packets)
        for at in model.send(10.0, len(packet), droppable=packet[0] == 0x30)
    )
    for count in [*cuts, len(stream)]:
        way.feed(stream[:count], 10.0)
        stream = stream[count:]
    got = []
    while way.next < math.inf:
        at = way.next
        assert way.arrived(math.nextafter(at, 0)) == []
        got += [(at, packet) for packet in way.arrived(at)]
    assert got == [(at, packet) for (at, _), packet in expected]


def test_the_queue_is_full_until_what_is_in_it_has_arrived() -> None:
    way = Way(Direction(WayProfile(rate=100)), 100)
    packet = publish(bytes(45))
    assert len(packet) == 50
    way.feed(packet, 0.0)
    assert not way.full
    way.feed(packet, 0.0)
    assert way.full
    assert way.arrived(0.49) == []
    assert way.arrived(0.5) == [packet]
    assert not way.full
    assert way.next == 1.0


def test_what_is_lost_stands_in_line_all_the_same() -> None:
    way = Way(Direction(WayProfile(rate=100, loss=1)), 50)
    way.feed(publish(bytes(45)), 0.0)
    assert way.full
    assert way.next == 0.5
    assert way.arrived(0.5) == []
    assert not way.full


def test_what_is_no_mqtt_is_told() -> None:
    with pytest.raises(FramingError):
        Way(Direction(WayProfile()), 100).feed(b"\x00\x00", 0.0)


def test_a_connection_ends_when_the_link_says_so() -> None:
    profile = LinkProfile(name="short", disconnect_every=10.0)
    air = Air(Link(profile, 3, 0, 100.0))
    assert air.next == air.ends == Link(profile, 3, 0, 100.0).ends > 100.0
    air.down.feed(publish(b"x"), 100.0)
    assert air.next == 100.0
