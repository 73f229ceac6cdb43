"""Things: their types, attributes and versions."""

import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from sqlalchemy import Connection, Row, Select, delete, func, insert, select, tuple_, update

from broker_bridge.registry import schema
from broker_bridge.registry.database import Database
from broker_bridge.registry.errors import ThingExists, ThingNotFound, TooManyAttributes, VersionConflict
from broker_bridge.registry.pages import Page, check_limit, page, up_to
from broker_bridge.registry.thing_types import check_type

MAX_ATTRIBUTES = 50
"""Attributes a thing or a thing group may have (AWS's limit; it gives a thing without a type three)."""

_THINGS, _ATTRIBUTES = schema.things, schema.thing_attributes


@dataclass(frozen=True, slots=True)
class Thing:
    """A thing at one version, from 1. None of its attributes is empty."""

    name: str
    thing_id: str
    type_name: str | None
    attributes: Mapping[str, str]
    version: int


@dataclass(frozen=True, slots=True)
class AttributeFilter:
    """Things with that attribute: of any value, of this one, or of one that begins so."""

    name: str
    value: str = ""
    prefix: bool = True


class Things:
    """The things of a registry."""

    def __init__(self, database: Database, changed: Callable[[str], None]) -> None:
        """`changed` is called with the name of a thing that was made or deleted, once that stands."""
        self._database = database
        self._changed = changed

    def create(self, name: str, *, type_name: str | None, attributes: Mapping[str, str]) -> Thing:
        """A new thing at version 1, or the one that is there if it is the same.

        ThingExists for another one, ThingTypeNotFound, ThingTypeDeprecated, TooManyAttributes.
        """
        with self._database.changing() as connection:
            found = _find(connection, name)
            if found is not None:
                if (found.type_name, found.attributes) != (type_name, merged({}, attributes)):
                    raise ThingExists(name, found.thing_id)
                return found
            if type_name is not None:
                check_type(connection, type_name)
            row = {
                "thing_name": name,
                "thing_id": str(uuid.uuid4()),
                "thing_type_name": type_name,
                "version": 1,
            }
            connection.execute(insert(_THINGS), row)
            _insert_attributes(connection, name, attributes_of(f"thing {name}", {}, attributes))
            created = _one(connection, name)
        self._changed(name)
        return created

    def get(self, name: str) -> Thing:
        """The thing as it is now. ThingNotFound."""
        with self._database.reading() as connection:
            return _one(connection, name)

    def update(
        self,
        name: str,
        *,
        type_name: str | None = None,
        remove_type: bool = False,
        attributes: Mapping[str, str] | None = None,
        merge: bool = False,
        expected_version: int | None = None,
    ) -> Thing:
        """Replaces what is not None, and raises the version by 1.

        `remove_type` leaves the thing without a type. With `merge`, attributes that are not named stay, and
        those named with an empty value go.
        ThingNotFound, VersionConflict, ThingTypeNotFound, ThingTypeDeprecated, TooManyAttributes.
        """
        with self._database.changing() as connection:
            found = _one(connection, name)
            owner = f"thing {name}"
            if expected_version is not None and found.version != expected_version:
                raise VersionConflict(owner, expected_version, found.version)
            wanted = None if remove_type else type_name or found.type_name
            if wanted is not None and wanted != found.type_name:
                check_type(connection, wanted)
            chosen = _THINGS.c.thing_name == name
            values = {"version": found.version + 1, "thing_type_name": wanted}
            connection.execute(update(_THINGS).where(chosen).values(values))
            if attributes is not None:
                now = attributes_of(owner, found.attributes if merge else {}, attributes)
                connection.execute(delete(_ATTRIBUTES).where(_ATTRIBUTES.c.thing_name == name))
                _insert_attributes(connection, name, now)
            return _one(connection, name)

    def delete(self, name: str, *, expected_version: int | None = None) -> None:
        """Removes the thing, and it from its groups. One that is not there does no harm. VersionConflict."""
        with self._database.changing() as connection:
            chosen = _THINGS.c.thing_name == name
            found = connection.execute(select(_THINGS.c.version).where(chosen)).scalar()
            if found is not None and expected_version is not None and found != expected_version:
                raise VersionConflict(f"thing {name}", expected_version, found)
            connection.execute(delete(_THINGS).where(chosen))
        if found is not None:
            self._changed(name)

    def list(
        self,
        *,
        type_name: str | None = None,
        attribute: AttributeFilter | None = None,
        after: str | None = None,
        limit: int,
    ) -> Page[Thing]:
        """Things of that type and with that attribute, at most `limit` (>= 1).

        By name; with an attribute by its value, then by name. `after` is another page's.
        """
        check_limit(limit)
        name, value = _THINGS.c.thing_name, _ATTRIBUTES.c.value
        if attribute is None:
            chosen = select(_THINGS).order_by(name)
            if after is not None:
                chosen = chosen.where(name > after)
        else:
            chosen = _having(attribute, after)
        if type_name is not None:
            chosen = chosen.where(_THINGS.c.thing_type_name == type_name)
        with self._database.reading() as connection:
            found = _read(connection, chosen.limit(limit + 1), [] if attribute is None else [value.name])

        def position(thing: Thing) -> str:
            return thing.name if attribute is None else f"{thing.attributes[attribute.name]}/{thing.name}"

        return page(found, limit, position)

    def count(self) -> int:
        """How many things there are."""
        with self._database.reading() as connection:
            return connection.execute(select(func.count()).select_from(_THINGS)).scalar_one()


def merged(old: Mapping[str, str], new: Mapping[str, str]) -> dict[str, str]:
    """Both, the new values in place of the old, without the empty ones: an empty value removes."""
    return {name: value for name, value in {**old, **new}.items() if value}


def attributes_of(owner: str, old: Mapping[str, str], new: Mapping[str, str]) -> dict[str, str]:
    """As `merged`. Raises TooManyAttributes for over MAX_ATTRIBUTES; `owner` is for its message."""
    attributes = merged(old, new)
    if len(attributes) > MAX_ATTRIBUTES:
        raise TooManyAttributes(owner, len(attributes), MAX_ATTRIBUTES)
    return attributes


def check_thing(connection: Connection, name: str) -> None:
    """Returns if there is a thing of that name. ThingNotFound."""
    if connection.execute(select(_THINGS.c.version).where(_THINGS.c.thing_name == name)).scalar() is None:
        raise ThingNotFound(name)


def _having(attribute: AttributeFilter, after: str | None) -> Select[Any]:
    """Things with the attribute, along the index of attributes."""
    name, value = _ATTRIBUTES.c.thing_name, _ATTRIBUTES.c.value
    chosen = (
        select(_THINGS, value)
        .join_from(_ATTRIBUTES, _THINGS, name == _THINGS.c.thing_name)
        .where(_ATTRIBUTES.c.name == attribute.name)
        .order_by(value, name)
    )
    # One lower bound, and the closest: SQLite enters an index by one and filters by the others.
    last_value, _, last_name = (after or "").rpartition("/")
    if not attribute.prefix:
        chosen = chosen.where(value == attribute.value)
        return chosen if after is None else chosen.where(name > last_name)
    chosen = chosen.where(up_to(value, attribute.value))
    if after is None:
        return chosen.where(value >= attribute.value)
    return chosen.where(tuple_(value, name) > tuple_(last_value, last_name))


def _find(connection: Connection, name: str) -> Thing | None:
    found = _read(connection, select(_THINGS).where(_THINGS.c.thing_name == name), [])
    return found[0] if found else None


def _one(connection: Connection, name: str) -> Thing:
    found = _find(connection, name)
    if found is None:
        raise ThingNotFound(name)
    return found


def _read(connection: Connection, chosen: Select[Any], order: list[str]) -> list[Thing]:
    """The chosen things, by those columns and by name, in one statement: attributes are of their version."""
    things = chosen.subquery()
    held = _ATTRIBUTES.alias("held")
    joined: Select[Any] = (
        select(
            *(things.c[column.name] for column in _THINGS.c),
            held.c.name.label("attribute"),
            held.c.value.label("held_value"),
        )
        .select_from(things.outerjoin(held, things.c.thing_name == held.c.thing_name))
        .order_by(*(things.c[name] for name in order), things.c.thing_name, held.c.name)
    )
    rows: Iterable[Row[Any]] = connection.execute(joined)
    return [_thing(list(group)) for _, group in groupby(rows, key=lambda row: row.thing_name)]


def _thing(rows: list[Row[Any]]) -> Thing:
    """One thing from its rows, one to an attribute; without attributes one row whose attribute is null."""
    first = rows[0]
    return Thing(
        name=first.thing_name,
        thing_id=first.thing_id,
        type_name=first.thing_type_name,
        attributes={row.attribute: row.held_value for row in rows if row.attribute is not None},
        version=first.version,
    )


def _insert_attributes(connection: Connection, thing: str, attributes: Mapping[str, str]) -> None:
    rows = [{"thing_name": thing, "name": name, "value": value} for name, value in attributes.items()]
    if rows:
        connection.execute(insert(_ATTRIBUTES), rows)
