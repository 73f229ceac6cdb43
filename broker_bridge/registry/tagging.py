"""Tags: each kind of resource has a table of its own for them, whose rows go with the resource."""

from collections.abc import Callable, Iterable, Mapping

from sqlalchemy import Connection, Table, delete, insert, select

from broker_bridge.registry.database import Database
from broker_bridge.registry.errors import TooManyTags

MAX_TAGS = 50
"""Tags a resource may have (AWS's limit for every one)."""


class Tags:
    """The tags of one kind of resource. Calls are part of the caller's transaction."""

    def __init__(self, table: Table, kind: str) -> None:
        """`table`: the owner's name, `key`, `value`, in this order; `kind`: the owner, in messages."""
        self._table = table
        self._owner = table.columns[0]
        self._kind = kind

    def all(self, connection: Connection, owner: str) -> dict[str, str]:
        """The owner's tags, by key; none where there is no such owner."""
        table = self._table
        rows = connection.execute(select(table.c.key, table.c.value).where(self._owner == owner))
        return {row.key: row.value for row in rows}

    def add(self, connection: Connection, owner: str, tags: Mapping[str, str]) -> None:
        """Adds the tags; one whose key is there already gets the new value. TooManyTags."""
        count = len(self.all(connection, owner).keys() | tags.keys())
        if count > MAX_TAGS:
            raise TooManyTags(f"{self._kind} {owner}", count, MAX_TAGS)
        self.remove(connection, owner, tags)
        if tags:
            rows = [{self._owner.name: owner, "key": key, "value": value} for key, value in tags.items()]
            connection.execute(insert(self._table), rows)

    def remove(self, connection: Connection, owner: str, keys: Iterable[str]) -> None:
        """Removes the tags of those keys, where they are there."""
        chosen = (self._owner == owner) & self._table.c.key.in_(list(keys))
        connection.execute(delete(self._table).where(chosen))


class Tagging:
    """The tags of one kind of resource, changed by themselves. Each call is a transaction of its own."""

    def __init__(self, database: Database, tags: Tags, find: Callable[[Connection, str], object]) -> None:
        """`find` raises the kind's NotFound."""
        self._database = database
        self._tags = tags
        self._find = find

    def tag(self, owner: str, tags: Mapping[str, str]) -> None:
        """Adds the tags; one whose key is there already gets the new value. NotFound, TooManyTags."""
        with self._database.changing() as connection:
            self._find(connection, owner)
            self._tags.add(connection, owner, tags)

    def untag(self, owner: str, keys: Iterable[str]) -> None:
        """Removes the tags of those keys, where they are there. NotFound."""
        with self._database.changing() as connection:
            self._find(connection, owner)
            self._tags.remove(connection, owner, keys)

    def tags(self, owner: str) -> dict[str, str]:
        """The owner's tags, by key. NotFound."""
        with self._database.reading() as connection:
            self._find(connection, owner)
            return self._tags.all(connection, owner)
