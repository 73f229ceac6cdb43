"""Requests handled together: as if each were alone, but for the cost; and what of it is bounded."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from broker_bridge.job_topics.desk import MAX_WAITING, MAX_WAITING_OF_THING, Desk, Outcome
from broker_bridge.job_topics.errors import Code, Refusal
from broker_bridge.job_topics.requests import Request
from broker_bridge.job_topics.topics import split
from broker_bridge.jobs.execution import Execution, Status
from broker_bridge.registry.errors import RegistryUnavailable
from broker_bridge.registry.jobs.devices import DeviceJobs, Requests, Work
from broker_bridge.registry.jobs.pending import Pending
from broker_bridge.registry.registry import Registry
from tests.registry.job_making import NOON, Fleet
from tests.support.waiting import wait_until

THINGS = ("one", "two", "three")
JOBS = ("plain", "tried-again", "aborted", "of-one")


def request(thing: str, what: str, status: Status | None = None, **more: Any) -> Request:
    """A request as it was decoded."""
    address = split(f"$aws/things/{thing}/jobs/{what}")
    assert address is not None
    fields: dict[str, Any] = dict.fromkeys(
        ("token", "number", "with_document", "details", "expected_version", "step_minutes")
    )
    return Request(address=address, status=status, **{**fields, "with_state": False, **more})


class Answers:
    """What a desk said, as plain values."""

    def __init__(self) -> None:
        self.all: list[tuple[Request, Outcome]] = []

    def __call__(self, answers: Sequence[tuple[Request, Outcome]], now: datetime) -> None:
        self.all += answers

    @property
    def plain(self) -> list[object]:
        return [_plain(outcome) for _, outcome in self.all]


def _plain(outcome: Outcome) -> object:
    if isinstance(outcome, Refusal):
        return (outcome.code, outcome.message, outcome.state)
    if isinstance(outcome, Work):
        return (outcome.execution, outcome.job.job_id, outcome.document)
    return outcome


def begun(registry: Registry) -> Fleet:
    """Three things with four jobs."""
    fleet = Fleet(registry)
    fleet.group("all", *THINGS)
    fleet.job("plain", groups=["all"])
    retry = {"criteriaList": [{"failureType": "FAILED", "numberOfRetries": 2}]}
    fleet.job("tried-again", groups=["all"], config={"jobExecutionsRetryConfig": retry})
    criterion = {
        "failureType": "FAILED",
        "action": "CANCEL",
        "thresholdPercentage": 50.0,
        "minNumberOfExecutedThings": 1,
    }
    fleet.job("aborted", groups=["all"], config={"abortConfig": {"criteriaList": [criterion]}})
    fleet.job("of-one", things=["one"])
    return fleet


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with all that, to be copied."""
    path = tmp_path_factory.mktemp("template") / "registry.db"
    registry = Registry.open(f"sqlite:///{path}")
    begun(registry)
    registry.close()
    return path


@pytest.fixture
def fleet(tmp_path: Path, template: Path) -> Iterator[Fleet]:
    """Three things with four jobs, in a registry of the test's own."""
    with copy(template, tmp_path / "registry.db") as registry:
        yield Fleet(registry)


@contextmanager
def copy(template: Path, path: Path) -> Iterator[Registry]:
    shutil.copy(template, path)
    registry = Registry.open(f"sqlite:///{path}")
    try:
        yield registry
    finally:
        registry.close()


@contextmanager
def working(desk: Desk) -> Iterator[None]:
    desk.start()
    try:
        yield
    finally:
        desk.close()


reads = st.builds(
    request, st.sampled_from(THINGS), st.sampled_from(["get", "$next/get", *(f"{job}/get" for job in JOBS)])
)
starts = st.builds(
    request, st.sampled_from(THINGS), st.just("start-next"), step_minutes=st.sampled_from([None, 5])
)
updates = st.builds(
    request,
    st.sampled_from(THINGS),
    st.sampled_from([f"{job}/update" for job in JOBS]),
    st.sampled_from([Status.IN_PROGRESS, Status.SUCCEEDED, Status.FAILED, Status.REJECTED]),
    with_document=st.booleans(),
    expected_version=st.sampled_from([None, None, None, 2]),
    number=st.sampled_from([None, None, None, 1, 2]),
    details=st.sampled_from([None, {"a": "b"}, {"": "bad"}]),
)


@given(st.lists(st.lists(reads | starts | updates, min_size=1, max_size=12), min_size=1, max_size=3))
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_together_is_as_one_by_one(tmp_path: Path, template: Path, batches: list[list[Request]]) -> None:
    found: list[object] = []
    for name, size in (("together", None), ("alone", 1)):
        with copy(template, tmp_path / f"{name}.db") as registry:
            fleet, answers = Fleet(registry), Answers()
            desk = Desk(registry.device_jobs, lambda: NOON, answers)
            for batch in batches:
                step = size or len(batch)
                for start in range(0, len(batch), step):
                    answers(desk._handle_all(batch[start : start + step], NOON), NOON)
            executions: list[Execution] = []
            for job in JOBS:
                executions += fleet.jobs.executions_of_job(job, limit=100).items
            jobs = [fleet.jobs.get(job) for job in JOBS]
            nexts = [fleet.next_job(thing) for thing in THINGS]
            found.append((answers.plain, executions, jobs, nexts))
    assert found[0] == found[1]


def test_requests_that_wait_are_bounded_for_each_thing_and_in_all(fleet: Fleet) -> None:
    desk = Desk(fleet.devices, lambda: NOON, Answers())
    for _ in range(MAX_WAITING_OF_THING):
        desk.take(request("one", "get"))
    with pytest.raises(Refusal) as caught:
        desk.take(request("one", "get", token="t"))
    assert (caught.value.code, caught.value.token) == (Code.REQUEST_THROTTLED, "t")
    for number in range(MAX_WAITING - MAX_WAITING_OF_THING):
        desk.take(request(f"thing-{number}", "get"))
    with pytest.raises(Refusal):
        desk.take(request("two", "get"))
    assert desk.waiting == MAX_WAITING


def test_what_waits_at_the_end_is_handled(fleet: Fleet) -> None:
    answers = Answers()
    desk = Desk(fleet.devices, lambda: NOON, answers)
    for thing in THINGS:
        desk.take(request(thing, "plain/update", Status.SUCCEEDED))
    with working(desk):
        pass
    assert [asked.address.thing for asked, _ in answers.all] == list(THINGS)
    assert fleet.states("plain") == dict.fromkeys(THINGS, "SUCCEEDED")
    # Whom the bound had shut out may ask again.
    assert desk.waiting == 0


class Failing(DeviceJobs):
    """A registry that fails: as a whole, or (a fault of ours) whenever one thing asks."""

    failure: Exception | None = None
    poison = "two"

    @contextmanager
    def together(self, now: datetime, about: Any = ()) -> Iterator[Requests]:
        if self.failure is not None:
            raise self.failure
        with super().together(now, about) as requests:
            yield Poisoned(requests, self.poison)  # type: ignore[misc]


class Poisoned:
    """Stumbles over the one thing after it was written."""

    def __init__(self, requests: Requests, poison: str) -> None:
        self._requests = requests
        self._poison = poison

    def pending(self, thing: str) -> Pending:
        return self._requests.pending(thing)

    def update(self, thing: str, *rest: Any, **more: Any) -> Work:
        done = self._requests.update(thing, *rest, **more)
        if thing == self._poison:
            raise ZeroDivisionError
        return done


def test_one_request_that_fails_fails_alone(fleet: Fleet) -> None:
    answers = Answers()
    jobs = Failing(fleet.registry.job_changes)
    heard: list[object] = []
    fleet.registry.job_changes.on_change(heard.extend)
    desk = Desk(jobs, lambda: NOON, answers)
    for thing in THINGS:
        desk.take(request(thing, "plain/update", Status.SUCCEEDED, token=thing))
    with working(desk):
        wait_until(lambda: len(answers.all) == len(THINGS))
    codes = {
        asked.token: outcome.code if isinstance(outcome, Refusal) else None for asked, outcome in answers.all
    }
    assert codes == {"one": None, "two": Code.INTERNAL_ERROR, "three": None}
    assert fleet.states("plain") == {"one": "SUCCEEDED", "two": "QUEUED", "three": "SUCCEEDED"}
    # Nothing was told of what was undone.
    assert "two" not in {event.execution.thing for event in heard if hasattr(event, "execution")}


def test_while_the_registry_fails_devices_are_told_so(fleet: Fleet) -> None:
    answers = Answers()
    jobs = Failing(fleet.registry.job_changes)
    jobs.failure = RegistryUnavailable("the disk is full")
    desk = Desk(jobs, lambda: NOON, answers)

    def asked(count: int, code: Code | None) -> None:
        desk.take(request("one", "get", token="t"))
        wait_until(lambda: len(answers.all) == count)
        outcome = answers.all[-1][1]
        assert (outcome.code if isinstance(outcome, Refusal) else None) == code
        if isinstance(outcome, Refusal):
            assert outcome.token == "t"
            assert "disk" not in outcome.message

    with working(desk):
        asked(1, Code.INTERNAL_ERROR)
        jobs.failure = None
        asked(2, None)
