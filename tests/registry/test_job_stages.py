"""Stages of jobs in the registry: with the engine, devices' reports, tags and kills."""

import hashlib
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from broker_bridge.jobs.events import EngineDue, Event
from broker_bridge.jobs.execution import JobStatus
from broker_bridge.jobs.job import Job
from broker_bridge.jobs.stages import PAUSED_TAG, STAGES_TAG
from broker_bridge.registry.registry import Registry
from tests.registry.job_making import MINUTE, NOON, Fleet

NAMES = [f"t{i:02}" for i in range(20)]
PLAN = "10@50:10m/50@80:1h/100"


@pytest.fixture
def fleet(registry: Registry) -> Fleet:
    """Twenty things in a group."""
    fleet = Fleet(registry)
    fleet.group("masts", *NAMES)
    return fleet


def staged(fleet: Fleet, plan: str = PLAN, **more: object) -> Job:
    return fleet.job(groups=["masts"], tags={STAGES_TAG: plan}, **more)  # type: ignore[arg-type]


def reached(fleet: Fleet) -> list[str]:
    """Things that the job has reached, by name."""
    return sorted(fleet.states())


def report(fleet: Fleet, status: str, count: int) -> None:
    """So many of those that wait for their device's report get that one."""
    queued = [thing for thing, state in sorted(fleet.states().items()) if state == "QUEUED"]
    for thing in queued[:count]:
        fleet.report(thing, status)


def test_a_job_goes_through_its_stages(fleet: Fleet) -> None:
    assert staged(fleet).comment == "stage 1 of 3: 10 %, 2 of 20 things, at least 1 must succeed"
    assert len(reached(fleet)) == 2
    fleet.wait(60 * MINUTE)
    assert len(reached(fleet)) == 2

    report(fleet, "SUCCEEDED", 1)
    fleet.settle()
    job = fleet.jobs.get("job")
    until = f"{fleet.now + 10 * MINUTE:%Y-%m-%dT%H:%M:%SZ}"
    assert job.comment == f"stage 1 of 3: 10 %, 2 of 20 things, passed with 1 SUCCEEDED; soaks until {until}"
    assert job.updated_at == fleet.now
    fleet.wait(10 * MINUTE - timedelta(seconds=1))
    assert len(reached(fleet)) == 2
    fleet.wait(timedelta(seconds=1))
    assert len(reached(fleet)) == 10

    report(fleet, "SUCCEEDED", 7)
    fleet.settle()
    fleet.wait(59 * MINUTE)
    assert len(reached(fleet)) == 10
    fleet.wait(MINUTE)
    assert reached(fleet) == NAMES
    assert fleet.jobs.get("job").comment == "stage 3 of 3: 100 %, 20 of 20 things"
    report(fleet, "SUCCEEDED", 12)
    assert fleet.jobs.get("job").status is JobStatus.COMPLETED


def test_a_stage_that_fails_stops_the_job_at_once(fleet: Fleet) -> None:
    staged(fleet, "50@80/100")
    first = reached(fleet)
    fleet.report(first[0], "IN_PROGRESS")
    report(fleet, "FAILED", 1)
    fleet.report(first[2], "REJECTED")
    assert fleet.jobs.get("job").status is JobStatus.IN_PROGRESS
    # Without the engine: with the very report by which eight of ten can no longer succeed.
    fleet.report(first[3], "FAILED")
    job = fleet.jobs.get("job")
    assert (job.status, job.reason_code, job.waiting) == (JobStatus.CANCELED, "STAGE_FAILED", 0)
    assert job.comment == (
        "stage 1 of 2: 50 %, 10 of 20 things, at least 8 had to succeed, and 3 did not: "
        "2 FAILED, 0 TIMED_OUT, 1 REJECTED"
    )
    fleet.settle()
    # What was under way goes on.
    states = fleet.states()
    assert states[first[0]] == "IN_PROGRESS"
    assert sorted(states.values()).count("CANCELED") == 6
    fleet.report(first[0], "SUCCEEDED")
    assert fleet.jobs.get("job").counts.succeeded == 1


def test_timers_and_retries_count_as_they_end(fleet: Fleet) -> None:
    config = {
        "timeoutConfig": {"inProgressTimeoutInMinutes": 5},
        "jobExecutionsRetryConfig": {"criteriaList": [{"failureType": "TIMED_OUT", "numberOfRetries": 1}]},
    }
    staged(fleet, "10@100/100", config=config)
    first, second = reached(fleet)
    fleet.report(first, "SUCCEEDED")
    fleet.report(second, "IN_PROGRESS")
    fleet.wait(5 * MINUTE)
    # It is tried again: it may still succeed.
    assert fleet.jobs.execution("job", second).number == 2
    assert fleet.jobs.get("job").status is JobStatus.IN_PROGRESS
    fleet.report(second, "IN_PROGRESS")
    fleet.wait(5 * MINUTE)
    job = fleet.jobs.get("job")
    assert (job.status, job.reason_code) == (JobStatus.CANCELED, "STAGE_FAILED")
    assert "1 TIMED_OUT" in (job.comment or "")


def test_a_retry_that_succeeds_is_a_success(fleet: Fleet) -> None:
    config = {"jobExecutionsRetryConfig": {"criteriaList": [{"failureType": "FAILED", "numberOfRetries": 1}]}}
    staged(fleet, "10@100/100", config=config)
    first, second = reached(fleet)
    fleet.report(first, "SUCCEEDED")
    fleet.report(second, "FAILED")
    fleet.report(second, "SUCCEEDED")
    fleet.settle()
    assert reached(fleet) == NAMES


def test_the_rate_holds_within_a_stage(fleet: Fleet) -> None:
    staged(fleet, "50@1/100", config={"jobExecutionsRolloutConfig": {"maximumPerMinute": 4}})
    assert len(reached(fleet)) == 1
    report(fleet, "SUCCEEDED", 1)
    fleet.wait(MINUTE - timedelta(seconds=1))
    # One of them was enough, and yet the stage is all of ten things.
    assert len(reached(fleet)) == 4
    fleet.wait(4 * MINUTE)
    assert reached(fleet) == NAMES
    at = sorted(e.queued_at for e in fleet.jobs.executions_of_job("job", limit=99).items)
    assert all(sum(begin <= moment < begin + MINUTE for moment in at) <= 4 for begin in at)


def test_a_pause_holds_further_things_up_and_nothing_else(fleet: Fleet) -> None:
    staged(fleet)
    first, second = reached(fleet)
    fleet.jobs.tagging.tag("job", {PAUSED_TAG: ""})
    fleet.report(first, "SUCCEEDED")
    fleet.wait(20 * MINUTE)
    # It soaked meanwhile; what was reached may go on.
    assert reached(fleet) == [first, second]
    fleet.report(second, "IN_PROGRESS")
    fleet.jobs.tagging.untag("job", [PAUSED_TAG])
    fleet.settle()
    assert len(reached(fleet)) == 10


def test_a_pause_without_stages(fleet: Fleet) -> None:
    fleet.job(groups=["masts"], tags={PAUSED_TAG: "until Monday"})
    assert reached(fleet) == []
    assert fleet.jobs.get("job").concurrent
    fleet.wait(60 * MINUTE)
    fleet.jobs.tagging.tag("job", {"other": "x"})
    fleet.settle()
    assert reached(fleet) == []
    fleet.jobs.tagging.untag("job", [PAUSED_TAG, "other"])
    fleet.settle()
    assert reached(fleet) == NAMES


def test_a_paused_job_can_fail(fleet: Fleet) -> None:
    staged(fleet, "10@100/100")
    fleet.jobs.tagging.tag("job", {PAUSED_TAG: "x"})
    report(fleet, "FAILED", 1)
    assert fleet.jobs.get("job").reason_code == "STAGE_FAILED"


def test_stages_are_changed_on_the_way(fleet: Fleet) -> None:
    staged(fleet)
    fleet.jobs.tagging.tag("job", {STAGES_TAG: "25@80/100"})
    fleet.settle()
    assert len(reached(fleet)) == 5
    # The same again changes nothing; another tag neither.
    fleet.jobs.tagging.tag("job", {STAGES_TAG: "25@80/100", "other": "x"})
    assert fleet.settle() > fleet.now
    assert fleet.jobs.get("job").place.stage == 0
    fleet.jobs.tagging.untag("job", [STAGES_TAG])
    fleet.settle()
    assert reached(fleet) == NAMES


def test_stages_wait_for_the_schedule(fleet: Fleet) -> None:
    start = {"schedulingConfig": {"startTime": "2026-03-04 13:00"}}
    staged(fleet, config=start)
    fleet.jobs.tagging.tag("job", {STAGES_TAG: "20@80/100"})
    fleet.wait(59 * MINUTE)
    assert reached(fleet) == []
    fleet.wait(MINUTE)
    assert len(reached(fleet)) == 4


def test_tags_of_a_job_that_has_ended_are_tags_and_no_more(fleet: Fleet) -> None:
    staged(fleet, "100")
    fleet.jobs.cancel("job", fleet.now)
    fleet.settle()
    fleet.jobs.tagging.tag("job", {PAUSED_TAG: "x"})
    assert not fleet.jobs.get("job").concurrent
    assert fleet.jobs.tagging.tags("job") == {STAGES_TAG: "100", PAUSED_TAG: "x"}


def test_things_that_leave_do_not_hold_a_stage_up(fleet: Fleet) -> None:
    staged(fleet, "10@100/100")
    first, second = reached(fleet)
    fleet.report(first, "SUCCEEDED")
    # Canceled for that thing alone: another takes its place, since a tenth of nineteen is still two.
    fleet.jobs.cancel_execution("job", second, fleet.now)
    fleet.settle()
    (third,) = set(reached(fleet)) - {first, second}
    fleet.registry.things.delete(third)
    fleet.jobs.follow(fleet.now, third)
    fleet.settle()
    (fourth,) = set(reached(fleet)) - {first, second, third}
    fleet.report(fourth, "SUCCEEDED")
    fleet.settle()
    assert len(reached(fleet)) == 20


def test_a_deleted_execution_is_another_chance(fleet: Fleet) -> None:
    staged(fleet, "10@100/100")
    first, second = reached(fleet)
    fleet.report(first, "SUCCEEDED")
    fleet.jobs.delete_execution("job", second, 1, fleet.now, force=True)
    fleet.settle()
    assert len(reached(fleet)) == 2
    assert second not in reached(fleet)


def test_a_continuous_job_counts_the_things_it_knows(fleet: Fleet) -> None:
    staged(fleet, "10@100:1h/100", continuous=True)
    report(fleet, "SUCCEEDED", 2)
    fleet.settle()
    # While it soaks, more things come; the stage has passed, and they wait with the others.
    for i in range(20, 40):
        fleet.things(f"t{i}")
        fleet.registry.thing_groups.change(f"t{i}", join=["masts"])
    fleet.jobs.follow(fleet.now)
    fleet.settle()
    assert len(reached(fleet)) == 2
    fleet.wait(60 * MINUTE)
    assert len(reached(fleet)) == 40
    assert fleet.jobs.get("job").status is JobStatus.IN_PROGRESS


def test_who_comes_first_is_spread(fleet: Fleet) -> None:
    seen = set()
    for i in range(12):
        fleet.job(f"j{i}", groups=["masts"], tags={STAGES_TAG: "10@100/100"})
        chosen = tuple(sorted(fleet.states(f"j{i}")))
        assert len(chosen) == 2
        seen.add(chosen)
    assert len(seen) > 6
    # And yet it is no chance: after a restart, or in another database, they are the same.
    assert sorted(fleet.states("j0")) == sorted(sorted(NAMES, key=lambda name: _md5(f"j0/{name}"))[:2])


def test_only_reports_that_matter_wake_the_engine(fleet: Fleet, registry: Registry) -> None:
    staged(fleet, "50@30/100")
    fleet.job("plain", groups=["masts"])
    heard: list[Event] = []
    registry.job_changes.on_change(heard.extend)
    things = reached(fleet)
    for thing in things[:2]:
        fleet.report(thing, "SUCCEEDED")
        fleet.report(thing, "SUCCEEDED", "plain")
    assert [event for event in heard if isinstance(event, EngineDue)] == []
    fleet.report(things[2], "SUCCEEDED")
    assert [event for event in heard if isinstance(event, EngineDue)] != []


def _md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


LIFE = """
import os, sys
from sqlalchemy import Engine, event
from broker_bridge.registry.registry import Registry
from tests.registry.test_job_stages import live, prepare

url, place, left = sys.argv[1], sys.argv[2], int(sys.argv[3])
registry = Registry.open(url)
prepare(registry)
commits = 0

def die(connection):
    global commits
    commits += 1
    if commits == left:
        os.kill(os.getpid(), 9)

event.listen(Engine, "commit" if place == "within" else "begin", die)
live(registry)
"""


def prepare(registry: Registry) -> None:
    """The fleet and its job."""
    fleet = Fleet(registry)
    fleet.group("masts", *NAMES)
    staged(fleet, settle=False)


def live(registry: Registry) -> list[tuple[int, timedelta]]:
    """The rest of the job's life, from wherever it is: every thing succeeds. How many were reached when."""
    job = registry.jobs.get("job")
    at = [e.updated_at for e in registry.jobs.executions_of_job("job", limit=99).items]
    fleet = Fleet(registry, now=max([NOON, *at, job.updated_at]))
    while fleet.jobs.get("job").status is JobStatus.IN_PROGRESS:
        assert fleet.now < NOON + 200 * MINUTE
        fleet.wait(5 * MINUTE)
        for name in NAMES:
            if fleet.devices.start_next(name, fleet.now) is not None:
                fleet.report(name, "SUCCEEDED")
    moments = [e.queued_at - NOON for e in fleet.jobs.executions_of_job("job", limit=99).items]
    return [(moments.count(moment), moment) for moment in sorted(set(moments))]


@pytest.mark.parametrize(("place", "left"), [("within", 4), ("between", 45), ("within", 70)])
def test_a_killed_service_goes_on_with_its_stages(url: str, place: str, left: int) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", LIFE, url, place, str(left)],
        cwd=Path(__file__).parents[2],
        env=os.environ,
        check=False,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == -9, ended.stderr
    registry = Registry.open(url)
    assert registry.jobs.get("job").status is JobStatus.IN_PROGRESS
    steps = live(registry)
    registry.close()
    assert [count for count, _ in steps] == [2, 8, 10]
    # Devices report every five minutes; then a stage soaks for its time, and no longer for the kill.
    assert steps[0][1] == timedelta(0)
    assert 10 * MINUTE <= steps[1][1] - steps[0][1] <= 20 * MINUTE
    assert 60 * MINUTE <= steps[2][1] - steps[1][1] <= 70 * MINUTE
