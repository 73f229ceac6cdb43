"""Thing groups (CreateThingGroup … ListThingGroups), and which things are in them."""

from collections.abc import Iterable
from typing import NotRequired, TypedDict

from broker_bridge.api import paging
from broker_bridge.api.context import Context
from broker_bridge.api.iot import arns
from broker_bridge.api.iot.errors import InvalidRequestException, ResourceAlreadyExistsException
from broker_bridge.api.iot.tags import Tag, tag_values
from broker_bridge.api.iot.things import AttributePayload, attributes_to_create
from broker_bridge.registry.errors import ThingGroupExists, ThingGroupNotFound, TooManyTags


class ThingGroupProperties(TypedDict):
    """The model's `ThingGroupProperties`."""

    thingGroupDescription: NotRequired[str]
    attributePayload: NotRequired[AttributePayload]


def create_thing_group(
    context: Context,
    *,
    thing_group_name: str,
    parent_group_name: str | None = None,
    thing_group_properties: ThingGroupProperties | None = None,
    tags: list[Tag] | None = None,
) -> dict[str, object]:
    """A group at version 1; done already where there is the same.

    ResourceAlreadyExistsException for another of that name; InvalidRequestException for a parent that is not
    there (the operation has no other error for it), a hierarchy over 7 deep, over 100 groups below one, over
    50 attributes or tags.
    """
    properties = thing_group_properties or {}
    try:
        group = context.registry.thing_groups.create(
            thing_group_name,
            parent=parent_group_name,
            description=properties.get("thingGroupDescription"),
            attributes=attributes_to_create(properties.get("attributePayload")),
            tags=tag_values(tags or []),
            now=context.clock(),
        )
    except ThingGroupNotFound as error:
        raise InvalidRequestException(f"parentGroupName: {error}") from None
    except TooManyTags as error:
        raise InvalidRequestException(f"tags: {error}") from None
    except ThingGroupExists as error:
        raise ResourceAlreadyExistsException(
            f"thingGroupName: thing group {thing_group_name} exists already, with other properties",
            resourceId=error.group_id,
            resourceArn=arns.arn(context, arns.THING_GROUP, thing_group_name),
        ) from None
    return {
        "thingGroupName": group.name,
        "thingGroupArn": arns.arn(context, arns.THING_GROUP, group.name),
        "thingGroupId": group.group_id,
    }


def describe_thing_group(context: Context, *, thing_group_name: str) -> dict[str, object]:
    """The group as it stands. ResourceNotFoundException."""
    group = context.registry.thing_groups.get(thing_group_name)
    metadata: dict[str, object] = {"creationDate": group.created_at}
    if group.ancestors:
        metadata["parentGroupName"] = group.ancestors[-1]
        metadata["rootToParentThingGroups"] = _entries(context, group.ancestors)
    properties: dict[str, object] = {"thingGroupDescription": group.description}
    if group.attributes:
        properties["attributePayload"] = {"attributes": group.attributes}
    return {
        "thingGroupName": group.name,
        "thingGroupId": group.group_id,
        "thingGroupArn": arns.arn(context, arns.THING_GROUP, group.name),
        "version": group.version,
        "thingGroupProperties": properties,
        "thingGroupMetadata": metadata,
    }


def update_thing_group(
    context: Context,
    *,
    thing_group_name: str,
    thing_group_properties: ThingGroupProperties,
    expected_version: int | None = None,
) -> dict[str, object]:
    """The group at its next version: what is given is replaced, attributes are merged where `merge` says so.

    ResourceNotFoundException, VersionConflictException, InvalidRequestException (50 attributes).
    """
    payload = thing_group_properties.get("attributePayload", {})
    group = context.registry.thing_groups.update(
        thing_group_name,
        description=thing_group_properties.get("thingGroupDescription"),
        attributes=payload.get("attributes"),
        merge=payload.get("merge", False),
        expected_version=expected_version,
    )
    return {"version": group.version}


def delete_thing_group(
    context: Context, *, thing_group_name: str, expected_version: int | None = None
) -> dict[str, object]:
    """Removes the group, not its things; done already where there is none.

    VersionConflictException, InvalidRequestException while there are groups below it.
    """
    context.registry.thing_groups.delete(thing_group_name, expected_version=expected_version)
    return {}


def list_thing_groups(
    context: Context,
    *,
    next_token: str | None = None,
    max_results: int = paging.PAGE,
    parent_group: str | None = None,
    name_prefix_filter: str = "",
    recursive: bool | None = None,
) -> dict[str, object]:
    """A page of groups: those directly below `parentGroup`, with `recursive` all below it.

    Without a parent, all groups, or with `recursive` false those that are below none.
    ResourceNotFoundException for the parent, InvalidRequestException for a foreign token.
    """
    deep = parent_group is None if recursive is None else recursive
    names, more = paging.turn(
        context.token_key,
        ("ListThingGroups", parent_group or "", name_prefix_filter, str(deep)),
        next_token,
        lambda after: context.registry.thing_groups.list(
            parent=parent_group, recursive=deep, prefix=name_prefix_filter, after=after, limit=max_results
        ),
    )
    return {"thingGroups": _entries(context, names), **more}


def add_thing_to_thing_group(
    context: Context,
    *,
    thing_group_name: str | None = None,
    thing_group_arn: str | None = None,
    thing_name: str | None = None,
    thing_arn: str | None = None,
    override_dynamic_groups: bool = False,  # noqa: ARG001 - there are none
) -> dict[str, object]:
    """Puts the thing into the group; done already where it is in it. There are no dynamic groups to override.

    ResourceNotFoundException; InvalidRequestException for a thing in another group of the same hierarchy, or
    in ten groups.
    """
    group = _named(context, "thingGroup", arns.THING_GROUP, thing_group_name, thing_group_arn)
    thing = _named(context, "thing", arns.THING, thing_name, thing_arn)
    context.registry.thing_groups.change(thing, join=[group])
    return {}


def remove_thing_from_thing_group(
    context: Context,
    *,
    thing_group_name: str | None = None,
    thing_group_arn: str | None = None,
    thing_name: str | None = None,
    thing_arn: str | None = None,
) -> dict[str, object]:
    """Takes the thing out of the group; done already where it is not in it. ResourceNotFoundException."""
    group = _named(context, "thingGroup", arns.THING_GROUP, thing_group_name, thing_group_arn)
    thing = _named(context, "thing", arns.THING, thing_name, thing_arn)
    context.registry.thing_groups.change(thing, leave=[group])
    return {}


def update_thing_groups_for_thing(
    context: Context,
    *,
    thing_name: str | None = None,
    thing_groups_to_add: list[str] | None = None,
    thing_groups_to_remove: list[str] | None = None,
    override_dynamic_groups: bool = False,  # noqa: ARG001 - there are none
) -> dict[str, object]:
    """Takes the thing out of groups and puts it into others, all of it or nothing.

    Errors as AddThingToThingGroup.
    """
    thing = _named(context, "thing", arns.THING, thing_name, None)
    context.registry.thing_groups.change(
        thing, join=thing_groups_to_add or [], leave=thing_groups_to_remove or []
    )
    return {}


def list_things_in_thing_group(
    context: Context,
    *,
    thing_group_name: str,
    recursive: bool = False,
    next_token: str | None = None,
    max_results: int = paging.PAGE,
) -> dict[str, object]:
    """A page of the group's things, with `recursive` of those in all groups below it too.

    ResourceNotFoundException, InvalidRequestException for a foreign token.
    """
    things, more = paging.turn(
        context.token_key,
        ("ListThingsInThingGroup", thing_group_name, str(recursive)),
        next_token,
        lambda after: context.registry.thing_groups.members(
            thing_group_name, recursive=recursive, after=after, limit=max_results
        ),
    )
    return {"things": things, **more}


def list_thing_groups_for_thing(
    context: Context,
    *,
    thing_name: str,
    next_token: str | None = None,
    max_results: int = paging.PAGE,
) -> dict[str, object]:
    """A page of the groups that the thing is in. ResourceNotFoundException, InvalidRequestException."""
    names, more = paging.turn(
        context.token_key,
        ("ListThingGroupsForThing", thing_name),
        next_token,
        lambda after: context.registry.thing_groups.of_thing(thing_name, after=after, limit=max_results),
    )
    return {"thingGroups": _entries(context, names), **more}


def _entries(context: Context, names: Iterable[str]) -> list[dict[str, str]]:
    return [{"groupName": name, "groupArn": arns.arn(context, arns.THING_GROUP, name)} for name in names]


def _named(context: Context, member: str, kind: str, name: str | None, given_arn: str | None) -> str:
    """The name that a request gives itself, in an ARN, or both; InvalidRequestException where it does not."""
    if given_arn is None:
        if name is None:
            raise InvalidRequestException(f"{member}Name: required, and missing")
        return name
    _, found = arns.resource(context, given_arn, f"{member}Arn", [kind])
    if name not in (None, found):
        raise InvalidRequestException(f"{member}Arn: it names {found}, and {member}Name another")
    return found
