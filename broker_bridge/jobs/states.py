"""Who may lead an execution from which state to which, and what it is then.

Source: AWS's developer guide, "Jobs and job execution states", and its jobs API for devices.
"""

import unicodedata
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from broker_bridge.jobs.errors import InvalidJob, InvalidTransition, VersionMismatch
from broker_bridge.jobs.execution import FROM_DEVICE, Execution, Status

MAX_DETAILS = 10
"""Entries in `statusDetails` (AWS)."""
MAX_DETAIL_KEY = 128
MAX_DETAIL_VALUE = 1024
"""Characters."""
MAX_TIMEOUT_MINUTES = 10080
"""Seven days: the longest of both timers, whose shortest is a minute (AWS)."""
NO_STEP_TIMEOUT = -1
"""`stepTimeoutInMinutes` that ends the step timer (AWS)."""

_KEY = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:_-")


def update(
    execution: Execution,
    status: Status,
    now: datetime,
    *,
    details: Mapping[str, str] | None = None,
    expected_version: int | None = None,
    step_minutes: int | None = None,
    timeout_minutes: int | None = None,
) -> Execution:
    """What the device's report makes of the execution. `timeout_minutes`: the job's own timer.

    Without `details` those that are there stay. InvalidJob for a state that no device reports, for details
    and minutes out of bounds; VersionMismatch; InvalidTransition for one that has ended.
    """
    if status not in FROM_DEVICE:
        raise InvalidJob(f"status: {status} is none of {', '.join(sorted(FROM_DEVICE))}")
    if details is not None:
        check_details(details)
    check_step(step_minutes)
    _expect(execution, expected_version)
    if not execution.pending:
        raise InvalidTransition(execution, status)
    changed = _changed(execution, status, now, details)
    if status is not Status.IN_PROGRESS:
        return changed
    if execution.status is Status.QUEUED:
        deadline = None if timeout_minutes is None else now + timedelta(minutes=timeout_minutes)
        changed = replace(changed, started_at=now, deadline=deadline)
    return with_step(changed, now, step_minutes)


def with_step(execution: Execution, now: datetime, step_minutes: int | None) -> Execution:
    """The execution with its step timer begun anew, ended (-1), or as it was (None). InvalidJob."""
    check_step(step_minutes)
    if step_minutes is None:
        return execution
    ended = step_minutes == NO_STEP_TIMEOUT
    return replace(execution, step_deadline=None if ended else now + timedelta(minutes=step_minutes))


def cancel(
    execution: Execution,
    now: datetime,
    *,
    force: bool = False,
    details: Mapping[str, str] | None = None,
    expected_version: int | None = None,
) -> Execution:
    """The execution canceled; one in progress only with `force`. Raises as `update`."""
    if details is not None:
        check_details(details)
    _expect(execution, expected_version)
    if execution.status is not Status.QUEUED and not (force and execution.pending):
        raise InvalidTransition(execution, Status.CANCELED)
    forced = execution.status is Status.IN_PROGRESS
    return replace(_changed(execution, Status.CANCELED, now, details), force_canceled=forced)


def time_out(execution: Execution, now: datetime) -> Execution:
    """The execution after its timer ended. InvalidTransition unless it is in progress."""
    if execution.status is not Status.IN_PROGRESS:
        raise InvalidTransition(execution, Status.TIMED_OUT)
    return _changed(execution, Status.TIMED_OUT, now, None)


def remove(execution: Execution, now: datetime) -> Execution:
    """The execution of a thing that is none of the job's targets any more. InvalidTransition if it ended."""
    if not execution.pending:
        raise InvalidTransition(execution, Status.REMOVED)
    return _changed(execution, Status.REMOVED, now, None)


def check_details(details: Mapping[str, str]) -> None:
    """Returns if `details` are what AWS takes as `statusDetails`. InvalidJob."""
    if len(details) > MAX_DETAILS:
        raise InvalidJob(f"statusDetails: {len(details)} entries are over the maximum of {MAX_DETAILS}")
    for key, value in details.items():
        if not 1 <= len(key) <= MAX_DETAIL_KEY or not _KEY.issuperset(key):
            raise InvalidJob(
                f"statusDetails: the key {key[:64]!r} is not 1 to {MAX_DETAIL_KEY} of [a-zA-Z0-9:_-]"
            )
        if not 1 <= len(value) <= MAX_DETAIL_VALUE:
            raise InvalidJob(
                f"statusDetails[{key}]: length {len(value)} is not within 1 and {MAX_DETAIL_VALUE}"
            )
        # `isprintable` alone would refuse spaces other than the common one; AWS's pattern is [^\p{C}]+.
        if not value.isprintable() and any(
            unicodedata.category(character).startswith("C") for character in value
        ):
            raise InvalidJob(f"statusDetails[{key}]: a control or unassigned character in it")


def check_step(minutes: int | None) -> None:
    """Returns if `minutes` may be a `stepTimeoutInMinutes`. InvalidJob."""
    if minutes is not None and minutes != NO_STEP_TIMEOUT and not 1 <= minutes <= MAX_TIMEOUT_MINUTES:
        raise InvalidJob(
            f"stepTimeoutInMinutes: {minutes} is neither {NO_STEP_TIMEOUT} nor within 1 and "
            f"{MAX_TIMEOUT_MINUTES}"
        )


def _expect(execution: Execution, version: int | None) -> None:
    if version is not None and execution.version != version:
        raise VersionMismatch(execution, version)


def _changed(
    execution: Execution, status: Status, now: datetime, details: Mapping[str, str] | None
) -> Execution:
    ended = status is not Status.IN_PROGRESS
    return replace(
        execution,
        status=status,
        version=execution.version + 1,
        details=execution.details if details is None else details,
        updated_at=now,
        deadline=None if ended else execution.deadline,
        step_deadline=None if ended else execution.step_deadline,
    )
