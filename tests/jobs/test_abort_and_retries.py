"""Abort criteria count things, retries are counted by kind."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker_bridge.jobs import states
from broker_bridge.jobs.abort import Criterion, FailureType, Tally, counted, met
from broker_bridge.jobs.execution import Execution, Status
from broker_bridge.jobs.retries import Retries, next_try, queued

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
ENDS = [Status.SUCCEEDED, Status.FAILED, Status.REJECTED, Status.TIMED_OUT, Status.CANCELED, Status.REMOVED]


def ended(execution: Execution, status: Status) -> Execution:
    if status is Status.TIMED_OUT:
        return states.time_out(states.update(execution, Status.IN_PROGRESS, NOON), NOON)
    if status is Status.CANCELED:
        return states.cancel(execution, NOON)
    if status is Status.REMOVED:
        return states.remove(execution, NOON)
    return states.update(execution, status, NOON)


@given(st.lists(st.lists(st.sampled_from(ENDS), min_size=1, max_size=6)), st.integers(0, 5))
def test_each_thing_counts_once_however_often_it_is_tried(lives: list[list[Status]], retries: int) -> None:
    tally = Tally()
    seen: list[list[Status]] = []
    for i, life in enumerate(lives):
        execution: Execution | None = queued("job", f"t{i}", 1, NOON)
        seen.append([])
        for status in life:
            assert execution is not None
            execution = ended(execution, status)
            seen[-1].append(status)
            tally = counted(tally, execution)
            execution = next_try([Retries(FailureType.ALL, retries)], execution, NOON)
            if execution is None:
                break
        assert len(seen[-1]) <= retries + 1
    bad = {Status.FAILED, Status.TIMED_OUT, Status.REJECTED}
    assert tally == Tally(
        executed=sum(life[0] in {*bad, Status.SUCCEEDED} for life in seen),
        failed=sum(Status.FAILED in life for life in seen),
        timed_out=sum(Status.TIMED_OUT in life for life in seen),
        rejected=sum(Status.REJECTED in life for life in seen),
        any=sum(life[0] in bad for life in seen),
    )


def test_the_guides_example_of_an_abort() -> None:
    criteria = [
        Criterion(FailureType.FAILED, 20, 100),
        Criterion(FailureType.TIMED_OUT, 50, 200),
    ]
    assert met(criteria, Tally(executed=99, failed=99)) is None
    assert met(criteria, Tally(executed=100, failed=19)) is None
    assert met(criteria, Tally(executed=100, failed=20)) is criteria[0]
    assert met(criteria, Tally(executed=199, timed_out=199)) is None
    assert met(criteria, Tally(executed=200, timed_out=100, failed=39)) is criteria[1]


@pytest.mark.parametrize("failure", sorted(FailureType))
def test_a_criterion_looks_at_its_own_failures(failure: FailureType) -> None:
    criteria = [Criterion(failure, 10.01, 1)]
    members = {"FAILED": "failed", "TIMED_OUT": "timed_out", "REJECTED": "rejected", "ALL": "any"}
    for name, member in members.items():
        tally = Tally(executed=1000, **{member: 101})
        assert (met(criteria, tally) is not None) is (name == failure)
    assert met(criteria, Tally(executed=1000, **{members[failure]: 100})) is None


def test_nothing_that_failed_is_no_reason_to_stop() -> None:
    assert met([Criterion(FailureType.ALL, 0.0, 1)], Tally(executed=5)) is None


def test_retries_of_both_kinds_are_counted_apart() -> None:
    criteria = [Retries(FailureType.FAILED, 1), Retries(FailureType.TIMED_OUT, 2)]
    first = ended(queued("job", "t", 1, NOON), Status.TIMED_OUT)
    second = next_try(criteria, first, NOON)
    assert second is not None
    assert (second.number, second.status, second.version, second.retry_attempt) == (2, Status.QUEUED, 1, 1)
    third = next_try(criteria, ended(second, Status.FAILED), NOON)
    assert third is not None
    assert third.retry_attempt == 2
    assert next_try(criteria, ended(third, Status.FAILED), NOON) is None
    fourth = next_try(criteria, ended(third, Status.TIMED_OUT), NOON)
    assert fourth is not None
    assert (fourth.failed_retries, fourth.timed_out_retries, fourth.number) == (1, 2, 4)
    assert next_try(criteria, ended(fourth, Status.TIMED_OUT), NOON) is None


@pytest.mark.parametrize("status", [Status.SUCCEEDED, Status.REJECTED, Status.CANCELED, Status.REMOVED])
def test_what_did_not_fail_is_not_tried_again(status: Status) -> None:
    execution = ended(queued("job", "t", 1, NOON), status)
    assert next_try([Retries(FailureType.ALL, 10)], execution, NOON) is None
