"""CreateOTAUpdate, GetOTAUpdate, ListOTAUpdates, DeleteOTAUpdate."""

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any

from broker_bridge.api import paging
from broker_bridge.api.context import Context
from broker_bridge.api.iot import arns, objects
from broker_bridge.api.iot.errors import (
    InvalidRequestException,
    LimitExceededException,
    ResourceAlreadyExistsException,
    ResourceNotFoundException,
)
from broker_bridge.api.iot.jobs import CONTINUOUS, SNAPSHOT
from broker_bridge.api.iot.tags import Tag, tag_values
from broker_bridge.jobs import config
from broker_bridge.jobs.errors import InvalidJob, JobNotFound
from broker_bridge.jobs.execution import JobStatus
from broker_bridge.ota import code_signing
from broker_bridge.ota.document import HTTP, MQTT, check_text
from broker_bridge.ota.update import (
    CREATING,
    MAX_ID,
    MAX_JOB_ID,
    PREFIX,
    OtaUpdate,
    Plan,
    UpdateFile,
    UpdateStatus,
    job_id,
    new_stream_id,
)
from broker_bridge.registry.jobs.store import MAX_TARGETS
from broker_bridge.registry.ota import OtaUpdateExists, OtaUpdateNotFound
from broker_bridge.storage.objects import ObjectRef

URL_SECONDS = 1800
"""For how long a URL in a job's document is good, where the update does not say (AWS)."""

_ENDED = (JobStatus.COMPLETED, JobStatus.CANCELED)
_RENAMED = (
    (f"{config.ABORT}.criteriaList", "awsJobAbortConfig.abortCriteriaList"),
    (config.ROLLOUT, "awsJobExecutionsRolloutConfig"),
    (config.TIMEOUT, "awsJobTimeoutConfig"),
)
"""How a job's configurations are named in an update."""


def create_ota_update(
    context: Context,
    *,
    ota_update_id: str,
    targets: list[str],
    files: list[Mapping[str, Any]],
    role_arn: str,
    description: str | None = None,
    protocols: list[str] | None = None,
    target_selection: str = SNAPSHOT,
    aws_job_executions_rollout_config: Mapping[str, Any] | None = None,
    aws_job_presigned_url_config: Mapping[str, Any] | None = None,
    aws_job_abort_config: Mapping[str, Any] | None = None,
    aws_job_timeout_config: Mapping[str, Any] | None = None,
    additional_parameters: Mapping[str, str] | None = None,
    tags: list[Tag] | None = None,
) -> dict[str, object]:
    """An update, CREATE_PENDING; its stream and its job follow, and with the job the devices hear of it.

    Its files are what their objects are now. In a bucket that keeps versions it is this version that is
    signed and delivered, whatever is stored later; else an object that is overwritten before it is signed
    fails the update, and one that is overwritten later is not delivered. Here is refused what can be seen at
    once; what shows only as objects are read is told by `errorInfo`. ResourceAlreadyExistsException, also for
    a job that has the update's id; ResourceNotFoundException for targets, streams and their files, buckets
    and objects; UnauthorizedException, LimitExceededException, InvalidRequestException,
    ServiceUnavailableException.
    """
    if len(ota_update_id) > MAX_ID:
        raise InvalidRequestException(
            f"otaUpdateId: {len(ota_update_id)} characters are over the maximum of {MAX_ID}: its job is "
            f"{PREFIX}<otaUpdateId>, and devices have room for {MAX_JOB_ID}"
        )
    values = tag_values(tags or [])
    job_config = _job_config(
        role_arn,
        protocols or [MQTT],
        aws_job_executions_rollout_config,
        aws_job_presigned_url_config,
        aws_job_abort_config,
        aws_job_timeout_config,
    )
    _check_free(context, ota_update_id)
    things, groups = _targets(context, targets)
    protocols = protocols or [MQTT]
    if len(set(protocols)) < len(protocols):
        raise InvalidRequestException(f"protocols: {protocols[0]} is given twice")
    taken, stream_id, makes_stream = _files(context, files, MQTT in protocols)
    plan = Plan(
        description=description,
        role_arn=role_arn,
        protocols=tuple(protocols),
        things=things,
        groups=groups,
        continuous=target_selection == CONTINUOUS,
        job_config=json.dumps(job_config, ensure_ascii=False, separators=(",", ":")),
        files=taken,
        stream_id=stream_id,
        makes_stream=makes_stream,
    )
    shown = {
        "description": description,
        "targets": targets,
        "protocols": protocols,
        "targetSelection": target_selection,
        "awsJobExecutionsRolloutConfig": aws_job_executions_rollout_config,
        "awsJobPresignedUrlConfig": aws_job_presigned_url_config,
        "otaUpdateFiles": _kept(files),
        "additionalParameters": additional_parameters,
    }
    try:
        update = context.registry.ota.create(
            ota_update_id, plan=plan, shown=shown, tags=values, now=context.clock()
        )
    except OtaUpdateExists:
        raise _exists(context, arns.OTA_UPDATE, ota_update_id) from None
    return {
        "otaUpdateId": ota_update_id,
        "awsIotJobId": update.job_id,
        "otaUpdateArn": arns.arn(context, arns.OTA_UPDATE, ota_update_id),
        "awsIotJobArn": arns.arn(context, arns.JOB, update.job_id),
        "otaUpdateStatus": str(update.status),
    }


def get_ota_update(context: Context, *, ota_update_id: str) -> dict[str, object]:
    """The update as it stands, with the stream of its files once it is made. ResourceNotFoundException."""
    update = context.registry.ota.get(ota_update_id)
    shown = dict(update.shown)
    shown["otaUpdateFiles"] = _shown_files(update)
    return {
        "otaUpdateInfo": {
            **shown,
            **_summary(context, update),
            "lastModifiedDate": update.updated_at,
            "otaUpdateStatus": str(update.status),
            "awsIotJobId": update.job_id,
            "awsIotJobArn": arns.arn(context, arns.JOB, update.job_id),
            "errorInfo": update.error and {"code": update.error[0], "message": update.error[1]},
        }
    }


def list_ota_updates(
    context: Context,
    *,
    max_results: int = paging.PAGE,
    next_token: str | None = None,
    ota_update_status: str | None = None,
) -> dict[str, object]:
    """A page of updates, the newest first; of one status, where one is given.

    InvalidRequestException for a token that ListOTAUpdates did not give out for that status.
    """
    found, more = paging.turn(
        context.token_key,
        ("ListOTAUpdates", ota_update_status or ""),
        next_token,
        lambda after: context.registry.ota.list(
            status=None if ota_update_status is None else UpdateStatus(ota_update_status),
            after=after,
            limit=max_results,
        ),
    )
    return {"otaUpdates": [_summary(context, update) for update in found], **more}


def delete_ota_update(
    context: Context,
    *,
    ota_update_id: str,
    delete_stream: bool = False,
    force_delete_aws_job: bool = False,
) -> dict[str, object]:
    """Deletes the update and its job, and with `deleteStream` the stream that was made for it.

    What is left of it is DELETE_IN_PROGRESS until its job's last execution is gone.
    ResourceNotFoundException; InvalidRequestException while it is being made, or its job is not COMPLETED or
    CANCELED, unless `forceDeleteAWSJob`.
    """
    update = context.registry.ota.get(ota_update_id)
    if not force_delete_aws_job:
        if update.status in CREATING:
            raise InvalidRequestException(
                f"otaUpdateId: update {ota_update_id} is {update.status}; "
                "forceDeleteAWSJob deletes it all the same"
            )
        _check_ended(context, update)
    context.registry.ota.delete(
        ota_update_id, delete_stream=delete_stream, force=force_delete_aws_job, now=context.clock()
    )
    return {}


def _check_ended(context: Context, update: OtaUpdate) -> None:
    try:
        status = context.registry.jobs.get(update.job_id).status
        ours = context.registry.jobs.document(update.job_id) == update.document
    except JobNotFound:
        return
    if ours and status not in (*_ENDED, JobStatus.DELETION_IN_PROGRESS):
        raise InvalidRequestException(
            f"otaUpdateId: job {update.job_id} is {status}, not {' or '.join(_ENDED)}; "
            "forceDeleteAWSJob deletes it all the same"
        )


def _check_free(context: Context, ota_update_id: str) -> None:
    try:
        context.registry.ota.get(ota_update_id)
    except OtaUpdateNotFound:
        pass
    else:
        raise _exists(context, arns.OTA_UPDATE, ota_update_id)
    try:
        context.registry.jobs.get(job_id(ota_update_id))
    except JobNotFound:
        return
    raise _exists(context, arns.JOB, job_id(ota_update_id))


def _exists(context: Context, kind: str, name: str) -> ResourceAlreadyExistsException:
    what = "OTA update" if kind == arns.OTA_UPDATE else "job"
    return ResourceAlreadyExistsException(
        f"otaUpdateId: {what} {name} exists already",
        resourceId=name,
        resourceArn=arns.arn(context, kind, name),
    )


def _targets(context: Context, targets: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names of things and of groups. All of them are there."""
    named = dict.fromkeys(
        arns.resource(context, target, f"targets[{i}]", (arns.THING, arns.THING_GROUP))
        for i, target in enumerate(targets)
    )
    if len(named) > MAX_TARGETS:
        raise LimitExceededException(f"targets: {len(named)} are over the maximum of {MAX_TARGETS}")
    for kind, name in named:
        if kind == arns.THING:
            context.registry.things.get(name)
        else:
            context.registry.thing_groups.get(name)
    return (
        tuple(name for kind, name in named if kind == arns.THING),
        tuple(name for kind, name in named if kind == arns.THING_GROUP),
    )


def _job_config(
    role_arn: str,
    protocols: Sequence[str],
    rollout: Mapping[str, Any] | None,
    presigned: Mapping[str, Any] | None,
    abort: Mapping[str, Any] | None,
    timeout: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """The job's configurations, by their names there."""
    given = {
        config.ROLLOUT: rollout,
        config.ABORT: abort and {"criteriaList": abort["abortCriteriaList"]},
        config.TIMEOUT: timeout,
    }
    configs = {name: value for name, value in given.items() if value}
    if HTTP in protocols:
        configs[config.PRESIGNED] = {"roleArn": role_arn, "expiresInSec": URL_SECONDS, **(presigned or {})}
    try:
        config.read(configs)
    except InvalidJob as error:
        message = str(error)
        for inside, here in _RENAMED:
            message = message.replace(inside, here)
        raise InvalidRequestException(message) from None
    return configs


def _files(
    context: Context, files: Sequence[Mapping[str, Any]], mqtt: bool
) -> tuple[tuple[UpdateFile, ...], str | None, bool]:
    """The files, by the order given; the stream that has them, if any; and whether it is yet to be made."""
    streams = {file["fileLocation"].get("stream", {}).get("streamId") for file in files}
    if len(streams) > 1:
        raise InvalidRequestException(
            "files: all of them must be in S3, or all in one stream: a job's document names one"
        )
    stream_id = streams.pop()
    taken = []
    for i, file in enumerate(files):
        where = f"files[{i}]"
        check_text(f"{where}.fileName", file.get("fileName", ""))
        signing = code_signing.read(file.get("codeSigning", {}), f"{where}.codeSigning", context.signing)
        file_id, ref, size = _located(context, file["fileLocation"], f"{where}.fileLocation", i)
        if size == 0:
            raise InvalidRequestException(
                f"{where}.fileLocation: the object is empty; devices take no such file"
            )
        taken.append(
            UpdateFile(
                file_id=file_id,
                path=file["fileName"],
                file_type=file.get("fileType"),
                object=ref,
                size=size,
                signing=signing,
            )
        )
    ids = [file.file_id for file in taken]
    for i, file_id in enumerate(ids):
        if file_id in ids[:i]:
            raise InvalidRequestException(f"files[{i}].fileLocation.stream.fileId: {file_id} is given twice")
    if stream_id is not None:
        return tuple(taken), stream_id, False
    return tuple(taken), new_stream_id() if mqtt else None, mqtt


def _located(
    context: Context, location: Mapping[str, Any], where: str, number: int
) -> tuple[int, ObjectRef, int]:
    """File id, object and size in bytes of the file at that location."""
    if ("stream" in location) is ("s3Location" in location):
        raise InvalidRequestException(f"{where}: stream or s3Location is required, and one only")
    if "s3Location" in location:
        s3 = location["s3Location"]
        bucket, key, version = s3["bucket"], s3["key"], s3.get("version")
        info = objects.head(context, f"{where}.s3Location", bucket, key, version)
        if version is None and info.version_id is not None:
            # To read a version takes a permission of its own in S3: what lacks it is told now.
            version = info.version_id
            info = objects.head(context, f"{where}.s3Location", bucket, key, version)
        limit = context.limits.file_bytes
        if limit is not None and info.size > limit:
            raise LimitExceededException(
                f"{where}: the object has {info.size} bytes, over the maximum of {limit}"
            )
        return number, ObjectRef(bucket, key, info.etag, version), info.size
    stream = location["stream"]
    for name in ("streamId", "fileId"):
        if name not in stream:
            raise InvalidRequestException(f"{where}.stream.{name}: required, and missing")
    found = context.registry.stream(stream["streamId"]).file(stream["fileId"])
    if found is None:
        raise ResourceNotFoundException(
            f"{where}.stream.fileId: stream {stream['streamId']} has no file {stream['fileId']}"
        )
    return found.file_id, found.object, found.size


def _kept(value: Any) -> Any:
    """Parameters as JSON can keep them: the one blob there is as its Base64 text."""
    if isinstance(value, Mapping):
        return {key: _kept(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_kept(inner) for inner in value]
    return base64.b64encode(value).decode() if isinstance(value, bytes) else value


def _shown_files(update: OtaUpdate) -> list[dict[str, Any]]:
    """The files as they were given; those of S3 also as files of the stream that was made for them."""
    made = update.document is not None and update.status is not UpdateStatus.CREATE_FAILED
    shown = []
    for given, file in zip(update.shown["otaUpdateFiles"], update.plan.files, strict=True):
        entry = json.loads(json.dumps(given))
        custom = entry.get("codeSigning", {}).get("customCodeSigning", {})
        if "inlineDocument" in custom.get("signature", {}):
            custom["signature"]["inlineDocument"] = base64.b64decode(custom["signature"]["inlineDocument"])
        if made and update.plan.makes_stream:
            entry["fileLocation"]["stream"] = {"streamId": update.plan.stream_id, "fileId": file.file_id}
        shown.append(entry)
    return shown


def _summary(context: Context, update: OtaUpdate) -> dict[str, object]:
    return {
        "otaUpdateId": update.ota_update_id,
        "otaUpdateArn": arns.arn(context, arns.OTA_UPDATE, update.ota_update_id),
        "creationDate": update.created_at,
    }
