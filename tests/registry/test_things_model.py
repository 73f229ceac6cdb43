"""Things, their types and groups, are what plain dictionaries would be, whatever is done."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from broker_bridge.registry.errors import (
    MembershipNotAllowed,
    NotFound,
    ThingExists,
    ThingGroupExists,
    ThingGroupHasChildren,
    ThingGroupNotFound,
    ThingNotFound,
    ThingTypeDeprecated,
    ThingTypeInUse,
    ThingTypeNotFound,
    VersionConflict,
)
from broker_bridge.registry.registry import Registry
from broker_bridge.registry.things import AttributeFilter
from tests.registry.making import NOON, every, thing, thing_type


@dataclass
class ModelThing:
    """A thing as a dictionary would hold it."""

    type_name: str | None
    attributes: dict[str, str]
    version: int = 1
    groups: set[str] = field(default_factory=set)


@dataclass
class ModelGroup:
    """A group as a dictionary would hold it."""

    parent: str | None
    attributes: dict[str, str]
    version: int = 1


thing_names = st.sampled_from(["a", "a:b", "A", "t-1", "t-2"])
group_names = st.sampled_from(["g", "g-", "g0", "h", "h:1"])
type_names = st.sampled_from(["pump", "valve"])
attribute_sets = st.dictionaries(
    st.sampled_from(["x", "y", "z#"]), st.sampled_from(["", "1", "10", "2/a", "2"]), max_size=3
)


def present(attributes: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in attributes.items() if value}


class ThingsMachine(RuleBasedStateMachine):
    """Things, types and groups in a registry, beside dictionaries."""

    @initialize()
    def start(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.url = f"sqlite:///{Path(self.folder.name) / 'registry.db'}"
        self.registry = Registry.open(self.url)
        self.things: dict[str, ModelThing] = {}
        self.groups: dict[str, ModelGroup] = {}
        self.types: dict[str, bool] = {}  # whether it is deprecated
        # Some to begin with, so that few steps already meet what is shared, nested and paged.
        self.create_type("pump")
        for name, parent in (("g", None), ("g-", "g"), ("h", None)):
            self.create_group(name, parent, {"x": "1"})
        for name in ("a", "a:b", "A"):
            self.create(name, "pump", {"x": "10" if name == "a" else "1", "y": "2"})
            self.change(name, ["g-" if name == "a" else "g"], [])

    def teardown(self) -> None:
        if hasattr(self, "registry"):
            self.registry.close()
            self.folder.cleanup()

    def fails(self, expected: type[Exception] | None, call: Callable[[], Any]) -> bool:
        """Whether the call fails, and as it should."""
        if expected is None:
            call()
            return False
        with pytest.raises(expected):
            call()
        return True

    def of_type(self, name: str | None) -> type[Exception] | None:
        if name is None:
            return None
        if name not in self.types:
            return ThingTypeNotFound
        return ThingTypeDeprecated if self.types[name] else None

    def above(self, name: str) -> list[str]:
        """The group and all above it, its root last."""
        parent = self.groups[name].parent
        return [name] + ([] if parent is None else self.above(parent))

    def groups_of(self, name: str) -> list[str]:
        groups = self.registry.thing_groups
        return every(lambda after: groups.of_thing(name, after=after, limit=2))

    @rule(name=type_names)
    def create_type(self, name: str) -> None:
        thing_type(self.registry, name)
        self.types.setdefault(name, False)

    @rule(name=type_names, undo=st.booleans())
    def deprecate(self, name: str, undo: bool) -> None:
        expected = None if name in self.types else ThingTypeNotFound
        if not self.fails(expected, lambda: self.registry.thing_types.deprecate(name, undo=undo, now=NOON)):
            self.types[name] = not undo

    @rule(name=type_names)
    def delete_type(self, name: str) -> None:
        used = name in {one.type_name for one in self.things.values()}
        expected: type[Exception] | None = None
        if name not in self.types:
            expected = ThingTypeNotFound
        elif used or not self.types[name]:
            expected = ThingTypeInUse
        if not self.fails(expected, lambda: self.registry.thing_types.delete(name)):
            del self.types[name]

    @rule(name=thing_names, type_name=st.none() | type_names, attributes=attribute_sets)
    def create(self, name: str, type_name: str | None, attributes: dict[str, str]) -> None:
        old = self.things.get(name)
        wanted = ModelThing(type_name, present(attributes))
        if old is None:
            expected = self.of_type(type_name)
        else:
            same = (old.type_name, old.attributes) == (wanted.type_name, wanted.attributes)
            expected = None if same else ThingExists
        if not self.fails(expected, lambda: thing(self.registry, name, type_name, **attributes)):
            self.things.setdefault(name, wanted)

    @rule(
        name=thing_names,
        type_name=st.none() | type_names,
        remove=st.booleans(),
        attributes=st.none() | attribute_sets,
        merge=st.booleans(),
        expected_version=st.none() | st.integers(1, 3),
    )
    def update(
        self,
        name: str,
        type_name: str | None,
        remove: bool,
        attributes: dict[str, str] | None,
        merge: bool,
        expected_version: int | None,
    ) -> None:
        old = self.things.get(name)
        expected: type[Exception] | None = None
        if old is None:
            expected = ThingNotFound
        elif expected_version not in (None, old.version):
            expected = VersionConflict
        elif not remove and type_name != old.type_name:
            expected = self.of_type(type_name)
        if self.fails(
            expected,
            lambda: self.registry.things.update(
                name,
                type_name=type_name,
                remove_type=remove,
                attributes=attributes,
                merge=merge,
                expected_version=expected_version,
            ),
        ):
            return
        assert old is not None
        old.version += 1
        old.type_name = None if remove else type_name or old.type_name
        if attributes is not None:
            old.attributes = present({**old.attributes, **attributes} if merge else attributes)

    @rule(name=thing_names, expected_version=st.none() | st.integers(1, 3))
    def delete(self, name: str, expected_version: int | None) -> None:
        old = self.things.get(name)
        conflict = old is not None and expected_version not in (None, old.version)
        expected = VersionConflict if conflict else None
        if not self.fails(
            expected, lambda: self.registry.things.delete(name, expected_version=expected_version)
        ):
            self.things.pop(name, None)

    @rule(name=group_names, parent=st.none() | group_names, attributes=attribute_sets)
    def create_group(self, name: str, parent: str | None, attributes: dict[str, str]) -> None:
        old = self.groups.get(name)
        expected: type[Exception] | None = None
        if old is not None:
            same = (old.parent, old.attributes) == (parent, present(attributes))
            expected = None if same else ThingGroupExists
        elif parent is not None and parent not in self.groups:
            expected = ThingGroupNotFound
        if not self.fails(
            expected,
            lambda: self.registry.thing_groups.create(
                name, parent=parent, description=None, attributes=attributes, tags={}, now=NOON
            ),
        ):
            self.groups.setdefault(name, ModelGroup(parent, present(attributes)))

    @rule(
        name=group_names,
        attributes=st.none() | attribute_sets,
        merge=st.booleans(),
        expected_version=st.none() | st.integers(1, 3),
    )
    def update_group(
        self, name: str, attributes: dict[str, str] | None, merge: bool, expected_version: int | None
    ) -> None:
        old = self.groups.get(name)
        expected: type[Exception] | None = None
        if old is None:
            expected = ThingGroupNotFound
        elif expected_version not in (None, old.version):
            expected = VersionConflict
        if self.fails(
            expected,
            lambda: self.registry.thing_groups.update(
                name, attributes=attributes, merge=merge, expected_version=expected_version
            ),
        ):
            return
        assert old is not None
        old.version += 1
        if attributes is not None:
            old.attributes = present({**old.attributes, **attributes} if merge else attributes)

    @rule(name=group_names, expected_version=st.none() | st.integers(1, 3))
    def delete_group(self, name: str, expected_version: int | None) -> None:
        old = self.groups.get(name)
        expected: type[Exception] | None = None
        if old is not None and expected_version not in (None, old.version):
            expected = VersionConflict
        elif name in {one.parent for one in self.groups.values()}:
            expected = ThingGroupHasChildren
        if not self.fails(
            expected, lambda: self.registry.thing_groups.delete(name, expected_version=expected_version)
        ):
            self.groups.pop(name, None)
            for one in self.things.values():
                one.groups.discard(name)

    @rule(
        name=thing_names,
        join=st.lists(group_names, max_size=2),
        leave=st.lists(group_names, max_size=2),
    )
    def change(self, name: str, join: list[str], leave: list[str]) -> None:
        expected: type[Exception] | None = None
        joined: set[str] = set()
        if name not in self.things or not {*join, *leave} <= self.groups.keys():
            expected = NotFound
        else:
            joined = (self.things[name].groups - set(leave)) | set(join)
            if len({self.above(one)[-1] for one in joined}) < len(joined):
                expected = MembershipNotAllowed
        if not self.fails(expected, lambda: self.registry.thing_groups.change(name, join=join, leave=leave)):
            self.things[name].groups = joined

    @rule()
    def reopen(self) -> None:
        self.registry.close()
        self.registry = Registry.open(self.url)

    @rule(
        type_name=st.none() | type_names,
        attribute=st.none()
        | st.builds(AttributeFilter, st.just("x"), st.sampled_from(["1", "2"]), st.booleans()),
        limit=st.integers(1, 3),
    )
    def list_things(self, type_name: str | None, attribute: AttributeFilter | None, limit: int) -> None:
        def matches(one: ModelThing) -> bool:
            if type_name not in (None, one.type_name):
                return False
            if attribute is None:
                return True
            value = one.attributes.get(attribute.name, "")
            return value.startswith(attribute.value) if attribute.prefix else value == attribute.value

        found = every(
            lambda after: self.registry.things.list(
                type_name=type_name, attribute=attribute, after=after, limit=limit
            )
        )
        names = [one.name for one in found]
        assert sorted(names) == sorted(name for name, one in self.things.items() if matches(one))
        assert names == sorted(
            names, key=lambda name: ("" if attribute is None else self.things[name].attributes["x"], name)
        )

    @rule(
        parent=st.none() | group_names,
        recursive=st.booleans(),
        prefix=st.sampled_from(["", "g", "g-"]),
        limit=st.integers(1, 3),
    )
    def list_groups(self, parent: str | None, recursive: bool, prefix: str, limit: int) -> None:
        groups = self.registry.thing_groups
        if parent is not None and parent not in self.groups:
            with pytest.raises(ThingGroupNotFound):
                groups.list(parent=parent, recursive=recursive, prefix=prefix, limit=limit)
            return
        expected = {
            name
            for name, one in self.groups.items()
            if name.startswith(prefix)
            and ((parent is None or parent in self.above(name)[1:]) if recursive else one.parent == parent)
        }
        found = every(
            lambda after: groups.list(
                parent=parent, recursive=recursive, prefix=prefix, after=after, limit=limit
            )
        )
        assert len(found) == len(expected)
        assert set(found) == expected

    @rule(name=group_names, recursive=st.booleans(), limit=st.integers(1, 3))
    def list_members(self, name: str, recursive: bool, limit: int) -> None:
        groups = self.registry.thing_groups
        if name not in self.groups:
            with pytest.raises(ThingGroupNotFound):
                groups.members(name, recursive=recursive, limit=limit)
            return
        expected = {
            one
            for one, held in self.things.items()
            if any(name == its or (recursive and name in self.above(its)) for its in held.groups)
        }
        found = every(lambda after: groups.members(name, recursive=recursive, after=after, limit=limit))
        assert len(found) == len(expected)
        assert set(found) == expected

    @invariant()
    def same(self) -> None:
        if not hasattr(self, "registry"):
            return
        for name, one in self.things.items():
            found = self.registry.things.get(name)
            assert (found.type_name, found.attributes, found.version) == (
                one.type_name,
                one.attributes,
                one.version,
            )
            assert sorted(self.groups_of(name)) == sorted(one.groups)
        for name, kept in self.groups.items():
            read = self.registry.thing_groups.get(name)
            assert (read.attributes, read.version) == (kept.attributes, kept.version)
            assert [*reversed(read.ancestors)] == self.above(name)[1:]


TestModel = ThingsMachine.TestCase
TestModel.settings = settings(max_examples=15, stateful_step_count=25, deadline=None)
