"""The registry's tables. The migrations lead here: a test holds that what they make is what stands here."""

from datetime import UTC, datetime

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Dialect,
    ForeignKey,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
)

REVISION = "0001"
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


def _stream_id() -> String:
    # By code point wherever it is kept, so that lists have the same order in every database.
    return String(128).with_variant(String(128, collation="C"), "postgresql")


def _of_stream() -> Column[str]:
    return Column(
        "stream_id", _stream_id(), ForeignKey("streams.stream_id", ondelete="CASCADE"), primary_key=True
    )


metadata = MetaData()

streams = Table(
    "streams",
    metadata,
    Column("stream_id", _stream_id(), primary_key=True),
    Column("version", BigInteger, nullable=False),
    Column("description", Text),
    Column("role_arn", Text, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
)

files = Table(
    "files",
    metadata,
    _of_stream(),
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
    _of_stream(),
    Column("key", String(128), primary_key=True),
    Column("value", String(256), nullable=False),
)

secrets = Table(
    "secrets",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("value", LargeBinary, nullable=False),
)
