"""Paces hold over ten seconds, whatever the sizes, and harm nobody else. Time is the test's own."""

import random
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker_bridge.delivery.scheduler import HOLD_SECONDS, Scheduler
from broker_bridge.pace import TURN_SECONDS, Pace
from broker_bridge.registry.streams import Stream
from tests.delivery.making import make_stream, make_wanted

NEVER = 1 << 40
KIB = 1024
SECONDS = 10.0
BLOCK_SIZES = [256, 1000, 1024, 4096, 65536, 131072]


@dataclass
class Asker:
    """A thing that has always asked for more: (time, blocks, bytes) of each turn it got."""

    block_size: int = 4096
    pace: Pace | None = None
    turns: list[tuple[float, int, int]] = field(default_factory=list)

    def between(self, start: float, end: float) -> int:
        return sum(size for at, _, size in self.turns if start <= at < end)

    def blocks(self, start: float, end: float) -> int:
        return sum(blocks for at, blocks, _ in self.turns if start <= at < end)


class Simulation:
    """Turns as `Turns` takes them, woken when the scheduler says, later by up to `late` seconds."""

    def __init__(
        self,
        things: dict[str, Asker],
        *,
        late: float = 0.0,
        whole: int | None = None,
        line_rate: float = 1e9,
    ) -> None:
        self.things = things
        self.scheduler = Scheduler(hold=NEVER, hold_bytes=NEVER, bytes_per_second=whole)
        self.now = 1000.0
        self.late = late
        self.random = random.Random(1)
        self.wakes = 0
        self.line_rate = line_rate
        self.asked: defaultdict[str, int] = defaultdict(int)

    def ask(self, name: str, blocks: int) -> None:
        thing = self.things[name]
        first = self.asked[name]
        self.asked[name] += blocks
        wanted = make_wanted(
            list(range(first, first + blocks)), stream=make_stream(name), block_size=thing.block_size
        )
        wanted.pace = thing.pace
        self.scheduler.heard(name)
        assert self.scheduler.add(name, wanted)

    def fill(self, name: str) -> None:
        flow = self.scheduler._flows.get(name)
        if flow is None or len(flow.requests) < 2:
            self.ask(name, max(1, 131072 // self.things[name].block_size))

    def run(self, until: float, *, only: "set[str] | None" = None) -> None:
        """Serves everyone (or `only` some, who ask for ever) until that time."""
        asking = set(self.things) if only is None else only
        for name in asking:
            self.fill(name)
        while self.now < until:
            if not self.turn(asking):
                due = self.scheduler.release(self.now)
                self.wakes += 1
                if due is None:
                    break
                assert due > self.now
                self.now = max(due, self.now + 0.001) + self.random.random() * self.late
        self.now = max(self.now, until)

    def turn(self, asking: set[str]) -> bool:
        flow = self.scheduler.next(self.now)
        if flow is None:
            return False
        thing = self.things[flow.thing]
        request = flow.requests[0]
        allowance = self.scheduler.allowance(flow)
        waiting = min(len(request.blocks) - request.at, 64)
        count = max(1, min(waiting, -(-allowance // thing.block_size)))
        size = count * thing.block_size
        self.scheduler.written(flow, count, size)
        thing.turns.append((self.now, count, size))
        self.now += size / self.line_rate
        if flow.thing in asking:
            self.fill(flow.thing)
        return True


def holds(thing: Asker, start: float) -> None:
    """From `start` on, ten seconds long, and in each ten seconds that begin with a turn: 5 %, or a block."""
    assert thing.pace is not None
    for begin in {start, *(at for at, _, _ in thing.turns if at <= start)}:
        if thing.pace.bytes_per_second is not None and not thing.pace.gap:
            wanted = thing.pace.bytes_per_second * SECONDS
            got = thing.between(begin, begin + SECONDS)
            assert abs(got - wanted) <= max(wanted / 20, thing.block_size)
        elif thing.pace.bytes_per_second is None:
            wanted = SECONDS / thing.pace.gap
            assert abs(thing.blocks(begin, begin + SECONDS) - wanted) <= max(wanted / 20, 1)


@settings(deadline=None, max_examples=60)
@given(
    rate=st.sampled_from([256, 1000, 9600, 64 * KIB, 1_000_000, 20_000_000]) | st.integers(256, 30_000_000),
    block_size=st.sampled_from(BLOCK_SIZES),
    late=st.sampled_from([0.0, 0.002, 0.004]),
)
def test_a_rate(rate: int, block_size: int, late: float) -> None:
    thing = Asker(block_size, Pace(rate))
    simulation = Simulation({"thing": thing}, late=late)
    simulation.run(simulation.now + 2 * SECONDS + 1)
    holds(thing, thing.turns[0][0])
    turn = max(block_size, rate * TURN_SECONDS)
    assert max(size for _, _, size in thing.turns) <= turn
    assert simulation.wakes <= 1.1 * len(thing.turns) + 2, "it polls"


@settings(deadline=None, max_examples=40)
@given(
    gap=st.sampled_from([0.001, 0.005, 0.02, 0.1, 1.0]) | st.floats(0.001, 3.0),
    block_size=st.sampled_from([256, 4096, 131072]),
    late=st.sampled_from([0.0, 0.001]),
)
def test_a_gap(gap: float, block_size: int, late: float) -> None:
    thing = Asker(block_size, Pace(gap=gap))
    simulation = Simulation({"thing": thing}, late=late)
    simulation.run(simulation.now + 2 * SECONDS + 1)
    holds(thing, thing.turns[0][0])
    assert all(blocks == 1 for _, blocks, _ in thing.turns)
    if gap >= TURN_SECONDS:
        times = [at for at, _, _ in thing.turns]
        assert min(after - at for at, after in pairwise(times)) >= 0.74 * gap


def test_both_a_rate_and_a_gap() -> None:
    # 16 blocks a second by the rate, 10 by the gap; then the other way round.
    slow_by_gap, slow_by_rate = Asker(4096, Pace(64 * KIB, 0.1)), Asker(4096, Pace(64 * KIB, 0.03))
    simulation = Simulation({"gap": slow_by_gap, "rate": slow_by_rate})
    start = simulation.now
    simulation.run(start + SECONDS)
    assert abs(slow_by_gap.blocks(start, start + SECONDS) - 100) <= 1
    assert abs(slow_by_rate.between(start, start + SECONDS) - 10 * 64 * KIB) <= 4096


def test_paces_hold_beside_others_at_full_speed() -> None:
    paced = {
        "a": Asker(1024, Pace(64 * KIB)),
        "b": Asker(131072, Pace(500_000)),
        "c": Asker(4096, Pace(gap=0.05)),
        "d": Asker(4096, Pace(1_000_000)),
    }
    # The line carries 300 MB/s: each of these could have 6 MB/s, and a round takes some 20 ms.
    greedy = {f"greedy {number}": Asker(4096) for number in range(45)}
    simulation = Simulation({**paced, **greedy}, line_rate=300e6)
    start = simulation.now
    simulation.run(start + SECONDS + 1)
    for thing in paced.values():
        holds(thing, start)
    shares = [thing.between(start, start + SECONDS) for thing in greedy.values()]
    assert min(shares) > 0.99 * max(shares)
    assert sum(shares) > 0.95 * 300e6 * SECONDS - 16e6, "the line was idle"


def test_a_pace_beyond_the_share_gets_no_more_than_the_share() -> None:
    things = {"paced": Asker(4096, Pace(80_000_000)), **{str(number): Asker(4096) for number in range(9)}}
    simulation = Simulation(things, line_rate=100e6)
    start = simulation.now
    simulation.run(start + 2)
    shares = {name: thing.between(start, start + 2) for name, thing in things.items()}
    assert shares["paced"] <= 1.02 * min(shares.values())
    assert shares["paced"] >= 0.8 * min(shares.values())


@settings(deadline=None, max_examples=30)
@given(
    whole=st.sampled_from([2000, 64 * KIB, 1_000_000, 20_000_000]),
    sizes=st.lists(st.sampled_from([256, 1000, 4096, 16384]), min_size=1, max_size=8),
    late=st.sampled_from([0.0, 0.003]),
)
def test_the_whole_service_keeps_to_a_rate_and_shares_it_evenly(
    whole: int, sizes: list[int], late: float
) -> None:
    things = {str(number): Asker(size) for number, size in enumerate(sizes)}
    simulation = Simulation(things, whole=whole, late=late)
    start = simulation.now
    simulation.run(start + SECONDS)
    got = [thing.between(start, start + SECONDS) for thing in things.values()]
    assert abs(sum(got) - whole * SECONDS) <= max(whole * SECONDS / 20, max(sizes))
    turn = max(max(sizes), whole * TURN_SECONDS)
    assert max(size for thing in things.values() for _, _, size in thing.turns) <= turn
    assert max(got) - min(got) <= 2 * (max(turn, 4096) + max(sizes))


def test_things_with_paces_within_a_whole() -> None:
    things = {"slow": Asker(1024, Pace(20_000)), "quick": Asker(4096)}
    simulation = Simulation(things, whole=200_000)
    start = simulation.now
    simulation.run(start + SECONDS)
    slow, quick = (thing.between(start, start + SECONDS) for thing in things.values())
    assert abs(slow - 200_000) <= 10_000
    assert abs(slow + quick - 2_000_000) <= 100_000


@pytest.mark.parametrize("whole", [None, 64 * KIB])
def test_idleness_earns_no_burst(whole: int | None) -> None:
    thing = Asker(1024, None if whole else Pace(64 * KIB))
    simulation = Simulation({"thing": thing}, whole=whole)
    for _ in range(3):
        start = simulation.now
        simulation.ask("thing", 64)
        simulation.run(start + 30, only=set())
        last = max(at for at, _, _ in thing.turns)
        assert last - start >= 0.95 * 63 / 64
        assert simulation.now == start + 30


def test_asking_for_one_block_at_a_time_keeps_to_the_pace() -> None:
    thing = Asker(1024, Pace(64 * KIB))
    simulation = Simulation({"thing": thing})
    start = simulation.now
    while simulation.now < start + SECONDS:
        simulation.ask("thing", 1)
        turns = len(thing.turns)
        while len(thing.turns) == turns:
            if not simulation.turn(set()):
                due = simulation.scheduler.release(simulation.now)
                assert due is not None
                simulation.now = due
    assert abs(thing.between(start, start + SECONDS) - 10 * 64 * KIB) <= 0.05 * 10 * 64 * KIB


def test_a_stall_is_made_up_for_without_a_burst() -> None:
    thing = Asker(1024, Pace(64 * KIB))
    simulation = Simulation({"thing": thing})
    start = simulation.now
    simulation.run(start + 2)
    simulation.now += 0.2  # the socket took nothing
    resumed = simulation.now
    simulation.run(start + SECONDS)
    assert abs(thing.between(start, start + SECONDS) - 10 * 64 * KIB) <= 4 * 1024
    for at, _, _ in thing.turns:
        if at >= resumed:
            assert thing.between(at, at + 0.1) <= 0.1 * 64 * KIB / 0.74 + 2 * 1024


def test_things_left_alone_are_forgotten() -> None:
    simulation = Simulation({str(number): Asker(1024, Pace(64 * KIB)) for number in range(20)})
    for name in simulation.things:
        simulation.ask(name, 3)
    simulation.run(simulation.now + 5, only=set())
    assert len(simulation.scheduler) == 0
    assert simulation.scheduler.release(simulation.now) is None


def test_credit_counts_for_paced_things_too() -> None:
    scheduler = Scheduler(hold=10, hold_bytes=NEVER)
    wanted = make_wanted(list(range(30)), block_size=1024)
    wanted.pace = Pace(gap=0.01)
    scheduler.heard("thing")
    assert scheduler.add("thing", wanted)
    now, times = 5.0, []
    while True:
        flow = scheduler.next(now)
        if flow is not None:
            scheduler.written(flow, 1, 1024)
            times.append(now)
            continue
        due = scheduler.release(now)
        if due is None:
            break
        now = due
    assert len(times) == 30
    assert times[10] - times[9] >= HOLD_SECONDS
    assert times[20] - times[19] >= HOLD_SECONDS
    assert times[9] - times[0] < 0.2


def waiting(scheduler: Scheduler, stream: Stream, pace: Pace, now: float) -> None:
    """A thing of which one block was written, and whose next is far away."""
    wanted = make_wanted([0, 1, 2], stream=stream)
    wanted.pace = pace
    assert scheduler.add("thing", wanted)
    flow = scheduler.next(now)
    assert flow is not None
    scheduler.written(flow, 1, 4096)
    assert scheduler.next(now) is None
    assert scheduler.release(now) == pytest.approx(now + 16)


def test_a_change_of_the_stream_frees_what_waited_for_its_pace() -> None:
    # Whoever set a pace far too slow and mends it must not wait for it all the same.
    scheduler = Scheduler(hold=500, hold_bytes=NEVER)
    stream = make_stream("stream")
    waiting(scheduler, stream, Pace(256), 1.0)
    assert [request.at for _, request in scheduler.withdraw("stream")] == [1]
    assert scheduler.add("thing", make_wanted([1, 2], stream=stream))
    flow = scheduler.next(1.0)
    assert flow is not None
    scheduler.written(flow, 2, 8192)
    assert scheduler.next(1.0) is None
    assert len(scheduler) == 0


def test_nothing_is_left_after_a_clear() -> None:
    scheduler = Scheduler(hold=500, hold_bytes=NEVER)
    waiting(scheduler, make_stream("stream"), Pace(256), 1.0)
    scheduler.clear()
    assert scheduler.release(1.0) is None
    assert scheduler.next(100.0) is None
    assert len(scheduler) == 0


def test_what_waits_for_its_pace_is_not_queued_again_and_what_was_written_is() -> None:
    scheduler = Scheduler(hold=500, hold_bytes=NEVER)
    waiting(scheduler, make_stream("stream"), Pace(256), 1.0)
    assert scheduler.add("thing", make_wanted([1, 2]))
    assert scheduler.waiting_blocks == 2
    assert scheduler.add("thing", make_wanted([0, 1, 2]))
    assert scheduler.waiting_blocks == 3
    scheduler.heard("thing")
    assert scheduler.next(1.0) is None, "asking again is no way around the pace"


def test_paced_things_are_served_in_the_order_of_their_being_due() -> None:
    things = {name: Asker(4096, Pace(gap=0.1 * (3 - at))) for at, name in enumerate("abc")}
    simulation = Simulation(things)
    simulation.run(simulation.now + 3.05)
    counts = Counter({name: len(thing.turns) for name, thing in things.items()})
    assert counts == {"a": 11, "b": 16, "c": 31}
