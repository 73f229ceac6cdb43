"""A job's configurations: from the shapes of AWS's model to what the rules work with.

They are kept as they were given, and DescribeJob shows them so.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from typing import Any

from broker_bridge.jobs.abort import Criterion, FailureType
from broker_bridge.jobs.cron import Cron
from broker_bridge.jobs.errors import InvalidJob
from broker_bridge.jobs.retries import MAX_RETRIES, Retries
from broker_bridge.jobs.rollout import MAX_EXPONENTIAL, Exponential, Rollout
from broker_bridge.jobs.schedule import EndBehavior, Schedule, Window, parse_moment
from broker_bridge.jobs.states import MAX_TIMEOUT_MINUTES

MAX_WINDOWS = 7
"""Maintenance windows of a job (our choice; AWS names no bound)."""
MAX_CRITERIA = 10
"""Entries of `abortConfig` (our choice, twice what makes sense: one to a failure type and more)."""

ROLLOUT, ABORT = "jobExecutionsRolloutConfig", "abortConfig"
TIMEOUT, RETRY = "timeoutConfig", "jobExecutionsRetryConfig"
SCHEDULE, PRESIGNED = "schedulingConfig", "presignedUrlConfig"

URL_SECONDS = 3600
"""How long presigned URLs are good unless `presignedUrlConfig` says otherwise (AWS)."""


@dataclass(frozen=True, slots=True)
class Config:
    """What the rules need of a job."""

    rollout: Rollout
    abort: tuple[Criterion, ...]
    timeout_minutes: int | None
    retries: tuple[Retries, ...]
    schedule: Schedule
    url_seconds: int = URL_SECONDS
    """How long presigned URLs in its document are good, from when a device gets it."""


@lru_cache(maxsize=256)
def load(text: str) -> Config:
    """The configurations of a job from their JSON, as the registry keeps it."""
    return read(json.loads(text))


def read(given: Mapping[str, Any]) -> Config:
    """The configurations by their names in AWS's model; its types and bounds hold already.

    InvalidJob for what the model does not say and the guide does.
    """
    return Config(
        rollout=_rollout(given.get(ROLLOUT, {})),
        abort=_abort(given.get(ABORT, {})),
        timeout_minutes=_timeout(given.get(TIMEOUT, {})),
        retries=_retries(given.get(RETRY, {})),
        schedule=_schedule(given.get(SCHEDULE, {})),
        url_seconds=given.get(PRESIGNED, {}).get("expiresInSec", URL_SECONDS),
    )


def _rollout(given: Mapping[str, Any]) -> Rollout:
    maximum: int | None = given.get("maximumPerMinute")
    if "exponentialRate" not in given:
        return Rollout(maximum)
    where = f"{ROLLOUT}.exponentialRate"
    rate = given["exponentialRate"]
    steps = rate["rateIncreaseCriteria"]
    exponential = Exponential(
        rate["baseRatePerMinute"],
        rate["incrementFactor"],
        steps.get("numberOfNotifiedThings"),
        steps.get("numberOfSucceededThings"),
    )
    if exponential.notified is None and exponential.succeeded is None:
        raise InvalidJob(f"{where}.rateIncreaseCriteria: numberOfNotifiedThings or numberOfSucceededThings")
    cap = MAX_EXPONENTIAL if maximum is None else maximum
    if exponential.base > cap:
        raise InvalidJob(f"{where}.baseRatePerMinute: {exponential.base} is over maximumPerMinute, {cap}")
    return Rollout(maximum, exponential)


def _abort(given: Mapping[str, Any]) -> tuple[Criterion, ...]:
    entries = given.get("criteriaList", ())
    if len(entries) > MAX_CRITERIA:
        raise InvalidJob(f"{ABORT}.criteriaList: {len(entries)} are over the maximum of {MAX_CRITERIA}")
    for i, entry in enumerate(entries):
        if not entry["thresholdPercentage"] > 0:
            raise InvalidJob(f"{ABORT}.criteriaList[{i}].thresholdPercentage: it must be over 0")
    return tuple(
        Criterion(
            FailureType(entry["failureType"]),
            entry["thresholdPercentage"],
            entry["minNumberOfExecutedThings"],
        )
        for entry in entries
    )


def _timeout(given: Mapping[str, Any]) -> int | None:
    minutes: int | None = given.get("inProgressTimeoutInMinutes")
    if minutes is not None and not 1 <= minutes <= MAX_TIMEOUT_MINUTES:
        raise InvalidJob(
            f"{TIMEOUT}.inProgressTimeoutInMinutes: {minutes} is not within 1 and {MAX_TIMEOUT_MINUTES}"
        )
    return minutes


def _retries(given: Mapping[str, Any]) -> tuple[Retries, ...]:
    criteria = tuple(
        Retries(FailureType(entry["failureType"]), entry["numberOfRetries"])
        for entry in given.get("criteriaList", ())
    )
    kinds = [criterion.failure for criterion in criteria]
    if len(set(kinds)) < len(kinds) or (FailureType.ALL in kinds and len(kinds) > 1):
        raise InvalidJob(f"{RETRY}.criteriaList: FAILED and TIMED_OUT once each, or ALL alone")
    total = sum(criterion.number for criterion in criteria)
    if total > MAX_RETRIES:
        raise InvalidJob(f"{RETRY}.criteriaList: {total} retries are over the maximum of {MAX_RETRIES}")
    return criteria


def _schedule(given: Mapping[str, Any]) -> Schedule:
    start, end = given.get("startTime"), given.get("endTime")
    if "endBehavior" in given and end is None:
        raise InvalidJob(f"{SCHEDULE}.endBehavior: it says nothing without endTime")
    windows = given.get("maintenanceWindows", ())
    if len(windows) > MAX_WINDOWS:
        raise InvalidJob(
            f"{SCHEDULE}.maintenanceWindows: {len(windows)} are over the maximum of {MAX_WINDOWS}"
        )
    return Schedule(
        start=None if start is None else parse_moment(f"{SCHEDULE}.startTime", start),
        end=None if end is None else parse_moment(f"{SCHEDULE}.endTime", end),
        at_end=EndBehavior(given.get("endBehavior", EndBehavior.STOP_ROLLOUT)),
        windows=tuple(
            Window(Cron.parse(entry["startTime"]), timedelta(minutes=entry["durationInMinutes"]))
            for entry in windows
        ),
    )
