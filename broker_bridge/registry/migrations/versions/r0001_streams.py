"""Streams, their files and tags, and the service's secrets."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes the first schema."""

    def stream_id() -> sa.String:
        return sa.String(128).with_variant(sa.String(128, collation="C"), "postgresql")

    def of_stream() -> sa.Column[str]:
        return sa.Column("stream_id", stream_id(), sa.ForeignKey("streams.stream_id", ondelete="CASCADE"))

    op.create_table(
        "streams",
        sa.Column("stream_id", stream_id(), primary_key=True),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("description", sa.Text),
        sa.Column("role_arn", sa.Text, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_table(
        "files",
        of_stream(),
        sa.Column("file_id", sa.Integer, autoincrement=False),
        sa.Column("bucket", sa.Text, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("version_id", sa.Text),
        sa.Column("etag", sa.Text, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("stream_id", "file_id"),
    )
    op.create_table(
        "tags",
        of_stream(),
        sa.Column("key", sa.String(128)),
        sa.Column("value", sa.String(256), nullable=False),
        sa.PrimaryKeyConstraint("stream_id", "key"),
    )
    op.create_table(
        "secrets",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("value", sa.LargeBinary, nullable=False),
    )
