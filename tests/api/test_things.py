"""Things and thing types through a real boto3 client."""

import uuid
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from tests.api.conforming import Call, check_calls, check_complete
from tests.api.operations import IOT
from tests.api.running import Running, arn, refused


@pytest.fixture
def name(iot: Any) -> str:
    """A thing with two attributes."""
    made = f"t:{uuid.uuid4()}"
    iot.create_thing(thingName=made, attributePayload={"attributes": {"a": "1", "b": "2"}})
    return made


@pytest.fixture
def kind(iot: Any) -> str:
    """A thing type."""
    made = f"type:{uuid.uuid4()}"
    iot.create_thing_type(thingTypeName=made)
    return made


def attributes(iot: Any, name: str) -> Any:
    return iot.describe_thing(thingName=name)["attributes"]


def test_a_thing_is_made_shown_and_deleted(iot: Any, kind: str) -> None:
    name = f"t-{uuid.uuid4()}"
    given = {"thingName": name, "thingTypeName": kind, "attributePayload": {"attributes": {"x": "y/[1]=#"}}}
    made = iot.create_thing(**given)
    assert (made["thingName"], made["thingArn"]) == (name, arn(name, "thing"))
    shown = iot.describe_thing(thingName=name)
    del shown["ResponseMetadata"]
    assert shown == {
        "thingName": name,
        "thingArn": arn(name, "thing"),
        "thingId": made["thingId"],
        "thingTypeName": kind,
        "attributes": {"x": "y/[1]=#"},
        "version": 1,
        "defaultClientId": name,
    }
    again = iot.create_thing(**given)
    assert again["thingId"] == made["thingId"]
    iot.delete_thing(thingName=name, expectedVersion=1)
    iot.delete_thing(thingName=name)
    assert refused(lambda: iot.describe_thing(thingName=name)) == (
        "ResourceNotFoundException",
        f"there is no thing {name}",
        404,
    )


def test_another_thing_of_the_same_name_is_refused(iot: Any, name: str) -> None:
    with pytest.raises(iot.exceptions.ResourceAlreadyExistsException) as caught:
        iot.create_thing(thingName=name, attributePayload={"attributes": {"a": "1"}})
    response: Any = caught.value.response
    assert response["resourceArn"] == arn(name, "thing")
    assert response["resourceId"] == iot.describe_thing(thingName=name)["thingId"]
    assert attributes(iot, name) == {"a": "1", "b": "2"}


@pytest.mark.parametrize(
    ("payload", "left"),
    [
        ({"attributes": {"c": "3"}}, {"c": "3"}),
        ({"attributes": {"c": "3"}, "merge": False}, {"c": "3"}),
        ({"attributes": {"c": "3"}, "merge": True}, {"a": "1", "b": "2", "c": "3"}),
        ({"attributes": {"a": "", "b": "4", "never": ""}, "merge": True}, {"b": "4"}),
        ({"attributes": {"a": "", "b": "4"}}, {"b": "4"}),
        ({"attributes": {}}, {}),
        ({"attributes": {}, "merge": True}, {"a": "1", "b": "2"}),
        ({"merge": True}, {"a": "1", "b": "2"}),
        ({}, {"a": "1", "b": "2"}),
        (None, {"a": "1", "b": "2"}),
    ],
)
def test_attributes_are_replaced_or_merged(iot: Any, name: str, payload: Any, left: Any) -> None:
    iot.update_thing(thingName=name, **({} if payload is None else {"attributePayload": payload}))
    shown = iot.describe_thing(thingName=name)
    assert (shown["attributes"], shown["version"]) == (left, 2)


def test_another_version_is_a_conflict(iot: Any, name: str) -> None:
    iot.update_thing(thingName=name, expectedVersion=1)
    for call in (
        partial(iot.update_thing, thingName=name, expectedVersion=1),
        partial(iot.delete_thing, thingName=name, expectedVersion=1),
    ):
        code, message, status = refused(call)
        assert (code, status) == ("VersionConflictException", 409)
        assert message == f"expectedVersion: thing {name} is at version 2, not at 1"
    iot.delete_thing(thingName=name, expectedVersion=2)
    iot.delete_thing(thingName=name, expectedVersion=7)


def test_a_type_is_set_replaced_and_removed(iot: Any, name: str, kind: str) -> None:
    assert "thingTypeName" not in iot.describe_thing(thingName=name)
    iot.update_thing(thingName=name, thingTypeName=kind)
    assert iot.describe_thing(thingName=name)["thingTypeName"] == kind
    both = refused(lambda: iot.update_thing(thingName=name, thingTypeName=kind, removeThingType=True))
    assert both[0] == "InvalidRequestException"
    iot.update_thing(thingName=name, removeThingType=True)
    assert "thingTypeName" not in iot.describe_thing(thingName=name)
    for call in (
        partial(iot.update_thing, thingName=name, thingTypeName="nothing"),
        partial(iot.create_thing, thingName="typed", thingTypeName="nothing"),
    ):
        assert refused(call) == ("ResourceNotFoundException", "there is no thing type nothing", 404)


def test_there_are_no_billing_groups(iot: Any) -> None:
    code, message, _ = refused(lambda: iot.create_thing(thingName="billed", billingGroupName="b"))
    assert (code, message) == ("ResourceNotFoundException", "billingGroupName: there is no billing group b")


@pytest.mark.parametrize(
    ("payload", "said"),
    [
        ({"attributes": {f"a{i}": "1" for i in range(51)}}, "thing bad would have 51 attributes; at most 50"),
        (
            {"attributes": {"a": "x" * 801}},
            "attributePayload.attributes['a']: length 801 is over the maximum",
        ),
        ({"attributes": {"a": "x y"}}, "attributePayload.attributes['a']: it does not match the pattern"),
        ({"attributes": {"a" * 129: "x"}}, "attributePayload.attributes's key"),
        ({"attributes": {"": "x"}}, "attributePayload.attributes's key ''"),
        ({"attributes": {"a": 1}}, "attributePayload.attributes['a']: it must be a string"),
        ({"attributes": {"a": "1"}, "merge": True}, "attributePayload.merge: it is for updates only"),
    ],
)
def test_attributes_that_cannot_be(lax: Any, payload: Any, said: str) -> None:
    code, message, status = refused(lambda: lax.create_thing(thingName="bad", attributePayload=payload))
    assert (code, status) == ("InvalidRequestException", 400)
    assert message.startswith(said)
    assert refused(lambda: lax.describe_thing(thingName="bad"))[0] == "ResourceNotFoundException"


def test_the_largest_thing_that_may_be(iot: Any) -> None:
    full = {f"{i:03}".ljust(128, "n"): "v" * 800 for i in range(50)}
    iot.create_thing(thingName="T" * 128, attributePayload={"attributes": full})
    assert attributes(iot, "T" * 128) == full
    page = iot.list_things(attributeName="049".ljust(128, "n"), maxResults=1)
    assert "nextToken" not in page
    # A token that holds as long a value as there is, and another thing behind it.
    iot.create_thing(thingName="U" * 128, attributePayload={"attributes": full})
    token = iot.list_things(attributeName="049".ljust(128, "n"), maxResults=1)["nextToken"]
    rest = iot.list_things(attributeName="049".ljust(128, "n"), maxResults=1, nextToken=token)
    assert [thing["thingName"] for thing in rest["things"]] == ["U" * 128]


class TestListing:
    """ListThings."""

    @pytest.fixture(scope="class")
    @classmethod
    def listed(cls, iot: Any) -> Any:
        iot.create_thing_type(thingTypeName="listed")
        for number in range(7):
            iot.create_thing(
                thingName=f"listed-{number}",
                thingTypeName="listed",
                attributePayload={
                    "attributes": {"place": "mast" if number % 2 else "mast/2", "n": str(number)}
                },
            )
        iot.create_thing(thingName="listed-none", attributePayload={"attributes": {"place": "mast"}})
        return iot

    @pytest.mark.parametrize("size", [1, 3, 100])
    @pytest.mark.parametrize(
        ("filters", "numbers"),
        [
            ({"thingTypeName": "listed"}, "0123456"),
            ({"attributeName": "place", "attributeValue": "mast", "thingTypeName": "listed"}, "135"),
            ({"attributeName": "place", "attributeValue": "mast"}, ["1", "3", "5", "none"]),
            (
                {"attributeName": "place", "attributeValue": "mast", "usePrefixAttributeValue": True},
                ["1", "3", "5", "none", "0", "2", "4", "6"],
            ),
            ({"attributeName": "n"}, "0123456"),
            ({"attributeName": "place", "attributeValue": "nowhere"}, ""),
            ({"thingTypeName": "of-nobody"}, ""),
        ],
    )
    def test_pages_hold_what_the_filters_let_through(
        self, listed: Any, size: int, filters: dict[str, Any], numbers: str
    ) -> None:
        pages = list(
            listed.get_paginator("list_things").paginate(**filters, PaginationConfig={"PageSize": size})
        )
        things = [thing for page in pages for thing in page["things"]]
        assert [thing["thingName"] for thing in things] == [f"listed-{number}" for number in numbers]
        assert all(len(page["things"]) == size for page in pages[:-1])

    def test_an_entry_is_the_thing(self, listed: Any) -> None:
        assert listed.list_things(attributeName="n", attributeValue="3")["things"] == [
            {
                "thingName": "listed-3",
                "thingArn": arn("listed-3", "thing"),
                "thingTypeName": "listed",
                "attributes": {"place": "mast", "n": "3"},
                "version": 1,
            }
        ]

    def test_without_filters_all_things_are_listed_by_name(self, listed: Any) -> None:
        names = [
            thing["thingName"]
            for page in listed.get_paginator("list_things").paginate(PaginationConfig={"PageSize": 4})
            for thing in page["things"]
        ]
        assert names == sorted(names)
        assert {f"listed-{number}" for number in range(7)} <= set(names)

    def test_a_token_is_good_for_its_filters_alone(self, listed: Any) -> None:
        filters: dict[str, Any] = {"attributeName": "place", "attributeValue": "mast"}
        token = listed.list_things(**filters, maxResults=1)["nextToken"]
        others: list[dict[str, Any]] = [
            {},
            {"thingTypeName": "listed"},
            {**filters, "thingTypeName": "listed"},
            {**filters, "usePrefixAttributeValue": True},
            {**filters, "attributeValue": "mas"},
        ]
        for other in others:
            code, message, _ = refused(partial(listed.list_things, **other, nextToken=token))
            assert (code, message.split(":")[0]) == ("InvalidRequestException", "nextToken")

    @pytest.mark.parametrize("alone", [{"attributeValue": "x"}, {"usePrefixAttributeValue": True}])
    def test_a_value_without_a_name_is_refused(self, iot: Any, alone: Any) -> None:
        code, message, _ = refused(lambda: iot.list_things(**alone))
        assert (code, message.split(":")[0]) == ("InvalidRequestException", "attributeName")


class TestTypes:
    """Thing types."""

    def test_a_type_is_made_shown_and_listed(self, iot: Any) -> None:
        properties = {"thingTypeDescription": "a pump", "searchableAttributes": ["b", "a"]}
        made = iot.create_thing_type(thingTypeName="shown", thingTypeProperties=properties)
        again = iot.create_thing_type(thingTypeName="shown", thingTypeProperties=properties)
        assert again["thingTypeId"] == made["thingTypeId"]
        shown = iot.describe_thing_type(thingTypeName="shown")
        assert (shown["thingTypeId"], shown["thingTypeArn"]) == (
            made["thingTypeId"],
            arn("shown", "thingtype"),
        )
        assert shown["thingTypeProperties"] == properties
        metadata = shown["thingTypeMetadata"]
        assert not metadata["deprecated"]
        assert "deprecationDate" not in metadata
        (listed,) = iot.list_thing_types(thingTypeName="shown")["thingTypes"]
        assert listed["thingTypeMetadata"] == metadata
        pages = iot.get_paginator("list_thing_types").paginate(PaginationConfig={"PageSize": 1})
        names = [one["thingTypeName"] for page in pages for one in page["thingTypes"]]
        assert names == sorted(names)
        assert "shown" in names
        with pytest.raises(iot.exceptions.ResourceAlreadyExistsException) as caught:
            iot.create_thing_type(thingTypeName="shown")
        response: Any = caught.value.response
        assert response["resourceArn"] == arn("shown", "thingtype")
        assert response["resourceId"] == made["thingTypeId"]

    def test_a_deprecated_type_takes_no_more_things(self, iot: Any, name: str, kind: str) -> None:
        iot.create_thing(thingName=f"{name}-old", thingTypeName=kind)
        iot.deprecate_thing_type(thingTypeName=kind)
        metadata = iot.describe_thing_type(thingTypeName=kind)["thingTypeMetadata"]
        assert metadata["deprecated"]
        assert metadata["deprecationDate"] >= metadata["creationDate"]
        calls: list[Callable[[], Any]] = [
            lambda: iot.update_thing(thingName=name, thingTypeName=kind),
            lambda: iot.create_thing(thingName="late", thingTypeName=kind),
            lambda: iot.delete_thing_type(thingTypeName=kind),
        ]
        for call in calls:
            assert refused(call)[0] == "InvalidRequestException"
        iot.deprecate_thing_type(thingTypeName=kind, undoDeprecate=True)
        iot.update_thing(thingName=name, thingTypeName=kind)

    def test_a_type_is_deleted_once_it_is_deprecated_and_unused(self, iot: Any, kind: str) -> None:
        code, message, _ = refused(lambda: iot.delete_thing_type(thingTypeName=kind))
        assert (code, message) == (
            "InvalidRequestException",
            f"thing type {kind} is not deprecated: deprecate it first",
        )
        iot.deprecate_thing_type(thingTypeName=kind)
        iot.delete_thing_type(thingTypeName=kind)
        assert refused(lambda: iot.delete_thing_type(thingTypeName=kind))[0] == "ResourceNotFoundException"

    def test_what_is_not_offered_is_refused(self, iot: Any) -> None:
        refusable: list[dict[str, Any]] = [
            {"searchableAttributes": ["a", "b", "c", "d"]},
            {"mqtt5Configuration": {"propagatingAttributes": []}},
        ]
        for properties in refusable:
            for call in (iot.create_thing_type, iot.update_thing_type):
                code, message, _ = refused(partial(call, thingTypeName="no", thingTypeProperties=properties))
                assert code == "InvalidRequestException"
                assert message.startswith("thingTypeProperties.")

    @pytest.mark.parametrize(
        ("given", "after"),
        [
            ({"thingTypeDescription": "new"}, {"thingTypeDescription": "new", "searchableAttributes": ["a"]}),
            ({"searchableAttributes": ["b", "c"]}, {"searchableAttributes": ["b", "c"]}),
            ({"searchableAttributes": []}, {"searchableAttributes": []}),
            ({"thingTypeDescription": ""}, {"thingTypeDescription": ""}),
            ({}, {}),
            (None, {}),
        ],
    )
    def test_an_update_replaces_what_is_given(self, iot: Any, name: str, given: Any, after: Any) -> None:
        before = {"thingTypeDescription": "old", "searchableAttributes": ["a"]}
        kind = f"{name}:kind"
        made = iot.create_thing_type(thingTypeName=kind, thingTypeProperties=before)
        iot.create_thing(thingName=f"{name}-of-it", thingTypeName=kind)
        iot.deprecate_thing_type(thingTypeName=kind)
        shown = iot.describe_thing_type(thingTypeName=kind)
        iot.update_thing_type(thingTypeName=kind, **({} if given is None else {"thingTypeProperties": given}))
        now = iot.describe_thing_type(thingTypeName=kind)
        assert now["thingTypeProperties"] == before | after
        assert now["thingTypeMetadata"] == shown["thingTypeMetadata"]
        assert now["thingTypeId"] == made["thingTypeId"]
        assert refused(lambda: iot.update_thing_type(thingTypeName="none")) == (
            "ResourceNotFoundException",
            "there is no thing type none",
            404,
        )

    def test_types_have_tags(self, iot: Any) -> None:
        iot.create_thing_type(thingTypeName="tagged", tags=[{"Key": "a", "Value": "1"}])
        resource = arn("tagged", "thingtype")
        iot.tag_resource(resourceArn=resource, tags=[{"Key": "b", "Value": "2"}])
        iot.untag_resource(resourceArn=resource, tagKeys=["a"])
        assert iot.list_tags_for_resource(resourceArn=resource)["tags"] == [{"Key": "b", "Value": "2"}]


PAYLOAD = {"attributes": {"a": "1"}}
OTHER = {"thingTypeDescription": "other"}
CALLS: list[Call] = [
    ("CreateThingType", "POST", "/thing-types/w", {"tags": [{"Key": "k"}]}, 200),
    (
        "CreateThingType",
        "POST",
        "/thing-types/w",
        {"thingTypeProperties": {"thingTypeDescription": "d"}},
        409,
    ),
    ("CreateThingType", "POST", "/thing-types/w.", {}, 400),
    ("CreateThingType", "POST", "/thing-types/x", {"tags": [{"Key": f"{i}"} for i in range(51)]}, 400),
    ("DescribeThingType", "GET", "/thing-types/w", None, 200),
    ("DescribeThingType", "GET", "/thing-types/none", None, 404),
    ("UpdateThingType", "PATCH", "/thing-types/w", {"thingTypeProperties": {}}, 200),
    ("UpdateThingType", "PATCH", "/thing-types/none", {}, 404),
    ("UpdateThingType", "PATCH", "/thing-types/w", {"thingTypeProperties": []}, 400),
    ("ListThingTypes", "GET", "/thing-types?maxResults=1", None, 200),
    ("ListThingTypes", "GET", "/thing-types?maxResults=0", None, 400),
    ("CreateThing", "POST", "/things/w", {"thingTypeName": "w", "attributePayload": PAYLOAD}, 200),
    ("CreateThing", "POST", "/things/w", {}, 409),
    ("CreateThing", "POST", "/things/x", {"thingTypeName": "none"}, 404),
    ("CreateThing", "POST", "/things/x.y", {}, 400),
    ("DescribeThing", "GET", "/things/w", None, 200),
    ("DescribeThing", "GET", "/things/none", None, 404),
    ("DescribeThing", "GET", "/things/x.y", None, 400),
    ("ListThings", "GET", "/things?maxResults=1&thingTypeName=w", None, 200),
    ("ListThings", "GET", "/things?nextToken=x", None, 400),
    ("UpdateThing", "PATCH", "/things/w", {"attributePayload": PAYLOAD, "expectedVersion": 1}, 200),
    ("UpdateThing", "PATCH", "/things/w", {"expectedVersion": 1}, 409),
    ("UpdateThing", "PATCH", "/things/none", {}, 404),
    ("UpdateThing", "PATCH", "/things/w", {"expectedVersion": "1"}, 400),
    ("DeprecateThingType", "POST", "/thing-types/w/deprecate", {}, 200),
    ("DescribeThingType", "GET", "/thing-types/w", None, 200),
    ("DeprecateThingType", "POST", "/thing-types/none/deprecate", {}, 404),
    ("DeleteThingType", "DELETE", "/thing-types/w", None, 400),
    ("DeleteThingType", "DELETE", "/thing-types/none", None, 404),
    ("DeleteThing", "DELETE", "/things/w?expectedVersion=1", None, 409),
    ("DeleteThing", "DELETE", "/things/w?expectedVersion=x", None, 400),
    ("DeleteThing", "DELETE", "/things/w?expectedVersion=2", None, 200),
    ("DeleteThingType", "DELETE", "/thing-types/w", None, 200),
]


def test_answers_are_what_the_model_says(api: Running) -> None:
    check_calls(api, CALLS)


def test_every_operation_and_both_outcomes_are_among_them() -> None:
    check_complete(CALLS, {one for one in IOT if "Thing" in one and "Group" not in one and "Job" not in one})
