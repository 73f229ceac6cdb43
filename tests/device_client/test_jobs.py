"""The jobs client: what it says, what it makes of what it hears, and when it says it again."""

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_client.jobs import (
    ACCEPTED,
    FIRST_WAIT,
    GAP,
    IN_PROGRESS,
    LONGEST_WAIT,
    MAX_TRIES,
    NEXT,
    REFUSED,
    Execution,
    Jobs,
    NoAnswer,
)
from device_client.mqtt import TOO_LONG

BASE = "$aws/things/mast/jobs/"
SHOWN = {"jobId": "j", "status": "QUEUED", "executionNumber": 2, "versionNumber": 5, "jobDocument": {"a": 1}}


def connected() -> Jobs:
    jobs = Jobs("mast", "t", 0)
    jobs.connected(0)
    return jobs


def say(jobs: Jobs, what: str, body: Any, now: int = 0) -> Any:
    return jobs.receive(BASE + what, json.dumps(body).encode(), now)


def asked(jobs: Jobs, now: int = 0) -> tuple[str, dict[str, Any]]:
    """The one message that it sends."""
    [(topic, payload)] = jobs.poll(now)
    assert topic.startswith(BASE)
    return topic.removeprefix(BASE), json.loads(payload)


class TestNext:
    """What is next."""

    def test_is_asked_when_a_session_stands(self) -> None:
        jobs = Jobs("mast", "t", 0)
        assert jobs.poll(0) == []
        jobs.connected(0)
        assert asked(jobs) == ("$next/get", {"clientToken": "t-1"})
        event, found = say(jobs, "$next/get/accepted", {"clientToken": "t-1", "execution": SHOWN})
        assert event == NEXT
        assert (found.job_id, found.number, found.version, found.status) == ("j", 2, 5, "QUEUED")
        assert (found.document, found.details) == ({"a": 1}, {})

    @pytest.mark.parametrize("body", [{}, {"execution": {}}, {"execution": None}])
    def test_is_nothing(self, body: dict[str, Any]) -> None:
        jobs = connected()
        asked(jobs)
        assert say(jobs, "$next/get/accepted", {"clientToken": "t-1", **body}) == (NEXT, None)

    def test_is_asked_again_and_again_at_longer_and_longer_times(self) -> None:
        jobs, times, now = connected(), [], 0
        while now < 3_600_000:
            times += [now] * len(jobs.poll(now))
            assert jobs.deadline > now
            now = jobs.deadline
        waits = [after - before for before, after in pairwise(times)]
        assert waits[0] == FIRST_WAIT
        assert waits[-1] == LONGEST_WAIT
        assert waits == sorted(waits)

    def test_is_asked_once_in_an_hour_though_nothing_is_told(self) -> None:
        jobs = connected()
        asked(jobs)
        say(jobs, "$next/get/accepted", {"clientToken": "t-1"})
        assert jobs.poll(GAP - 1) == []
        assert asked(jobs, GAP)[1] == {"clientToken": "t-2"}

    def test_is_asked_when_the_service_tells_that_it_changed(self) -> None:
        jobs = connected()
        asked(jobs)
        say(jobs, "$next/get/accepted", {"clientToken": "t-1"})
        assert say(jobs, "notify-next", {"execution": SHOWN}) is None
        assert asked(jobs) == ("$next/get", {"clientToken": "t-2"})
        # Told while an answer is under way: that may be of before, and is not the last word.
        assert say(jobs, "notify-next", {"execution": {}}) is None
        assert jobs.poll(0) == []
        assert say(jobs, "$next/get/accepted", {"clientToken": "t-2", "execution": SHOWN})[0] == NEXT
        assert asked(jobs) == ("$next/get", {"clientToken": "t-3"})

    def test_may_be_taken_at_once(self) -> None:
        jobs = connected()
        jobs.ask(0, start=True)
        assert asked(jobs) == ("start-next", {"clientToken": "t-1"})
        begun = SHOWN | {"status": IN_PROGRESS, "statusDetails": {"a": "b"}}
        found = say(jobs, "start-next/accepted", {"clientToken": "t-1", "execution": begun})[1]
        assert (found.status, found.details) == (IN_PROGRESS, {"a": "b"})
        assert asked(jobs, GAP)[0] == "$next/get"

    def test_of_others_is_not_ours(self) -> None:
        jobs = connected()
        asked(jobs)
        for token in ({}, {"clientToken": "else"}):
            assert say(jobs, "$next/get/accepted", {**token, "execution": SHOWN}) is None
        assert jobs.foreign == 2
        assert say(jobs, "$next/get/rejected", {"clientToken": "t-1", "code": "RequestThrottled"}) is None
        assert say(jobs, "$next/get/accepted", {"clientToken": "t-1"}) == (NEXT, None)

    @pytest.mark.parametrize(
        "changes",
        [
            {"jobId": 7},
            {"jobId": ""},
            {"status": None},
            {"jobDocument": "text"},
            {"jobDocument": [1]},
            {"statusDetails": "x"},
            {"versionNumber": "5"},
            {"executionNumber": None},
        ],
    )
    def test_malformed(self, changes: dict[str, Any]) -> None:
        jobs = connected()
        asked(jobs)
        body = {"clientToken": "t-1", "execution": SHOWN | changes}
        assert say(jobs, "$next/get/accepted", body) is None
        assert jobs.malformed == 1
        assert jobs.poll(FIRST_WAIT) != [], "it asks again"


class TestTooLong:
    """An answer that the device's buffer does not hold."""

    LEFT_OUT = {name: value for name, value in SHOWN.items() if name != "jobDocument"}  # noqa: RUF012

    def left_out(self, jobs: Jobs, what: str = "$next/get/accepted") -> None:
        assert jobs.receive(TOO_LONG + BASE + what, b"4096", 0) is None

    def bare(self, jobs: Jobs, number: int, **changes: Any) -> Any:
        """The answer to the question without the document, which is asked now."""
        assert asked(jobs) == ("$next/get", {"clientToken": f"t-{number}", "includeJobDocument": False})
        body = {"clientToken": f"t-{number}", "execution": self.LEFT_OUT | changes}
        return say(jobs, "$next/get/accepted", body)

    def test_is_asked_without_the_document_and_once_more_to_be_sure(self) -> None:
        jobs = connected()
        asked(jobs)
        self.left_out(jobs)
        assert self.bare(jobs, 2) is None
        assert asked(jobs) == ("$next/get", {"clientToken": "t-3"})
        self.left_out(jobs)
        event, found = self.bare(jobs, 4)
        assert (event, found.key, found.document, found.bound) == (NEXT, ("j", 2), None, "4096")
        assert asked(jobs, GAP) == ("$next/get", {"clientToken": "t-5"})

    def test_a_job_that_took_its_place_meanwhile_is_heard(self) -> None:
        jobs = connected()
        asked(jobs)
        self.left_out(jobs)
        assert self.bare(jobs, 2, jobId="short") is None
        asked(jobs)
        body = {"clientToken": "t-3", "execution": SHOWN | {"jobId": "short"}}
        found = say(jobs, "$next/get/accepted", body)[1]
        assert (found.job_id, found.document, found.bound) == ("short", {"a": 1}, "")
        # Nor is what was once suspected held against it.
        jobs.ask(0)
        asked(jobs)
        self.left_out(jobs)
        assert self.bare(jobs, 5, jobId="short") is None

    def test_a_job_that_is_gone_meanwhile_is_nothing(self) -> None:
        jobs = connected()
        asked(jobs)
        self.left_out(jobs)
        asked(jobs)
        assert say(jobs, "$next/get/accepted", {"clientToken": "t-2"}) == (NEXT, None)

    def test_a_notice_is_one_all_the_same(self) -> None:
        jobs = connected()
        asked(jobs)
        say(jobs, "$next/get/accepted", {"clientToken": "t-1"})
        self.left_out(jobs, "notify-next")
        assert asked(jobs) == ("$next/get", {"clientToken": "t-2"})

    def test_a_job_that_was_taken_at_once(self) -> None:
        jobs = connected()
        jobs.ask(0, start=True)
        asked(jobs)
        self.left_out(jobs, "start-next/accepted")
        assert self.bare(jobs, 2, status=IN_PROGRESS) is None

    @pytest.mark.parametrize("what", ["$next/get/rejected", "j/update/accepted", "x", ""])
    def test_other_messages_say_nothing(self, what: str) -> None:
        jobs = connected()
        asked(jobs)
        self.left_out(jobs, what)
        assert jobs.poll(0) == []

    def test_nor_do_answers_that_nobody_waits_for(self) -> None:
        jobs = connected()
        asked(jobs)
        say(jobs, "$next/get/accepted", {"clientToken": "t-1"})
        self.left_out(jobs)
        assert jobs.poll(0) == []

    def test_without_end_it_is_no_flood(self) -> None:
        """Answers that are too long even without the document."""
        jobs, sent, now = connected(), 0, 0
        while now < 3_600_000:
            sent += len(jobs.poll(now))
            self.left_out(jobs)
            now = max(now, jobs.deadline)
        assert sent < 30


class TestUpdate:
    """What is reported."""

    execution = Execution(SHOWN)

    def report(self, jobs: Jobs, **more: Any) -> None:
        jobs.poll(0)
        jobs.update(self.execution, IN_PROGRESS, {"receive": "1/2"}, 0, **more)

    def test_of_that_very_try(self) -> None:
        jobs = connected()
        self.report(jobs)
        expected = {"status": IN_PROGRESS, "statusDetails": {"receive": "1/2"}, "executionNumber": 2}
        assert asked(jobs) == ("j/update", expected | {"clientToken": "t-2"})
        assert say(jobs, "j/update/accepted", {"clientToken": "t-2"}) == (ACCEPTED, None)
        assert jobs.poll(FIRST_WAIT - 1) == []

    def test_with_the_version_that_is_expected(self) -> None:
        jobs = connected()
        self.report(jobs, expected_version=5)
        assert asked(jobs)[1]["expectedVersion"] == 5

    def test_refused(self) -> None:
        jobs = connected()
        self.report(jobs)
        asked(jobs)
        said = {"clientToken": "t-2", "code": "VersionMismatch", "message": "why"}
        assert say(jobs, "j/update/rejected", said) == (REFUSED, "VersionMismatch", "why")
        assert say(jobs, "j/update/rejected", said) is None, "once"

    @pytest.mark.parametrize("code", ["RequestThrottled", "InternalError"])
    def test_not_now(self, code: str) -> None:
        jobs = connected()
        self.report(jobs)
        asked(jobs)
        assert say(jobs, "j/update/rejected", {"clientToken": "t-2", "code": code}) is None
        assert ("j/update", "t-2") in [
            (topic.removeprefix(BASE), json.loads(payload)["clientToken"])
            for topic, payload in jobs.poll(FIRST_WAIT)
        ]

    def test_a_newer_one_takes_its_place(self) -> None:
        jobs = connected()
        self.report(jobs)
        asked(jobs)
        jobs.update(self.execution, "FAILED", {"reason": "x"}, 0)
        assert say(jobs, "j/update/accepted", {"clientToken": "t-2"}) is None
        assert asked(jobs)[1]["status"] == "FAILED"
        jobs.forget()
        assert say(jobs, "j/update/accepted", {"clientToken": "t-3"}) is None

    def test_that_nobody_answers_is_given_up_once(self) -> None:
        jobs, sent, now, given_up = connected(), 0, 0, []
        self.report(jobs)
        while now < 10 * 3_600_000:
            try:
                sent += sum("/update" in topic for topic, _ in jobs.poll(now))
            except NoAnswer:
                given_up.append(now)
            now = jobs.deadline
        assert sent == MAX_TRIES
        assert len(given_up) == 1
        assert given_up[0] < 1_200_000

    def test_waits_for_a_session_and_is_sent_anew(self) -> None:
        jobs = connected()
        self.report(jobs)
        jobs.disconnected()
        assert jobs.poll(GAP) == []
        jobs.connected(GAP)
        assert [topic for topic, _ in jobs.poll(GAP)] == [BASE + "$next/get", BASE + "j/update"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["jobId", "status", "jobDocument", "statusDetails", "versionNumber"]),
            inner,
            max_size=6,
        )
    ),
)
ANSWERS = st.fixed_dictionaries(
    {"clientToken": st.sampled_from(["t-1", "t-2"]) | JSON},
    optional={"execution": JSON, "code": JSON, "message": JSON},
)


@given(
    st.sampled_from(["", TOO_LONG]),
    st.sampled_from(["$next/get", "start-next", "j/update", "notify-next", "x", ""]),
    st.sampled_from(["/accepted", "/rejected", "", "/else"]),
    st.binary(max_size=60) | (ANSWERS | JSON).map(lambda value: json.dumps(value).encode()),
)
def test_whatever_comes_is_an_event_or_nothing(mark: str, what: str, answer: str, payload: bytes) -> None:
    jobs = connected()
    jobs.poll(0)
    jobs.update(Execution(SHOWN), IN_PROGRESS, {}, 0)
    jobs.poll(0)
    event = jobs.receive(mark + BASE + what + answer, b"4096" if mark else payload, 0)
    assert event is None or event[0] in (NEXT, ACCEPTED, REFUSED)
    assert jobs.receive("$aws/things/other/jobs/" + what + answer, payload, 0) is None
    assert jobs.deadline >= 0


def test_nested_past_all_bounds_is_nothing() -> None:
    jobs = connected()
    asked(jobs)
    assert jobs.receive(BASE + "$next/get/accepted", b"[" * 100_000, 0) is None
    assert jobs.malformed == 1
