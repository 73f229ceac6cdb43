"""No minute sees more than the rate; the rate is reached; a restart changes nothing."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker_bridge.jobs.rollout import MINUTE, Exponential, Recent, Rollout, kept, plan

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)


def run(
    rate: int, waiting: int, late: list[float], most: int = 500, lasting: timedelta = 10 * MINUTE
) -> list[tuple[datetime, int]]:
    """A rollout whose engine is as late as told, in turn, each time it should look again."""
    now, recent, all_steps = NOON, Recent(), list[tuple[datetime, int]]()
    while waiting and now < NOON + lasting:
        recent = kept(recent, now)
        step = plan(rate, recent, waiting, now, most)
        assert 0 <= step.count <= min(waiting, most)
        if step.count:
            recent = (*recent, (now, step.count))
            all_steps.append((now, step.count))
            waiting -= step.count
        assert step.again_at > now, "or the engine would spin"
        now = step.again_at + timedelta(seconds=late[len(all_steps) % len(late)])
    return all_steps


def most_in_a_minute(steps: list[tuple[datetime, int]]) -> int:
    return max(sum(count for at, count in steps if begin <= at < begin + MINUTE) for begin, _ in steps)


@given(
    rate=st.integers(1, 5000),
    late=st.lists(st.floats(0, 90) | st.floats(0, 0.2), min_size=1, max_size=8),
    most=st.integers(1, 700),
)
def test_no_minute_sees_more_than_the_rate(rate: int, late: list[float], most: int) -> None:
    assert most_in_a_minute(run(rate, 20000, late, most, 4 * MINUTE)) <= rate


@pytest.mark.parametrize("rate", [1, 7, 59, 60, 61, 90, 1000, 12345])
def test_an_engine_in_time_reaches_the_rate(rate: int) -> None:
    steps = run(rate, 10**6, [0.0], lasting=5 * MINUTE)
    assert 0.99 * 5 * rate - 1 <= sum(count for _, count in steps) <= 5 * rate
    # Evenly: no step is more than its share of a second, and at least a second lies between two.
    assert max(count for _, count in steps) <= -(-rate // 60)
    assert min((b[0] - a[0] for a, b in pairwise(steps)), default=MINUTE) >= timedelta(seconds=1)


def test_without_a_rate_things_go_at_once() -> None:
    assert plan(None, (), 1000, NOON, 500).count == 500
    assert plan(None, (), 1000, NOON, 500).again_at == NOON
    assert plan(None, (), 7, NOON, 500).count == 7


def test_a_long_pause_is_made_up_for_in_part_only() -> None:
    recent = kept([(NOON, 10)], NOON + timedelta(seconds=59))
    assert plan(600, recent, 10**6, NOON + timedelta(seconds=59), 500).count == 50


def test_a_clock_that_was_set_back_holds_nothing_up() -> None:
    recent = kept([(NOON + timedelta(hours=1), 60)], NOON)
    step = plan(60, recent, 100, NOON, 500)
    assert step.count == 0
    assert step.again_at <= NOON + MINUTE


EXAMPLE = Rollout(1000, Exponential(50, 2, 1000, None))


@pytest.mark.parametrize(
    ("notified", "rate"),
    [(0, 50), (999, 50), (1000, 100), (2000, 200), (3999, 400), (4000, 800), (5000, 1000), (10**12, 1000)],
)
def test_the_guides_example_of_an_exponential_rate(notified: int, rate: int) -> None:
    assert EXAMPLE.per_minute(notified, 0) == rate


def test_of_both_criteria_the_one_that_is_further_counts() -> None:
    both = Rollout(None, Exponential(10, 1.5, 100, 20))
    assert both.per_minute(100, 0) == 15
    assert both.per_minute(100, 45) == 22
    assert both.per_minute(0, 10**9) == 1000
    assert Rollout().per_minute(5, 5) is None
    assert Rollout(7).per_minute(10**9, 10**9) == 7
