"""Thing groups: hierarchies of them, and which things are in which.

A group is found by its path, the names from its root's to its own, each with a slash behind it (`a/b/`). A
parent is for good (AWS has no call to change it), so that paths are too, and a group with everything below it
is one range of paths in an index.
"""

import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, delete, func, insert, select, tuple_, update

from broker_bridge.registry import schema
from broker_bridge.registry.database import Database
from broker_bridge.registry.errors import (
    HierarchyTooLarge,
    MembershipNotAllowed,
    ThingGroupExists,
    ThingGroupHasChildren,
    ThingGroupNotFound,
    VersionConflict,
)
from broker_bridge.registry.pages import Page, check_limit, page, up_to
from broker_bridge.registry.tagging import Tagging, Tags
from broker_bridge.registry.things import attributes_of, check_thing, merged

MAX_DEPTH = 7
"""Groups from a root to the deepest below it, both counted (AWS's limit)."""
MAX_CHILDREN = 100
"""Groups directly below one (AWS's limit)."""
MAX_GROUPS = 10
"""Groups that a thing may be in (AWS's limit)."""

_GROUPS, _MEMBERS = schema.thing_groups, schema.memberships
_TAGS = Tags(schema.thing_group_tags, "thing group")


@dataclass(frozen=True, slots=True)
class ThingGroup:
    """A thing group at one version, from 1. None of its attributes is empty."""

    name: str
    group_id: str
    path: str
    version: int
    description: str | None
    attributes: Mapping[str, str]
    created_at: datetime

    @property
    def ancestors(self) -> tuple[str, ...]:
        """The groups above it, its root first and its parent last."""
        return tuple(self.path.split("/")[:-2])


class ThingGroups:
    """The thing groups of a registry, and their members."""

    def __init__(self, database: Database, changed: Callable[[str | None], None]) -> None:
        """`changed` is called with the name of a thing whose groups changed, or None for all things that were
        in a group that was deleted; once that stands."""
        self._database = database
        self._changed = changed
        self.tagging = Tagging(database, _TAGS, _one)

    def create(
        self,
        name: str,
        *,
        parent: str | None,
        description: str | None,
        attributes: Mapping[str, str],
        tags: Mapping[str, str],
        now: datetime,
    ) -> ThingGroup:
        """A new group at version 1, or the one that is there if it is the same but for its tags.

        ThingGroupExists for another one, ThingGroupNotFound for the parent, HierarchyTooLarge,
        TooManyAttributes, TooManyTags.
        """
        with self._database.changing() as connection:
            found = _find(connection, name)
            if found is not None:
                ancestors = found.ancestors
                same = (ancestors[-1] if ancestors else None, found.description, found.attributes)
                if same != (parent, description, merged({}, attributes)):
                    raise ThingGroupExists(name, found.group_id)
                return found
            row = {
                "thing_group_name": name,
                "thing_group_id": str(uuid.uuid4()),
                "parent_name": parent,
                "path": f"{name}/" if parent is None else f"{_room_below(connection, parent)}{name}/",
                "version": 1,
                "description": description,
                "attributes": attributes_of(f"thing group {name}", {}, attributes),
                "created_at": now,
            }
            connection.execute(insert(_GROUPS), row)
            _TAGS.add(connection, name, tags)
            return _one(connection, name)

    def get(self, name: str) -> ThingGroup:
        """The group as it is now. ThingGroupNotFound."""
        with self._database.reading() as connection:
            return _one(connection, name)

    def update(
        self,
        name: str,
        *,
        description: str | None = None,
        attributes: Mapping[str, str] | None = None,
        merge: bool = False,
        expected_version: int | None = None,
    ) -> ThingGroup:
        """Replaces what is not None, and raises the version by 1; attributes and `merge` as of things.

        ThingGroupNotFound, VersionConflict, TooManyAttributes.
        """
        with self._database.changing() as connection:
            found = _one(connection, name)
            _check_version(found, expected_version)
            values: dict[str, Any] = {"version": found.version + 1}
            if description is not None:
                values["description"] = description
            if attributes is not None:
                old = found.attributes if merge else {}
                values["attributes"] = attributes_of(f"thing group {name}", old, attributes)
            connection.execute(update(_GROUPS).where(_GROUPS.c.thing_group_name == name).values(values))
            return _one(connection, name)

    def delete(self, name: str, *, expected_version: int | None = None) -> None:
        """Removes the group with its tags; its members are in one group less.

        One that is not there does no harm. VersionConflict, ThingGroupHasChildren.
        """
        with self._database.changing() as connection:
            found = _find(connection, name)
            if found is None:
                return
            _check_version(found, expected_version)
            below = select(_GROUPS.c.thing_group_name).where(_GROUPS.c.parent_name == name).limit(1)
            child = connection.execute(below).scalar()
            if child is not None:
                raise ThingGroupHasChildren(name, child)
            connection.execute(delete(_GROUPS).where(_GROUPS.c.thing_group_name == name))
        self._changed(None)

    def list(
        self,
        *,
        parent: str | None = None,
        recursive: bool,
        prefix: str = "",
        after: str | None = None,
        limit: int,
    ) -> Page[str]:
        """Names of groups that begin with `prefix`, at most `limit` (>= 1). ThingGroupNotFound (`parent`).

        Those directly below `parent`, or, without one, below none; with `recursive` all that are further
        down too. By name, but all those below a parent by path. `after` is another page's.
        """
        check_limit(limit)
        name, path = _GROUPS.c.thing_group_name, _GROUPS.c.path
        key = path if recursive and parent is not None else name
        chosen = select(name, path).where(name >= prefix, up_to(name, prefix)).order_by(key).limit(limit + 1)
        with self._database.reading() as connection:
            if key is path:
                top = _one(connection, parent or "").path
                # Behind the parent itself, which is the first of its range.
                chosen = chosen.where(path > (after or top), path < _end(top))
            else:
                if not recursive:
                    if parent is not None:
                        _one(connection, parent)
                    chosen = chosen.where(_GROUPS.c.parent_name == parent)
                if after is not None:
                    chosen = chosen.where(name > after)
            found = page(connection.execute(chosen).all(), limit, lambda row: str(row._mapping[key]))
        return Page([row.thing_group_name for row in found.items], found.after)

    def change(self, thing: str, *, join: Iterable[str] = (), leave: Iterable[str] = ()) -> None:
        """Has the thing leave the groups `leave`, then join the groups `join`, in one transaction.

        To leave where it is not, or to join where it is, does no harm. ThingNotFound, ThingGroupNotFound;
        MembershipNotAllowed for a second group of a hierarchy, or more groups than MAX_GROUPS.
        """
        with self._database.changing() as connection:
            check_thing(connection, thing)
            left = [_one(connection, group).path for group in leave]
            joined = [_one(connection, group).path for group in join]
            mine = _MEMBERS.c.thing_name == thing
            connection.execute(delete(_MEMBERS).where(mine, _MEMBERS.c.group_path.in_(left)))
            paths = set(connection.execute(select(_MEMBERS.c.group_path).where(mine)).scalars())
            for path in joined:
                if path not in paths:
                    _check_membership(thing, path, paths)
                    paths.add(path)
                    connection.execute(insert(_MEMBERS), {"thing_name": thing, "group_path": path})
        self._changed(thing)

    def members(self, name: str, *, recursive: bool, after: str | None = None, limit: int) -> Page[str]:
        """Names of the things in the group, at most `limit` (>= 1). ThingGroupNotFound.

        By name; with `recursive` those in the groups below it too, group by group. `after` is another page's.
        """
        check_limit(limit)
        path, thing = _MEMBERS.c.group_path, _MEMBERS.c.thing_name
        chosen = select(path, thing).order_by(path, thing).limit(limit + 1)
        with self._database.reading() as connection:
            top = _one(connection, name).path
            group, last = (top, "") if after is None else _split(after)
            if recursive:
                chosen = chosen.where(tuple_(path, thing) > tuple_(group, last), path < _end(top))
            else:
                chosen = chosen.where(path == top, thing > last)
            found = page(connection.execute(chosen).all(), limit, lambda row: row.group_path + row.thing_name)
        return Page([row.thing_name for row in found.items], found.after)

    def of_thing(self, thing: str, *, after: str | None = None, limit: int) -> Page[str]:
        """Names of the groups that the thing is in, by path, at most `limit` (>= 1). ThingNotFound."""
        check_limit(limit)
        path = _MEMBERS.c.group_path
        chosen = select(path).where(_MEMBERS.c.thing_name == thing).order_by(path).limit(limit + 1)
        if after is not None:
            chosen = chosen.where(path > after)
        with self._database.reading() as connection:
            check_thing(connection, thing)
            found = page(connection.execute(chosen).scalars().all(), limit, str)
        return Page([path.split("/")[-2] for path in found.items], found.after)


def members_of(path: str) -> ColumnElement[bool]:
    """Which memberships are those of the group of that path and of the groups below it."""
    return (_MEMBERS.c.group_path >= path) & (_MEMBERS.c.group_path < _end(path))


def _end(path: str) -> str:
    """The first text behind the range of what begins with the path."""
    # A zero is what follows on a slash.
    return f"{path[:-1]}0"


def _split(position: str) -> tuple[str, str]:
    group, slash, thing = position.rpartition("/")
    return group + slash, thing


def _room_below(connection: Connection, parent: str) -> str:
    """The parent's path. ThingGroupNotFound, HierarchyTooLarge."""
    path = _one(connection, parent).path
    depth = path.count("/") + 1
    if depth > MAX_DEPTH:
        raise HierarchyTooLarge(f"below thing group {parent} it would be at depth {depth}, over {MAX_DEPTH}")
    counted = select(func.count()).select_from(_GROUPS).where(_GROUPS.c.parent_name == parent)
    if connection.execute(counted).scalar_one() >= MAX_CHILDREN:
        raise HierarchyTooLarge(f"thing group {parent} has {MAX_CHILDREN} child groups, the maximum")
    return path


def _check_membership(thing: str, path: str, paths: set[str]) -> None:
    name = path.split("/")[-2]
    root = path.partition("/")[0]
    for other in paths:
        if other.partition("/")[0] == root:
            raise MembershipNotAllowed(
                f"thing {thing} is in thing group {other.split('/')[-2]}, of one hierarchy with {name}"
            )
    if len(paths) >= MAX_GROUPS:
        raise MembershipNotAllowed(f"thing {thing} is in {len(paths)} thing groups, the maximum")


def _check_version(found: ThingGroup, expected: int | None) -> None:
    if expected is not None and found.version != expected:
        raise VersionConflict(f"thing group {found.name}", expected, found.version)


def _find(connection: Connection, name: str) -> ThingGroup | None:
    row = connection.execute(select(_GROUPS).where(_GROUPS.c.thing_group_name == name)).one_or_none()
    return None if row is None else _group(row)


def _one(connection: Connection, name: str) -> ThingGroup:
    found = _find(connection, name)
    if found is None:
        raise ThingGroupNotFound(name)
    return found


def _group(row: Row[Any]) -> ThingGroup:
    return ThingGroup(
        name=row.thing_group_name,
        group_id=row.thing_group_id,
        path=row.path,
        version=row.version,
        description=row.description,
        attributes=row.attributes,
        created_at=row.created_at,
    )
