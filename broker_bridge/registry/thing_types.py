"""Thing types: what a thing is one of."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select, update

from broker_bridge.registry import schema
from broker_bridge.registry.database import Database
from broker_bridge.registry.errors import (
    ThingTypeDeprecated,
    ThingTypeExists,
    ThingTypeInUse,
    ThingTypeNotFound,
)
from broker_bridge.registry.pages import Page, check_limit, page
from broker_bridge.registry.tagging import Tagging, Tags

_TYPES = schema.thing_types
_TAGS = Tags(schema.thing_type_tags, "thing type")


@dataclass(frozen=True, slots=True)
class ThingType:
    """A thing type as it stands."""

    name: str
    type_id: str
    description: str | None
    searchable_attributes: tuple[str, ...]
    created_at: datetime
    deprecated_at: datetime | None


class ThingTypes:
    """The thing types of a registry."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.tagging = Tagging(database, _TAGS, _one)

    def create(
        self,
        name: str,
        *,
        description: str | None,
        searchable_attributes: tuple[str, ...],
        tags: Mapping[str, str],
        now: datetime,
    ) -> ThingType:
        """A new thing type, or the one that is there if it is the same but for its tags.

        ThingTypeExists for another one, TooManyTags.
        """
        with self._database.changing() as connection:
            found = _find(connection, name)
            if found is None:
                row = {
                    "thing_type_name": name,
                    "thing_type_id": str(uuid.uuid4()),
                    "description": description,
                    "searchable_attributes": list(searchable_attributes),
                    "created_at": now,
                }
                connection.execute(insert(_TYPES), row)
                _TAGS.add(connection, name, tags)
            elif (found.description, found.searchable_attributes) != (description, searchable_attributes):
                raise ThingTypeExists(name, found.type_id)
            return _one(connection, name)

    def get(self, name: str) -> ThingType:
        """The thing type as it is now. ThingTypeNotFound."""
        with self._database.reading() as connection:
            return _one(connection, name)

    def list(self, *, name: str | None, after: str | None, limit: int) -> Page[ThingType]:
        """Thing types by name, at most `limit` (>= 1); with `name`, that one alone if it is there."""
        check_limit(limit)
        chosen = select(_TYPES).order_by(_TYPES.c.thing_type_name).limit(limit + 1)
        if name is not None:
            chosen = chosen.where(_TYPES.c.thing_type_name == name)
        if after is not None:
            chosen = chosen.where(_TYPES.c.thing_type_name > after)
        with self._database.reading() as connection:
            found = [_type(row) for row in connection.execute(chosen)]
        return page(found, limit, lambda one: one.name)

    def update(
        self, name: str, *, description: str | None, searchable_attributes: tuple[str, ...] | None
    ) -> None:
        """Replaces what is given; None leaves it as it is. ThingTypeNotFound."""
        given = {
            "description": description,
            "searchable_attributes": None if searchable_attributes is None else list(searchable_attributes),
        }
        values = {column: value for column, value in given.items() if value is not None}
        with self._database.changing() as connection:
            _one(connection, name)
            if values:
                connection.execute(update(_TYPES).where(_TYPES.c.thing_type_name == name).values(values))

    def deprecate(self, name: str, *, undo: bool, now: datetime) -> None:
        """No more things may have it, or, with `undo`, they may again. ThingTypeNotFound."""
        with self._database.changing() as connection:
            found = _one(connection, name)
            moment = None if undo else found.deprecated_at or now
            chosen = _TYPES.c.thing_type_name == name
            connection.execute(update(_TYPES).where(chosen).values(deprecated_at=moment))

    def delete(self, name: str) -> None:
        """Removes a thing type that is deprecated and that no thing has.

        ThingTypeNotFound, ThingTypeInUse. AWS wants five minutes between the two calls, for its own copies
        to agree; there is one here.
        """
        with self._database.changing() as connection:
            if _one(connection, name).deprecated_at is None:
                raise ThingTypeInUse(f"thing type {name} is not deprecated: deprecate it first")
            having = (
                select(schema.things.c.thing_name).where(schema.things.c.thing_type_name == name).limit(1)
            )
            thing = connection.execute(having).scalar()
            if thing is not None:
                raise ThingTypeInUse(f"things have the thing type {name}, {thing} among them")
            connection.execute(delete(_TYPES).where(_TYPES.c.thing_type_name == name))


def check_type(connection: Connection, name: str) -> None:
    """Returns if a thing may get that type. ThingTypeNotFound, ThingTypeDeprecated."""
    if _one(connection, name).deprecated_at is not None:
        raise ThingTypeDeprecated(name)


def _find(connection: Connection, name: str) -> ThingType | None:
    row = connection.execute(select(_TYPES).where(_TYPES.c.thing_type_name == name)).one_or_none()
    return None if row is None else _type(row)


def _one(connection: Connection, name: str) -> ThingType:
    found = _find(connection, name)
    if found is None:
        raise ThingTypeNotFound(name)
    return found


def _type(row: Row[Any]) -> ThingType:
    return ThingType(
        name=row.thing_type_name,
        type_id=row.thing_type_id,
        description=row.description,
        searchable_attributes=tuple(row.searchable_attributes),
        created_at=row.created_at,
        deprecated_at=row.deprecated_at,
    )
