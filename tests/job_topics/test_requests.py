"""Requests decoded: any bytes on any topic end in a request or in an honest code, never in anything else."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from broker_bridge.job_topics import messages
from broker_bridge.job_topics.errors import Code, Refusal
from broker_bridge.job_topics.requests import MAX_PAYLOAD, MAX_TOKEN, Request, decode
from broker_bridge.job_topics.topics import Address, Verb, split
from broker_bridge.jobs import showing
from broker_bridge.jobs.execution import Execution, JobStatus, Status
from broker_bridge.jobs.job import Job
from broker_bridge.registry.jobs.devices import Work

NOW = datetime(2026, 3, 4, 12, tzinfo=UTC)


def address_of(what: str) -> Address:
    found = split(f"$aws/things/mast/jobs/{what}")
    assert found is not None
    return found


UPDATE, DESCRIBE = address_of("j/update"), address_of("j/get")

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
NAMES = (
    *("clientToken", "status", "statusDetails", "expectedVersion", "executionNumber"),
    *("includeJobExecutionState", "includeJobDocument", "stepTimeoutInMinutes", "other"),
)
payloads = st.one_of(
    st.binary(max_size=200),
    st.dictionaries(st.sampled_from(NAMES), json_values, max_size=6).map(
        lambda one: json.dumps(one).encode()
    ),
    json_values.map(lambda one: json.dumps(one).encode()),
)
topics = st.one_of(
    st.sampled_from(
        ["get", "start-next", "$next/get", "j/get", "j/update", "a.b/update", "$next/update", "/get"]
    ).map(lambda what: f"$aws/things/mast/jobs/{what}"),
    st.text(max_size=30).map(lambda name: f"$aws/things/{name}/jobs/get"),
    st.text(max_size=80).map(lambda name: f"$aws/things/mast/jobs/{name}/update"),
    st.text(max_size=50),
)


@given(topics, payloads)
@example("$aws/things/mast/jobs/j/update", b'{"clientToken":"\\ud800","status":"FAILED"}')
@example("$aws/things/mast/jobs/j/update", b'{"status":"\\ud800"}')
@example("$aws/things/mast/jobs/j/update", b'{"status":"FAILED","statusDetails":{"\\ud800":1}}')
@example("$aws/things/mast/jobs/j/update", b'{"status":"FAILED","expectedVersion":"\xc2\xb2"}')
@example("$aws/things/mast/jobs/j/update", b'{"status":"FAILED","expectedVersion":99999999999999999999999}')
@example("$aws/things/\ud800/jobs/get", b"{}")
def test_any_message_is_a_request_or_a_refusal_that_can_be_sent(topic: str, payload: bytes) -> None:
    address = split(topic)
    if address is None:
        return
    found = outcome(address, payload)
    if isinstance(found, Refusal):
        answer = json.loads(messages.rejected(found, NOW))
        assert answer["code"] in set(Code)
        assert answer["message"]
        assert ("clientToken" in answer) == (found.token is not None)
        return
    assert found.address.flaw is None
    assert (found.status is not None) == (found.address.verb is Verb.UPDATE)
    if found.token is not None:
        assert json.loads(payload)["clientToken"] == found.token


def outcome(address: Address, payload: bytes) -> Request | Refusal:
    try:
        return decode(address, payload, len(payload))
    except Refusal as refusal:
        return refusal


@pytest.mark.parametrize(
    ("topic", "verb", "job_id"),
    [
        ("$aws/things/t/jobs/get", Verb.PENDING, ""),
        ("$aws/things/t/jobs/start-next", Verb.START_NEXT, ""),
        ("$aws/things/t/jobs/get/get", Verb.DESCRIBE, "get"),
        ("$aws/things/t/jobs/$next/get", Verb.DESCRIBE, "$next"),
        ("$aws/things/t/jobs/j_-9/update", Verb.UPDATE, "j_-9"),
    ],
)
def test_topics(topic: str, verb: Verb, job_id: str) -> None:
    address = split(topic)
    assert address == Address(topic, "t", verb, job_id)
    assert address.flaw is None


@pytest.mark.parametrize(
    "topic",
    [
        *("$aws/things/t/jobs//get", "$aws/things/t/jobs//update", "$aws/things/t/jobs/notify-next"),
        *("$aws/things/t/jobs/get/accepted", "$aws/things/t/jobs/j/update/rejected", "$aws/things/t/jobs"),
        *("$aws/things/t/shadow/get", "things/t/jobs/get", ""),
    ],
)
def test_topics_that_ask_nothing(topic: str) -> None:
    assert split(topic) is None


def refused(payload: object, address: Address = UPDATE, size: int | None = None) -> Refusal:
    data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    with pytest.raises(Refusal) as caught:
        decode(address, data, len(data) if size is None else size)
    return caught.value


def test_the_token_comes_first() -> None:
    """Whatever else is wrong: the device learns which of its requests it was."""
    assert refused({"clientToken": "t", "status": 5}).token == "t"
    assert refused({"status": 5, "clientToken": 5}).token is None
    assert refused({"clientToken": "ü" * (MAX_TOKEN // 2 + 1), "status": "FAILED"}).token is None
    assert decoded({"clientToken": "ü" * (MAX_TOKEN // 2), "status": "FAILED"}).token is not None
    bad = address_of("no.id/update")
    assert (refused({"clientToken": "t"}, bad).code, refused({"clientToken": "t"}, bad).token) == (
        Code.INVALID_TOPIC,
        "t",
    )
    assert refused(b"{", bad).code is Code.INVALID_TOPIC


def test_a_payload_over_the_bound_is_not_looked_at() -> None:
    # The connection hands none of it on.
    assert refused(b"", size=MAX_PAYLOAD + 1).code is Code.INVALID_REQUEST
    at_the_bound = json.dumps({"status": "FAILED", "other": ""})
    filled = at_the_bound[:-2] + "x" * (MAX_PAYLOAD - len(at_the_bound)) + at_the_bound[-2:]
    assert decode(UPDATE, filled.encode(), MAX_PAYLOAD).status is Status.FAILED


def decoded(payload: dict[str, Any], address: Address = UPDATE) -> Request:
    data = json.dumps(payload).encode()
    return decode(address, data, len(data))


def test_null_counts_as_absent_and_nothing_as_an_empty_object() -> None:
    nothing = decode(DESCRIBE, b"", 0)
    assert nothing == decoded(dict.fromkeys(NAMES), DESCRIBE)
    assert nothing.with_document is None


document_texts = json_values.map(lambda value: json.dumps({"d": value})) | json_values.map(
    lambda value: json.dumps({"d": value}, indent=3, ensure_ascii=False)
)


@given(document_texts)
@example('{"n": 1e400, "m": 12345678901234567890123456789.50, "s": "\\ud800 \\u002b \\/ \\n \\\\ \\" "}')
def test_documents_go_out_as_they_were_given_but_compact(text: str) -> None:
    job = Job(
        number=1, job_id="j", status=JobStatus.IN_PROGRESS, continuous=False, created_at=NOW, updated_at=NOW
    )
    execution = Execution(
        job_id="j",
        thing="t",
        number=1,
        status=Status.QUEUED,
        version=1,
        details=None,
        queued_at=NOW,
        updated_at=NOW,
    )
    sent = messages.notify_next(Work(execution, job, text), NOW, showing.as_it_is)
    # Numbers as they are written: the number that a float makes of it may be another.
    assert _exactly(sent.decode())["execution"]["jobDocument"] == _exactly(text)


def _exactly(text: str) -> Any:
    return json.loads(text, parse_float=str, parse_int=str)
