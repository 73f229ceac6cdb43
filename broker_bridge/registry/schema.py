"""The registry's tables. The migrations lead here: a test holds that what they make is what stands here."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    DateTime,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
)

REVISION = "0005"
"""The newest revision in `migrations/versions`, here so that a start need not load Alembic to learn it."""


class UtcDateTime(TypeDecorator[datetime]):
    """A moment: aware in Python, in UTC in the database, also where (SQLite) that knows no time zones."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Raises ValueError for a naive datetime: it could mean any zone."""
        if value is not None and value.tzinfo is None:
            raise ValueError(f"{value!r} has no time zone")
        return value and value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Aware, in UTC."""
        return value and (value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC))

    def bind_processor(self, dialect: Dialect) -> Any:
        """How what the program works with becomes a driver's value."""
        if dialect.name != "sqlite":
            return super().bind_processor(dialect)
        return lambda value: _to_sqlite(self.process_bind_param(value, dialect))

    def result_processor(self, dialect: Dialect, coltype: object) -> Any:
        """How a driver's value becomes what the program works with."""
        if dialect.name != "sqlite":
            return super().result_processor(dialect, coltype)
        return _from_sqlite


def _to_sqlite(moment: datetime | None) -> str | None:
    return None if moment is None else moment.replace(tzinfo=None).isoformat(" ", "microseconds")


def _from_sqlite(text: str | None) -> datetime | None:
    # The text is SQLAlchemy's own. An execution has six of them, a device's report reads several executions,
    # and what SQLAlchemy does with each takes ten times as long.
    return None if text is None else datetime.fromisoformat(f"{text}+00:00")


def _name(length: int = 128) -> String:
    # By code point wherever it is kept, so that lists have the same order in every database.
    return String(length).with_variant(String(length, collation="C"), "postgresql")


def _of(column: str) -> Column[str]:
    """First column of a table whose rows belong to the row that has the same value there, and go with it."""
    owner = ForeignKey(column, ondelete="CASCADE")
    return Column(column.partition(".")[2], _name(), owner, primary_key=True)


def _tag_columns() -> tuple[Column[str], Column[str]]:
    return (
        Column("key", String(128), primary_key=True),
        Column("value", String(256), nullable=False),
    )


metadata = MetaData()

streams = Table(
    "streams",
    metadata,
    Column("stream_id", _name(), primary_key=True),
    Column("version", BigInteger, nullable=False),
    Column("description", Text),
    Column("role_arn", Text, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
)

files = Table(
    "files",
    metadata,
    _of("streams.stream_id"),
    Column("file_id", Integer, primary_key=True, autoincrement=False),
    Column("bucket", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("version_id", Text),
    Column("etag", Text, nullable=False),
    Column("size", BigInteger, nullable=False),
)

tags = Table(
    "tags",
    metadata,
    _of("streams.stream_id"),
    *_tag_columns(),
)

secrets = Table(
    "secrets",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("value", LargeBinary, nullable=False),
)

MAX_PATH = 7 * 129
"""Characters in the path of a thing group: seven names, each with a slash."""

thing_types = Table(
    "thing_types",
    metadata,
    Column("thing_type_name", _name(), primary_key=True),
    Column("thing_type_id", String(36), nullable=False),
    Column("description", Text),
    Column("searchable_attributes", JSON, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("deprecated_at", UtcDateTime),
)

thing_type_tags = Table("thing_type_tags", metadata, _of("thing_types.thing_type_name"), *_tag_columns())

things = Table(
    "things",
    metadata,
    Column("thing_name", _name(), primary_key=True),
    Column("thing_id", String(36), nullable=False),
    Column("thing_type_name", _name(), ForeignKey("thing_types.thing_type_name")),
    Column("version", BigInteger, nullable=False),
    Index("things_by_type", "thing_type_name", "thing_name"),
)

thing_attributes = Table(
    "thing_attributes",
    metadata,
    _of("things.thing_name"),
    Column("name", _name(), primary_key=True),
    Column("value", _name(800), nullable=False),
    Index("things_by_attribute", "name", "value", "thing_name"),
)

thing_groups = Table(
    "thing_groups",
    metadata,
    Column("thing_group_name", _name(), primary_key=True),
    Column("thing_group_id", String(36), nullable=False),
    Column("parent_name", _name(), ForeignKey("thing_groups.thing_group_name")),
    # The names from the root's to its own, each with a slash behind it. They never change, and a group and
    # all that is below it are one range of paths.
    Column("path", _name(MAX_PATH), nullable=False, unique=True),
    Column("version", BigInteger, nullable=False),
    Column("description", Text),
    Column("attributes", JSON, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Index("thing_groups_by_parent", "parent_name", "thing_group_name"),
)

thing_group_tags = Table("thing_group_tags", metadata, _of("thing_groups.thing_group_name"), *_tag_columns())

memberships = Table(
    "memberships",
    metadata,
    # By path, so that the members of a group and of all groups below it are one range too.
    Column(
        "group_path", _name(MAX_PATH), ForeignKey("thing_groups.path", ondelete="CASCADE"), primary_key=True
    ),
    Column("thing_name", _name(), ForeignKey("things.thing_name", ondelete="CASCADE"), primary_key=True),
    Index("memberships_by_thing", "thing_name", "group_path"),
)
