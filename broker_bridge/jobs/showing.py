"""Executions as devices are shown them, over MQTT and over HTTP: members of AWS's `iot-jobs-data` model.

Times are whole seconds since 1970 (AWS's data plane has them as numbers without a fraction), and what there
is nothing to say of is left out. Between MQTT and HTTP one thing differs: `jobDocument` is a JSON object
there and text here.
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime

from broker_bridge.jobs.execution import Execution
from broker_bridge.jobs.job import Job
from broker_bridge.registry.jobs.devices import Work
from broker_bridge.registry.jobs.pending import Pending

Render = Callable[[str, Job], str]
"""`(document, job) -> document`: a job's document as a device gets it, at each time that it is shown. It may
replace what stands in it for something that is only made then, such as URLs that expire. It is called in the
thread that answers, outside of transactions, and must neither block for long nor raise."""


def as_it_is(document: str, _job: Job) -> str:
    """The Render that changes nothing."""
    return document


def pending(found: Pending) -> dict[str, object]:
    """GetPendingJobExecutions."""
    return {
        "inProgressJobs": summaries(found.in_progress),
        "queuedJobs": summaries(found.queued),
    }


def summaries(executions: Iterable[Execution]) -> list[dict[str, object]]:
    """JobExecutionSummaryList."""
    return [
        _there(
            {
                "jobId": execution.job_id,
                "queuedAt": seconds(execution.queued_at),
                "startedAt": seconds(execution.started_at),
                "lastUpdatedAt": seconds(execution.updated_at),
                "versionNumber": execution.version,
                "executionNumber": execution.number,
            }
        )
        for execution in executions
    ]


def execution(work: Work, now: datetime, render: Render) -> dict[str, object]:
    """JobExecution, with `jobDocument` as text where `work` has one. Here a document goes to a device."""
    found = work.execution
    return _there(
        {
            "jobId": found.job_id,
            "thingName": found.thing,
            "status": str(found.status),
            "statusDetails": found.details,
            "queuedAt": seconds(found.queued_at),
            "startedAt": seconds(found.started_at),
            "lastUpdatedAt": seconds(found.updated_at),
            "approximateSecondsBeforeTimedOut": found.seconds_left(now),
            "versionNumber": found.version,
            "executionNumber": found.number,
            "jobDocument": document(work, render),
        }
    )


def document(work: Work, render: Render) -> str | None:
    """The document of `work` as a device gets it; None where it was not asked for."""
    return None if work.document is None else render(work.document, work.job)


def state(found: Execution) -> dict[str, object]:
    """JobExecutionState: what an update answers, and what a refused one shows to be so."""
    return _there(
        {"status": str(found.status), "statusDetails": found.details, "versionNumber": found.version}
    )


def seconds(moment: datetime | None) -> int | None:
    """Whole seconds since 1970."""
    return None if moment is None else int(moment.timestamp())


def _there(members: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in members.items() if value is not None}
