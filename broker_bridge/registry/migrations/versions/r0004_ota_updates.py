"""OTA updates and their tags."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds them; nothing that is there changes."""

    def name() -> sa.String:
        return sa.String(128).with_variant(sa.String(128, collation="C"), "postgresql")

    unfinished = sa.text("status IN ('CREATE_PENDING', 'CREATE_IN_PROGRESS', 'DELETE_IN_PROGRESS')")
    op.create_table(
        "ota_updates",
        sa.Column("ota_number", sa.Integer, primary_key=True),
        sa.Column("ota_update_id", name(), nullable=False, unique=True),
        sa.Column("status", sa.String(24), nullable=False),
        sa.Column("shown", sa.Text, nullable=False),
        sa.Column("plan", sa.Text, nullable=False),
        sa.Column("document", sa.Text),
        sa.Column("error_code", sa.String(64)),
        sa.Column("error_message", sa.Text),
        sa.Column("delete_stream", sa.Boolean, nullable=False),
        sa.Column("force_delete", sa.Boolean, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("ota_updates_by_status", "ota_updates", ["status", "ota_number"])
    op.create_index(
        "ota_updates_unfinished",
        "ota_updates",
        ["ota_number"],
        sqlite_where=unfinished,
        postgresql_where=unfinished,
    )
    op.create_table(
        "ota_update_tags",
        sa.Column("ota_update_id", name(), sa.ForeignKey("ota_updates.ota_update_id", ondelete="CASCADE")),
        sa.Column("key", sa.String(128)),
        sa.Column("value", sa.String(256), nullable=False),
        sa.PrimaryKeyConstraint("ota_update_id", "key"),
    )
