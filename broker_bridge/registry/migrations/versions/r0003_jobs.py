"""Jobs, their targets and executions, and what things are to be told of them."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds them; nothing that is there changes."""

    def name(length: int = 128) -> sa.String:
        return sa.String(length).with_variant(sa.String(length, collation="C"), "postgresql")

    def moment(column: str, *, nullable: bool = True) -> sa.Column[object]:
        return sa.Column(column, sa.DateTime(timezone=True), nullable=nullable)

    def count(column: str) -> sa.Column[int]:
        return sa.Column(column, sa.Integer, nullable=False)

    def of_job() -> sa.Column[int]:
        return sa.Column("job_number", sa.Integer, sa.ForeignKey("jobs.job_number"), autoincrement=False)

    def partial_index(index: str, table: str, columns: list[str], where: str) -> None:
        op.create_index(index, table, columns, sqlite_where=sa.text(where), postgresql_where=sa.text(where))

    op.create_table(
        "jobs",
        sa.Column("job_number", sa.Integer, primary_key=True),
        sa.Column("job_id", name(64), nullable=False, unique=True),
        sa.Column("status", sa.String(24), nullable=False),
        sa.Column("continuous", sa.Boolean, nullable=False),
        sa.Column("description", sa.Text),
        sa.Column("document", sa.Text, nullable=False),
        sa.Column("document_source", sa.Text),
        sa.Column("config", sa.Text, nullable=False),
        sa.Column("reason_code", sa.String(128)),
        sa.Column("comment", sa.Text),
        sa.Column("force_canceled", sa.Boolean, nullable=False),
        moment("created_at", nullable=False),
        moment("updated_at", nullable=False),
        moment("completed_at"),
        count("queued"),
        count("in_progress"),
        count("succeeded"),
        count("failed"),
        count("timed_out"),
        count("rejected"),
        count("removed"),
        count("canceled"),
        count("waiting"),
        count("notified"),
        sa.Column("recent", sa.Text, nullable=False),
        sa.Column("stopped", sa.Boolean, nullable=False),
        count("tally_executed"),
        count("tally_failed"),
        count("tally_timed_out"),
        count("tally_rejected"),
        count("tally_any"),
        moment("due_at"),
        sqlite_autoincrement=True,
    )
    partial_index("jobs_due", "jobs", ["due_at"], "due_at IS NOT NULL")
    op.create_index("jobs_by_status", "jobs", ["status", "job_number"])
    op.create_table(
        "job_tags",
        sa.Column("job_id", name(64), sa.ForeignKey("jobs.job_id", ondelete="CASCADE")),
        sa.Column("key", sa.String(128)),
        sa.Column("value", sa.String(256), nullable=False),
        sa.PrimaryKeyConstraint("job_id", "key"),
    )
    op.create_table(
        "job_targets",
        of_job(),
        sa.Column("position", sa.Integer, autoincrement=False),
        sa.Column("thing_name", name()),
        sa.Column("group_path", name(903)),
        sa.PrimaryKeyConstraint("job_number", "position"),
    )
    op.create_index("job_targets_by_group", "job_targets", ["group_path", "job_number"])
    op.create_table(
        "job_waiting",
        of_job(),
        sa.Column("thing_name", name()),
        sa.PrimaryKeyConstraint("job_number", "thing_name"),
    )
    op.create_index("job_waiting_by_thing", "job_waiting", ["thing_name"])
    op.create_table(
        "job_executions",
        of_job(),
        sa.Column("thing_name", name()),
        sa.Column("execution_number", sa.BigInteger, autoincrement=False),
        sa.Column("status", sa.String(24), nullable=False),
        sa.Column("place", sa.Integer),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("details", sa.Text),
        moment("queued_at", nullable=False),
        moment("started_at"),
        moment("updated_at", nullable=False),
        count("failed_retries"),
        count("timed_out_retries"),
        sa.Column("force_canceled", sa.Boolean, nullable=False),
        moment("deadline"),
        moment("step_deadline"),
        moment("due_at"),
        sa.PrimaryKeyConstraint("job_number", "thing_name", "execution_number"),
    )
    op.create_index(
        "job_executions_by_status",
        "job_executions",
        ["job_number", "status", "thing_name", "execution_number"],
    )
    op.create_index(
        "job_executions_by_thing", "job_executions", ["thing_name", "job_number", "execution_number"]
    )
    partial_index(
        "job_executions_pending",
        "job_executions",
        ["thing_name", "place", "queued_at", "job_number"],
        "place IS NOT NULL",
    )
    partial_index("job_executions_due", "job_executions", ["due_at"], "due_at IS NOT NULL")
    op.create_table(
        "job_notices",
        sa.Column("thing_name", name(), primary_key=True),
        sa.Column("job_number", sa.Integer),
        sa.Column("execution_number", sa.BigInteger),
        sa.Column("next_changes", sa.Integer),
        sa.Column("list_changes", sa.Integer),
    )
    partial_index(
        "job_notices_due",
        "job_notices",
        ["thing_name"],
        "next_changes IS NOT NULL OR list_changes IS NOT NULL",
    )
