"""Rendezvous hashing: who answers which thing."""

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker_bridge.workers.ownership import LONGEST_REMEMBERED, MAX_REMEMBERED, Ownership, owner

THINGS = st.text(max_size=200)
WORKERS = st.frozensets(st.integers(0, 63), max_size=12)


@given(THINGS, WORKERS)
def test_exactly_one_answers(thing: str, workers: frozenset[int]) -> None:
    answering = []
    for worker in workers:
        ownership = Ownership(worker)
        ownership.workers = workers
        if ownership.mine(thing):
            answering.append(worker)
    assert answering == ([owner(thing, workers)] if workers else [])


@given(THINGS, WORKERS, st.integers(0, 63))
def test_only_what_was_its_own_moves_when_one_goes(thing: str, workers: frozenset[int], gone: int) -> None:
    before = owner(thing, workers | {gone})
    after = owner(thing, workers - {gone})
    assert before in (gone, after)


@given(st.sets(THINGS, max_size=50), WORKERS, st.integers(0, 63))
def test_one_that_comes_only_takes(things: set[str], workers: frozenset[int], new: int) -> None:
    for thing in things:
        assert owner(thing, workers | {new}) in (new, owner(thing, workers))


@given(st.lists(st.tuples(WORKERS, THINGS), max_size=30))
def test_what_is_remembered_is_of_these_workers(steps: list[tuple[frozenset[int], str]]) -> None:
    ownership = Ownership(3)
    assert not ownership.mine("mast-17")
    for workers, thing in steps:
        ownership.workers = workers
        for _ in range(2):
            assert ownership.mine(thing) == (3 in workers and owner(thing, workers) == 3)


def test_it_is_the_same_in_every_process() -> None:
    things = [f"mast-{number}" for number in range(200)]
    script = (
        "from broker_bridge.workers.ownership import owner\n"
        "print([owner(f'mast-{number}', (0, 1, 2)) for number in range(200)])"
    )
    for seed in ("1", "2"):
        output = subprocess.run(
            [sys.executable, "-c", script],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        assert output.strip() == str([owner(thing, (2, 0, 1)) for thing in things])


@pytest.mark.parametrize("workers", [2, 5, 64])
def test_all_have_much_the_same_to_do(workers: int) -> None:
    things = 400 * workers
    shares = [0] * workers
    for number in range(things):
        chosen = owner(f"mast-{number}", range(workers))
        assert chosen is not None
        shares[chosen] += 1
    # Seven standard deviations of a fair choice: 400 ± 7 · 20.
    assert min(shares) > 260
    assert max(shares) < 540


def test_what_is_remembered_is_bounded() -> None:
    ownership = Ownership(0)
    ownership.workers = frozenset((0, 1))
    for number in range(MAX_REMEMBERED + 100):
        ownership.mine(f"mast-{number}")
    assert ownership._remembered.cache_info().currsize == MAX_REMEMBERED
    ownership.workers = frozenset((0, 1, 2))
    ownership.mine("x" * (LONGEST_REMEMBERED + 1))
    assert ownership._remembered.cache_info().currsize == 0
