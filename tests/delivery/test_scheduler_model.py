"""The scheduler against a model, under every order of requests, turns, waits and withdrawals."""

from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from broker_bridge.delivery.scheduler import (
    HOLD_SECONDS,
    MAX_WAITING,
    QUANTUM,
    BlockKey,
    Flow,
    Scheduler,
    Wanted,
)
from tests.delivery.making import make_stream, make_wanted

THINGS = st.sampled_from(["a", "b", "c"])
STREAMS = ["one", "two"]
BLOCK_SIZES = [4096, 2 * QUANTUM]


@dataclass
class Thing:
    """What the model knows of a thing: its requests as (key, blocks that wait), oldest first."""

    requests: list[tuple[BlockKey, list[int]]] = field(default_factory=list)
    messages: int = 0
    bytes: int = 0
    parked: Flow | None = None
    held_until: float | None = None

    def waits(self, key: BlockKey) -> set[int]:
        return {block for other, blocks in self.requests if other == key for block in blocks}


class SchedulerModel(RuleBasedStateMachine):
    """Rules are what intake and turns do; each checks what came back."""

    def __init__(self) -> None:
        super().__init__()
        self.things: dict[str, Thing] = {}
        self.now = 100.0

    @initialize(hold=st.sampled_from([1, 3, 500]), hold_bytes=st.sampled_from([131072, 300_000, 1 << 24]))
    def start(self, hold: int, hold_bytes: int) -> None:
        self.hold, self.hold_bytes = hold, hold_bytes
        self.scheduler = Scheduler(hold=hold, hold_bytes=hold_bytes)

    def exhausted(self, thing: Thing) -> bool:
        return thing.messages >= self.hold or thing.bytes >= self.hold_bytes

    @rule(
        name=THINGS,
        stream=st.sampled_from(STREAMS),
        block_size=st.sampled_from(BLOCK_SIZES),
        blocks=st.sets(st.integers(0, 7), min_size=1, max_size=6).map(sorted),
        heard=st.booleans(),
    )
    def ask(self, name: str, stream: str, block_size: int, blocks: list[int], heard: bool) -> None:
        thing = self.things.setdefault(name, Thing())
        if heard or name not in self.scheduler._flows:  # who was idle for a round begins anew
            self.scheduler.heard(name)
            self.forgive(thing)
        wanted = make_wanted(blocks, stream=make_stream(stream), block_size=block_size)
        missing = [block for block in blocks if block not in thing.waits(wanted.key)]
        full = len(thing.requests) >= MAX_WAITING
        taken = self.scheduler.add(name, wanted)
        assert taken == (not missing or not full)
        if missing and taken:
            thing.requests.append((wanted.key, missing))

    def forgive(self, thing: Thing) -> None:
        thing.messages = thing.bytes = 0
        thing.held_until = None

    @rule(name=THINGS)
    def hear(self, name: str) -> None:
        """A request that is refused, or names what waits already."""
        self.scheduler.heard(name)
        self.forgive(self.things.setdefault(name, Thing()))

    def next(self) -> Flow | None:
        self.let_go_in_time()
        flow = self.scheduler.next(self.now)
        for thing in self.things.values():
            # Whoever comes to the front without credit is held from that moment on.
            held = any(self.things[other.thing] is thing for other in self.scheduler._held)
            if held and thing.held_until is None:
                assert self.exhausted(thing)
                thing.held_until = self.now + HOLD_SECONDS
            assert held == (thing.held_until is not None)
        if flow is None:
            for thing in self.things.values():
                ready = thing.requests and thing.parked is None and thing.held_until is None
                assert not ready
        else:
            thing = self.things[flow.thing]
            assert thing.requests
            assert thing.parked is None
            assert thing.held_until is None
            assert flow.deficit > 0
            assert self.scheduler.credit(flow) >= 1
            request = flow.requests[0]
            assert (request.key, list(request.blocks[request.at :])) == thing.requests[0]
        return flow

    def let_go_in_time(self) -> None:
        for thing in self.things.values():
            if thing.held_until is not None and thing.held_until <= self.now:
                thing.held_until = None
                thing.messages = thing.bytes = 0

    @rule(most=st.integers(1, 8))
    def turn(self, most: int) -> None:
        flow = self.next()
        if flow is not None:
            self.write(flow, most)

    @rule(turns=st.integers(2, 30))
    def turns(self, turns: int) -> None:
        for _ in range(turns):
            self.turn(64)

    def write(self, flow: Flow, most: int) -> None:
        """As Turns does it: up to the deficit, with the block that goes over it."""
        thing = self.things[flow.thing]
        key, blocks = thing.requests[0]
        count = size = 0
        for _ in blocks[: min(most, self.scheduler.credit(flow))]:
            count += 1
            size += key[3]
            if size >= flow.deficit:
                break
        self.scheduler.written(flow, count, size)
        del blocks[:count]
        thing.messages += count
        thing.bytes += size
        if not blocks:
            thing.requests.pop(0)

    @rule(written=st.booleans())
    def park(self, written: bool) -> None:
        flow = self.next()
        if flow is None:
            return
        self.scheduler.park(flow)
        assert flow.parked
        self.things[flow.thing].parked = flow
        if written and len(self.things[flow.thing].requests[0][1]) > 1:
            # A turn that ends at the first block that is not at hand.
            self.write(flow, 1)

    @precondition(lambda self: any(thing.parked for thing in self.things.values()))
    @rule(data=st.data())
    def unpark(self, data: st.DataObject) -> None:
        parked = [thing for thing in self.things.values() if thing.parked is not None]
        thing = data.draw(st.sampled_from(parked))
        assert thing.parked is not None
        assert self.scheduler.unpark(thing.parked)
        assert not self.scheduler.unpark(thing.parked)
        thing.parked = None

    @rule()
    def refuse(self) -> None:
        """The store cannot give what the first request wants."""
        flow = self.next()
        if flow is not None:
            thing = self.things[flow.thing]
            key, blocks = thing.requests.pop(0)
            dropped = self.scheduler.drop(flow)
            assert (dropped.key, list(dropped.blocks[dropped.at :])) == (key, blocks)

    @rule(stream=st.sampled_from(STREAMS))
    def withdraw(self, stream: str) -> None:
        taken: dict[str, list[Wanted]] = {}
        for flow, request in self.scheduler.withdraw(stream):
            taken.setdefault(flow.thing, []).append(request)
        for name, thing in self.things.items():
            gone = [(key, blocks) for key, blocks in thing.requests if key[0] == stream]
            thing.requests = [request for request in thing.requests if request[0][0] != stream]
            assert gone == [(r.key, list(r.blocks[r.at :])) for r in taken.get(name, [])]

    @rule()
    def clear(self) -> None:
        parked = [thing.parked for thing in self.things.values() if thing.parked is not None]
        self.scheduler.clear()
        for flow in parked:
            assert not self.scheduler.unpark(flow)
        self.things.clear()

    @rule(seconds=st.sampled_from([0.1, 0.5, 1.0, 2.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def release(self) -> None:
        self.let_go_in_time()
        until = self.scheduler.release(self.now)
        held = [thing.held_until for thing in self.things.values() if thing.held_until is not None]
        assert until == min(held, default=None)

    @invariant()
    def counters(self) -> None:
        if not hasattr(self, "scheduler"):
            return
        requests = [request for thing in self.things.values() for request in thing.requests]
        assert self.scheduler.waiting_requests == len(requests)
        assert self.scheduler.waiting_blocks == sum(len(blocks) for _, blocks in requests)
        working = [thing for thing in self.things.values() if thing.requests]
        # A thing stays for what is left of its round.
        assert len(working) <= len(self.scheduler) <= len(self.things)

    def teardown(self) -> None:
        """However it went, all that waits can be served, and then nothing is left."""
        if not hasattr(self, "scheduler"):
            return
        for thing in self.things.values():
            if thing.parked is not None:
                assert self.scheduler.unpark(thing.parked)
                thing.parked = None
        for _ in range(10_000):
            if not any(thing.requests for thing in self.things.values()):
                break
            self.now += 0.3
            self.turn(64)
        assert not any(thing.requests for thing in self.things.values())
        self.now += 2
        assert self.scheduler.next(self.now) is None
        assert len(self.scheduler) == 0
        assert self.scheduler.waiting_requests == self.scheduler.waiting_blocks == 0
        assert self.scheduler.release(self.now) is None


SchedulerModel.TestCase.settings = settings(max_examples=150, stateful_step_count=50, deadline=None)
test_scheduler = SchedulerModel.TestCase


def test_quantum_is_what_the_sizes_above_straddle() -> None:
    assert BLOCK_SIZES[0] < QUANTUM < BLOCK_SIZES[1]
