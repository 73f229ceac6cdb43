"""Rollouts in stages, and the order in which things are reached."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds them; jobs that are there have no stages, and reach what waits for them by name as before."""
    op.add_column("jobs", sa.Column("stages", sa.Text))
    op.add_column("jobs", sa.Column("paused", sa.Boolean, nullable=False, server_default=sa.false()))
    op.add_column("jobs", sa.Column("stage", sa.Integer))
    op.add_column("jobs", sa.Column("passed_at", sa.DateTime(timezone=True)))
    digest = sa.String(32).with_variant(sa.String(32, collation="C"), "postgresql")
    op.add_column("job_waiting", sa.Column("place", digest, nullable=False, server_default=""))
    op.create_index("job_waiting_in_order", "job_waiting", ["job_number", "place", "thing_name"])
