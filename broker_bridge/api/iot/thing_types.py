"""CreateThingType, DescribeThingType, UpdateThingType, ListThingTypes, …: types that things are of."""

from typing import NotRequired, TypedDict

from broker_bridge.api import paging
from broker_bridge.api.context import Context
from broker_bridge.api.iot import arns
from broker_bridge.api.iot.errors import InvalidRequestException, ResourceAlreadyExistsException
from broker_bridge.api.iot.tags import Tag, tag_values
from broker_bridge.registry.errors import ThingTypeExists, TooManyTags
from broker_bridge.registry.thing_types import ThingType


class ThingTypeProperties(TypedDict):
    """The model's `ThingTypeProperties`."""

    thingTypeDescription: NotRequired[str]
    searchableAttributes: NotRequired[list[str]]
    mqtt5Configuration: NotRequired[object]


def create_thing_type(
    context: Context,
    *,
    thing_type_name: str,
    thing_type_properties: ThingTypeProperties | None = None,
    tags: list[Tag] | None = None,
) -> dict[str, object]:
    """A thing type; done already where there is the same.

    ResourceAlreadyExistsException for another of that name; InvalidRequestException for over three searchable
    attributes or 50 tags, and for `mqtt5Configuration`: the broker is not ours, and nobody would enrich its
    messages.
    """
    properties = _offered(thing_type_properties)
    try:
        made = context.registry.thing_types.create(
            thing_type_name,
            description=properties.get("thingTypeDescription"),
            searchable_attributes=tuple(properties.get("searchableAttributes", ())),
            tags=tag_values(tags or []),
            now=context.clock(),
        )
    except TooManyTags as error:
        raise InvalidRequestException(f"tags: {error}") from None
    except ThingTypeExists as error:
        raise ResourceAlreadyExistsException(
            f"thingTypeName: thing type {thing_type_name} exists already, with other properties",
            resourceId=error.type_id,
            resourceArn=arns.arn(context, arns.THING_TYPE, thing_type_name),
        ) from None
    return {
        "thingTypeName": made.name,
        "thingTypeArn": arns.arn(context, arns.THING_TYPE, made.name),
        "thingTypeId": made.type_id,
    }


def describe_thing_type(context: Context, *, thing_type_name: str) -> dict[str, object]:
    """The thing type as it stands. ResourceNotFoundException."""
    found = context.registry.thing_types.get(thing_type_name)
    return {**_entry(context, found), "thingTypeId": found.type_id}


def update_thing_type(
    context: Context, *, thing_type_name: str, thing_type_properties: ThingTypeProperties | None = None
) -> dict[str, object]:
    """Replaces each property that is given, of a deprecated type too.

    ResourceNotFoundException; InvalidRequestException for over three searchable attributes, and for
    `mqtt5Configuration` as CreateThingType.
    """
    properties = _offered(thing_type_properties)
    searchable = properties.get("searchableAttributes")
    context.registry.thing_types.update(
        thing_type_name,
        description=properties.get("thingTypeDescription"),
        searchable_attributes=None if searchable is None else tuple(searchable),
    )
    return {}


def list_thing_types(
    context: Context,
    *,
    next_token: str | None = None,
    max_results: int = paging.PAGE,
    thing_type_name: str | None = None,
) -> dict[str, object]:
    """A page of thing types by name, or the one of that name. InvalidRequestException for a foreign token."""
    types, more = paging.turn(
        context.token_key,
        ("ListThingTypes", thing_type_name or ""),
        next_token,
        lambda after: context.registry.thing_types.list(name=thing_type_name, after=after, limit=max_results),
    )
    return {"thingTypes": [_entry(context, found) for found in types], **more}


def deprecate_thing_type(
    context: Context, *, thing_type_name: str, undo_deprecate: bool = False
) -> dict[str, object]:
    """No more things may have the type, or they may again. ResourceNotFoundException."""
    context.registry.thing_types.deprecate(thing_type_name, undo=undo_deprecate, now=context.clock())
    return {}


def delete_thing_type(context: Context, *, thing_type_name: str) -> dict[str, object]:
    """Removes a deprecated type. ResourceNotFoundException; InvalidRequestException while it is in use."""
    context.registry.thing_types.delete(thing_type_name)
    return {}


def _offered(properties: ThingTypeProperties | None) -> ThingTypeProperties:
    if properties is None:
        return {}
    if "mqtt5Configuration" in properties:
        raise InvalidRequestException("thingTypeProperties.mqtt5Configuration: not offered by this service")
    return properties


def _entry(context: Context, found: ThingType) -> dict[str, object]:
    return {
        "thingTypeName": found.name,
        "thingTypeArn": arns.arn(context, arns.THING_TYPE, found.name),
        "thingTypeProperties": {
            "thingTypeDescription": found.description,
            "searchableAttributes": found.searchable_attributes,
        },
        "thingTypeMetadata": {
            "deprecated": found.deprecated_at is not None,
            "deprecationDate": found.deprecated_at,
            "creationDate": found.created_at,
        },
    }
