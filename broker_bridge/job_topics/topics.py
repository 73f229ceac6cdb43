"""`$aws/things/{thing}/jobs/…`: what is listened to, and what is said (AWS's guide, "Job topics")."""

import re
from dataclasses import dataclass
from enum import StrEnum

from broker_bridge.registry.jobs.devices import NEXT

SUBSCRIPTIONS = (
    ("$aws/things/+/jobs/get", 1),
    ("$aws/things/+/jobs/start-next", 1),
    ("$aws/things/+/jobs/+/get", 1),
    ("$aws/things/+/jobs/+/update", 1),
)
"""Filters and QoS. None of them matches what is published here."""

_THING = re.compile(r"[a-zA-Z0-9:_-]{1,128}")
_JOB = re.compile(r"[a-zA-Z0-9_-]{1,64}")


class Verb(StrEnum):
    """What a device asks, by AWS's names."""

    PENDING = "GetPendingJobExecutions"
    START_NEXT = "StartNextPendingJobExecution"
    DESCRIBE = "DescribeJobExecution"
    UPDATE = "UpdateJobExecution"


@dataclass(frozen=True, slots=True)
class Address:
    """A topic of a request, taken apart."""

    topic: str
    thing: str
    verb: Verb
    job_id: str
    """Empty for the first two verbs; `$next` stands for the job of the next execution."""

    @property
    def flaw(self) -> str | None:
        """What makes the topic none of AWS's; None where it is one."""
        if _THING.fullmatch(self.thing) is None:
            return "the thing name is not 1 to 128 of [a-zA-Z0-9:_-]"
        if self.verb in (Verb.PENDING, Verb.START_NEXT) or _JOB.fullmatch(self.job_id) is not None:
            return None
        if self.verb is Verb.DESCRIBE:
            return None if self.job_id == NEXT else "the job id is neither 1 to 64 of [a-zA-Z0-9_-] nor $next"
        return "the job id is not 1 to 64 of [a-zA-Z0-9_-]"


def split(topic: str) -> Address | None:
    """The topic's parts; None for one that asks nothing: another's, or without a job id (`jobs//update`)."""
    parts = topic.split("/")
    if len(parts) < 5 or parts[0] != "$aws" or parts[1] != "things" or parts[3] != "jobs":
        return None
    match parts[4:]:
        case ["get"]:
            return Address(topic, parts[2], Verb.PENDING, "")
        case ["start-next"]:
            return Address(topic, parts[2], Verb.START_NEXT, "")
        case [job_id, "get"] if job_id:
            return Address(topic, parts[2], Verb.DESCRIBE, job_id)
        case [job_id, "update"] if job_id:
            return Address(topic, parts[2], Verb.UPDATE, job_id)
    return None


def notify(thing: str) -> str:
    """Where the list of pending executions is told."""
    return f"$aws/things/{thing}/jobs/notify"


def notify_next(thing: str) -> str:
    """Where the next execution is told."""
    return f"$aws/things/{thing}/jobs/notify-next"
