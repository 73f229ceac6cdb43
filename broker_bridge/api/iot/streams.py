"""CreateStream, DescribeStream, UpdateStream, DeleteStream, ListStreams."""

from typing import NotRequired, TypedDict

from broker_bridge.api import paging
from broker_bridge.api.context import Context
from broker_bridge.api.errors import ServiceUnavailableException
from broker_bridge.api.iot import arns, objects
from broker_bridge.api.iot.errors import (
    InvalidRequestException,
    LimitExceededException,
    ResourceAlreadyExistsException,
)
from broker_bridge.api.iot.tags import Tag, tag_values
from broker_bridge.registry.errors import StreamExists, StreamNotFound, VersionConflict
from broker_bridge.registry.streams import Stream, StreamFile
from broker_bridge.storage.objects import ObjectRef

PAGE = 100
"""Streams on a page of ListStreams where `maxResults` is not given."""
MAX_VERSION = 65535
"""The greatest `StreamVersion` of the model."""
UPDATE_TRIES = 5
"""Times that UpdateStream begins again because somebody else updated the stream meanwhile."""


class S3Location(TypedDict):
    """The model's `S3Location`. Bucket and key are there: we require them (`iot.SERVICE`)."""

    bucket: str
    key: str
    version: NotRequired[str]


class FileEntry(TypedDict):
    """The model's `StreamFile`."""

    fileId: int
    s3Location: S3Location


def create_stream(
    context: Context,
    *,
    stream_id: str,
    files: list[FileEntry],
    role_arn: str,
    description: str | None = None,
    tags: list[Tag] | None = None,
) -> dict[str, object]:
    """A stream at version 1, with the sizes and ETags that its objects have now.

    The role is kept and shown, but nobody assumes it: the service reads with its own credentials.
    ResourceAlreadyExistsException; ResourceNotFoundException for a bucket or an object that is not there
    (AWS does not document this; the operation has the error, and nothing else that it names can be missing);
    UnauthorizedException for one that the service may not read; LimitExceededException (`limits.file_bytes`,
    50 tags); InvalidRequestException; ServiceUnavailableException.
    """
    values = tag_values(tags or [])
    _check_ids(files)
    try:
        # Before the objects are looked at: whether a stream is there must not depend on them.
        context.registry.stream(stream_id)
    except StreamNotFound:
        pass
    else:
        raise _exists(context, stream_id)
    try:
        stream = context.registry.create_stream(
            stream_id,
            description=description,
            role_arn=role_arn,
            files=_take_in(context, files),
            tags=values,
            now=context.clock(),
        )
    except StreamExists:
        raise _exists(context, stream_id) from None
    return _summary(context, stream)


def describe_stream(context: Context, *, stream_id: str) -> dict[str, object]:
    """The stream as it stands. ResourceNotFoundException."""
    stream = context.registry.stream(stream_id)
    return {
        "streamInfo": {
            **_summary(context, stream),
            "files": [_entry(file) for file in stream.files],
            "createdAt": stream.created_at,
            "lastUpdatedAt": stream.updated_at,
            "roleArn": stream.role_arn,
        }
    }


def update_stream(
    context: Context,
    *,
    stream_id: str,
    description: str | None = None,
    files: list[FileEntry] | None = None,
    role_arn: str | None = None,
) -> dict[str, object]:
    """The stream at its next version: what is given is replaced, sizes and ETags are always read again.

    Objects are read before the change, so another update may come between: then all of it is done again, that
    no version is made of what was true before the one that it follows. Errors as CreateStream;
    ResourceNotFoundException for the stream too; ServiceUnavailableException after UPDATE_TRIES.
    """
    if files is not None:
        _check_ids(files)
    for _ in range(UPDATE_TRIES):
        found = context.registry.stream(stream_id)
        if found.version >= MAX_VERSION:
            raise LimitExceededException(
                f"streamVersion: {found.version} is the maximum; delete the stream and create it again"
            )
        wanted = files if files is not None else [_entry(file) for file in found.files]
        try:
            stream = context.registry.update_stream(
                stream_id,
                description=description,
                role_arn=role_arn,
                files=_take_in(context, wanted),
                now=context.clock(),
                expected_version=found.version,
            )
        except VersionConflict:
            continue
        return _summary(context, stream)
    raise ServiceUnavailableException(
        f"streamId: stream {stream_id} was updated by others {UPDATE_TRIES} times meanwhile; try again"
    )


def delete_stream(context: Context, *, stream_id: str) -> dict[str, object]:
    """Removes the stream and its tags, not its objects. ResourceNotFoundException."""
    context.registry.delete_stream(stream_id)
    return {}


def list_streams(
    context: Context,
    *,
    max_results: int = PAGE,
    next_token: str | None = None,
    ascending_order: bool = False,
) -> dict[str, object]:
    """A page of streams by their ids; descending where the flag is not given, since its default is false.

    Streams created or deleted meanwhile disturb no page: a page begins after the last id of the one before.
    InvalidRequestException for a token that ListStreams did not give out, or gave out in the other order.
    """
    scope = ("ListStreams", "ascending" if ascending_order else "descending")
    after = None if next_token is None else paging.position(context.token_key, scope, next_token)
    found = context.registry.streams(after=after, limit=max_results + 1, ascending=ascending_order)
    page = found[:max_results]
    result: dict[str, object] = {"streams": [_summary(context, stream) for stream in page]}
    if len(found) > max_results:
        result["nextToken"] = paging.issue(context.token_key, scope, page[-1].stream_id)
    return result


def _summary(context: Context, stream: Stream) -> dict[str, object]:
    summary: dict[str, object] = {
        "streamId": stream.stream_id,
        "streamArn": arns.arn(context, arns.STREAM, stream.stream_id),
        "streamVersion": stream.version,
    }
    if stream.description is not None:
        summary["description"] = stream.description
    return summary


def _entry(file: StreamFile) -> FileEntry:
    location: S3Location = {"bucket": file.object.bucket, "key": file.object.key}
    if file.object.version_id is not None:
        location["version"] = file.object.version_id
    return {"fileId": file.file_id, "s3Location": location}


def _exists(context: Context, stream_id: str) -> ResourceAlreadyExistsException:
    return ResourceAlreadyExistsException(
        f"streamId: stream {stream_id} exists already",
        resourceId=stream_id,
        resourceArn=arns.arn(context, arns.STREAM, stream_id),
    )


def _check_ids(files: list[FileEntry]) -> None:
    seen: set[int] = set()
    for i, file in enumerate(files):
        if file["fileId"] in seen:
            raise InvalidRequestException(f"files[{i}].fileId: {file['fileId']} is given twice")
        seen.add(file["fileId"])


def _take_in(context: Context, files: list[FileEntry]) -> tuple[StreamFile, ...]:
    """The files with their objects' sizes and ETags, by file id."""
    taken = []
    for i, file in enumerate(files):
        location = file["s3Location"]
        bucket, key, version = location["bucket"], location["key"], location.get("version")
        info = objects.head(context, f"files[{i}].s3Location", bucket, key, version)
        limit = context.limits.file_bytes
        if limit is not None and info.size > limit:
            raise LimitExceededException(
                f"files[{i}]: the object has {info.size} bytes, over the maximum of {limit}"
            )
        taken.append(StreamFile(file["fileId"], ObjectRef(bucket, key, info.etag, version), info.size))
    return tuple(sorted(taken, key=lambda file: file.file_id))
