"""CreateThing, DescribeThing, UpdateThing, DeleteThing, ListThings."""

from typing import NotRequired, TypedDict

from broker_bridge.api import paging
from broker_bridge.api.context import Context
from broker_bridge.api.iot import arns
from broker_bridge.api.iot.errors import (
    InvalidRequestException,
    ResourceAlreadyExistsException,
    ResourceNotFoundException,
)
from broker_bridge.registry.errors import ThingExists
from broker_bridge.registry.things import AttributeFilter, Thing


class AttributePayload(TypedDict):
    """The model's `AttributePayload`."""

    attributes: NotRequired[dict[str, str]]
    merge: NotRequired[bool]


def create_thing(
    context: Context,
    *,
    thing_name: str,
    thing_type_name: str | None = None,
    attribute_payload: AttributePayload | None = None,
    billing_group_name: str | None = None,
) -> dict[str, object]:
    """A thing at version 1; done already where there is the same.

    ResourceAlreadyExistsException for another of that name; ResourceNotFoundException for a type that is not
    there, and for every billing group: there are none; InvalidRequestException for a deprecated type or over
    50 attributes (AWS allows three without a type; here a type makes no difference).
    """
    if billing_group_name is not None:
        raise ResourceNotFoundException(f"billingGroupName: there is no billing group {billing_group_name}")
    try:
        thing = context.registry.things.create(
            thing_name, type_name=thing_type_name, attributes=attributes_to_create(attribute_payload)
        )
    except ThingExists as error:
        raise ResourceAlreadyExistsException(
            f"thingName: thing {thing_name} exists already, of another type or with other attributes",
            resourceId=error.thing_id,
            resourceArn=arns.arn(context, arns.THING, thing_name),
        ) from None
    return {
        "thingName": thing.name,
        "thingArn": arns.arn(context, arns.THING, thing.name),
        "thingId": thing.thing_id,
    }


def describe_thing(context: Context, *, thing_name: str) -> dict[str, object]:
    """The thing as it stands. ResourceNotFoundException."""
    thing = context.registry.things.get(thing_name)
    return {**_entry(context, thing), "thingId": thing.thing_id, "defaultClientId": thing.name}


def update_thing(
    context: Context,
    *,
    thing_name: str,
    thing_type_name: str | None = None,
    attribute_payload: AttributePayload | None = None,
    expected_version: int | None = None,
    remove_thing_type: bool = False,
) -> dict[str, object]:
    """The thing at its next version: what is given is replaced, attributes are merged where `merge` says so.

    An attribute with an empty value is removed. ResourceNotFoundException for the thing or the type,
    VersionConflictException, InvalidRequestException as CreateThing.
    """
    if remove_thing_type and thing_type_name is not None:
        raise InvalidRequestException("removeThingType: true, and thingTypeName is given too")
    payload = attribute_payload or {}
    context.registry.things.update(
        thing_name,
        type_name=thing_type_name,
        remove_type=remove_thing_type,
        attributes=payload.get("attributes"),
        merge=payload.get("merge", False),
        expected_version=expected_version,
    )
    return {}


def delete_thing(
    context: Context, *, thing_name: str, expected_version: int | None = None
) -> dict[str, object]:
    """Removes the thing, from its groups too; done already where there is none. VersionConflictException."""
    context.registry.things.delete(thing_name, expected_version=expected_version)
    return {}


def list_things(
    context: Context,
    *,
    next_token: str | None = None,
    max_results: int = paging.PAGE,
    attribute_name: str | None = None,
    attribute_value: str | None = None,
    thing_type_name: str | None = None,
    use_prefix_attribute_value: bool = False,
) -> dict[str, object]:
    """A page of the things that all given filters let through, by name, or by an attribute's value and name.

    A name of an attribute without a value lets all things through that have it. InvalidRequestException for a
    value without a name, and for a token that ListThings did not give out for these filters.
    """
    attribute = None
    if attribute_name is not None:
        prefix = use_prefix_attribute_value or attribute_value is None
        attribute = AttributeFilter(attribute_name, attribute_value or "", prefix)
    elif attribute_value is not None or use_prefix_attribute_value:
        raise InvalidRequestException("attributeName: missing, and attributeValue is of no use without it")
    scope = ("ListThings", repr((attribute, thing_type_name)))
    things, more = paging.turn(
        context.token_key,
        scope,
        next_token,
        lambda after: context.registry.things.list(
            type_name=thing_type_name, attribute=attribute, after=after, limit=max_results
        ),
    )
    return {"things": [_entry(context, thing) for thing in things], **more}


def attributes_to_create(payload: AttributePayload | None) -> dict[str, str]:
    """The attributes of what is made. InvalidRequestException for `merge`: there are none to merge with."""
    payload = payload or {}
    if payload.get("merge", False):
        raise InvalidRequestException("attributePayload.merge: it is for updates only")
    return payload.get("attributes", {})


def _entry(context: Context, thing: Thing) -> dict[str, object]:
    return {
        "thingName": thing.name,
        "thingArn": arns.arn(context, arns.THING, thing.name),
        "thingTypeName": thing.type_name,
        "attributes": thing.attributes,
        "version": thing.version,
    }
