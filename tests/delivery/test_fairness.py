"""Nobody waits for another's backlog: bounds of the round, and credit."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker_bridge.delivery.scheduler import HOLD_SECONDS, MAX_BLOCKS, MAX_WAITING, QUANTUM, Scheduler
from tests.delivery.making import make_stream, make_wanted

BLOCK_SIZES = [256, 1000, 4096, QUANTUM - 1, QUANTUM, QUANTUM + 1, 32768]
NEVER = 1 << 40


def add(scheduler: Scheduler, thing: str, block_size: int, blocks: int, start: int = 0) -> None:
    scheduler.heard(thing)
    wanted = make_wanted(list(range(start, start + blocks)), stream=make_stream(thing), block_size=block_size)
    assert scheduler.add(thing, wanted)


def turn(scheduler: Scheduler, now: float = 0.0, most: int = 64) -> tuple[str, int] | None:
    """One turn as Turns makes it: whose it was, and the bytes."""
    flow = scheduler.next(now)
    if flow is None:
        return None
    request = flow.requests[0]
    waiting = len(request.blocks) - request.at
    # The block that goes over the deficit is the last.
    over = -(-flow.deficit // request.get.block_size)
    count = min(waiting, most, scheduler.credit(flow), over)
    size = count * request.get.block_size
    scheduler.written(flow, count, size)
    return flow.thing, size


@settings(deadline=None)
@given(st.lists(st.sampled_from(BLOCK_SIZES), min_size=2, max_size=6), st.integers(1, 64))
def test_backlogged_things_stay_within_a_quantum_and_a_block(sizes: list[int], most: int) -> None:
    scheduler = Scheduler(hold=NEVER, hold_bytes=NEVER)
    for number, size in enumerate(sizes):
        add(scheduler, str(number), size, blocks=401 * min(most, QUANTUM // size + 1))
    sent: Counter[str] = Counter({str(number): 0 for number in range(len(sizes))})
    for _ in range(400):
        got = turn(scheduler, most=most)
        assert got is not None
        sent[got[0]] += got[1]
        for one, other in ((a, b) for a in sent for b in sent if a != b):
            assert sent[one] - sent[other] <= QUANTUM + sizes[int(one)]


@settings(deadline=None)
@given(st.integers(1, 8), st.integers(0, 300), st.sampled_from(BLOCK_SIZES))
def test_a_newcomer_waits_for_no_round(others: int, turns_before: int, size: int) -> None:
    scheduler = Scheduler(hold=NEVER, hold_bytes=NEVER)
    for number in range(others):
        for start in range(0, 16 * 2500, 2500):
            add(scheduler, f"greedy {number}", size, blocks=2500, start=start)
    for _ in range(8 * others + turns_before):  # each has had its first quantum, and is no newcomer
        turn(scheduler)
    add(scheduler, "newcomer", 4096, blocks=1)
    assert turn(scheduler) == ("newcomer", 4096)


def test_small_blocks_make_a_quantum_several_turns() -> None:
    scheduler = Scheduler(hold=NEVER, hold_bytes=NEVER)
    add(scheduler, "greedy", QUANTUM // 128, blocks=5000)
    assert turn(scheduler, most=64) == ("greedy", QUANTUM // 2)
    add(scheduler, "newcomer", 4096, blocks=1)
    # The turn of the round that has begun is ended first: a quantum, however many messages it takes.
    assert turn(scheduler, most=64) == ("greedy", QUANTUM // 2)
    assert turn(scheduler, most=64) == ("newcomer", 4096)


def test_newcomers_are_served_in_the_order_of_their_coming() -> None:
    scheduler = Scheduler(hold=NEVER, hold_bytes=NEVER)
    add(scheduler, "greedy", 4096, blocks=5000)
    turn(scheduler)
    for name in "abc":
        add(scheduler, name, 4096, blocks=1)
    assert [turn(scheduler) for _ in range(4)] == [("a", 4096), ("b", 4096), ("c", 4096), ("greedy", QUANTUM)]


@pytest.mark.parametrize("size", BLOCK_SIZES)
@pytest.mark.parametrize("turns_between", [0, 1, 2, 3, 7])
def test_asking_for_one_block_at_a_time_gets_no_more_than_the_others(size: int, turns_between: int) -> None:
    # It asks again each time it was served, as one that asks with a window of one does.
    scheduler = Scheduler(hold=NEVER, hold_bytes=NEVER)
    for other in ("one", "two"):
        add(scheduler, other, 4096, blocks=100_000)
    sent: Counter[str] = Counter()
    block = due = 0
    for number in range(600):
        if number >= due and due >= 0:
            add(scheduler, "quick", size, blocks=1, start=block)
            block += 1
            due = -1
        got = turn(scheduler)
        assert got is not None
        sent[got[0]] += got[1]
        if got[0] == "quick":
            due = number + 1 + turns_between
        assert sent["quick"] - min(sent["one"], sent["two"]) <= 2 * (QUANTUM + size)
    assert sent["quick"] >= size * 20


def test_credit_in_messages() -> None:
    scheduler = Scheduler(hold=10, hold_bytes=NEVER)
    add(scheduler, "silent", 256, blocks=100)
    add(scheduler, "other", 256, blocks=5)
    got: Counter[str] = Counter()
    while (served := turn(scheduler, now=0.0)) is not None:
        got[served[0]] += served[1] // 256
    assert got == {"silent": 10, "other": 5}
    assert turn(scheduler, now=HOLD_SECONDS - 0.01) is None
    assert turn(scheduler, now=HOLD_SECONDS) == ("silent", 2560)


def test_credit_in_bytes_is_exceeded_by_one_turn_at_most() -> None:
    scheduler = Scheduler(hold=NEVER, hold_bytes=200_000)
    add(scheduler, "silent", 4096, blocks=1000)
    total = 0
    while (served := turn(scheduler)) is not None:
        total += served[1]
    assert 200_000 <= total < 200_000 + QUANTUM + 4096


def test_asking_again_gives_credit_at_once() -> None:
    scheduler = Scheduler(hold=3, hold_bytes=NEVER)
    add(scheduler, "thing", 256, blocks=100)
    assert turn(scheduler) == ("thing", 768)
    assert turn(scheduler) is None
    scheduler.heard("thing")
    assert turn(scheduler) == ("thing", 768)
    scheduler.heard("thing")
    assert turn(scheduler) == ("thing", 768)
    assert turn(scheduler) is None


def test_a_second_gives_credit_while_others_have_work_without_end() -> None:
    scheduler = Scheduler(hold=3, hold_bytes=NEVER)
    add(scheduler, "silent", 256, blocks=100)
    add(scheduler, "busy", 256, blocks=1000)
    got = [turn(scheduler, now=0.0) for _ in range(2)]
    assert sorted(got, key=str) == [("busy", 768), ("silent", 768)]
    for number in range(20):  # the busy one asks all the time
        scheduler.heard("busy")
        assert turn(scheduler, now=number / 20) == ("busy", 768)
    scheduler.heard("busy")
    assert ("silent", 768) in [turn(scheduler, now=1.1) for _ in range(2)]


def test_sixteen_requests_wait() -> None:
    scheduler = Scheduler(hold=500, hold_bytes=NEVER)
    for number in range(MAX_WAITING):
        assert scheduler.add("thing", make_wanted([number]))
    assert not scheduler.add("thing", make_wanted([99]))
    assert scheduler.add("thing", make_wanted([0, 5])), "what waits already is no further request"
    assert scheduler.add("other", make_wanted([99]))
    assert (scheduler.waiting_requests, scheduler.waiting_blocks) == (MAX_WAITING + 1, MAX_WAITING + 1)


def test_blocks_of_all_things_are_bounded() -> None:
    scheduler = Scheduler(hold=500, hold_bytes=NEVER)
    blocks = list(range(512))
    taken = 0
    for thing in range(MAX_BLOCKS // 512 + 10):
        taken += scheduler.add(f"thing {thing}", make_wanted(blocks, block_size=256))
    assert taken == MAX_BLOCKS // 512
    assert scheduler.waiting_blocks == taken * 512
    assert len(scheduler) == taken  # a thing of which nothing waits is not remembered


@pytest.mark.parametrize(
    "change",
    [
        {"token": "other"},
        {"encoding": "json"},
        {"block_size": 8192},
        {"stream": make_stream("other")},
        {"stream": make_stream("stream", version=2)},
    ],
)
def test_only_the_same_block_for_the_same_request_is_the_same(change: dict[str, object]) -> None:
    scheduler = Scheduler(hold=500, hold_bytes=NEVER)
    assert scheduler.add("thing", make_wanted([1, 2, 3]))
    assert scheduler.add("thing", make_wanted([2, 3, 4]))
    assert scheduler.waiting_blocks == 4
    assert scheduler.add("thing", make_wanted([1, 2, 3], **change))  # type: ignore[arg-type]
    assert scheduler.waiting_blocks == 7
    assert scheduler.add("another thing", make_wanted([1, 2, 3]))
    assert scheduler.waiting_blocks == 10


def test_what_was_written_is_written_again_when_asked_again() -> None:
    scheduler = Scheduler(hold=500, hold_bytes=NEVER)
    add(scheduler, "thing", 4096, blocks=3)
    assert turn(scheduler, most=2) == ("thing", 8192)
    add(scheduler, "thing", 4096, blocks=3)
    assert scheduler.waiting_blocks == 3  # block 2, which waits still, and 0 and 1 once more
    assert turn(scheduler) == ("thing", 4096)
    assert turn(scheduler) == ("thing", 8192)
    assert turn(scheduler) is None


def test_what_was_withdrawn_can_be_asked_again() -> None:
    scheduler = Scheduler(hold=500, hold_bytes=NEVER)
    stream = make_stream("stream")
    assert scheduler.add("thing", make_wanted([0, 1, 2], stream=stream))
    assert scheduler.add("thing", make_wanted([2, 3], stream=stream))
    assert [flow.thing for flow, _ in scheduler.withdraw("stream")] == ["thing", "thing"]
    assert (scheduler.waiting_requests, scheduler.waiting_blocks) == (0, 0)
    assert scheduler.add("thing", make_wanted([0, 1, 2, 3], stream=stream))
    assert scheduler.waiting_blocks == 4
