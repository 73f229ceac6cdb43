"""The model of a link: order, rate, chances and stalls, in its own time."""

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_sim.links.model import Direction, Link, LinkProfile, ProfileError, Way

PROBABILITIES = st.sampled_from([0.0, 0.02, 0.5, 1.0])
WAYS = st.builds(
    Way,
    rate=st.one_of(st.just(math.inf), st.floats(1, 1e7)),
    delay=st.floats(0, 60_000),
    jitter=st.floats(0, 60_000),
    loss=PROBABILITIES,
    duplicate=PROBABILITIES,
    reorder=PROBABILITIES,
    reorder_by=st.floats(0, 60_000),
)
PROFILES = st.builds(
    lambda up, down, every, stall: LinkProfile(
        name="any", up=up, down=down, stall_every=every, stall_for=stall if every else 0
    ),
    WAYS,
    WAYS,
    st.one_of(st.just(0.0), st.floats(1, 100)),
    st.floats(0.01, 10),
)
MESSAGES = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 200_000), st.booleans()), max_size=60)
"""Seconds since the one before, bytes, droppable."""


def sent(direction: Direction, messages: list[tuple[float, int, bool]]) -> list[tuple[float, list[float]]]:
    """When each was sent, and when it arrived."""
    now, seen = 0.0, []
    for pause, size, droppable in messages:
        now += pause
        seen.append((now, direction.send(now, size, droppable=droppable)))
    return seen


class TestEveryLink:
    @given(PROFILES, MESSAGES, st.integers())
    def test_what_is_not_droppable_arrives_once_and_in_order(
        self, profile: LinkProfile, messages: list[tuple[float, int, bool]], seed: int
    ) -> None:
        seen = sent(Link(profile, seed).down, messages)
        kept = [
            arrivals for (_, arrivals), (_, _, droppable) in zip(seen, messages, strict=True) if not droppable
        ]
        assert all(len(arrivals) == 1 for arrivals in kept)
        times = [at for arrivals in kept for at in arrivals]
        assert times == sorted(times)

    @given(PROFILES, MESSAGES, st.integers())
    def test_nothing_is_earlier_than_rate_and_delay_allow(
        self, profile: LinkProfile, messages: list[tuple[float, int, bool]], seed: int
    ) -> None:
        way = profile.down
        link = Link(profile, seed)
        arrived: list[tuple[float, int]] = []
        for (now, arrivals), (_, size, _) in zip(sent(link.down, messages), messages, strict=True):
            assert arrivals == sorted(arrivals)
            assert all(at >= now + size / way.rate + way.delay / 1000 - 1e-6 for at in arrivals)
            arrived += [(at, size) for at in arrivals]
        # All that has arrived by any time went over the wire since the first message was sent.
        start = messages[0][0] if messages else 0.0
        total = 0
        for at, size in sorted(arrived):
            total += size
            assert (
                total <= way.rate * (at - way.delay / 1000 - start) * (1 + 1e-9) + 1e-3
                or way.rate == math.inf
            )

    @given(PROFILES, MESSAGES, st.integers(), st.integers(0, 10))
    def test_the_same_seed_does_the_same(
        self, profile: LinkProfile, messages: list[tuple[float, int, bool]], seed: int, connection: int
    ) -> None:
        first, again = Link(profile, seed, connection), Link(profile, seed, connection)
        assert sent(first.up, messages) == sent(again.up, messages)
        assert sent(first.down, messages) == sent(again.down, messages)
        assert first.ends == again.ends

    @given(PROFILES, MESSAGES, st.integers())
    def test_what_is_counted_is_what_happened(
        self, profile: LinkProfile, messages: list[tuple[float, int, bool]], seed: int
    ) -> None:
        up = Link(profile, seed).up
        seen = [arrivals for _, arrivals in sent(up, messages)]
        assert (up.messages, up.bytes) == (len(messages), sum(size for _, size, _ in messages))
        assert (up.lost, up.duplicated) == (seen.count([]), sum(len(arrivals) == 2 for arrivals in seen))


class TestChances:
    def test_shares_are_near_their_probability(self) -> None:
        way = Way(loss=0.02, duplicate=0.01, reorder=0.05)
        direction = Direction(way, seed=1)
        count = 20_000
        for index in range(count):
            direction.send(float(index), 100, droppable=True)
        # Six standard deviations; the seed is fixed, so that this holds always or never.
        for happened, probability in (
            (direction.lost, 0.02),
            (direction.reordered, 0.98 * 0.05),
            (direction.duplicated, 0.98 * 0.01),
        ):
            deviation = math.sqrt(count * probability * (1 - probability))
            assert abs(happened - count * probability) < 6 * deviation

    def test_connections_and_ways_have_fates_of_their_own(self) -> None:
        profile = LinkProfile(name="half", up=Way(loss=0.5), down=Way(loss=0.5))
        fates = set()
        for seed in range(3):
            for connection in range(3):
                link = Link(profile, seed, connection)
                for direction in (link.up, link.down):
                    fates.add(tuple(bool(direction.send(0, 1, droppable=True)) for _ in range(64)))
        assert len(fates) == 18

    def test_the_fate_of_a_message_does_not_depend_on_others_or_on_time(self) -> None:
        way = Way(rate=1000, jitter=100, loss=0.3, duplicate=0.3, reorder=0.3)
        alone, crowded = Direction(way, 5), Direction(way, 5)
        for index in range(200):
            crowded.send(0, 10, droppable=False)
            one, other = alone.send(index, 100, droppable=True), crowded.send(0, 7, droppable=True)
            assert len(one) == len(other)
        assert alone.reordered == crowded.reordered > 0

    def test_a_held_back_message_is_overtaken(self) -> None:
        direction = Direction(Way(delay=10, reorder=1, reorder_by=30))
        assert direction.send(0, 1, droppable=True) == [pytest.approx(0.040)]
        assert direction.send(0.001, 1, droppable=False) == [pytest.approx(0.011)]

    def test_jitter_is_even_and_keeps_the_order(self) -> None:
        direction = Direction(Way(delay=100, jitter=50), 2)
        apart = [direction.send(index, 1, droppable=True)[0] - index for index in range(2000)]
        assert 0.100 <= min(apart) < 0.102
        assert 0.148 < max(apart) <= 0.150
        assert sum(apart) / len(apart) == pytest.approx(0.125, abs=0.002)
        close = [direction.send(3000, 1, droppable=True)[0] for _ in range(100)]
        assert close == sorted(close)


class TestTime:
    def test_messages_stand_in_line_for_the_wire(self) -> None:
        direction = Direction(Way(rate=1000, delay=250))
        assert direction.send(5, 500, droppable=True) == [5.75]
        assert direction.send(5, 500, droppable=False) == [6.25]
        assert direction.free == 6.0
        assert direction.send(10, 1000, droppable=True) == [11.25]

    def test_what_is_lost_or_doubled_uses_the_wire(self) -> None:
        direction = Direction(Way(rate=1000, loss=1))
        assert direction.send(0, 500, droppable=True) == []
        assert direction.send(0, 500, droppable=False) == [1.0]
        direction = Direction(Way(rate=1000, duplicate=1))
        assert direction.send(0, 500, droppable=True) == [0.5, 1.0]
        assert direction.send(0, 500, droppable=False) == [1.5]

    def test_without_a_limit_nothing_waits(self) -> None:
        direction = Direction(Way())
        assert [direction.send(3, 1 << 40, droppable=True) for _ in range(3)] == [[3], [3], [3]]

    def test_stalls_come_at_their_mean_and_stop_both_ways(self) -> None:
        profile = LinkProfile(
            name="stalling", up=Way(rate=1e6), down=Way(rate=1e6), stall_every=30, stall_for=5
        )
        link = Link(profile, seed=4, start=1000)
        step, horizon = 0.01, 200_000
        stalls: list[list[tuple[float, float]]] = []
        for direction in (link.up, link.down):
            moved = [direction.send(1000 + index * step, 1, droppable=False)[0] for index in range(horizon)]
            stalls.append([(one, other) for one, other in pairwise(moved) if other - one > 1])
        up, down = stalls
        assert up == down
        # 2,000 s with 35 s from one begin to the next: 57, give or take.
        assert 35 < len(up) < 85
        assert all(4.9 < end - begin < 5.1 for begin, end in up)

    def test_a_message_goes_on_after_the_stall_where_it_was(self) -> None:
        quiet = LinkProfile(name="a", up=Way(rate=1000), stall_every=10, stall_for=3)
        size = 1_000_000  # 1,000 s on the wire
        (at,) = Link(quiet, 9).up.send(0, size, droppable=False)
        stalled = at - 1000
        assert stalled == pytest.approx(3 * round(stalled / 3))
        assert 60 < stalled / 3 < 140

    def test_connections_live_as_long_as_the_profile_says_on_average(self) -> None:
        profile = LinkProfile(name="short", disconnect_every=60)
        lives = [Link(profile, 1, number, start=500).ends - 500 for number in range(2000)]
        assert min(lives) > 0
        assert sum(lives) / len(lives) == pytest.approx(60, rel=0.1)
        assert Link(LinkProfile(name="for ever")).ends == math.inf

    def test_round_trip(self) -> None:
        profile = LinkProfile(name="a", up=Way(delay=30, jitter=10), down=Way(delay=20))
        assert profile.round_trip == 55


class TestBounds:
    @pytest.mark.parametrize(
        ("field", "value", "told"),
        [
            ("rate", 0, "rate is 0 byte/s; it must be from 1 to inf byte/s"),
            ("rate", math.nan, "rate is nan byte/s"),
            ("delay", -1, "delay is -1 ms; it must be from 0 to 60000 ms"),
            ("jitter", 60_001, "jitter is 60001 ms; it must be from 0 to 60000 ms"),
            ("reorder_by", math.inf, "reorder_by is inf ms"),
            ("loss", 1.5, "loss is 1.5; it must be from 0 to 1"),
            ("duplicate", -0.1, "duplicate is -0.1; it must be from 0 to 1"),
            ("reorder", math.nan, "reorder is nan; it must be from 0 to 1"),
        ],
    )
    def test_of_a_way(self, field: str, value: float, told: str) -> None:
        with pytest.raises(ProfileError) as error:
            Way(**{field: value})
        assert str(error.value).startswith(told)

    @pytest.mark.parametrize(
        ("values", "told"),
        [
            ({"queue": 1023}, "queue is 1023 bytes; it must be from 1024 to 1073741824 bytes"),
            ({"stall_every": -1}, "stall_every is -1 s; it must be from 0 to"),
            ({"stall_every": 10, "stall_for": 3601}, "stall_for is 3601 s; it must be from 0 to 3600 s"),
            ({"stall_every": 10}, "stall_every is 10 s and stall_for 0 s; both must be 0, or neither"),
            ({"stall_for": 10}, "stall_every is 0 s and stall_for 10 s; both must be 0, or neither"),
            ({"disconnect_every": math.nan}, "disconnect_every is nan s"),
        ],
    )
    def test_of_a_link(self, values: dict[str, float], told: str) -> None:
        with pytest.raises(ProfileError) as error:
            LinkProfile(name="a", **values)  # type: ignore[arg-type]
        assert str(error.value).startswith(told)
