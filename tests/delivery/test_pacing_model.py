"""Paces among all that can happen to a thing: credit, loading, withdrawals, broken connections.

Beside the scheduler stands a model that knows only what each thing is owed and when it was last written to.
"""

from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from broker_bridge.delivery.scheduler import HOLD_SECONDS, MAX_WAITING, BlockKey, Flow, Scheduler
from broker_bridge.pace import TURN_SECONDS, Pace
from tests.delivery.making import make_stream, make_wanted

BLOCK_SIZE = 4096
THINGS = st.sampled_from(["a", "b", "c", "d"])
STREAMS = st.sampled_from(["one", "two"])
# A block takes up TURN_SECONDS or more, so that no two may follow each other at once.
PACES = st.sampled_from([None, None, Pace(gap=0.05), Pace(64 * 1024), Pace(10_000), Pace(1_000_000, 0.3)])


@dataclass
class Thing:
    requests: list[tuple[BlockKey, list[int], Pace | None]] = field(default_factory=list)
    parked: Flow | None = None
    messages: int = 0
    last: float = 0.0
    """When it was written to."""
    spent: float = 0.0
    """The time that this takes up."""

    def waits(self, key: BlockKey) -> set[int]:
        return {block for other, blocks, _ in self.requests if other == key for block in blocks}


class PacedScheduler(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.things: dict[str, Thing] = {}
        self.now = 100.0

    @initialize(hold=st.sampled_from([2, 500]), whole=st.sampled_from([None, None, 20_000, 100_000]))
    def start(self, hold: int, whole: int | None) -> None:
        self.hold = hold
        self.scheduler = Scheduler(hold=hold, hold_bytes=1 << 40, bytes_per_second=whole)
        self.whole = 0.0 if whole is None else BLOCK_SIZE / whole
        self.written_at = 0.0

    @rule(
        name=THINGS,
        stream=STREAMS,
        blocks=st.sets(st.integers(0, 9), min_size=1).map(sorted),
        pace=PACES,
    )
    def ask(self, name: str, stream: str, blocks: list[int], pace: Pace | None) -> None:
        thing = self.things.setdefault(name, Thing())
        self.scheduler.heard(name)
        thing.messages = 0
        wanted = make_wanted(blocks, stream=make_stream(stream), block_size=BLOCK_SIZE)
        wanted.pace = pace
        missing = [block for block in blocks if block not in thing.waits(wanted.key)]
        taken = self.scheduler.add(name, wanted)
        assert taken == (not missing or len(thing.requests) < MAX_WAITING)
        if missing and taken:
            thing.requests.append((wanted.key, missing, pace))

    def next(self) -> Flow | None:
        flow = self.scheduler.next(self.now)
        if flow is None:
            for name, thing in self.things.items():
                if thing.requests and thing.parked is None:
                    assert self.must_wait(name, thing), f"{name} waits for nothing"
        else:
            thing = self.things[flow.thing]
            assert thing.parked is None
            key, blocks, pace = thing.requests[0]
            request = flow.requests[0]
            assert (request.key, list(request.blocks[request.at :])) == (key, blocks)
            assert request.pace == pace
            assert self.now >= thing.last + 0.74 * thing.spent, "sooner than its pace allows"
            assert self.now >= self.written_at + 0.74 * self.whole, "sooner than the service's pace allows"
            assert self.scheduler.credit(flow) > 0
        return flow

    def must_wait(self, name: str, thing: Thing) -> bool:
        held = any(flow.thing == name for flow in self.scheduler._held)
        assert not held or thing.messages >= self.hold
        paced = self.now < thing.last + thing.spent + 1e-9
        slowed = self.whole > 0 and self.now < self.written_at + self.whole + 1e-9
        return held or paced or slowed

    def write(self, flow: Flow) -> None:
        thing = self.things[flow.thing]
        _, blocks, pace = thing.requests[0]
        if pace is not None:
            assert self.scheduler.allowance(flow) <= 1, "two blocks of a slow thing together"
        self.scheduler.written(flow, 1, BLOCK_SIZE)
        del blocks[0]
        if not blocks:
            thing.requests.pop(0)
        # Credit comes back with time too: what is known is a lower bound.
        thing.messages = min(thing.messages, flow.messages - 1) + 1
        if pace is not None:
            thing.last, thing.spent = self.now, pace.seconds(1, BLOCK_SIZE)
            assert thing.spent >= TURN_SECONDS
        self.written_at = self.now

    @rule()
    def turn(self) -> None:
        flow = self.next()
        if flow is not None:
            self.write(flow)

    @rule(times=st.integers(1, 30))
    def wait_and_take_turns(self, times: int) -> None:
        """As Turns does it: from one point in time that the scheduler names to the next."""
        for _ in range(times):
            flow = self.next()
            if flow is not None:
                self.write(flow)
                continue
            due = self.scheduler.release(self.now)
            if due is None:
                assert all(not thing.requests or thing.parked for thing in self.things.values())
                break
            assert self.now < due <= self.latest()
            self.now = due

    def latest(self) -> float:
        """When at the latest there is something to do: a hold or a pace is over."""
        return max([self.now + HOLD_SECONDS, *(thing.last + thing.spent for thing in self.things.values())])

    @rule(written=st.booleans())
    def park(self, written: bool) -> None:
        flow = self.next()
        if flow is None:
            return
        self.scheduler.park(flow)
        self.things[flow.thing].parked = flow
        if written and len(self.things[flow.thing].requests[0][1]) > 1:
            self.write(flow)

    @precondition(lambda self: any(thing.parked for thing in self.things.values()))
    @rule(data=st.data())
    def unpark(self, data: st.DataObject) -> None:
        thing = data.draw(st.sampled_from([thing for thing in self.things.values() if thing.parked]))
        assert thing.parked is not None
        assert self.scheduler.unpark(thing.parked)
        thing.parked = None

    @rule()
    def refuse(self) -> None:
        flow = self.next()
        if flow is not None:
            self.scheduler.drop(flow)
            self.things[flow.thing].requests.pop(0)

    @rule(stream=STREAMS)
    def withdraw(self, stream: str) -> None:
        taken = {flow.thing for flow, _ in self.scheduler.withdraw(stream)}
        for name, thing in self.things.items():
            kept = [request for request in thing.requests if request[0][0] != stream]
            assert (len(kept) < len(thing.requests)) == (name in taken)
            thing.requests = kept
            if name in taken:
                thing.last = thing.spent = 0.0  # its pace may be another now

    @rule(names=st.sets(THINGS))
    def withdraw_things(self, names: set[str]) -> None:
        list(self.scheduler.withdraw_things(names.__contains__))
        for name in names & self.things.keys():
            self.things[name].requests = []

    @rule()
    def clear(self) -> None:
        self.scheduler.clear()
        self.things.clear()

    @rule(seconds=st.sampled_from([0.001, 0.02, 0.1, 1.0, 5.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def counted(self) -> None:
        if hasattr(self, "scheduler"):
            requests = [request for thing in self.things.values() for request in thing.requests]
            assert self.scheduler.waiting_requests == len(requests)
            assert self.scheduler.waiting_blocks == sum(len(blocks) for _, blocks, _ in requests)
            assert len(self.scheduler._paced) <= len(self.scheduler) <= len(self.things)

    def teardown(self) -> None:
        """However it went, all of it is written within its paces, and nothing is left."""
        if not hasattr(self, "scheduler"):
            return
        for thing in self.things.values():
            if thing.parked is not None:
                self.scheduler.unpark(thing.parked)
                thing.parked = None
        for _ in range(100):
            self.wait_and_take_turns(30)
        assert not any(thing.requests for thing in self.things.values())
        assert len(self.scheduler) == 0
        assert self.scheduler.release(self.now) is None


PacedScheduler.TestCase.settings = settings(max_examples=120, stateful_step_count=40, deadline=None)
test_paced_scheduler = PacedScheduler.TestCase
