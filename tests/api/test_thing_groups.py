"""Thing groups and their members through a real boto3 client."""

import uuid
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from tests.api.conforming import Step, check_calls, check_complete
from tests.api.operations import IOT
from tests.api.running import Running, arn, refused


def unique() -> str:
    return f"g-{uuid.uuid4()}"


def group_arn(name: str) -> str:
    return arn(name, "thinggroup")


def entries(*names: str) -> list[dict[str, str]]:
    return [{"groupName": name, "groupArn": group_arn(name)} for name in names]


@pytest.fixture
def group(iot: Any) -> str:
    """A group at the top."""
    made = unique()
    iot.create_thing_group(thingGroupName=made)
    return made


@pytest.fixture
def thing(iot: Any) -> str:
    """A thing that is in no group."""
    made = f"t-{uuid.uuid4()}"
    iot.create_thing(thingName=made)
    return made


def groups_of(iot: Any, thing: str) -> list[str]:
    return [one["groupName"] for one in iot.list_thing_groups_for_thing(thingName=thing)["thingGroups"]]


def test_a_group_is_made_shown_and_deleted(iot: Any, group: str) -> None:
    name, deepest = unique(), unique()
    properties = {"thingGroupDescription": "masts", "attributePayload": {"attributes": {"a": "1"}}}
    given = {"thingGroupName": name, "parentGroupName": group, "thingGroupProperties": properties}
    made = iot.create_thing_group(**given, tags=[{"Key": "k", "Value": "v"}])
    assert (made["thingGroupName"], made["thingGroupArn"]) == (name, group_arn(name))
    assert iot.create_thing_group(**given)["thingGroupId"] == made["thingGroupId"]
    iot.create_thing_group(thingGroupName=deepest, parentGroupName=name)
    shown = iot.describe_thing_group(thingGroupName=name)
    assert (shown["thingGroupId"], shown["version"]) == (made["thingGroupId"], 1)
    assert shown["thingGroupProperties"] == properties
    created = shown["thingGroupMetadata"].pop("creationDate")
    assert created.tzinfo is not None
    assert shown["thingGroupMetadata"] == {
        "parentGroupName": group,
        "rootToParentThingGroups": entries(group),
    }
    metadata = iot.describe_thing_group(thingGroupName=deepest)["thingGroupMetadata"]
    assert metadata["rootToParentThingGroups"] == entries(group, name)
    top = iot.describe_thing_group(thingGroupName=group)
    assert set(top["thingGroupMetadata"]) == {"creationDate"}
    for parent in (group, name):
        code, message, status = refused(partial(iot.delete_thing_group, thingGroupName=parent))
        assert (code, status) == ("InvalidRequestException", 400)
        assert "child groups" in message
    for one in (deepest, name, group, group):
        iot.delete_thing_group(thingGroupName=one)
    assert refused(lambda: iot.describe_thing_group(thingGroupName=name)) == (
        "ResourceNotFoundException",
        f"there is no thing group {name}",
        404,
    )


def test_another_group_of_the_same_name_is_refused(iot: Any, group: str) -> None:
    others: list[dict[str, Any]] = [
        {"thingGroupProperties": {"thingGroupDescription": "d"}},
        {"thingGroupProperties": {"attributePayload": {"attributes": {"a": "1"}}}},
        {"parentGroupName": group},
    ]
    for other in others:
        with pytest.raises(iot.exceptions.ResourceAlreadyExistsException) as caught:
            iot.create_thing_group(thingGroupName=group, **other)
        response: Any = caught.value.response
        assert response["resourceArn"] == group_arn(group)
        assert response["resourceId"] == iot.describe_thing_group(thingGroupName=group)["thingGroupId"]


def test_groups_that_cannot_be_made(iot: Any) -> None:
    bad: list[tuple[dict[str, Any], str]] = [
        ({"parentGroupName": "nothing"}, "parentGroupName: there is no thing group nothing"),
        ({"thingGroupProperties": {"attributePayload": {"merge": True}}}, "attributePayload.merge: "),
        (
            {"thingGroupProperties": {"attributePayload": {"attributes": {f"{i}": "1" for i in range(51)}}}},
            "thing group bad would have 51 attributes; at most 50",
        ),
        ({"tags": [{"Key": "aws:x", "Value": "1"}]}, "tags[0].Key"),
    ]
    for given, said in bad:
        code, message, _ = refused(partial(iot.create_thing_group, thingGroupName="bad", **given))
        assert code == "InvalidRequestException"
        assert message.startswith(said)
    assert refused(lambda: iot.describe_thing_group(thingGroupName="bad"))[0] == "ResourceNotFoundException"


def test_an_update_replaces_or_merges_and_counts(iot: Any, group: str) -> None:
    def update(**given: Any) -> int:
        version: int = iot.update_thing_group(thingGroupName=group, **given)["version"]
        return version

    def attributes(payload: Any) -> Any:
        return {"thingGroupProperties": {"attributePayload": payload}}

    def shown() -> Any:
        return iot.describe_thing_group(thingGroupName=group)["thingGroupProperties"]

    assert update(thingGroupProperties={"thingGroupDescription": "d"}) == 2
    assert update(**attributes({"attributes": {"a": "1", "b": "2"}}), expectedVersion=2) == 3
    assert update(**attributes({"attributes": {"a": "", "c": "3"}, "merge": True})) == 4
    assert shown() == {
        "thingGroupDescription": "d",
        "attributePayload": {"attributes": {"b": "2", "c": "3"}},
    }
    assert update(**attributes({"attributes": {}})) == 5
    assert shown() == {"thingGroupDescription": "d"}
    calls: list[Callable[[], Any]] = [
        lambda: update(thingGroupProperties={}, expectedVersion=4),
        lambda: iot.delete_thing_group(thingGroupName=group, expectedVersion=4),
    ]
    for call in calls:
        assert refused(call) == (
            "VersionConflictException",
            f"expectedVersion: thing group {group} is at version 5, not at 4",
            409,
        )
    iot.delete_thing_group(thingGroupName=group, expectedVersion=5)


def test_a_thing_is_added_and_removed_by_name_or_arn(iot: Any, group: str, thing: str) -> None:
    groups = ({"thingGroupName": group}, {"thingGroupArn": group_arn(group)})
    things = ({"thingName": thing}, {"thingArn": arn(thing, "thing")})
    for named in ({**one, **other} for one in (*groups, groups[0] | groups[1]) for other in things):
        iot.add_thing_to_thing_group(**named)
        iot.add_thing_to_thing_group(**named, overrideDynamicGroups=True)
        assert groups_of(iot, thing) == [group]
        assert iot.list_things_in_thing_group(thingGroupName=group)["things"] == [thing]
        iot.remove_thing_from_thing_group(**named)
        iot.remove_thing_from_thing_group(**named)
        assert groups_of(iot, thing) == []
        assert iot.list_things_in_thing_group(thingGroupName=group)["things"] == []


def test_members_that_cannot_be(iot: Any, group: str, thing: str) -> None:
    bad: list[tuple[dict[str, str], str]] = [
        ({"thingName": thing}, "thingGroupName: required"),
        ({"thingGroupName": group}, "thingName: required"),
        ({"thingName": thing, "thingGroupArn": "x"}, "thingGroupArn: it is not an ARN"),
        ({"thingName": thing, "thingGroupArn": arn(thing, "thing")}, "thingGroupArn: its resource type"),
        ({"thingArn": group_arn(group), "thingGroupName": group}, "thingArn: its resource type"),
        ({"thingArn": arn("a/b", "thing"), "thingGroupName": group}, "thingArn: it holds no name of a thing"),
        (
            {"thingName": "other", "thingArn": arn(thing, "thing"), "thingGroupName": group},
            f"thingArn: it names {thing}, and thingName another",
        ),
    ]
    for given, said in bad:
        for call in (iot.add_thing_to_thing_group, iot.remove_thing_from_thing_group):
            code, message, status = refused(partial(call, **given))
            assert (code, status) == ("InvalidRequestException", 400)
            assert message.startswith(said)
    for given in (
        {"thingName": "none", "thingGroupName": group},
        {"thingName": thing, "thingGroupName": "none"},
    ):
        for call in (iot.add_thing_to_thing_group, iot.remove_thing_from_thing_group):
            assert refused(partial(call, **given))[0] == "ResourceNotFoundException"


def test_groups_of_a_thing_are_changed_all_or_none(iot: Any, group: str, thing: str) -> None:
    first, second, other = unique(), unique(), unique()
    for name in (first, second):
        iot.create_thing_group(thingGroupName=name, parentGroupName=group)
    iot.create_thing_group(thingGroupName=other)
    change = partial(iot.update_thing_groups_for_thing, thingName=thing)
    change(thingGroupsToAdd=[first, other])
    assert sorted(groups_of(iot, thing)) == sorted([first, other])
    # Two of one hierarchy, and one that is not there: nothing is changed by either.
    both = refused(lambda: change(thingGroupsToAdd=[second], thingGroupsToRemove=[other]))
    assert both[0] == "InvalidRequestException"
    assert "of one hierarchy" in both[1]
    assert refused(lambda: change(thingGroupsToRemove=[first, "none"]))[0] == "ResourceNotFoundException"
    assert sorted(groups_of(iot, thing)) == sorted([first, other])
    change(thingGroupsToAdd=[second], thingGroupsToRemove=[first])
    assert sorted(groups_of(iot, thing)) == sorted([second, other])
    change()
    assert refused(iot.update_thing_groups_for_thing)[0] == "InvalidRequestException"
    # The groups go, the thing stays; the thing goes, and the groups stay.
    iot.delete_thing_group(thingGroupName=second)
    assert groups_of(iot, thing) == [other]
    iot.delete_thing(thingName=thing)
    assert iot.list_things_in_thing_group(thingGroupName=other)["things"] == []
    assert refused(lambda: groups_of(iot, thing))[0] == "ResourceNotFoundException"


class TestListing:
    """A forest: l-a (l-a-1 (l-a-1-x, l-a-1-y), l-a-2), l-b; two things in each."""

    NAMES = ("l-a", "l-a-1", "l-a-1-x", "l-a-1-y", "l-a-2", "l-b")

    @pytest.fixture(scope="class")
    @classmethod
    def forest(cls, iot: Any) -> Any:
        for name in cls.NAMES:
            parent = name.rpartition("-")[0]
            above = {"parentGroupName": parent} if parent in cls.NAMES else {}
            iot.create_thing_group(thingGroupName=name, **above)
            for number in range(2):
                iot.create_thing(thingName=f"in:{name}:{number}")
                iot.add_thing_to_thing_group(thingName=f"in:{name}:{number}", thingGroupName=name)
        return iot

    @pytest.mark.parametrize("size", [1, 2, 100])
    @pytest.mark.parametrize(
        ("filters", "names"),
        [
            ({"namePrefixFilter": "l-"}, NAMES),
            ({"namePrefixFilter": "l-", "recursive": False}, ["l-a", "l-b"]),
            ({"namePrefixFilter": "l-a-1"}, ["l-a-1", "l-a-1-x", "l-a-1-y"]),
            ({"parentGroup": "l-a"}, ["l-a-1", "l-a-2"]),
            ({"parentGroup": "l-a", "recursive": True}, ["l-a-1", "l-a-1-x", "l-a-1-y", "l-a-2"]),
            ({"parentGroup": "l-a", "recursive": True, "namePrefixFilter": "l-a-1-"}, ["l-a-1-x", "l-a-1-y"]),
            ({"parentGroup": "l-b"}, []),
        ],
    )
    def test_groups(self, forest: Any, size: int, filters: dict[str, Any], names: Any) -> None:
        pages = list(
            forest.get_paginator("list_thing_groups").paginate(**filters, PaginationConfig={"PageSize": size})
        )
        found = [one for page in pages for one in page["thingGroups"]]
        assert found == entries(*names)
        assert all(len(page["thingGroups"]) == size for page in pages[:-1])

    @pytest.mark.parametrize("size", [1, 3, 100])
    @pytest.mark.parametrize(
        ("group", "recursive", "holders"),
        [
            ("l-a", False, ["l-a"]),
            ("l-a", True, ["l-a", "l-a-1", "l-a-1-x", "l-a-1-y", "l-a-2"]),
            ("l-a-1", True, ["l-a-1", "l-a-1-x", "l-a-1-y"]),
            ("l-b", True, ["l-b"]),
        ],
    )
    def test_members(self, forest: Any, size: int, group: str, recursive: bool, holders: list[str]) -> None:
        pages = forest.get_paginator("list_things_in_thing_group").paginate(
            thingGroupName=group, recursive=recursive, PaginationConfig={"PageSize": size}
        )
        found = [name for page in pages for name in page["things"]]
        assert found == [f"in:{holder}:{number}" for holder in holders for number in range(2)]

    def test_groups_of_a_thing_come_in_pages_too(self, forest: Any) -> None:
        forest.update_thing_groups_for_thing(thingName="in:l-b:0", thingGroupsToAdd=["l-a-2"])
        pages = forest.get_paginator("list_thing_groups_for_thing").paginate(
            thingName="in:l-b:0", PaginationConfig={"PageSize": 1}
        )
        assert [page["thingGroups"] for page in pages] == [entries("l-a-2"), entries("l-b")]
        forest.remove_thing_from_thing_group(thingName="in:l-b:0", thingGroupName="l-a-2")

    def test_tokens_are_good_for_their_list_alone(self, forest: Any) -> None:
        token = forest.list_things_in_thing_group(thingGroupName="l-a", recursive=True, maxResults=1)[
            "nextToken"
        ]
        for call in (
            partial(forest.list_things_in_thing_group, thingGroupName="l-a"),
            partial(forest.list_things_in_thing_group, thingGroupName="l-b", recursive=True),
            partial(forest.list_thing_groups, parentGroup="l-a", recursive=True),
            partial(forest.list_thing_groups_for_thing, thingName="in:l-a:0"),
        ):
            code, message, _ = refused(partial(call, nextToken=token))
            assert (code, message.split(":")[0]) == ("InvalidRequestException", "nextToken")

    def test_lists_of_what_is_not_there(self, iot: Any) -> None:
        calls: list[Callable[[], Any]] = [
            lambda: iot.list_thing_groups(parentGroup="none"),
            lambda: iot.list_thing_groups(parentGroup="none", recursive=True),
            lambda: iot.list_things_in_thing_group(thingGroupName="none"),
            lambda: iot.list_thing_groups_for_thing(thingName="none"),
        ]
        for call in calls:
            assert refused(call)[0] == "ResourceNotFoundException"


def test_groups_have_tags(iot: Any, group: str) -> None:
    resource = group_arn(group)
    iot.tag_resource(resourceArn=resource, tags=[{"Key": "a", "Value": "1"}, {"Key": "b", "Value": "2"}])
    iot.untag_resource(resourceArn=resource, tagKeys=["a"])
    assert iot.list_tags_for_resource(resourceArn=resource)["tags"] == [{"Key": "b", "Value": "2"}]
    code, message, status = refused(lambda: iot.list_tags_for_resource(resourceArn=group_arn("none")))
    assert (code, message, status) == ("ResourceNotFoundException", "there is no thing group none", 404)
    many = [{"Key": f"k{i}", "Value": ""} for i in range(50)]
    code, message, status = refused(lambda: iot.tag_resource(resourceArn=resource, tags=many))
    assert (code, status) == ("LimitExceededException", 410)
    assert message.startswith(f"tags: thing group {group} would have 51")


MEMBER = {"thingName": "w", "thingGroupName": "w"}
CALLS: list[Step] = [
    lambda api: api.client().create_thing(thingName="w"),
    ("CreateThingGroup", "POST", "/thing-groups/w", {"tags": [{"Key": "k"}]}, 200),
    ("CreateThingGroup", "POST", "/thing-groups/v", {"parentGroupName": "w"}, 200),
    ("CreateThingGroup", "POST", "/thing-groups/v", {}, 409),
    ("CreateThingGroup", "POST", "/thing-groups/x.y", {}, 400),
    ("CreateThingGroup", "POST", "/thing-groups/x", {"tags": [{"Key": f"{i}"} for i in range(51)]}, 400),
    ("DescribeThingGroup", "GET", "/thing-groups/v", None, 200),
    ("DescribeThingGroup", "GET", "/thing-groups/none", None, 404),
    ("UpdateThingGroup", "PATCH", "/thing-groups/w", {"thingGroupProperties": {}}, 200),
    ("UpdateThingGroup", "PATCH", "/thing-groups/w", {}, 400),
    ("UpdateThingGroup", "PATCH", "/thing-groups/none", {"thingGroupProperties": {}}, 404),
    (
        *("UpdateThingGroup", "PATCH", "/thing-groups/w"),
        *({"thingGroupProperties": {}, "expectedVersion": 1}, 409),
    ),
    ("ListThingGroups", "GET", "/thing-groups?maxResults=1", None, 200),
    ("ListThingGroups", "GET", "/thing-groups?recursive=yes", None, 400),
    ("ListThingGroups", "GET", "/thing-groups?parentGroup=none", None, 404),
    ("AddThingToThingGroup", "PUT", "/thing-groups/addThingToThingGroup", MEMBER, 200),
    ("AddThingToThingGroup", "PUT", "/thing-groups/addThingToThingGroup", {}, 400),
    ("AddThingToThingGroup", "PUT", "/thing-groups/addThingToThingGroup", {**MEMBER, "thingName": "n"}, 404),
    ("ListThingsInThingGroup", "GET", "/thing-groups/w/things?recursive=true", None, 200),
    ("ListThingsInThingGroup", "GET", "/thing-groups/none/things", None, 404),
    ("ListThingsInThingGroup", "GET", "/thing-groups/w/things?maxResults=251", None, 400),
    ("ListThingGroupsForThing", "GET", "/things/w/thing-groups", None, 200),
    ("ListThingGroupsForThing", "GET", "/things/none/thing-groups", None, 404),
    ("RemoveThingFromThingGroup", "PUT", "/thing-groups/removeThingFromThingGroup", MEMBER, 200),
    ("RemoveThingFromThingGroup", "PUT", "/thing-groups/removeThingFromThingGroup", {}, 400),
    ("UpdateThingGroupsForThing", "PUT", "/thing-groups/updateThingGroupsForThing", {"thingName": "w"}, 200),
    ("UpdateThingGroupsForThing", "PUT", "/thing-groups/updateThingGroupsForThing", {}, 400),
    ("UpdateThingGroupsForThing", "PUT", "/thing-groups/updateThingGroupsForThing", {"thingName": "n"}, 404),
    ("DeleteThingGroup", "DELETE", "/thing-groups/w", None, 400),
    ("DeleteThingGroup", "DELETE", "/thing-groups/v?expectedVersion=7", None, 409),
    ("DeleteThingGroup", "DELETE", "/thing-groups/v?expectedVersion=1", None, 200),
]


def test_answers_are_what_the_model_says(api: Running) -> None:
    check_calls(api, CALLS)


def test_every_operation_and_both_outcomes_are_among_them() -> None:
    check_complete(CALLS, {name for name in IOT if "ThingGroup" in name})
