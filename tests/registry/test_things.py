"""Things, their types and groups, call by call."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select

from broker_bridge.registry import schema
from broker_bridge.registry.errors import (
    HierarchyTooLarge,
    MembershipNotAllowed,
    ThingExists,
    ThingGroupHasChildren,
    ThingGroupNotFound,
    ThingNotFound,
    ThingTypeDeprecated,
    ThingTypeExists,
    ThingTypeInUse,
    ThingTypeNotFound,
    TooManyAttributes,
    TooManyTags,
    VersionConflict,
)
from broker_bridge.registry.registry import Registry
from broker_bridge.registry.thing_groups import MAX_CHILDREN, MAX_DEPTH, MAX_GROUPS, members_of
from broker_bridge.registry.things import MAX_ATTRIBUTES, AttributeFilter, Thing
from tests.registry.making import NOON, every, group, thing, thing_type


class TestThings:
    """Things alone."""

    def test_a_thing_comes_back_as_it_went_in(self, registry: Registry, url: str) -> None:
        thing_type(registry, "pump")
        made = thing(registry, "t:1", "pump", site="north", empty="")
        assert made == Thing("t:1", made.thing_id, "pump", {"site": "north"}, 1)
        registry.close()
        again = Registry.open(url)
        assert again.things.get("t:1") == made
        assert again.things.count() == 1
        again.close()

    def test_to_make_the_same_again_does_nothing(self, registry: Registry) -> None:
        thing_type(registry, "pump")
        made = thing(registry, "t", "pump", a="1")
        assert thing(registry, "t", "pump", a="1", b="") == made
        registry.thing_types.deprecate("pump", undo=False, now=NOON)
        assert thing(registry, "t", "pump", a="1") == made
        for other in ({"a": "2"}, {}, {"a": "1", "b": "2"}):
            with pytest.raises(ThingExists) as caught:
                thing(registry, "t", "pump", **other)
            assert caught.value.thing_id == made.thing_id
        with pytest.raises(ThingExists):
            thing(registry, "t", None, a="1")
        assert registry.things.get("t") == made

    def test_a_deleted_thing_starts_anew(self, registry: Registry) -> None:
        first = thing(registry, "t", a="1")
        registry.things.update("t")
        group(registry, "g")
        registry.thing_groups.change("t", join=["g"])
        with pytest.raises(VersionConflict, match="thing t is at version 2, not at 1"):
            registry.things.delete("t", expected_version=1)
        registry.things.delete("t", expected_version=2)
        registry.things.delete("t", expected_version=2)
        with pytest.raises(ThingNotFound):
            registry.things.get("t")
        second = thing(registry, "t")
        assert second.thing_id != first.thing_id
        assert (second.version, second.attributes) == (1, {})
        assert registry.thing_groups.of_thing("t", limit=5).items == []
        assert registry.thing_groups.members("g", recursive=False, limit=5).items == []

    def test_attributes_have_a_number(self, registry: Registry) -> None:
        full = {f"a{i}": "x" for i in range(MAX_ATTRIBUTES)}
        with pytest.raises(TooManyAttributes, match="thing t would have 51 attributes; at most 50"):
            thing(registry, "t", **full, more="x")
        assert registry.things.count() == 0
        made = thing(registry, "t", **full)
        with pytest.raises(TooManyAttributes):
            registry.things.update("t", attributes={"more": "x"}, merge=True)
        assert registry.things.get("t") == made
        moved = registry.things.update("t", attributes={"more": "x", "a0": ""}, merge=True)
        assert len(moved.attributes) == MAX_ATTRIBUTES

    def test_types_are_there_and_not_deprecated(self, registry: Registry) -> None:
        with pytest.raises(ThingTypeNotFound, match="no thing type pump"):
            thing(registry, "t", "pump")
        thing_type(registry, "pump")
        thing(registry, "old", "pump")
        registry.thing_types.deprecate("pump", undo=False, now=NOON)
        with pytest.raises(ThingTypeDeprecated):
            thing(registry, "t", "pump")
        assert registry.things.count() == 1
        # What has the type keeps it.
        assert registry.things.update("old", type_name="pump", attributes={"a": "1"}).type_name == "pump"
        thing(registry, "t")
        with pytest.raises(ThingTypeDeprecated):
            registry.things.update("t", type_name="pump")
        assert registry.things.get("t").version == 1
        registry.thing_types.deprecate("pump", undo=True, now=NOON)
        assert registry.things.update("t", type_name="pump").type_name == "pump"
        assert registry.things.update("t", remove_type=True).type_name is None

    def test_filters_by_attribute_look_at_whole_values_or_their_beginnings(self, registry: Registry) -> None:
        values = {"a": "north", "b": "northwest", "c": "Nort", "d": "nort", "e": "north/b", "f": "norti"}
        for name, value in values.items():
            thing(registry, name, site=value, other="x" if name < "d" else "y")
        thing(registry, "g", other="x")

        def names(attribute: AttributeFilter) -> list[str]:
            found = every(lambda after: registry.things.list(attribute=attribute, after=after, limit=2))
            return [one.name for one in found]

        assert names(AttributeFilter("site", "north", prefix=False)) == ["a"]
        assert names(AttributeFilter("site", "north")) == ["a", "e", "b"]
        assert names(AttributeFilter("site")) == ["c", "d", "a", "e", "b", "f"]
        assert names(AttributeFilter("other", "x", prefix=False)) == ["a", "b", "c", "g"]
        assert names(AttributeFilter("other", "x")) == ["a", "b", "c", "g"]
        assert names(AttributeFilter("nothing")) == []

    def test_a_page_of_nothing_is_refused(self, registry: Registry) -> None:
        group(registry, "g")
        thing(registry, "t")
        calls: list[Callable[[], object]] = [
            lambda: registry.things.list(limit=0),
            lambda: registry.thing_types.list(name=None, after=None, limit=0),
            lambda: registry.thing_groups.list(recursive=True, limit=0),
            lambda: registry.thing_groups.members("g", recursive=True, limit=0),
            lambda: registry.thing_groups.of_thing("t", limit=0),
        ]
        for call in calls:
            with pytest.raises(ValueError, match="limit is 0"):
                call()


class TestThingTypes:
    """Thing types alone."""

    def test_the_same_twice_is_one_and_another_is_refused(self, registry: Registry) -> None:
        def create(**others: Any) -> Any:
            given = {"description": "d", "searchable_attributes": ("b", "a"), "tags": {"k": "v"}, "now": NOON}
            return registry.thing_types.create("pump", **{**given, **others})

        made = create()
        assert create(tags={}, now=NOON + timedelta(days=1)) == made
        assert registry.thing_types.get("pump") == made
        assert registry.thing_types.tagging.tags("pump") == {"k": "v"}
        for others in ({"description": None}, {"searchable_attributes": ("a", "b")}):
            with pytest.raises(ThingTypeExists) as caught:
                create(**others)
            assert caught.value.type_id == made.type_id

    def test_the_moment_of_deprecation_is_the_first(self, registry: Registry) -> None:
        thing_type(registry, "pump")
        assert registry.thing_types.get("pump").deprecated_at is None
        registry.thing_types.deprecate("pump", undo=False, now=NOON)
        registry.thing_types.deprecate("pump", undo=False, now=NOON + timedelta(days=1))
        assert registry.thing_types.get("pump").deprecated_at == NOON
        registry.thing_types.deprecate("pump", undo=True, now=NOON)
        assert registry.thing_types.get("pump").deprecated_at is None

    def test_a_type_in_use_stays(self, registry: Registry) -> None:
        thing_type(registry, "pump")
        thing(registry, "t", "pump")
        with pytest.raises(ThingTypeInUse, match="not deprecated"):
            registry.thing_types.delete("pump")
        registry.thing_types.deprecate("pump", undo=False, now=NOON)
        with pytest.raises(ThingTypeInUse, match="t among them"):
            registry.thing_types.delete("pump")
        registry.things.update("t", remove_type=True)
        registry.thing_types.delete("pump")
        with pytest.raises(ThingTypeNotFound):
            registry.thing_types.get("pump")


class TestGroups:
    """Groups, their hierarchies and members."""

    def test_names_that_sort_around_a_slash_are_not_mixed_up(self, registry: Registry) -> None:
        # In ASCII `-` stands before `/`, and `0` and `:` behind it.
        for name in ("a", "a-", "a0", "a:"):
            group(registry, name)
            group(registry, f"{name}b", name)
            thing(registry, f"t{name}")
            registry.thing_groups.change(f"t{name}", join=[f"{name}b"])
        groups = registry.thing_groups
        assert groups.list(parent="a", recursive=True, limit=9).items == ["ab"]
        assert groups.members("a", recursive=True, limit=9).items == ["ta"]
        assert groups.members("a", recursive=False, limit=9).items == []
        with registry._database.reading() as connection:
            below = select(schema.memberships.c.thing_name).where(members_of(groups.get("a").path))
            assert connection.execute(below).scalars().all() == ["ta"]

    @pytest.mark.parametrize("limit", [1, 2, 3, 9])
    def test_pages_of_members_hold_each_once(self, registry: Registry, limit: int) -> None:
        groups = registry.thing_groups
        for name, parent in (("a", None), ("b", "a"), ("c", "b"), ("d", "a")):
            group(registry, name, parent)
        for number, name in enumerate("aabbcd"):
            thing(registry, f"t{5 - number}")
            groups.change(f"t{5 - number}", join=[name])

        def members(name: str, recursive: bool) -> list[str]:
            return every(lambda after: groups.members(name, recursive=recursive, after=after, limit=limit))

        assert members("a", True) == ["t4", "t5", "t2", "t3", "t1", "t0"]
        assert members("a", False) == ["t4", "t5"]
        assert members("b", True) == ["t2", "t3", "t1"]

    @pytest.mark.parametrize("merge", [True, False])
    def test_attributes_of_a_group_are_merged_where_asked(self, registry: Registry, merge: bool) -> None:
        registry.thing_groups.create(
            "g", parent=None, description="d", attributes={"a": "1", "b": "2"}, tags={}, now=NOON
        )
        changed = registry.thing_groups.update("g", attributes={"a": "", "c": "3"}, merge=merge)
        assert changed.attributes == ({"b": "2", "c": "3"} if merge else {"c": "3"})
        assert (changed.description, changed.version) == ("d", 2)

    def test_ancestors_are_from_the_root_to_the_parent(self, registry: Registry) -> None:
        group(registry, "a")
        group(registry, "b", "a")
        assert group(registry, "c", "b").ancestors == ("a", "b")
        assert registry.thing_groups.get("a").ancestors == ()

    def test_hierarchies_have_a_depth_and_a_width(self, registry: Registry) -> None:
        for depth in range(MAX_DEPTH):
            group(registry, str(depth) * 128, str(depth - 1) * 128 if depth else None)
        with pytest.raises(HierarchyTooLarge, match="depth 8, over 7"):
            group(registry, "deep", "6" * 128)
        thing(registry, "t" * 128)
        registry.thing_groups.change("t" * 128, join=["6" * 128])
        found = registry.thing_groups.members("0" * 128, recursive=True, limit=1)
        assert found.items == ["t" * 128]
        for number in range(MAX_CHILDREN - 1):
            group(registry, f"child{number}", "0" * 128)
        with pytest.raises(HierarchyTooLarge, match="has 100 child groups"):
            group(registry, "more", "0" * 128)
        group(registry, "child0", "0" * 128)

    def test_a_thing_is_in_one_group_of_a_hierarchy_and_in_ten_at_most(self, registry: Registry) -> None:
        thing(registry, "t")
        group(registry, "a")
        for name in ("b", "c"):
            group(registry, name, "a")
        change = registry.thing_groups.change
        change("t", join=["b"])
        for other in ("a", "c"):
            with pytest.raises(MembershipNotAllowed, match="in thing group b, of one hierarchy"):
                change("t", join=[other])
        # It leaves first and joins then: a move is one call.
        change("t", leave=["b"], join=["c"])
        change("t", join=["c"])
        roots = [f"root{number}" for number in range(MAX_GROUPS)]
        for name in roots:
            group(registry, name)
        with pytest.raises(MembershipNotAllowed, match="in 10 thing groups"):
            change("t", join=roots)
        assert registry.thing_groups.of_thing("t", limit=20).items == ["c"]
        change("t", join=roots[1:])
        assert registry.thing_groups.of_thing("t", limit=20).items == ["c", *roots[1:]]

    def test_a_group_with_children_stays(self, registry: Registry) -> None:
        group(registry, "a")
        group(registry, "b", "a")
        with pytest.raises(ThingGroupHasChildren, match="b among them"):
            registry.thing_groups.delete("a")
        registry.thing_groups.delete("b")
        registry.thing_groups.delete("a")
        registry.thing_groups.delete("a")

    def test_tags_go_with_their_group(self, registry: Registry) -> None:
        group(registry, "g", None, a="1")
        tagging = registry.thing_groups.tagging
        tagging.tag("g", {"b": "2"})
        tagging.untag("g", ["a", "never there"])
        assert tagging.tags("g") == {"b": "2"}
        with pytest.raises(TooManyTags, match="thing group g would have 51 tags"):
            tagging.tag("g", {f"k{number}": "" for number in range(50)})
        registry.thing_groups.delete("g")
        group(registry, "g")
        assert tagging.tags("g") == {}
        with pytest.raises(ThingGroupNotFound):
            tagging.tag("none", {})
