"""CreateJob … DeleteJob: jobs as operators see them. Their executions: `job_executions`."""

import json
from collections.abc import Mapping
from typing import Any

from broker_bridge.api import paging
from broker_bridge.api.context import Context
from broker_bridge.api.iot import arns, job_documents
from broker_bridge.api.iot.errors import (
    InvalidRequestException,
    InvalidStateTransitionException,
    ResourceAlreadyExistsException,
    ResourceNotFoundException,
)
from broker_bridge.api.iot.tags import Tag, tag_values
from broker_bridge.jobs import config
from broker_bridge.jobs.errors import InvalidJobState, JobExists, JobNotFound
from broker_bridge.jobs.execution import JobStatus
from broker_bridge.jobs.job import Job, Target

CONTINUOUS, SNAPSHOT = "CONTINUOUS", "SNAPSHOT"

_CONFIGS = (config.PRESIGNED, config.ROLLOUT, config.ABORT, config.TIMEOUT, config.RETRY, config.SCHEDULE)


def create_job(
    context: Context,
    *,
    job_id: str,
    targets: list[str],
    document: str | None = None,
    document_source: str | None = None,
    description: str | None = None,
    presigned_url_config: Mapping[str, Any] | None = None,
    target_selection: str = SNAPSHOT,
    job_executions_rollout_config: Mapping[str, Any] | None = None,
    abort_config: Mapping[str, Any] | None = None,
    timeout_config: Mapping[str, Any] | None = None,
    tags: list[Tag] | None = None,
    namespace_id: str | None = None,
    job_template_arn: str | None = None,
    job_executions_retry_config: Mapping[str, Any] | None = None,
    document_parameters: Mapping[str, str] | None = None,
    scheduling_config: Mapping[str, Any] | None = None,
    destination_package_versions: list[str] | None = None,
) -> dict[str, object]:
    """A job for all things among the targets, in progress at once or at its `startTime`.

    The document is read now: a later change of its object changes nothing. A snapshot is of the things that
    are targets when the rollout begins. Without a rate the rollout is as fast as the service (AWS: 1,000 a
    minute). ResourceAlreadyExistsException for any job of that id, also the same again;
    ResourceNotFoundException for things, groups, objects and templates (there are none);
    InvalidRequestException; LimitExceededException (100 targets, 50 tags).
    """
    if job_template_arn is not None:
        raise ResourceNotFoundException("jobTemplateArn: there are no job templates here")
    for name, value in (
        ("namespaceId", namespace_id),
        ("documentParameters", document_parameters),
        ("destinationPackageVersions", destination_package_versions),
    ):
        if value is not None:
            raise InvalidRequestException(f"{name}: it is not offered by this service")
    named = [
        arns.resource(context, target, f"targets[{i}]", (arns.THING, arns.THING_GROUP))
        for i, target in enumerate(targets)
    ]
    configs = _given(
        presigned_url_config,
        job_executions_rollout_config,
        abort_config,
        timeout_config,
        job_executions_retry_config,
        scheduling_config,
    )
    config.read(configs)
    try:
        # Before the object is looked at: whether a job is there must not depend on it.
        context.registry.jobs.get(job_id)
    except JobNotFound:
        pass
    else:
        raise _exists(context, job_id)
    try:
        job = context.registry.jobs.create(
            job_id,
            things=[name for kind, name in named if kind == arns.THING],
            groups=[name for kind, name in named if kind == arns.THING_GROUP],
            continuous=target_selection == CONTINUOUS,
            document=job_documents.document(context, document, document_source),
            document_source=document_source,
            description=description,
            config_text=_json(configs),
            tags=tag_values(tags or []),
            now=context.clock(),
        )
    except JobExists:
        raise _exists(context, job_id) from None
    return _named(context, job)


def describe_job(
    context: Context,
    *,
    job_id: str,
    before_substitution: bool = False,  # noqa: ARG001 - nothing is substituted
) -> dict[str, object]:
    """The job with its configurations as they were given, and how far it is. ResourceNotFoundException."""
    job = context.registry.jobs.get(job_id)
    targets = [_target_arn(context, target) for target in context.registry.jobs.targets(job_id)]
    counts = job.counts
    windows = job.config.schedule.next_windows(context.clock()) if job.status in _ROLLING else []
    return {
        "documentSource": job.document_source,
        "job": {
            **_summary(context, job),
            "targets": targets,
            "description": job.description,
            "forceCanceled": job.force_canceled or None,
            "reasonCode": job.reason_code,
            "comment": job.comment,
            **json.loads(job.config_text),
            "jobProcessDetails": {
                "processingTargets": targets if job.waiting else None,
                "numberOfCanceledThings": counts.canceled,
                "numberOfSucceededThings": counts.succeeded,
                "numberOfFailedThings": counts.failed,
                "numberOfRejectedThings": counts.rejected,
                "numberOfQueuedThings": counts.queued,
                "numberOfInProgressThings": counts.in_progress,
                "numberOfRemovedThings": counts.removed,
                "numberOfTimedOutThings": counts.timed_out,
            },
            "scheduledJobRollouts": [{"startTime": f"{at:%Y-%m-%d %H:%M}"} for at in windows] or None,
        },
    }


def get_job_document(
    context: Context,
    *,
    job_id: str,
    before_substitution: bool = False,  # noqa: ARG001 - nothing is substituted
) -> dict[str, object]:
    """The job's document, as it was when the job was made. ResourceNotFoundException."""
    return {"document": context.registry.jobs.document(job_id)}


def update_job(
    context: Context,
    *,
    job_id: str,
    description: str | None = None,
    presigned_url_config: Mapping[str, Any] | None = None,
    job_executions_rollout_config: Mapping[str, Any] | None = None,
    abort_config: Mapping[str, Any] | None = None,
    timeout_config: Mapping[str, Any] | None = None,
    namespace_id: str | None = None,
    job_executions_retry_config: Mapping[str, Any] | None = None,
) -> dict[str, object]:
    """Replaces each configuration that is given. Executions that have begun keep their timers.

    ResourceNotFoundException; InvalidRequestException, also for a job that has ended.
    """
    _check_namespace(job_id, namespace_id)
    configs = _given(
        presigned_url_config,
        job_executions_rollout_config,
        abort_config,
        timeout_config,
        job_executions_retry_config,
        None,
    )

    def change(old: str) -> str:
        changed = json.loads(old) | configs
        config.read(changed)
        return _json(changed)

    context.registry.jobs.update(job_id, context.clock(), description=description, change_config=change)
    return {}


def list_jobs(
    context: Context,
    *,
    status: str | None = None,
    target_selection: str | None = None,
    max_results: int = paging.PAGE,
    next_token: str | None = None,
    thing_group_name: str | None = None,
    thing_group_id: str | None = None,
    namespace_id: str | None = None,
) -> dict[str, object]:
    """A page of jobs, the newest first: those with the group among their targets, where one is given.

    ResourceNotFoundException for the group, also where name and id are not of the same one;
    InvalidRequestException for a token that ListJobs did not give out for the same parameters.
    """
    if namespace_id is not None:
        return {"jobs": []}
    scope = ("ListJobs", status or "", target_selection or "", thing_group_name or "", thing_group_id or "")
    jobs, more = paging.turn(
        context.token_key,
        scope,
        next_token,
        lambda after: context.registry.jobs.list(
            status=None if status is None else JobStatus(status),
            continuous=None if target_selection is None else target_selection == CONTINUOUS,
            group=thing_group_name,
            group_id=thing_group_id,
            after=after,
            limit=max_results,
        ),
    )
    return {"jobs": [_summary(context, job) for job in jobs], **more}


def cancel_job(
    context: Context,
    *,
    job_id: str,
    reason_code: str | None = None,
    comment: str | None = None,
    force: bool = False,
) -> dict[str, object]:
    """Cancels the job for all things that have not begun; with `force`, for those that have too.

    From the answer on no device gets it; the states of its executions follow. ResourceNotFoundException;
    InvalidRequestException for a job that has ended, unless it was canceled without `force` and now is with.
    """
    job = context.registry.jobs.cancel(
        job_id, context.clock(), reason_code=reason_code, comment=comment, force=force
    )
    return _named(context, job)


def delete_job(
    context: Context, *, job_id: str, force: bool = False, namespace_id: str | None = None
) -> dict[str, object]:
    """Deletes the job with its executions: for devices at once, for operators when all of it is gone.

    ResourceNotFoundException; InvalidStateTransitionException for one in progress without `force`, or being
    deleted already; LimitExceededException while ten others are.
    """
    _check_namespace(job_id, namespace_id)
    try:
        context.registry.jobs.delete(job_id, context.clock(), force=force)
    except InvalidJobState as error:
        raise InvalidStateTransitionException(f"jobId: {error}") from None
    return {}


def associate_targets_with_job(
    context: Context,
    *,
    job_id: str,
    targets: list[str],
    comment: str | None = None,
    namespace_id: str | None = None,
) -> dict[str, object]:
    """Adds thing groups to the targets of a continuous job in progress; ones that are there do no harm.

    ResourceNotFoundException, InvalidRequestException, LimitExceededException (100 targets).
    """
    _check_namespace(job_id, namespace_id)
    groups = [
        arns.resource(context, target, f"targets[{i}]", (arns.THING_GROUP,))[1]
        for i, target in enumerate(targets)
    ]
    job = context.registry.jobs.associate(job_id, groups, context.clock(), comment=comment)
    return _named(context, job)


_ROLLING = (JobStatus.SCHEDULED, JobStatus.IN_PROGRESS)


def _given(*values: Mapping[str, Any] | None) -> dict[str, Any]:
    return {name: value for name, value in zip(_CONFIGS, values, strict=True) if value is not None}


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _check_namespace(job_id: str, namespace_id: str | None) -> None:
    if namespace_id is not None:
        raise ResourceNotFoundException(f"jobId: there is no job {job_id} in namespace {namespace_id[:64]}")


def _exists(context: Context, job_id: str) -> ResourceAlreadyExistsException:
    return ResourceAlreadyExistsException(
        f"jobId: job {job_id} exists already",
        resourceId=job_id,
        resourceArn=arns.arn(context, arns.JOB, job_id),
    )


def _target_arn(context: Context, target: Target) -> str:
    if target.thing is not None:
        return arns.arn(context, arns.THING, target.thing)
    return arns.arn(context, arns.THING_GROUP, target.group or "")


def _named(context: Context, job: Job) -> dict[str, object]:
    return {
        "jobArn": arns.arn(context, arns.JOB, job.job_id),
        "jobId": job.job_id,
        "description": job.description,
    }


def _summary(context: Context, job: Job) -> dict[str, object]:
    return {
        "jobArn": arns.arn(context, arns.JOB, job.job_id),
        "jobId": job.job_id,
        "targetSelection": CONTINUOUS if job.continuous else SNAPSHOT,
        "status": str(job.status),
        "createdAt": job.created_at,
        "lastUpdatedAt": job.updated_at,
        "completedAt": job.completed_at,
        "isConcurrent": job.concurrent,
    }
