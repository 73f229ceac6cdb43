"""Things with their types, attributes and groups."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds them; nothing that is there changes."""

    def name(length: int = 128) -> sa.String:
        return sa.String(length).with_variant(sa.String(length, collation="C"), "postgresql")

    def of(table: str, column: str) -> sa.Column[str]:
        return sa.Column(column, name(), sa.ForeignKey(f"{table}.{column}", ondelete="CASCADE"))

    def tags_of(kind: str) -> None:
        owner = f"{kind}_name"
        op.create_table(
            f"{kind}_tags",
            of(f"{kind}s", owner),
            sa.Column("key", sa.String(128)),
            sa.Column("value", sa.String(256), nullable=False),
            sa.PrimaryKeyConstraint(owner, "key"),
        )

    op.create_table(
        "thing_types",
        sa.Column("thing_type_name", name(), primary_key=True),
        sa.Column("thing_type_id", sa.String(36), nullable=False),
        sa.Column("description", sa.Text),
        sa.Column("searchable_attributes", sa.JSON, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("deprecated_at", sa.DateTime(timezone=True)),
    )
    tags_of("thing_type")
    op.create_table(
        "things",
        sa.Column("thing_name", name(), primary_key=True),
        sa.Column("thing_id", sa.String(36), nullable=False),
        sa.Column("thing_type_name", name(), sa.ForeignKey("thing_types.thing_type_name")),
        sa.Column("version", sa.BigInteger, nullable=False),
    )
    op.create_index("things_by_type", "things", ["thing_type_name", "thing_name"])
    op.create_table(
        "thing_attributes",
        of("things", "thing_name"),
        sa.Column("name", name()),
        sa.Column("value", name(800), nullable=False),
        sa.PrimaryKeyConstraint("thing_name", "name"),
    )
    op.create_index("things_by_attribute", "thing_attributes", ["name", "value", "thing_name"])
    op.create_table(
        "thing_groups",
        sa.Column("thing_group_name", name(), primary_key=True),
        sa.Column("thing_group_id", sa.String(36), nullable=False),
        sa.Column("parent_name", name(), sa.ForeignKey("thing_groups.thing_group_name")),
        sa.Column("path", name(903), nullable=False, unique=True),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("description", sa.Text),
        sa.Column("attributes", sa.JSON, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_index("thing_groups_by_parent", "thing_groups", ["parent_name", "thing_group_name"])
    tags_of("thing_group")
    op.create_table(
        "memberships",
        sa.Column("group_path", name(903), sa.ForeignKey("thing_groups.path", ondelete="CASCADE")),
        sa.Column("thing_name", name(), sa.ForeignKey("things.thing_name", ondelete="CASCADE")),
        sa.PrimaryKeyConstraint("group_path", "thing_name"),
    )
    op.create_index("memberships_by_thing", "memberships", ["thing_name", "group_path"])
