"""Who may answer, over every order in which pipes, broker and crashes can have it.

The supervisor's `Membership` and each worker's `Member` are the real ones. Pipes keep order and lose nothing
but with their process; the broker gives every request to every connected worker, in one order.
"""

import json
from collections import Counter, deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
)

from broker_bridge.mqtt.turn import Turn
from broker_bridge.workers.member import Member
from broker_bridge.workers.membership import Membership, Tell
from broker_bridge.workers.ownership import owner
from broker_bridge.workers.wire import line
from chunker import topics

THINGS = [f"mast-{number}" for number in range(8)]


class World:
    """One supervisor, its workers and the broker."""

    def __init__(self, workers: int) -> None:
        self.membership = Membership()
        self.processes: list[Process | None] = [None] * workers
        self.answers: Counter[str] = Counter()
        """How often each request was answered."""
        self.requests = 0

    def publish(self, topic: str) -> None:
        for process in self.processes:
            if process is not None and process.connected:
                process.inbox.append(topic)

    def ask(self, thing: str) -> str:
        """A device asks; what it asked by."""
        self.requests += 1
        request = topics.topic(thing, f"request-{self.requests}", "get", "cbor")
        self.publish(request)
        return request

    def tell(self, tells: list[Tell]) -> None:
        for tell in tells:
            process = self.processes[tell.worker]
            assert process is not None
            process.told.append(tell)

    def start(self, worker: int) -> "Process":
        process = self.processes[worker] = Process(self, worker)
        return process

    def hear(self, worker: int) -> None:
        """The supervisor reads one message of the worker's."""
        process = self.processes[worker]
        assert process is not None
        message = json.loads(line(process.said.popleft()))
        if message["say"] == "connected":
            self.tell(self.membership.connected(worker, message["session"]))
        elif message["say"] == "disconnected":
            self.tell(self.membership.gone(worker))
        elif message["say"] == "let go":
            self.tell(self.membership.let_go(worker, message["epoch"]))

    def reap(self, worker: int) -> None:
        """The supervisor reads all that a dead worker had said, and then learns of its death."""
        process = self.processes[worker]
        assert process is not None
        while process.said:
            self.hear(worker)
        self.processes[worker] = None
        self.tell(self.membership.gone(worker))


class Process:
    """One worker: its pipes, its socket, and in delivery's place requests that wait to be answered."""

    def __init__(self, world: World, worker: int) -> None:
        self.world = world
        self.told: deque[Tell] = deque()
        self.said: deque[dict[str, Any]] = deque()
        self.inbox: deque[str] = deque()
        self.outbox: deque[str] = deque()
        self.connected = False
        self.dead = False
        self.timer = Timer()
        self.member = Member(worker, self.said.append, self.timer.later)
        self.work = Work(self.member)
        self.member.attach(self.work, self)

    def publish(self, topic: str, payload: bytes) -> bool:
        self.outbox.append(topic)
        return True

    def wake(self) -> None: ...

    def connect(self) -> None:
        self.connected = True
        self.member.connected()

    def lose(self) -> None:
        self.connected = False
        self.inbox.clear()
        self.outbox.clear()
        self.member.disconnected()

    def kill(self) -> None:
        self.dead = True
        self.connected = False
        self.inbox.clear()

    def read_pipe(self) -> None:
        tell = self.told.popleft()
        self.member.answer(tell.epoch, tell.session, sorted(tell.workers))

    def read_socket(self) -> None:
        self.member.received(self.inbox.popleft(), b"{}", 2)

    def write(self) -> None:
        """Answers the request that waits longest."""
        _, topic = self.work.waiting.pop(0)
        self.world.answers[topic] += 1


class Timer:
    """In the event loop's place."""

    def __init__(self) -> None:
        self.due: Callable[[], None] | None = None

    def later(self, seconds: float, action: Callable[[], None]) -> "Timer":
        self.due = action
        return self

    def cancel(self) -> None:
        self.due = None


class Work:
    """In delivery's place: requests that wait to be answered."""

    def __init__(self, member: Member) -> None:
        self.waiting: list[tuple[str, str]] = []
        self._mine = member.mine

    def connected(self) -> None: ...

    def disconnected(self) -> None:
        self.waiting.clear()

    def received(self, topic: str, payload: bytes, size: int) -> None:
        parts = topics.split(topic)
        assert parts is not None
        if self._mine(parts[0]):
            self.waiting.append((parts[0], topic))

    def let_go(self) -> None:
        self.waiting = [(thing, topic) for thing, topic in self.waiting if self._mine(thing)]

    def next_turn(self, max_messages: int) -> Turn | None:
        return None


class Crashes(RuleBasedStateMachine):
    """Everything that can happen, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World(3)

    @property
    def alive(self) -> list[Process]:
        return [process for process in self.world.processes if process is not None and not process.dead]

    @initialize(workers=st.integers(1, 3))
    def begin(self, workers: int) -> None:
        for worker in range(workers):
            self.world.start(worker).connect()

    def actions(self, worker: int, process: Process) -> Iterator[tuple[str, Callable[[], object]]]:
        """What can happen next to that worker, and in which part of the world."""
        if process.said:
            yield "pipe", lambda: self.world.hear(worker)
        if process.outbox:  # what a dead one had sent still arrives
            yield "socket", lambda: self.world.publish(process.outbox.popleft())
        if process.dead:
            yield "trouble", lambda: self.world.reap(worker)
            return
        yield "trouble", process.kill
        yield "trouble", process.lose if process.connected else process.connect
        if process.told:
            yield "pipe", process.read_pipe
        if process.inbox:
            yield "socket", process.read_socket
        if process.work.waiting:
            yield "socket", process.write

    def possible(self, *parts: str) -> list[Callable[[], object]]:
        return [
            action
            for worker, process in enumerate(self.world.processes)
            if process is not None
            for part, action in self.actions(worker, process)
            if part in parts
        ]

    def settle(self, *parts: str) -> None:
        while possible := self.possible(*parts):
            possible[0]()

    @rule(picks=st.lists(st.integers(0, 999), min_size=1, max_size=8))
    def something_moves(self, picks: list[int]) -> None:
        for pick in picks:
            if possible := self.possible("pipe", "socket"):
                possible[pick % len(possible)]()

    @rule(pick=st.integers(0, 999))
    def something_breaks_or_is_mended(self, pick: int) -> None:
        possible = self.possible("trouble")
        for worker, process in enumerate(self.world.processes):
            if process is None:
                possible.append(partial(self.world.start, worker))
        possible[pick % len(possible)]()

    @rule(things=st.lists(st.sampled_from(THINGS), min_size=1, max_size=4))
    def things_ask(self, things: list[str]) -> None:
        for thing in things:
            self.world.ask(thing)

    @rule()
    def pipes_settle(self) -> None:
        """Everybody hears everything but what comes over the sockets."""
        self.settle("pipe")

    @rule()
    def all_settles(self) -> None:
        """Whatever happened: when pipes and sockets are empty, each thing has somebody who answers it."""
        for worker, process in enumerate(self.world.processes):
            if process is not None and process.dead:
                self.world.reap(worker)
        self.settle("pipe", "socket")
        connected = [process for process in self.alive if process.connected]
        told = {worker for worker, process in enumerate(self.world.processes) if process in connected}
        assert self.world.membership.answering == told
        for thing in THINGS:
            request = self.world.ask(thing)
            self.settle("socket")
            assert self.world.answers[request] == (1 if connected else 0)

    @invariant()
    def nobody_is_answered_by_two(self) -> None:
        for thing in THINGS:
            assert sum(process.member.mine(thing) for process in self.alive) <= 1

    @invariant()
    def nothing_is_answered_twice(self) -> None:
        assert max(self.world.answers.values(), default=0) <= 1


TestCrashes = Crashes.TestCase
TestCrashes.settings = settings(max_examples=150, stateful_step_count=50, deadline=None)


def settled(workers: int) -> tuple[Crashes, list[Process]]:
    """Workers that all answer; nothing is under way."""
    crashes = Crashes()
    crashes.begin(workers)
    crashes.all_settles()
    return crashes, crashes.alive


def of(worker: int) -> str:
    """A thing that is this one's, of two."""
    return next(thing for thing in THINGS if owner(thing, (0, 1)) == worker)


def test_what_a_dead_one_had_answered_is_not_answered_again() -> None:
    crashes, (first, second) = settled(2)
    crashes.world.answers.clear()
    request = crashes.world.ask(of(1))
    second.read_socket()
    second.write()
    second.kill()
    crashes.world.reap(1)
    first.read_pipe()  # now it knows, and reads that request only after it
    first.read_socket()
    assert not first.member.mine(of(1))
    crashes.all_settles()
    assert first.member.mine(of(1))
    assert crashes.world.answers[request] == 1


def test_a_broker_that_does_not_bring_its_message_back_keeps_nobody_waiting_for_ever() -> None:
    crashes, (first, second) = settled(2)
    second.kill()
    crashes.world.reap(1)
    first.read_pipe()
    first.outbox.clear()
    assert not first.member.mine(of(1))
    assert first.timer.due is not None
    first.timer.due()
    assert first.member.mine(of(1))


def test_what_waits_for_things_of_one_that_comes_is_dropped_before_it_begins() -> None:
    crashes, (first, second) = settled(2)
    second.lose()
    crashes.all_settles()
    crashes.world.ask(of(1))
    first.read_socket()
    assert [thing for thing, _ in first.work.waiting] == [of(1)]
    second.connect()
    crashes.world.hear(1)
    assert not second.told, "it is told only when the other has let go"
    first.read_pipe()
    assert not first.work.waiting
    crashes.world.hear(0)
    assert second.told


def test_a_word_about_an_earlier_connection_is_not_taken_for_one_about_this() -> None:
    crashes, (first, second) = settled(2)
    first.kill()
    crashes.world.reap(0)
    second.lose()
    second.connect()
    second.read_pipe()  # that all is its own now: said of the connection that broke
    crashes.settle("socket")
    assert not any(second.member.mine(thing) for thing in THINGS)
    crashes.all_settles()
    assert all(second.member.mine(thing) for thing in THINGS)


def test_an_acknowledgement_of_an_earlier_epoch_lets_nobody_in() -> None:
    crashes, (first, second, third) = settled(3)
    for process in (second, third):
        process.lose()
    crashes.all_settles()
    for worker, process in ((1, second), (2, third)):
        process.connect()
        crashes.world.hear(worker)
    first.read_pipe()  # of the second; not yet of the third
    crashes.world.hear(0)
    assert not second.told
    assert not third.told
    first.read_pipe()
    crashes.world.hear(0)
    assert second.told
    assert third.told
