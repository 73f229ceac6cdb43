"""TagResource, UntagResource, ListTagsForResource. Streams alone have tags so far."""

from typing import NotRequired, TypedDict

from broker_bridge.api.context import Context
from broker_bridge.api.iot import arns
from broker_bridge.api.iot.errors import InvalidRequestException
from broker_bridge.pace import check_tag


class Tag(TypedDict):
    """The model's `Tag`."""

    Key: str
    Value: NotRequired[str]


def tag_resource(context: Context, *, resource_arn: str, tags: list[Tag]) -> dict[str, object]:
    """Adds tags; one whose key is there already gets the new value.

    ResourceNotFoundException, LimitExceededException (over 50), InvalidRequestException.
    """
    context.registry.tag(arns.stream_id(context, resource_arn), tag_values(tags))
    return {}


def untag_resource(context: Context, *, resource_arn: str, tag_keys: list[str]) -> dict[str, object]:
    """Removes the tags of those keys; keys that are not there do no harm. ResourceNotFoundException."""
    context.registry.untag(arns.stream_id(context, resource_arn), tag_keys)
    return {}


def list_tags_for_resource(
    context: Context, *, resource_arn: str, next_token: str | None = None
) -> dict[str, object]:
    """All tags, by key: they fit one page, so that no token was ever given out. ResourceNotFoundException."""
    stream_id = arns.stream_id(context, resource_arn)
    if next_token is not None:
        raise InvalidRequestException("nextToken: not one that ListTagsForResource gave out")
    tags = context.registry.tags(stream_id)
    return {"tags": [{"Key": key, "Value": tags[key]} for key in sorted(tags)]}


def tag_values(tags: list[Tag]) -> dict[str, str]:
    """Values by key; a tag without a value has an empty one.

    Raises InvalidRequestException for a key given twice, for AWS's own keys, which begin with `aws:`, and for
    a tag of our own (`sluice:…`) that cannot be kept to.
    """
    values: dict[str, str] = {}
    for i, tag in enumerate(tags):
        key = tag["Key"]
        if key.lower().startswith("aws:"):
            raise InvalidRequestException(f"tags[{i}].Key: {key!r} begins with 'aws:', which is reserved")
        if key in values:
            raise InvalidRequestException(f"tags[{i}].Key: {key!r} is given twice")
        values[key] = tag.get("Value", "")
        try:
            check_tag(key, values[key])
        except ValueError as error:
            raise InvalidRequestException(f"tags[{i}]: {error}") from None
    return values
