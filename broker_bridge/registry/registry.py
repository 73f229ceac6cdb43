"""The registry as a whole, and its streams with their files, versions and tags."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from itertools import groupby
from typing import Any

import structlog
from sqlalchemy import Connection, Row, Select, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from broker_bridge import pace
from broker_bridge.registry import schema
from broker_bridge.registry.database import Database
from broker_bridge.registry.errors import StreamExists, StreamNotFound, VersionConflict
from broker_bridge.registry.jobs.devices import DeviceJobs
from broker_bridge.registry.jobs.ledger import Ledger
from broker_bridge.registry.jobs.steps import JobSteps
from broker_bridge.registry.jobs.store import Jobs
from broker_bridge.registry.ota import OtaUpdates
from broker_bridge.registry.streams import Stream, StreamFile
from broker_bridge.registry.tagging import Tags
from broker_bridge.registry.thing_groups import ThingGroups
from broker_bridge.registry.thing_types import ThingTypes
from broker_bridge.registry.things import Things
from broker_bridge.storage.objects import ObjectRef

log = structlog.get_logger("registry")

_STREAMS, _FILES = schema.streams, schema.files
_TAGS = Tags(schema.tags, "stream")


class Registry:
    """The registry, open. Its calls block, and may come from several threads at once.

    A change that has returned is on the disk; one that raised has changed nothing. Every call raises
    RegistryUnavailable when the database fails; only if that was during the commit, the change may stand.
    """

    def __init__(self, opened: Database) -> None:
        """Over a database that is open, which `close` closes."""
        self._database = opened
        self.things = Things(opened, self._things_changed)
        self.thing_types = ThingTypes(opened)
        self.thing_groups = ThingGroups(opened, self._things_changed)
        self.job_changes = Ledger(opened)
        self.jobs = Jobs(self.job_changes)
        self.device_jobs = DeviceJobs(self.job_changes)
        self.job_steps = JobSteps(self.job_changes)
        self.ota = OtaUpdates(opened)
        self._callbacks: list[Callable[[str], None]] = []
        self._things_callbacks: list[Callable[[str | None], None]] = []

    @classmethod
    def open(cls, url: str, *, read_only: bool = False) -> "Registry":
        """Opens the database of that SQLAlchemy URL, and brings its schema up to date.

        `read_only` is for further processes of the same service: it takes no lock and makes no schema.
        Only a SQLite file is kept to one service; on a server that is the operator's care.
        Raises RegistryLocked; RegistryUnavailable for a database that cannot be reached, that a newer Sluice
        has changed, or, with `read_only`, that is not up to date.
        """
        return cls(Database.open(url, read_only=read_only))

    def close(self) -> None:
        """Closes the connections and lets the next service in. No harm in a second call."""
        self._database.close()

    def secret(self, name: str) -> bytes:
        """32 random bytes of that name (at most 64 characters), made at the first call and kept for good."""
        return self._database.secret(name)

    def on_change(self, callback: Callable[[str], None]) -> None:
        """Has `callback` called with the stream's id after each change, from the thread that made it.

        The change stands by then: a callback must not raise.
        """
        self._callbacks.append(callback)

    def on_things_change(self, callback: Callable[[str | None], None]) -> None:
        """Has `callback` called after a thing was made, deleted, or changed its groups, with its name; with
        None, where that may be of many things. Whom jobs are for follows from it (`jobs.follow`).

        As with `on_change`, the change stands by then, and the callback must not raise.
        """
        self._things_callbacks.append(callback)

    def create_stream(
        self,
        stream_id: str,
        *,
        description: str | None,
        role_arn: str,
        files: tuple[StreamFile, ...],
        tags: Mapping[str, str],
        now: datetime,
    ) -> Stream:
        """A new stream at version 1. StreamExists, TooManyTags.

        The id of a deleted stream may be used again, and its versions start at 1 again, as with AWS. So `s`
        does not tell a device that holds half of the old file from one that starts; what tells it is the
        comparison of blocks and of hashes that it makes itself.
        """
        with self._change(stream_id) as connection:
            row = {
                "stream_id": stream_id,
                "version": 1,
                "description": description,
                "role_arn": role_arn,
                "created_at": now,
                "updated_at": now,
            }
            try:
                connection.execute(insert(_STREAMS), row)
            except IntegrityError as error:
                raise StreamExists(stream_id) from error
            _insert_files(connection, stream_id, files)
            _TAGS.add(connection, stream_id, tags)
            return _one(connection, stream_id)

    def stream(self, stream_id: str) -> Stream:
        """The stream as it is now. StreamNotFound."""
        with self._database.reading() as connection:
            return _one(connection, stream_id)

    def update_stream(
        self,
        stream_id: str,
        *,
        description: str | None,
        role_arn: str | None,
        files: tuple[StreamFile, ...] | None,
        now: datetime,
        expected_version: int | None = None,
    ) -> Stream:
        """Replaces what is not None, and raises the version by 1. StreamNotFound, VersionConflict."""
        values: dict[str, Any] = {"updated_at": now}
        if description is not None:
            values["description"] = description
        if role_arn is not None:
            values["role_arn"] = role_arn
        with self._change(stream_id) as connection:
            found = _lock_stream(connection, stream_id)
            if expected_version is not None and found != expected_version:
                raise VersionConflict(f"stream {stream_id}", expected_version, found)
            chosen = _STREAMS.c.stream_id == stream_id
            connection.execute(update(_STREAMS).where(chosen).values(version=found + 1, **values))
            if files is not None:
                connection.execute(delete(_FILES).where(_FILES.c.stream_id == stream_id))
                _insert_files(connection, stream_id, files)
            return _one(connection, stream_id)

    def delete_stream(self, stream_id: str) -> None:
        """Removes the stream with its files and tags. StreamNotFound."""
        with self._change(stream_id) as connection:
            if not connection.execute(delete(_STREAMS).where(_STREAMS.c.stream_id == stream_id)).rowcount:
                raise StreamNotFound(stream_id)

    def streams(self, *, after: str | None, limit: int, ascending: bool) -> list[Stream]:
        """At most `limit` (>= 1) streams in the order of their ids, from the one that follows `after`.

        `ascending` turns the order, and with it what "follows" means; without `after`, from the first.
        """
        if limit < 1:
            raise ValueError(f"limit is {limit}, at least 1 is needed")
        name = _STREAMS.c.stream_id
        page = select(_STREAMS).order_by(name if ascending else name.desc()).limit(limit)
        if after is not None:
            page = page.where(name > after if ascending else name < after)
        with self._database.reading() as connection:
            return _read(connection, page, ascending)

    def tag(self, stream_id: str, tags: Mapping[str, str]) -> None:
        """Adds the tags; one whose key is there already gets the new value. StreamNotFound, TooManyTags."""
        with self._change(stream_id) as connection:
            _lock_stream(connection, stream_id)
            _TAGS.add(connection, stream_id, tags)

    def untag(self, stream_id: str, keys: Iterable[str]) -> None:
        """Removes the tags of those keys, where they are there. StreamNotFound."""
        with self._change(stream_id) as connection:
            _lock_stream(connection, stream_id)
            _TAGS.remove(connection, stream_id, keys)

    def tags(self, stream_id: str) -> dict[str, str]:
        """The stream's tags, by key. StreamNotFound."""
        with self._database.reading() as connection:
            _lock_stream(connection, stream_id)
            return _TAGS.all(connection, stream_id)

    def count(self) -> int:
        """How many streams there are."""
        with self._database.reading() as connection:
            return connection.execute(select(func.count()).select_from(_STREAMS)).scalar_one()

    def _things_changed(self, thing: str | None) -> None:
        for callback in self._things_callbacks:
            callback(thing)

    @contextmanager
    def _change(self, stream_id: str) -> Iterator[Connection]:
        """A transaction on a stream, of which listeners hear once it stands."""
        with self._database.changing() as connection:
            yield connection
        for callback in self._callbacks:
            callback(stream_id)


def _lock_stream(connection: Connection, stream_id: str) -> int:
    """The stream's version, which nobody changes before this transaction ends."""
    chosen = select(_STREAMS.c.version).where(_STREAMS.c.stream_id == stream_id)
    version: int | None = connection.execute(chosen.with_for_update()).scalar()
    if version is None:
        raise StreamNotFound(stream_id)
    return version


def _one(connection: Connection, stream_id: str) -> Stream:
    found = _read(connection, select(_STREAMS).where(_STREAMS.c.stream_id == stream_id), True)
    if not found:
        raise StreamNotFound(stream_id)
    return found[0]


def _read(connection: Connection, chosen: Select[Any], ascending: bool) -> list[Stream]:
    """The chosen streams, by id. One statement, so that a stream's files are those of its version."""
    page = chosen.subquery()
    name = page.c.stream_id
    rate, gap = schema.tags.alias("rate"), schema.tags.alias("gap")
    joined = (
        select(
            page,
            _FILES.c.file_id,
            _FILES.c.bucket,
            _FILES.c.key,
            _FILES.c.version_id,
            _FILES.c.etag,
            _FILES.c.size,
            rate.c.value.label("rate_tag"),
            gap.c.value.label("gap_tag"),
        )
        .select_from(
            page.outerjoin(_FILES, name == _FILES.c.stream_id)
            .outerjoin(rate, (name == rate.c.stream_id) & (rate.c.key == pace.RATE_TAG))
            .outerjoin(gap, (name == gap.c.stream_id) & (gap.c.key == pace.GAP_TAG))
        )
        .order_by(name if ascending else name.desc(), _FILES.c.file_id)
    )
    rows = connection.execute(joined)
    return [_stream(list(group)) for _, group in groupby(rows, key=lambda row: row.stream_id)]


def _stream(rows: list[Row[Any]]) -> Stream:
    """One stream from its rows, one to a file; of a stream without files one row whose file is null."""
    first = rows[0]
    return Stream(
        stream_id=first.stream_id,
        version=first.version,
        description=first.description,
        role_arn=first.role_arn,
        files=tuple(
            StreamFile(row.file_id, ObjectRef(row.bucket, row.key, row.etag, row.version_id), row.size)
            for row in rows
            if row.file_id is not None
        ),
        created_at=first.created_at,
        updated_at=first.updated_at,
        pace=_pace(first),
    )


def _pace(row: Row[Any]) -> pace.Pace | None:
    tags = {pace.RATE_TAG: row.rate_tag, pace.GAP_TAG: row.gap_tag}
    try:
        return pace.from_tags({key: value for key, value in tags.items() if value is not None})
    except ValueError as error:
        # The API takes no such tag, but one may have been there before. Better too fast than not at all.
        log.warning("a tag that cannot be kept to is ignored", stream=row.stream_id, reason=str(error))
        return None


def _insert_files(connection: Connection, stream_id: str, files: Iterable[StreamFile]) -> None:
    rows = [
        {
            "stream_id": stream_id,
            "file_id": file.file_id,
            "bucket": file.object.bucket,
            "key": file.object.key,
            "version_id": file.object.version_id,
            "etag": file.object.etag,
            "size": file.size,
        }
        for file in files
    ]
    if rows:
        connection.execute(insert(_FILES), rows)
