"""What devices and listeners are sent: compact JSON as AWS's guide has it ("Jobs MQTT API", "Jobs events").

Strings hold no escapes that JSON does not ask for, since small devices hand them on as they came (DEVICES
"What they need" 5), and a job's document goes out as it was given, but for blanks and such escapes.
"""

import json
import re
import uuid
from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache

from broker_bridge.job_topics.errors import Refusal
from broker_bridge.job_topics.requests import Request
from broker_bridge.jobs import showing
from broker_bridge.jobs.events import ExecutionEvent, JobEvent
from broker_bridge.registry.jobs.devices import Work
from broker_bridge.registry.jobs.pending import Pending

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|\s+', re.DOTALL)


class _Json(str):
    """Text that is JSON already."""


def accepted(asked: Request, found: Pending | Work | None, now: datetime, render: showing.Render) -> bytes:
    """The answer to a request that was granted; None: nothing is pending."""
    members: dict[str, object] = {}
    if isinstance(found, Pending):
        members |= showing.pending(found)
    elif found is not None and asked.status is not None:
        # An update.
        if asked.with_state:
            members["executionState"] = showing.state(found.execution)
        document = showing.document(found, render)
        if document is not None:
            members["jobDocument"] = _Json(_compact(document))
    elif found is not None:
        members["execution"] = _execution(found, now, render)
    return _message(members, now, asked.token)


def rejected(refused: Refusal, now: datetime) -> bytes:
    """The answer to a request that was not."""
    members: dict[str, object] = {"code": str(refused.code), "message": refused.message}
    if refused.state is not None:
        members["executionState"] = showing.state(refused.state)
    return _message(members, now, refused.token)


def notify(found: Pending, now: datetime) -> bytes:
    """The list of pending executions, by state; a state without any is left out."""
    lists = {"IN_PROGRESS": found.in_progress, "QUEUED": found.queued}
    shown = {name: showing.summaries(executions) for name, executions in lists.items() if executions}
    return _encode({"timestamp": showing.seconds(now), "jobs": shown})


def notify_next(work: Work | None, now: datetime, render: showing.Render) -> bytes:
    """The next execution; an empty one where there is none (DEVICES "Jobs and OTA" 2)."""
    shown = _Json("{}") if work is None else _execution(work, now, render)
    return _encode({"timestamp": showing.seconds(now), "execution": shown})


def job_event(event: JobEvent, arns: list[str], now: datetime) -> bytes:
    """What happened to a job, with its targets as `arns`."""
    job, counts = event.job, event.job.counts
    members: dict[str, object] = {
        **_event("JOB", event.operation, job.job_id, now),
        "status": event.operation.upper(),
        "targetSelection": "CONTINUOUS" if job.continuous else "SNAPSHOT",
        "targets": arns,
        "description": job.description,
        "completedAt": showing.seconds(job.completed_at),
        "createdAt": showing.seconds(job.created_at),
        "lastUpdatedAt": showing.seconds(job.updated_at),
        "comment": job.comment,
        "reasonCode": job.reason_code,
    }
    if event.operation == "completed":
        members["jobProcessDetails"] = {
            "numberOfCanceledThings": counts.canceled,
            "numberOfRejectedThings": counts.rejected,
            "numberOfFailedThings": counts.failed,
            "numberOfRemovedThings": counts.removed,
            "numberOfSucceededThings": counts.succeeded,
            "numberOfTimedOutThings": counts.timed_out,
        }
    return _encode(members)


def execution_event(event: ExecutionEvent, thing_arn: str, now: datetime) -> bytes:
    """That an execution ended, or was deleted."""
    execution = event.execution
    return _encode(
        {
            **_event("JOB_EXECUTION", event.operation, execution.job_id, now),
            "thingArn": thing_arn,
            "status": str(execution.status),
            "statusDetails": execution.details or {},
        }
    )


def _event(kind: str, operation: str, job_id: str, now: datetime) -> dict[str, object]:
    return {
        "eventType": kind,
        "eventId": str(uuid.uuid4()),
        "timestamp": showing.seconds(now),
        "operation": operation,
        "jobId": job_id,
    }


def _execution(work: Work, now: datetime, render: showing.Render) -> _Json:
    members = showing.execution(work, now, render)
    document = members.get("jobDocument")
    if isinstance(document, str):
        members["jobDocument"] = _Json(_compact(document))
    return _Json(_text(members))


def _message(members: dict[str, object], now: datetime, token: str | None) -> bytes:
    members["timestamp"] = showing.seconds(now)
    members["clientToken"] = token
    return _encode(members)


def _encode(members: Mapping[str, object]) -> bytes:
    return _text(members).encode()


def _text(members: Mapping[str, object]) -> str:
    """A JSON object of these members, without those that are None."""
    shown = (
        # Most are integers or JSON already, and an encoder costs more than it does.
        f'"{name}":{value if type(value) in (_Json, int) else _dumps(value)}'
        for name, value in members.items()
        if value is not None
    )
    return "{" + ",".join(shown) + "}"


@lru_cache(maxsize=64)
def _compact(document: str) -> str:
    """A JSON text without blanks between its tokens. Numbers stay as they are written.

    Parsed and written anew it could not be: a number may be out of the range of any float, and half of a
    surrogate pair, escaped, has no UTF-8.
    """
    return _TOKEN.sub(lambda match: _string(match[0]) if match[0][0] == '"' else "", document)


def _string(text: str) -> str:
    if "\\" not in text:
        return text
    plain = _dumps(json.loads(text))
    return text if any("\ud800" <= character <= "\udfff" for character in plain) else plain


_dumps = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
