"""An execution under every order of reports, timers and cancellations."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from broker_bridge.jobs import states
from broker_bridge.jobs.errors import InvalidJob, InvalidTransition, VersionMismatch
from broker_bridge.jobs.execution import FROM_DEVICE, PENDING, Execution, Status
from broker_bridge.jobs.retries import queued

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
DETAILS = st.none() | st.dictionaries(st.sampled_from("abc"), st.sampled_from(["1", "ü"]))


class Machine(RuleBasedStateMachine):
    """One execution; what was last seen of it stays true where it must."""

    def __init__(self) -> None:
        super().__init__()
        self.now = NOON
        self.execution = queued("job", "thing", 1, NOON)
        self.changes = 0

    def change(self, allowed: bool, make: Callable[[], Execution]) -> bool:
        before = self.execution
        if not allowed:
            with pytest.raises(InvalidTransition) as caught:
                make()
            assert caught.value.execution is before
            return False
        self.execution = make()
        assert self.execution.version == before.version + 1
        assert self.execution.updated_at == self.now
        assert self.execution.queued_at == before.queued_at
        return True

    @rule(seconds=st.integers(0, 400))
    def wait(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)

    @rule(
        status=st.sampled_from(sorted(FROM_DEVICE)),
        details=DETAILS,
        step=st.none() | st.sampled_from([-1, 1, 5]),
        timeout=st.none() | st.integers(1, 10),
    )
    def report(
        self, status: Status, details: dict[str, str] | None, step: int | None, timeout: int | None
    ) -> None:
        before = self.execution
        if not self.change(
            before.pending,
            lambda: states.update(
                before, status, self.now, details=details, step_minutes=step, timeout_minutes=timeout
            ),
        ):
            return
        assert self.execution.status is status
        assert self.execution.details == (before.details if details is None else details)
        if status is not Status.IN_PROGRESS:
            assert self.execution.due_at is None
            return
        if before.status is Status.QUEUED:
            assert self.execution.started_at == self.now
            assert self.execution.deadline == (timeout and self.now + timedelta(minutes=timeout))
        else:
            assert (self.execution.started_at, self.execution.deadline) == (
                before.started_at,
                before.deadline,
            )
        expected = {None: before.step_deadline, -1: None}
        assert self.execution.step_deadline == expected.get(step, self.now + timedelta(minutes=step or 0))

    @rule(force=st.booleans(), details=DETAILS)
    def cancel(self, force: bool, details: dict[str, str] | None) -> None:
        before = self.execution
        allowed = before.status is Status.QUEUED or (force and before.status is Status.IN_PROGRESS)
        if self.change(allowed, lambda: states.cancel(before, self.now, force=force, details=details)):
            assert self.execution.status is Status.CANCELED
            assert self.execution.force_canceled is (before.status is Status.IN_PROGRESS)

    @rule()
    def time_out(self) -> None:
        before = self.execution
        self.change(before.status is Status.IN_PROGRESS, lambda: states.time_out(before, self.now))

    @rule()
    def remove(self) -> None:
        before = self.execution
        self.change(before.pending, lambda: states.remove(before, self.now))

    @rule(offset=st.sampled_from([-1, 1]), force=st.booleans())
    def expect_another_version(self, offset: int, force: bool) -> None:
        expected = self.execution.version + offset
        with pytest.raises(VersionMismatch) as caught:
            states.update(self.execution, Status.IN_PROGRESS, self.now, expected_version=expected)
        assert caught.value.execution is self.execution
        with pytest.raises(VersionMismatch):
            states.cancel(self.execution, self.now, force=force, expected_version=expected)

    @invariant()
    def timers_run_only_in_progress(self) -> None:
        if self.execution.status is not Status.IN_PROGRESS:
            assert self.execution.due_at is None
        assert self.execution.pending is (self.execution.status in PENDING)


TestMachine = Machine.TestCase


def in_progress(**timers: int) -> Execution:
    return states.update(
        queued("job", "thing", 1, NOON),
        Status.IN_PROGRESS,
        NOON,
        step_minutes=timers.get("step"),
        timeout_minutes=timers.get("timeout"),
    )


def test_a_step_never_outlasts_the_jobs_own_timer() -> None:
    # AWS's example: 20 minutes from 12:00; steps of 7 at 12:05, of 5 at 12:10, of 9 at 12:13.
    execution = in_progress(timeout=20)
    for minute, step, due in ((5, 7, 12), (10, 5, 15), (13, 9, 20)):
        now = NOON + timedelta(minutes=minute)
        execution = states.update(execution, Status.IN_PROGRESS, now, step_minutes=step)
        assert execution.due_at == NOON + timedelta(minutes=due)
        assert execution.seconds_left(now) == (due - minute) * 60


def test_seconds_left_are_rounded_up_and_never_negative() -> None:
    execution = in_progress(step=1)
    assert execution.seconds_left(NOON + timedelta(seconds=59, milliseconds=1)) == 1
    assert execution.seconds_left(NOON + timedelta(seconds=59)) == 1
    assert execution.seconds_left(NOON + timedelta(seconds=60)) == 0
    assert execution.seconds_left(NOON + timedelta(seconds=90)) == 0
    assert in_progress().seconds_left(NOON) is None


@pytest.mark.parametrize("status", sorted(set(Status) - FROM_DEVICE))
def test_what_no_device_reports_is_refused_before_the_state_is_looked_at(status: Status) -> None:
    with pytest.raises(InvalidJob, match=f"status: {status} is none of FAILED, IN_PROGRESS"):
        states.update(queued("job", "thing", 1, NOON), status, NOON)


@pytest.mark.parametrize("minutes", [0, -2, 10081])
def test_minutes_out_of_bounds_are_refused(minutes: int) -> None:
    with pytest.raises(InvalidJob, match="neither -1 nor within 1 and 10080"):
        states.update(queued("job", "thing", 1, NOON), Status.IN_PROGRESS, NOON, step_minutes=minutes)


@pytest.mark.parametrize(
    ("details", "said"),
    [
        ({str(i): "x" for i in range(11)}, "11 entries are over the maximum of 10"),
        ({"": "x"}, "the key ''"),
        ({"k" * 129: "x"}, "the key"),
        ({"a b": "x"}, "the key 'a b'"),
        ({"k": ""}, r"statusDetails\[k\]: length 0"),
        ({"k": "x" * 1025}, "length 1025"),
        ({"k": "a\nb"}, "control"),
        ({"k": "\u200d"}, "control"),
    ],
)
def test_details_out_of_bounds_are_refused(details: dict[str, str], said: str) -> None:
    with pytest.raises(InvalidJob, match=said):
        states.cancel(queued("job", "thing", 1, NOON), NOON, details=details)


def test_details_at_their_bounds_are_kept() -> None:
    details = {"k" * 128: "ü" * 1024, "a:b_c-1": "two words\u00a0"} | {str(i): "x" for i in range(8)}
    execution = queued("job", "thing", 1, NOON)
    assert states.update(execution, Status.FAILED, NOON, details=details).details == details
