"""TagResource, UntagResource, ListTagsForResource, for whatever has tags."""

from collections.abc import Callable, Iterable, Mapping
from typing import NotRequired, Protocol, TypedDict

from broker_bridge import pace
from broker_bridge.api.context import Context
from broker_bridge.api.iot import arns
from broker_bridge.api.iot.errors import InvalidRequestException
from broker_bridge.jobs import stages
from broker_bridge.registry.registry import Registry


class Taggable(Protocol):
    """One kind of resource with tags, in the registry."""

    def tag(self, name: str, tags: Mapping[str, str], /) -> None:
        """Adds the tags, or replaces their values."""

    def untag(self, name: str, keys: Iterable[str], /) -> None:
        """Removes the tags of those keys."""

    def tags(self, name: str, /) -> Mapping[str, str]:
        """The tags, by key."""


_TAGGABLE: Mapping[str, Callable[[Registry], Taggable]] = {
    arns.STREAM: lambda registry: registry,
    arns.THING_GROUP: lambda registry: registry.thing_groups.tagging,
    arns.THING_TYPE: lambda registry: registry.thing_types.tagging,
    arns.JOB: lambda registry: registry.jobs.tagging,
    arns.OTA_UPDATE: lambda registry: registry.ota.tagging,
}
"""What has tags, by the resource type of its ARN."""


class Tag(TypedDict):
    """The model's `Tag`."""

    Key: str
    Value: NotRequired[str]


def tag_resource(context: Context, *, resource_arn: str, tags: list[Tag]) -> dict[str, object]:
    """Adds tags; one whose key is there already gets the new value.

    ResourceNotFoundException, LimitExceededException (over 50), InvalidRequestException.
    """
    taggable, name = _resource(context, resource_arn)
    taggable.tag(name, tag_values(tags))
    return {}


def untag_resource(context: Context, *, resource_arn: str, tag_keys: list[str]) -> dict[str, object]:
    """Removes the tags of those keys; keys that are not there do no harm. ResourceNotFoundException."""
    taggable, name = _resource(context, resource_arn)
    taggable.untag(name, tag_keys)
    return {}


def list_tags_for_resource(
    context: Context, *, resource_arn: str, next_token: str | None = None
) -> dict[str, object]:
    """All tags, by key: they fit one page, so that no token was ever given out. ResourceNotFoundException."""
    taggable, name = _resource(context, resource_arn)
    if next_token is not None:
        raise InvalidRequestException("nextToken: not one that ListTagsForResource gave out")
    tags = taggable.tags(name)
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
            _check_own(key, values[key])
        except ValueError as error:
            raise InvalidRequestException(f"tags[{i}]: {error}") from None
    return values


def _check_own(key: str, value: str) -> None:
    """ValueError for a tag of ours that says nothing, or nothing that can be kept to.

    All keys that begin with `sluice:` are ours: a misspelt one is refused, or a fleet would be overrun that
    somebody meant to spare.
    """
    if pace.check_tag(key, value) or stages.check_tag(key, value):
        return
    if key.startswith("sluice:"):
        ours = (pace.RATE_TAG, pace.GAP_TAG, stages.STAGES_TAG, stages.PAUSED_TAG)
        raise ValueError(f"{key!r} is none of Sluice's tags, which are {', '.join(map(repr, ours))}")


def _resource(context: Context, resource_arn: str) -> tuple[Taggable, str]:
    kind, name = arns.resource(context, resource_arn, "resourceArn", _TAGGABLE)
    return _TAGGABLE[kind](context.registry), name
