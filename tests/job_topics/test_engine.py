"""The engine in its thread: woken when something is due sooner, and not stopped by a registry that fails."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import update
from structlog.testing import capture_logs

from broker_bridge.job_topics import engine as running
from broker_bridge.job_topics.engine import RunningEngine
from broker_bridge.jobs.engine import Engine
from broker_bridge.jobs.events import EngineDue, Event
from broker_bridge.registry.errors import RegistryUnavailable
from broker_bridge.registry.jobs.tables import executions, jobs
from broker_bridge.registry.registry import Registry
from tests.registry.job_making import Fleet
from tests.support.waiting import wait_until


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    """An open, empty registry."""
    opened = Registry.open(f"sqlite:///{tmp_path}/registry.db")
    yield opened
    opened.close()


def now() -> datetime:
    return datetime.now(UTC)


@contextmanager
def at_work(registry: Registry, engine: Engine | None = None) -> Iterator[RunningEngine]:
    """An engine as the service has it, with all that wakes it."""
    works = RunningEngine(engine or Engine(registry.jobs, registry.job_steps), registry.jobs, now)

    def happened(events: object) -> None:
        for event in events:  # type: ignore[attr-defined]
            if isinstance(event, EngineDue):
                works.wake(event.at)

    registry.job_changes.on_change(happened)
    registry.on_things_change(works.follow)
    works.start()
    try:
        yield works
    finally:
        works.close()


def test_a_timer_that_a_device_sets_wakes_it(registry: Registry) -> None:
    fleet = Fleet(registry, now())
    fleet.things("mast")
    heard: list[Event] = []
    registry.job_changes.on_change(heard.extend)
    fleet.job(things=["mast"])
    with at_work(registry) as works:
        heard.clear()
        fleet.now = now()
        begun = fleet.report("mast", "IN_PROGRESS", step_minutes=1)
        assert [event.at for event in heard if isinstance(event, EngineDue)] == [begun.step_deadline]
        # It sleeps by now until then; the minute is made short.
        soon = now() + timedelta(seconds=0.3)
        with registry._database.changing() as connection:
            connection.execute(update(executions).values(step_deadline=soon, due_at=soon))
        works.wake(soon)
        wait_until(lambda: fleet.states() == {"mast": "TIMED_OUT"})
    assert registry.jobs.execution("job", "mast").updated_at >= soon


def test_a_report_that_sets_no_timer_lets_it_sleep(registry: Registry) -> None:
    fleet = Fleet(registry)
    fleet.things("mast")
    fleet.job(things=["mast"])
    heard: list[Event] = []
    registry.job_changes.on_change(heard.extend)
    fleet.report("mast", "IN_PROGRESS")
    fleet.report("mast", "IN_PROGRESS")
    assert not any(isinstance(event, EngineDue) for event in heard)


def test_jobs_follow_things_that_change(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    # With more changes than it keeps, it looks at all things.
    monkeypatch.setattr(running, "MAX_CHANGED", 3)
    fleet = Fleet(registry, now())
    fleet.group("masts")
    fleet.job(groups=["masts"], continuous=True)
    names = [f"t{number}" for number in range(10)]
    with at_work(registry):
        for name in names:
            fleet.things(name)
            registry.thing_groups.change(name, join=["masts"])
        wait_until(lambda: fleet.states() == dict.fromkeys(names, "QUEUED"))
        registry.thing_groups.change("t3", leave=["masts"])
        wait_until(lambda: fleet.states()["t3"] == "REMOVED")
        registry.thing_groups.delete("masts")
        wait_until(lambda: set(fleet.states().values()) == {"REMOVED"})


class Failing(Engine):
    """The engine of a registry that fails, a few times; then once a fault of ours."""

    failures: list[Exception]

    def run(self, now: datetime) -> datetime:
        if self.failures:
            raise self.failures.pop(0)
        return super().run(now)


def test_what_fails_is_tried_again(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "BACKOFF", (0.01, 0.05))
    engine = Failing(registry.jobs, registry.job_steps)
    engine.failures = [RegistryUnavailable("the disk is full"), ZeroDivisionError(), RegistryUnavailable("")]
    fleet = Fleet(registry, now())
    fleet.things("mast")
    fleet.job(things=["mast"], settle=False)
    with at_work(registry, engine):
        wait_until(lambda: fleet.states() == {"mast": "QUEUED"})
    assert engine.failures == []


def test_a_job_that_it_stumbles_over_stops_no_other(registry: Registry) -> None:
    fleet = Fleet(registry, now())
    fleet.things("mast")
    for job_id in ("sick", "well"):
        fleet.job(job_id, things=["mast"], settle=False)
    with registry._database.changing() as connection:
        connection.execute(update(jobs).where(jobs.c.job_id == "sick").values(stages="?"))
    with capture_logs() as logs, at_work(registry):
        wait_until(lambda: fleet.states("well") == {"mast": "QUEUED"})
        wait_until(lambda: [entry["job"] for entry in logs] == ["sick"])
    due = registry.job_steps.next_due()
    assert due is not None
    assert due > now() + timedelta(seconds=30)
