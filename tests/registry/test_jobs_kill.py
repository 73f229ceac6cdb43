"""A service that is killed between any two transactions, or within one, goes on where it was."""

import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from broker_bridge.jobs.execution import JobStatus
from broker_bridge.jobs.job import Counts
from broker_bridge.registry.registry import Registry
from tests.registry.job_making import MINUTE, NOON, Fleet, recount

# Twelve things under a rate, an abort that is never met and retries; every third thing fails its first try,
# every fourth never answers. What a thing does next it learns from the registry, as a device would.
LIFE = """
import os, sys
from sqlalchemy import Engine, event
from broker_bridge.registry.registry import Registry
from tests.registry.test_jobs_kill import live, prepare

url, place, left = sys.argv[1], sys.argv[2], int(sys.argv[3])
registry = Registry.open(url)
prepare(registry)
# A commit has no statement of its own to listen for: before it is within the transaction, after the next
# one's beginning is between both.
commits = 0

def die(connection):
    global commits
    commits += 1
    if commits == left:
        os.kill(os.getpid(), 9)

event.listen(Engine, "commit" if place == "within" else "begin", die)
live(registry)
print("done")
"""
CONFIG = {
    "jobExecutionsRolloutConfig": {"maximumPerMinute": 4},
    "timeoutConfig": {"inProgressTimeoutInMinutes": 1},
    "jobExecutionsRetryConfig": {
        "criteriaList": [
            {"failureType": "FAILED", "numberOfRetries": 1},
            {"failureType": "TIMED_OUT", "numberOfRetries": 1},
        ]
    },
}
NAMES = [f"t{i:02}" for i in range(12)]


def prepare(registry: Registry) -> None:
    """The fleet and its job."""
    fleet = Fleet(registry)
    fleet.group("masts", *NAMES)
    fleet.job(groups=["masts"], config=CONFIG, settle=False)


def live(registry: Registry) -> None:
    """The rest of the job's life, from wherever it is."""
    started = [e.updated_at for e in registry.jobs.executions_of_job("job", limit=99).items]
    fleet = Fleet(registry, now=max(started, default=NOON))
    while fleet.jobs.get("job").status is JobStatus.IN_PROGRESS:
        assert fleet.now < NOON + 60 * MINUTE
        fleet.wait(MINUTE / 6)
        for i, name in enumerate(NAMES):
            work = fleet.devices.start_next(name, fleet.now)
            if work is None or i % 4 == 3:
                continue
            failing = i % 3 == 0 and work.execution.number == 1
            fleet.report(name, "FAILED" if failing else "SUCCEEDED")


@pytest.mark.parametrize(("place", "left"), [("within", 1), ("within", 60), ("between", 111)])
def test_a_killed_service_goes_on(url: str, place: str, left: int) -> None:
    command = [sys.executable, "-c", LIFE, url, place, str(left)]
    root = Path(__file__).parents[2]
    ended = subprocess.run(command, cwd=root, check=False, capture_output=True, text=True)
    assert ended.returncode == -9, ended.stderr
    registry = Registry.open(url)
    job = registry.jobs.get("job")
    assert job.status is JobStatus.IN_PROGRESS
    assert recount(registry, job) == (asdict(job.counts), job.waiting)
    live(registry)
    job = registry.jobs.get("job")
    assert (job.status, job.counts) == (JobStatus.COMPLETED, Counts(succeeded=9, timed_out=3))
    found = registry.jobs.executions_of_job("job", limit=99).items
    tries = {name: [str(e.status) for e in found if e.thing == name] for name in NAMES}
    for i, name in enumerate(NAMES):
        expected = ["SUCCEEDED"]
        if i % 4 == 3:
            expected = ["TIMED_OUT", "TIMED_OUT"]
        elif i % 3 == 0:
            expected = ["FAILED", "SUCCEEDED"]
        assert tries[name] == expected
    reached = [e.queued_at for e in found if e.number == 1]
    for begin in reached:
        assert sum(begin <= at < begin + MINUTE for at in reached) <= 4
    # Every thing was told of something, and none of them was told yet.
    told = Fleet(registry).told()
    assert set(told) == set(NAMES)
    registry.close()
