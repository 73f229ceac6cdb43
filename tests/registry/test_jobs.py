"""What the registry promises of jobs, call by call, with the engine beside it."""

import json
from collections.abc import Callable
from dataclasses import asdict
from datetime import timedelta
from typing import Any

import pytest

from broker_bridge.jobs.errors import (
    ExecutionEnded,
    ExecutionNotFound,
    InvalidJob,
    InvalidJobState,
    InvalidTransition,
    JobExists,
    JobNotFound,
    TooManyJobs,
    VersionMismatch,
)
from broker_bridge.jobs.events import Event, ExecutionEvent, JobEvent, NextChanged
from broker_bridge.jobs.execution import JobStatus, Status
from broker_bridge.jobs.job import Counts, Target
from broker_bridge.registry.errors import ThingGroupNotFound, ThingNotFound
from broker_bridge.registry.registry import Registry
from tests.registry.job_making import MINUTE, NOON, Fleet, recount


@pytest.fixture
def fleet(registry: Registry) -> Fleet:
    """Three things in a group and one beside it."""
    fleet = Fleet(registry)
    fleet.group("masts", "a", "b", "c")
    fleet.things("lone")
    return fleet


def retries(**numbers: int) -> dict[str, Any]:
    entries = [{"failureType": kind, "numberOfRetries": number} for kind, number in numbers.items()]
    return {"jobExecutionsRetryConfig": {"criteriaList": entries}}


def stop_at(percentage: float, least: int, failure: str = "FAILED") -> dict[str, Any]:
    entry = {"failureType": failure, "action": "CANCEL"}
    more = {"thresholdPercentage": percentage, "minNumberOfExecutedThings": least}
    return {"abortConfig": {"criteriaList": [{**entry, **more}]}}


def test_a_job_from_its_creation_to_its_end(fleet: Fleet, registry: Registry) -> None:
    job = fleet.job(things=["lone", "a"], groups=["masts"], settle=False)
    assert (job.status, job.waiting, job.counts, job.concurrent) == (JobStatus.IN_PROGRESS, 4, Counts(), True)
    assert fleet.jobs.targets("job") == [Target(thing="lone"), Target(thing="a"), Target(group_path="masts/")]
    assert json.loads(fleet.jobs.document("job")) == {"job": "job"}
    fleet.settle()
    job = fleet.jobs.get("job")
    assert (job.waiting, job.notified, job.counts, job.concurrent) == (0, 4, Counts(queued=4), False)

    first = fleet.report("a", "IN_PROGRESS", details={"step": "1"})
    assert (first.version, first.number, first.started_at) == (2, 1, NOON)
    assert fleet.jobs.get("job").counts == Counts(queued=3, in_progress=1)
    for thing, status in (("a", "SUCCEEDED"), ("b", "FAILED"), ("c", "REJECTED")):
        fleet.report(thing, status)
    assert fleet.jobs.get("job").status is JobStatus.IN_PROGRESS
    fleet.now += MINUTE
    fleet.report("lone", "SUCCEEDED")
    job = fleet.jobs.get("job")
    assert (job.status, job.completed_at) == (JobStatus.COMPLETED, fleet.now)
    assert job.counts == Counts(succeeded=2, failed=1, rejected=1)
    assert recount(registry, job) == (asdict(job.counts), 0)
    assert fleet.jobs.execution("job", "a").details == {"step": "1"}


def test_a_group_reaches_down(fleet: Fleet) -> None:
    fleet.group("north", "d", parent="masts")
    fleet.group("mastsx", "e")
    fleet.job(groups=["masts"])
    assert set(fleet.states()) == {"a", "b", "c", "d"}


def test_a_job_without_things_is_complete_at_once(fleet: Fleet) -> None:
    fleet.group("empty")
    assert fleet.job(groups=["empty"], settle=False).status is JobStatus.COMPLETED
    assert fleet.job("c", groups=["empty"], continuous=True).status is JobStatus.IN_PROGRESS


def test_what_cannot_be_made_leaves_nothing(fleet: Fleet) -> None:
    fleet.job(things=["a"])
    calls: list[tuple[type[Exception], Callable[[], object]]] = [
        (JobExists, lambda: fleet.job(things=["b"])),
        (ThingNotFound, lambda: fleet.job("x", things=["a", "z"])),
        (ThingGroupNotFound, lambda: fleet.job("x", groups=["z"])),
        (
            InvalidJob,
            lambda: fleet.job(
                "x", things=["a"], config={"schedulingConfig": {"startTime": "2026-03-04 12:29"}}
            ),
        ),
    ]
    for error, call in calls:
        with pytest.raises(error):
            call()
    with pytest.raises(JobNotFound):
        fleet.jobs.get("x")
    assert fleet.next_job("b") is None


def test_every_call_on_what_is_not_there_says_so(fleet: Fleet) -> None:
    fleet.job(things=["a"])
    now = fleet.now
    unchanged: Callable[[str], str] = str
    for call in (
        lambda: fleet.jobs.get("x"),
        lambda: fleet.jobs.document("x"),
        lambda: fleet.jobs.targets("x"),
        lambda: fleet.jobs.update("x", now, description="d", change_config=unchanged),
        lambda: fleet.jobs.associate("x", ["masts"], now, comment=None),
        lambda: fleet.jobs.cancel("x", now),
        lambda: fleet.jobs.delete("x", now),
        lambda: fleet.jobs.execution("x", "a"),
        lambda: fleet.jobs.executions_of_job("x", limit=1),
        lambda: fleet.jobs.cancel_execution("x", "a", now),
        lambda: fleet.jobs.delete_execution("x", "a", 1, now),
        lambda: fleet.report("a", "SUCCEEDED", "x"),
        lambda: fleet.devices.describe("a", "x"),
    ):
        with pytest.raises(JobNotFound, match="no job x"):
            call()
    for call in (
        lambda: fleet.jobs.execution("job", "b"),
        lambda: fleet.jobs.execution("job", "a", 2),
        lambda: fleet.jobs.cancel_execution("job", "b", now),
        lambda: fleet.jobs.delete_execution("job", "a", 2, now),
        lambda: fleet.report("b", "SUCCEEDED"),
        lambda: fleet.report("a", "SUCCEEDED", number=2),
        lambda: fleet.devices.describe("a", "job", number=2),
    ):
        with pytest.raises(ExecutionNotFound, match="has no execution"):
            call()


class TestDevices:
    """What devices are given, and what they may report."""

    def test_next_is_what_has_begun_then_the_oldest(self, fleet: Fleet) -> None:
        fleet.job("one", things=["a"])
        fleet.job("two", things=["a"])
        fleet.now += MINUTE
        fleet.job("three", things=["a"])
        assert fleet.next_job("a") == "one"
        fleet.report("a", "IN_PROGRESS", "three")
        assert fleet.next_job("a") == "three"
        pending = fleet.devices.pending("a")
        assert [execution.job_id for execution in pending.in_progress] == ["three"]
        assert [execution.job_id for execution in pending.queued] == ["one", "two"]
        fleet.report("a", "SUCCEEDED", "three")
        fleet.report("a", "SUCCEEDED", "one")
        assert fleet.next_job("a") == "two"
        fleet.report("a", "FAILED", "two")
        assert fleet.next_job("a") is None
        assert fleet.devices.start_next("a", fleet.now) is None

    def test_start_next_begins_once(self, fleet: Fleet) -> None:
        fleet.job(things=["a"], config={"timeoutConfig": {"inProgressTimeoutInMinutes": 5}})
        work = fleet.devices.start_next("a", fleet.now, details={"k": "v"})
        assert work is not None
        assert json.loads(work.document or "") == {"job": "job"}
        begun = work.execution
        assert (begun.status, begun.version, begun.details) == (Status.IN_PROGRESS, 2, {"k": "v"})
        assert begun.due_at == NOON + 5 * MINUTE
        fleet.now += MINUTE
        again = fleet.devices.start_next("a", fleet.now, details={"other": "x"}, step_minutes=2)
        assert again is not None
        assert (again.execution.version, again.execution.details) == (2, {"k": "v"})
        assert again.execution.due_at == NOON + 3 * MINUTE
        with pytest.raises(InvalidJob):
            fleet.devices.start_next("a", fleet.now, step_minutes=0)

    def test_errors_hold_the_execution_as_it_is(self, fleet: Fleet) -> None:
        fleet.job(things=["a", "b"])
        fleet.report("a", "IN_PROGRESS", details={"k": "v"})
        with pytest.raises(VersionMismatch) as mismatch:
            fleet.report("a", "SUCCEEDED", expected_version=1)
        assert mismatch.value.execution == fleet.jobs.execution("job", "a")
        done = fleet.report("a", "SUCCEEDED", expected_version=2)
        with pytest.raises(InvalidTransition) as invalid:
            fleet.report("a", "IN_PROGRESS")
        assert invalid.value.execution == done
        with pytest.raises(ExecutionEnded) as ended:
            fleet.devices.describe("a", "job")
        assert ended.value.execution == done
        work = fleet.devices.describe("b", "job", with_document=False)
        assert work is not None
        assert work.document is None

    def test_a_thing_that_nobody_registered_has_no_jobs(self, fleet: Fleet) -> None:
        assert fleet.devices.describe("ghost", "$next") is None
        pending = fleet.devices.pending("ghost")
        assert (pending.in_progress, pending.queued) == ([], [])

    def test_at_most_ten_of_each_state_are_listed(self, fleet: Fleet) -> None:
        for i in range(25):
            fleet.job(f"j{i:02}", things=["a"])
            if i < 12:
                fleet.report("a", "IN_PROGRESS", f"j{i:02}")
        pending = fleet.devices.pending("a")
        assert [e.job_id for e in pending.in_progress] == [f"j{i:02}" for i in range(10)]
        assert [e.job_id for e in pending.queued] == [f"j{i:02}" for i in range(12, 22)]


class TestNotices:
    """`notify-next` only when the next job changes (DEVICES 2), `notify` only when the list does."""

    def test_what_a_thing_is_told(self, fleet: Fleet) -> None:
        fleet.job("one", things=["a"])
        assert fleet.told() == {"a": (True, True)}
        fleet.job("two", things=["a"])
        assert fleet.told() == {"a": (False, True)}
        fleet.report("a", "IN_PROGRESS", "one")
        fleet.report("a", "IN_PROGRESS", "one", details={"k": "v"})
        assert fleet.told() == {}
        fleet.report("a", "SUCCEEDED", "one")
        assert fleet.told() == {"a": (True, True)}
        fleet.report("a", "SUCCEEDED", "two")
        assert fleet.told() == {"a": (True, True)}
        assert fleet.told() == {}

    def test_a_later_job_that_begins_becomes_the_next(self, fleet: Fleet) -> None:
        fleet.job("one", things=["a"])
        fleet.job("two", things=["a"])
        fleet.told()
        fleet.report("a", "IN_PROGRESS", "two")
        assert fleet.told() == {"a": (True, False)}

    def test_a_retry_is_another_execution(self, fleet: Fleet) -> None:
        fleet.job(things=["a"], config=retries(FAILED=1))
        fleet.told()
        fleet.report("a", "FAILED")
        assert fleet.told() == {"a": (True, True)}

    def test_a_change_while_telling_stays_to_be_told(self, fleet: Fleet, registry: Registry) -> None:
        fleet.job("one", things=["a"])
        due = registry.job_steps.notices("", 10)
        fleet.report("a", "SUCCEEDED", "one")
        registry.job_steps.announced(due, fleet.now)
        assert fleet.told() == {"a": (True, True)}
        assert fleet.told() == {}

    def test_nothing_is_lost_with_the_process(self, fleet: Fleet, registry: Registry, url: str) -> None:
        fleet.job(groups=["masts"])
        registry.close()
        again = Registry.open(url)
        fleet.use(again)
        assert fleet.told() == dict.fromkeys("abc", (True, True))
        again.close()

    def test_pages_of_notices(self, fleet: Fleet, registry: Registry) -> None:
        fleet.job(groups=["masts"])
        first = registry.job_steps.notices("", 2)
        assert [notice.thing for notice in first] == ["a", "b"]
        assert [notice.thing for notice in registry.job_steps.notices("b", 2)] == ["c"]


def test_events_tell_what_happened_after_it_stands(fleet: Fleet, registry: Registry) -> None:
    heard: list[Event] = []

    def listen(events: Any) -> None:
        assert registry.jobs.get("job") is not None
        heard.extend(events)

    fleet.job(things=["a", "b"])
    registry.job_changes.on_change(listen)
    fleet.report("a", "SUCCEEDED")
    assert [type(event) for event in heard][:2] == [ExecutionEvent, NextChanged]
    assert isinstance(heard[0], ExecutionEvent)
    assert (heard[0].operation, heard[0].execution.thing) == ("succeeded", "a")
    heard.clear()
    fleet.report("b", "FAILED")
    completed = next(event for event in heard if isinstance(event, JobEvent))
    assert (completed.operation, completed.job.counts) == ("completed", Counts(succeeded=1, failed=1))
    heard.clear()
    with pytest.raises(InvalidTransition):
        fleet.report("b", "FAILED")
    assert heard == []


class TestTimers:
    """Executions end by themselves, and are tried again where that was said."""

    def test_the_jobs_own_timer_and_a_devices(self, fleet: Fleet) -> None:
        fleet.job(groups=["masts"], config={"timeoutConfig": {"inProgressTimeoutInMinutes": 10}})
        fleet.report("a", "IN_PROGRESS")
        fleet.report("b", "IN_PROGRESS", step_minutes=3)
        fleet.wait(3 * MINUTE - timedelta(milliseconds=1))
        assert fleet.states() == {"a": "IN_PROGRESS", "b": "IN_PROGRESS", "c": "QUEUED"}
        fleet.wait(timedelta(milliseconds=1))
        fleet.settle()
        assert fleet.states()["b"] == "TIMED_OUT"
        fleet.wait(8 * MINUTE)
        assert fleet.states() == {"a": "TIMED_OUT", "b": "TIMED_OUT", "c": "QUEUED"}
        with pytest.raises(InvalidTransition):
            fleet.report("a", "SUCCEEDED")

    def test_retries_until_there_are_none_left(self, fleet: Fleet) -> None:
        fleet.job(things=["a"], config=retries(FAILED=1, TIMED_OUT=1))
        fleet.report("a", "FAILED")
        assert fleet.jobs.get("job").counts == Counts(queued=1)
        second = fleet.jobs.execution("job", "a")
        assert (second.number, second.retry_attempt) == (2, 1)
        fleet.report("a", "IN_PROGRESS", step_minutes=1)
        fleet.wait(2 * MINUTE)
        assert fleet.jobs.execution("job", "a").number == 3
        fleet.report("a", "FAILED")
        job = fleet.jobs.get("job")
        assert (job.status, job.counts) == (JobStatus.COMPLETED, Counts(failed=1))
        tries = fleet.jobs.executions_of_job("job", limit=9).items
        assert [(e.number, str(e.status)) for e in tries] == [(1, "FAILED"), (2, "TIMED_OUT"), (3, "FAILED")]
        with pytest.raises(InvalidTransition):
            fleet.report("a", "SUCCEEDED", number=1)


class TestAbort:
    """Too many failures stop a job at once."""

    def test_what_has_not_begun_is_canceled(self, fleet: Fleet) -> None:
        config = stop_at(50, 2) | retries(FAILED=5) | {"jobExecutionsRolloutConfig": {"maximumPerMinute": 3}}
        fleet.job(groups=["masts"], things=["lone"], config=config)
        fleet.wait(2 * MINUTE)
        fleet.report("c", "IN_PROGRESS")
        fleet.report("a", "FAILED")
        assert fleet.jobs.get("job").status is JobStatus.IN_PROGRESS
        fleet.report("b", "FAILED")
        job = fleet.jobs.get("job")
        assert (job.status, job.reason_code, job.waiting) == (JobStatus.CANCELED, "ABORT_CRITERIA_MET", 0)
        assert (job.comment or "").startswith("FAILED: 50 %")
        # From this moment, before the engine came to them:
        assert [fleet.next_job(thing) for thing in ("a", "b", "c", "lone")] == [None, None, "job", None]
        with pytest.raises(InvalidTransition) as caught:
            fleet.report("lone", "IN_PROGRESS")
        assert caught.value.execution.status is Status.CANCELED
        assert fleet.devices.start_next("a", fleet.now) is None
        fleet.settle()
        job = fleet.jobs.get("job")
        assert job.counts == Counts(in_progress=1, failed=1, canceled=2)
        fleet.report("c", "SUCCEEDED")
        assert fleet.jobs.get("job").status is JobStatus.CANCELED

    def test_a_timeout_counts_too(self, fleet: Fleet) -> None:
        fleet.job(groups=["masts"], config=stop_at(100, 1, "TIMED_OUT"))
        fleet.report("a", "IN_PROGRESS", step_minutes=1)
        fleet.wait(2 * MINUTE)
        assert fleet.jobs.get("job").counts == Counts(timed_out=1, canceled=2)


class TestRollout:
    """Rates and schedules."""

    def test_a_rate_over_restarts(self, fleet: Fleet, registry: Registry, url: str) -> None:
        for i in range(20):
            fleet.things(f"t{i:02}")
            registry.thing_groups.change(f"t{i:02}", join=["masts"])
        fleet.job(groups=["masts"], config={"jobExecutionsRolloutConfig": {"maximumPerMinute": 4}})
        for minute in range(1, 8):
            fleet.wait(MINUTE)
            fleet.registry.close()
            fleet.use(Registry.open(url))
            # One at the very start, and one each 15 seconds.
            assert len(fleet.states()) == min(23, 4 * minute + 1)
        queued = sorted(e.queued_at for e in fleet.jobs.executions_of_job("job", limit=99).items)
        for at in queued:
            assert sum(at <= other < at + MINUTE for other in queued) <= 4
        fleet.registry.close()

    def test_a_job_starts_when_it_is_to(self, fleet: Fleet) -> None:
        config = {"schedulingConfig": {"startTime": "2026-03-04 13:00", "endTime": "2026-03-04 14:00"}}
        job = fleet.job(groups=["masts"], config=config)
        assert (job.status, job.waiting, job.due_at) == (JobStatus.SCHEDULED, 0, NOON + 60 * MINUTE)
        fleet.things("late")
        fleet.registry.thing_groups.change("late", join=["masts"])
        fleet.wait(59 * MINUTE)
        assert fleet.states() == {}
        fleet.wait(MINUTE)
        fleet.settle()
        assert set(fleet.states()) == {"a", "b", "c", "late"}
        assert fleet.jobs.get("job").status is JobStatus.IN_PROGRESS

    @pytest.mark.parametrize(
        ("behavior", "status", "states"),
        [
            ("STOP_ROLLOUT", "IN_PROGRESS", {"a": "IN_PROGRESS", "b": "QUEUED"}),
            ("CANCEL", "CANCELED", {"a": "IN_PROGRESS", "b": "CANCELED"}),
            ("FORCE_CANCEL", "CANCELED", {"a": "CANCELED", "b": "CANCELED"}),
        ],
    )
    @pytest.mark.parametrize("continuous", [True, False])
    def test_its_end(
        self, fleet: Fleet, behavior: str, status: str, states: dict[str, str], continuous: bool
    ) -> None:
        config = {
            "schedulingConfig": {"endTime": "2026-03-04 12:30", "endBehavior": behavior},
            "jobExecutionsRolloutConfig": {"maximumPerMinute": 2},
        }
        fleet.job(things=["a", "b"], config=config, continuous=continuous)
        fleet.wait(29 * MINUTE)
        fleet.report("a", "IN_PROGRESS")
        fleet.wait(2 * MINUTE)
        job = fleet.jobs.get("job")
        assert (job.status, fleet.states(), job.due_at) == (status, states, None)
        if behavior == "STOP_ROLLOUT":
            fleet.report("a", "SUCCEEDED")
            fleet.report("b", "SUCCEEDED")
            assert fleet.jobs.get("job").status is JobStatus.COMPLETED

    def test_things_are_reached_in_maintenance_windows_alone(self, fleet: Fleet) -> None:
        window = {"startTime": "cron(0 13 * * ? *)", "durationInMinutes": 1}
        config = {
            "schedulingConfig": {"maintenanceWindows": [window]},
            "jobExecutionsRolloutConfig": {"maximumPerMinute": 2},
        }
        job = fleet.job(groups=["masts"], config=config)
        assert (job.status, job.due_at) == (JobStatus.SCHEDULED, NOON + 60 * MINUTE)
        fleet.wait(timedelta(hours=2))
        job = fleet.jobs.get("job")
        assert (job.status, job.waiting, job.counts.queued) == (JobStatus.IN_PROGRESS, 1, 2)
        fleet.wait(timedelta(hours=23))
        assert fleet.jobs.get("job").counts.queued == 3


class TestMembership:
    """Continuous jobs keep up with their groups."""

    def test_who_joins_and_who_leaves(self, fleet: Fleet) -> None:
        groups = fleet.registry.thing_groups
        fleet.job(groups=["masts"], things=["lone"], continuous=True)
        fleet.job("snapshot", groups=["masts"])
        fleet.report("b", "IN_PROGRESS")
        fleet.things("d")
        groups.change("d", join=["masts"])
        for thing in "abc":
            groups.change(thing, leave=["masts"])
        for thing in "abcd":
            fleet.jobs.follow(fleet.now, thing)
        fleet.settle()
        removed = {"a": "REMOVED", "b": "IN_PROGRESS", "c": "REMOVED", "d": "QUEUED", "lone": "QUEUED"}
        assert fleet.states() == removed
        assert fleet.states("snapshot") == dict.fromkeys("abc", "QUEUED")
        groups.change("a", join=["masts"])
        fleet.jobs.follow(fleet.now)
        fleet.settle()
        assert fleet.states() == removed | {"a": "QUEUED"}
        assert fleet.jobs.execution("job", "a").number == 2
        assert fleet.jobs.get("job").counts == Counts(queued=3, in_progress=1, removed=1)

    def test_what_a_thing_has_done_is_not_done_again(self, fleet: Fleet) -> None:
        fleet.job(groups=["masts"], continuous=True)
        for thing, status in (("a", "SUCCEEDED"), ("b", "FAILED")):
            fleet.report(thing, status)
        fleet.jobs.delete_execution("job", "c", 1, fleet.now, force=True)
        before = fleet.states()
        for name in (None, "a", "b", "c"):
            fleet.jobs.follow(fleet.now, name)
        fleet.settle()
        assert fleet.states() == before == {"a": "SUCCEEDED", "b": "FAILED"}

    @pytest.mark.parametrize("told", [True, False])
    def test_a_deleted_thing_is_let_go(self, fleet: Fleet, told: bool, url: str) -> None:
        fleet.job(groups=["masts"], config={"jobExecutionsRolloutConfig": {"maximumPerMinute": 2}})
        fleet.wait(MINUTE)
        fleet.report("a", "IN_PROGRESS")
        for thing in ("a", "b", "c"):
            fleet.registry.things.delete(thing)
            if told:
                fleet.jobs.follow(fleet.now, thing)
        fleet.registry.close()
        fleet.use(Registry.open(url))
        job = fleet.jobs.get("job")
        assert (job.status, job.counts.removed, job.counts.pending) == (JobStatus.COMPLETED, 3, 0)
        fleet.registry.close()

    def test_further_groups(self, fleet: Fleet) -> None:
        fleet.group("more", "x")
        fleet.job(groups=["masts"], continuous=True)
        fleet.jobs.associate("job", ["more", "masts"], fleet.now, comment="why")
        fleet.settle()
        assert set(fleet.states()) == {"a", "b", "c", "x"}
        assert fleet.jobs.get("job").comment == "why"
        with pytest.raises(ThingGroupNotFound):
            fleet.jobs.associate("job", ["none"], fleet.now, comment=None)
        fleet.job("snapshot", groups=["masts"])
        with pytest.raises(InvalidJob, match="snapshot"):
            fleet.jobs.associate("snapshot", ["more"], fleet.now, comment=None)
        fleet.jobs.cancel("job", fleet.now)
        with pytest.raises(InvalidJobState, match="CANCELED"):
            fleet.jobs.associate("job", ["more"], fleet.now, comment=None)

    def test_more_than_a_hundred_targets_are_too_many(self, fleet: Fleet) -> None:
        fleet.things(*(f"t{i}" for i in range(101)))
        with pytest.raises(TooManyJobs, match="101 are over the maximum of 100"):
            fleet.job(things=[f"t{i}" for i in range(101)])
        fleet.job(things=[f"t{i}" for i in range(100)])


class TestCancelAndDelete:
    """Of jobs and of executions."""

    def test_a_canceled_job_takes_what_is_queued(self, fleet: Fleet) -> None:
        fleet.job(groups=["masts"])
        fleet.report("a", "IN_PROGRESS")
        job = fleet.jobs.cancel("job", fleet.now, reason_code="WHY", comment="so")
        assert (job.status, job.reason_code, job.comment, job.concurrent) == ("CANCELED", "WHY", "so", True)
        fleet.settle()
        assert fleet.states() == {"a": "IN_PROGRESS", "b": "CANCELED", "c": "CANCELED"}
        assert not fleet.jobs.get("job").concurrent
        with pytest.raises(InvalidJobState):
            fleet.jobs.cancel("job", fleet.now)
        fleet.jobs.cancel("job", fleet.now, force=True)
        assert fleet.next_job("a") is None
        with pytest.raises(InvalidTransition):
            fleet.report("a", "SUCCEEDED")
        fleet.settle()
        assert fleet.jobs.get("job").counts == Counts(canceled=3)
        assert fleet.jobs.execution("job", "a").force_canceled
        with pytest.raises(InvalidJobState):
            fleet.jobs.cancel("job", fleet.now, force=True)

    def test_a_deleted_job_is_gone_for_devices_at_once(self, fleet: Fleet) -> None:
        fleet.job("other", things=["b"])
        fleet.job(groups=["masts"])
        fleet.report("a", "IN_PROGRESS", step_minutes=1)
        with pytest.raises(InvalidJobState, match="IN_PROGRESS and cannot be deleted"):
            fleet.jobs.delete("job", fleet.now)
        fleet.told()
        fleet.jobs.delete("job", fleet.now, force=True)
        assert fleet.jobs.get("job").status is JobStatus.DELETION_IN_PROGRESS
        assert [fleet.next_job(thing) for thing in "abc"] == [None, "other", None]
        with pytest.raises(ExecutionNotFound):
            fleet.report("a", "SUCCEEDED")
        with pytest.raises(InvalidJobState):
            fleet.jobs.delete("job", fleet.now, force=True)
        fleet.now += 2 * MINUTE
        fleet.settle()
        with pytest.raises(JobNotFound):
            fleet.jobs.get("job")
        assert fleet.told() == {"a": (True, True), "b": (False, True), "c": (True, True)}
        # The id may be used again, and begins anew.
        fleet.job(things=["a"])
        assert fleet.jobs.execution("job", "a").number == 1

    def test_at_most_ten_are_being_deleted(self, fleet: Fleet) -> None:
        for i in range(11):
            fleet.job(f"j{i}", things=["a"])
        for i in range(10):
            fleet.jobs.delete(f"j{i}", fleet.now, force=True)
        with pytest.raises(TooManyJobs, match="10 jobs are being deleted"):
            fleet.jobs.delete("j10", fleet.now, force=True)
        fleet.settle()
        fleet.jobs.delete("j10", fleet.now, force=True)

    def test_one_execution(self, fleet: Fleet) -> None:
        fleet.job(groups=["masts"])
        fleet.report("a", "IN_PROGRESS")
        with pytest.raises(InvalidTransition):
            fleet.jobs.cancel_execution("job", "a", fleet.now)
        with pytest.raises(VersionMismatch):
            fleet.jobs.cancel_execution("job", "a", fleet.now, force=True, expected_version=1)
        canceled = fleet.jobs.cancel_execution("job", "a", fleet.now, force=True, details={"by": "me"})
        assert (canceled.version, canceled.details, canceled.force_canceled) == (3, {"by": "me"}, True)
        fleet.jobs.cancel_execution("job", "b", fleet.now)
        with pytest.raises(InvalidTransition, match="deleted"):
            fleet.jobs.delete_execution("job", "c", 1, fleet.now)
        fleet.jobs.delete_execution("job", "b", 1, fleet.now)
        fleet.jobs.delete_execution("job", "c", 1, fleet.now, force=True)
        job = fleet.jobs.get("job")
        assert (job.counts, job.status) == (Counts(canceled=1), JobStatus.COMPLETED)
        with pytest.raises(ExecutionNotFound):
            fleet.jobs.execution("job", "b")
        assert fleet.next_job("c") is None


def test_a_job_is_changed_while_it_has_not_ended(fleet: Fleet) -> None:
    fleet.job(groups=["masts"], config={"jobExecutionsRolloutConfig": {"maximumPerMinute": 1}})
    # Who comes first, a hash says.
    (first,) = fleet.states()
    second, third = sorted({"a", "b", "c"} - {first})
    fleet.report(first, "IN_PROGRESS")

    def change(text: str) -> str:
        assert json.loads(text) == {"jobExecutionsRolloutConfig": {"maximumPerMinute": 1}}
        return json.dumps({"timeoutConfig": {"inProgressTimeoutInMinutes": 1}})

    fleet.jobs.update("job", fleet.now, description="new", change_config=change)
    fleet.settle()
    assert fleet.jobs.get("job").description == "new"
    assert set(fleet.states()) == {"a", "b", "c"}
    fleet.report(second, "IN_PROGRESS")
    fleet.wait(2 * MINUTE)
    # A timer that did not run when the execution began does not begin later (AWS).
    assert fleet.states() == {first: "IN_PROGRESS", second: "TIMED_OUT", third: "QUEUED"}
    fleet.jobs.cancel("job", fleet.now)
    with pytest.raises(InvalidJobState, match="CANCELED and cannot be changed"):
        fleet.jobs.update("job", fleet.now, description="x", change_config=str)


class TestLists:
    """Pages hold everything once."""

    def test_of_jobs(self, fleet: Fleet) -> None:
        for i in range(7):
            fleet.job(f"j{i}", groups=["masts"] if i % 2 else [], things=["lone"], continuous=i > 3)
        fleet.jobs.cancel("j2", fleet.now)

        def pages(**chosen: Any) -> list[str]:
            seen: list[str] = []
            page = fleet.jobs.list(**chosen, limit=2)
            while True:
                seen += [job.job_id for job in page.items]
                if page.after is None:
                    return seen
                page = fleet.jobs.list(**chosen, after=page.after, limit=2)

        assert pages() == [f"j{i}" for i in range(6, -1, -1)]
        assert pages(group="masts") == ["j5", "j3", "j1"]
        assert pages(continuous=True) == ["j6", "j5", "j4"]
        assert pages(status=JobStatus.CANCELED) == ["j2"]
        with pytest.raises(ThingGroupNotFound):
            pages(group="none")

    def test_of_executions(self, fleet: Fleet) -> None:
        fleet.job("first", groups=["masts"], config=retries(FAILED=2))
        fleet.job("second", things=["a"])
        for _ in range(2):
            fleet.report("a", "FAILED", "first")
        seen: list[tuple[str, int]] = []
        after: str | None = None
        while True:
            page = fleet.jobs.executions_of_job("first", after=after, limit=2)
            seen += [(e.thing, e.number) for e in page.items]
            if (after := page.after) is None:
                break
        assert seen == [("a", 1), ("a", 2), ("a", 3), ("b", 1), ("c", 1)]
        queued = fleet.jobs.executions_of_job("first", status=Status.QUEUED, limit=9)
        assert [(e.thing, e.number) for e in queued.items] == [("a", 3), ("b", 1), ("c", 1)]

        mine: list[tuple[str, int]] = []
        while True:
            page = fleet.jobs.executions_of_thing("a", after=after, limit=1)
            mine += [(e.job_id, e.number) for e in page.items]
            if (after := page.after) is None:
                break
        assert mine == [("second", 1), ("first", 1), ("first", 2), ("first", 3)]
        chosen = fleet.jobs.executions_of_thing("a", status=Status.FAILED, job_id="first", limit=9)
        assert [e.number for e in chosen.items] == [1, 2]
        with pytest.raises(ThingNotFound):
            fleet.jobs.executions_of_thing("none", limit=1)
