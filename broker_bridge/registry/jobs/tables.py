"""The tables of jobs.

A job is known inside by a number that is never given out again, so that what is left of a job that is being
deleted cannot be taken for that of a later one with the same id.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    String,
    Table,
    Text,
    false,
    text,
)

from broker_bridge.registry.schema import MAX_PATH, UtcDateTime, metadata


def _name(length: int = 128) -> String:
    # By code point wherever it is kept, so that lists have the same order in every database.
    return String(length).with_variant(String(length, collation="C"), "postgresql")


def _count(name: str) -> Column[int]:
    return Column(name, Integer, nullable=False)


def _number() -> Column[int]:
    return Column("job_number", Integer, ForeignKey("jobs.job_number"), primary_key=True, autoincrement=False)


_OPEN = text("place IS NOT NULL")
_TIMED = text("due_at IS NOT NULL")
_UNTOLD = text("next_changes IS NOT NULL OR list_changes IS NOT NULL")

jobs = Table(
    "jobs",
    metadata,
    Column("job_number", Integer, primary_key=True),
    Column("job_id", _name(64), nullable=False, unique=True),
    Column("status", String(24), nullable=False),
    Column("continuous", Boolean, nullable=False),
    Column("description", Text),
    Column("document", Text, nullable=False),
    Column("document_source", Text),
    # The configurations as JSON, by their names in AWS's model.
    Column("config", Text, nullable=False),
    Column("reason_code", String(128)),
    Column("comment", Text),
    Column("force_canceled", Boolean, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    Column("completed_at", UtcDateTime),
    # Things by the state of their latest execution.
    *(
        _count(name)
        for name in (
            *("queued", "in_progress", "succeeded", "failed"),
            *("timed_out", "rejected", "removed", "canceled"),
        )
    ),
    # Things that wait for their execution, and things that got one.
    _count("waiting"),
    _count("notified"),
    # Rolled out within the last minute: JSON, a list of [milliseconds since 1970, things].
    Column("recent", Text, nullable=False),
    # The end of its schedule is past: no thing is taken up any more.
    Column("stopped", Boolean, nullable=False),
    # What abort criteria look at (`jobs.abort.Tally`).
    *(_count(f"tally_{name}") for name in ("executed", "failed", "timed_out", "rejected", "any")),
    # When the engine is to look at it; null where nothing is to come.
    Column("due_at", UtcDateTime),
    # Its stages as its tag has them, and whether a tag pauses it; where it is among the stages
    # (`jobs.stages.Place`).
    Column("stages", Text),
    Column("paused", Boolean, nullable=False, server_default=false()),
    Column("stage", Integer),
    Column("passed_at", UtcDateTime),
    # SQLite gives the greatest number out again without.
    sqlite_autoincrement=True,
)
Index(
    "jobs_due",
    jobs.c.due_at,
    sqlite_where=text("due_at IS NOT NULL"),
    postgresql_where=text("due_at IS NOT NULL"),
)
Index("jobs_by_status", jobs.c.status, jobs.c.job_number)

job_tags = Table(
    "job_tags",
    metadata,
    Column("job_id", _name(64), ForeignKey("jobs.job_id", ondelete="CASCADE"), primary_key=True),
    Column("key", String(128), primary_key=True),
    Column("value", String(256), nullable=False),
)

job_targets = Table(
    "job_targets",
    metadata,
    _number(),
    Column("position", Integer, primary_key=True, autoincrement=False),
    # The thing, or the path of the thing group.
    Column("thing_name", _name()),
    Column("group_path", _name(MAX_PATH)),
    Index("job_targets_by_group", "group_path", "job_number"),
)

job_waiting = Table(
    "job_waiting",
    metadata,
    _number(),
    Column("thing_name", _name(), primary_key=True),
    # The MD5 of job and thing: who comes first is spread over sites, batches and whatever else names tell,
    # and is another in another job.
    Column("place", _name(32), nullable=False, server_default=""),
    Index("job_waiting_by_thing", "thing_name"),
    Index("job_waiting_in_order", "job_number", "place", "thing_name"),
)
"""Things that a job has not reached yet."""

executions = Table(
    "job_executions",
    metadata,
    _number(),
    Column("thing_name", _name(), primary_key=True),
    Column("execution_number", BigInteger, primary_key=True, autoincrement=False),
    # A state of AWS's, or GONE.
    Column("status", String(24), nullable=False),
    # Its place among the thing's pending executions: 0 in progress, 1 queued, null where it has ended.
    Column("place", Integer),
    Column("version", BigInteger, nullable=False),
    Column("details", Text),
    Column("queued_at", UtcDateTime, nullable=False),
    Column("started_at", UtcDateTime),
    Column("updated_at", UtcDateTime, nullable=False),
    Column("failed_retries", Integer, nullable=False),
    Column("timed_out_retries", Integer, nullable=False),
    Column("force_canceled", Boolean, nullable=False),
    Column("deadline", UtcDateTime),
    Column("step_deadline", UtcDateTime),
    # The earlier of both.
    Column("due_at", UtcDateTime),
    Index("job_executions_by_status", "job_number", "status", "thing_name", "execution_number"),
    Index("job_executions_by_thing", "thing_name", "job_number", "execution_number"),
    Index(
        "job_executions_pending",
        "thing_name",
        "place",
        "queued_at",
        "job_number",
        sqlite_where=_OPEN,
        postgresql_where=_OPEN,
    ),
    Index("job_executions_due", "due_at", sqlite_where=_TIMED, postgresql_where=_TIMED),
)

GONE = "GONE"
"""Status of an execution that was deleted. Its row stays with the job, or a continuous job would take the
thing for one that it has not reached yet, and run there again."""

notices = Table(
    "job_notices",
    metadata,
    Column("thing_name", _name(), primary_key=True),
    # The thing's next execution, as it was when last looked at; null where it has none.
    Column("job_number", Integer),
    Column("execution_number", BigInteger),
    # How often the next one, or the list of pending ones, changed since it was announced; null: it was.
    Column("next_changes", Integer),
    Column("list_changes", Integer),
    Index(
        "job_notices_due",
        "thing_name",
        sqlite_where=_UNTOLD,
        postgresql_where=_UNTOLD,
    ),
)
"""What a thing is to be told with `notify-next` and `notify`. A row goes when nothing is left to say."""
