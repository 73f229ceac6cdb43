"""OTA updates in SQL: what was asked for, how far its making or unmaking is, and tags."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from sqlalchemy import (
    Boolean,
    Column,
    Connection,
    ForeignKey,
    Index,
    Integer,
    Row,
    String,
    Table,
    Text,
    delete,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.exc import IntegrityError

from broker_bridge.ota.update import (
    CREATING,
    ByProfile,
    Given,
    OtaUpdate,
    Plan,
    Signature,
    UpdateFile,
    UpdateStatus,
)
from broker_bridge.registry.database import Database
from broker_bridge.registry.errors import Exists, NotFound
from broker_bridge.registry.pages import Page, check_limit, page
from broker_bridge.registry.schema import UtcDateTime, metadata
from broker_bridge.registry.tagging import Tagging, Tags
from broker_bridge.storage.objects import ObjectRef

_UNFINISHED = text("status IN ('CREATE_PENDING', 'CREATE_IN_PROGRESS', 'DELETE_IN_PROGRESS')")


def _name(length: int = 128) -> String:
    return String(length).with_variant(String(length, collation="C"), "postgresql")


ota_updates = Table(
    "ota_updates",
    metadata,
    Column("ota_number", Integer, primary_key=True),
    Column("ota_update_id", _name(), nullable=False, unique=True),
    Column("status", String(24), nullable=False),
    # JSON: what GetOTAUpdate shows of the request, and `Plan`.
    Column("shown", Text, nullable=False),
    Column("plan", Text, nullable=False),
    Column("document", Text),
    Column("error_code", String(64)),
    Column("error_message", Text),
    Column("delete_stream", Boolean, nullable=False),
    Column("force_delete", Boolean, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    Index("ota_updates_by_status", "status", "ota_number"),
    Index("ota_updates_unfinished", "ota_number", sqlite_where=_UNFINISHED, postgresql_where=_UNFINISHED),
    # A number stays that of one update: pages and the maker go by it.
    sqlite_autoincrement=True,
)

ota_update_tags = Table(
    "ota_update_tags",
    metadata,
    Column(
        "ota_update_id",
        _name(),
        ForeignKey("ota_updates.ota_update_id", ondelete="CASCADE"),
        primary_key=True,
    ),
    Column("key", String(128), primary_key=True),
    Column("value", String(256), nullable=False),
)

_TAGS = Tags(ota_update_tags, "OTA update")


class OtaUpdateNotFound(NotFound):
    """There is no OTA update of that id."""

    def __init__(self, ota_update_id: str) -> None:
        super().__init__("OTA update", ota_update_id)


class OtaUpdateExists(Exists):
    """There is an OTA update of that id already."""

    def __init__(self, ota_update_id: str) -> None:
        super().__init__("OTA update", ota_update_id)


class OtaUpdates:
    """The OTA updates of a registry."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.tagging = Tagging(database, _TAGS, _one)
        self._listeners: list[Callable[[], None]] = []

    def on_work(self, listener: Callable[[], None]) -> None:
        """Has `listener` called after each change that leaves something to be made or unmade.

        The change stands by then, and the call comes from the thread that made it: it must not raise.
        """
        self._listeners.append(listener)

    def create(
        self,
        ota_update_id: str,
        *,
        plan: Plan,
        shown: Mapping[str, Any],
        tags: Mapping[str, str],
        now: datetime,
    ) -> OtaUpdate:
        """A new update, CREATE_PENDING. OtaUpdateExists, TooManyTags."""
        with self._database.changing() as connection:
            row = {
                "ota_update_id": ota_update_id,
                "status": UpdateStatus.CREATE_PENDING,
                "shown": _json(shown),
                "plan": _json(asdict(plan)),
                "delete_stream": False,
                "force_delete": False,
                "created_at": now,
                "updated_at": now,
            }
            try:
                connection.execute(insert(ota_updates), row)
            except IntegrityError as error:
                raise OtaUpdateExists(ota_update_id) from error
            _TAGS.add(connection, ota_update_id, tags)
            created = _one(connection, ota_update_id)
        self._tell()
        return created

    def get(self, ota_update_id: str) -> OtaUpdate:
        """The update as it is now. OtaUpdateNotFound."""
        with self._database.reading() as connection:
            return _one(connection, ota_update_id)

    def list(self, *, status: UpdateStatus | None, after: str | None, limit: int) -> Page[OtaUpdate]:
        """Updates, the newest first, at most `limit` (>= 1); `after` is another page's."""
        check_limit(limit)
        number = ota_updates.c.ota_number
        chosen = select(ota_updates).order_by(number.desc()).limit(limit + 1)
        if status is not None:
            chosen = chosen.where(ota_updates.c.status == status)
        if after is not None:
            chosen = chosen.where(number < int(after))
        with self._database.reading() as connection:
            found = [_update(row) for row in connection.execute(chosen)]
        return page(found, limit, lambda one: str(one.number))

    def unfinished(self) -> Sequence[str]:
        """The ids of updates that are to be made or unmade, the oldest first."""
        chosen = select(ota_updates.c.ota_update_id).where(_UNFINISHED).order_by(ota_updates.c.ota_number)
        with self._database.reading() as connection:
            return [str(name) for name in connection.execute(chosen).scalars()]

    def begin(self, ota_update_id: str, now: datetime) -> bool:
        """CREATE_IN_PROGRESS. False, here and below, if the update is no longer to be made."""
        return self._step(ota_update_id, CREATING, now, status=UpdateStatus.CREATE_IN_PROGRESS)

    def keep_document(self, ota_update_id: str, document: str, now: datetime) -> bool:
        """The document that its job will have: from now on no other."""
        return self._step(ota_update_id, CREATING, now, document=document)

    def complete(self, ota_update_id: str, now: datetime) -> bool:
        """CREATE_COMPLETE."""
        return self._step(ota_update_id, CREATING, now, status=UpdateStatus.CREATE_COMPLETE)

    def fail_creation(self, ota_update_id: str, code: str, message: str, now: datetime) -> bool:
        """CREATE_FAILED."""
        error = {"error_code": code, "error_message": message}
        return self._step(ota_update_id, CREATING, now, status=UpdateStatus.CREATE_FAILED, **error)

    def fail_deletion(self, ota_update_id: str, code: str, message: str, now: datetime) -> None:
        """DELETE_FAILED, until somebody deletes it again."""
        error = {"error_code": code, "error_message": message}
        deleting = (UpdateStatus.DELETE_IN_PROGRESS,)
        self._step(ota_update_id, deleting, now, status=UpdateStatus.DELETE_FAILED, **error)

    def delete(self, ota_update_id: str, *, delete_stream: bool, force: bool, now: datetime) -> None:
        """DELETE_IN_PROGRESS. OtaUpdateNotFound."""
        values: dict[str, object] = {"delete_stream": delete_stream, "force_delete": force}
        values |= {"error_code": None, "error_message": None}
        deleting = UpdateStatus.DELETE_IN_PROGRESS
        if not self._step(ota_update_id, tuple(UpdateStatus), now, status=deleting, **values):
            raise OtaUpdateNotFound(ota_update_id)
        self._tell()

    def remove(self, ota_update_id: str) -> None:
        """The update is gone, with its tags."""
        with self._database.changing() as connection:
            connection.execute(delete(ota_updates).where(ota_updates.c.ota_update_id == ota_update_id))

    def _step(
        self, ota_update_id: str, within: Sequence[UpdateStatus], now: datetime, **values: object
    ) -> bool:
        """Changes the update if it is in one of those states; whether it was."""
        chosen = (ota_updates.c.ota_update_id == ota_update_id) & ota_updates.c.status.in_(within)
        with self._database.changing() as connection:
            done = connection.execute(update(ota_updates).where(chosen).values(updated_at=now, **values))
            return done.rowcount > 0

    def _tell(self) -> None:
        for listener in self._listeners:
            listener()


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _one(connection: Connection, ota_update_id: str) -> OtaUpdate:
    chosen = select(ota_updates).where(ota_updates.c.ota_update_id == ota_update_id)
    row = connection.execute(chosen).one_or_none()
    if row is None:
        raise OtaUpdateNotFound(ota_update_id)
    return _update(row)


def _update(row: Row[Any]) -> OtaUpdate:
    return OtaUpdate(
        number=row.ota_number,
        ota_update_id=row.ota_update_id,
        status=UpdateStatus(row.status),
        plan=_plan(json.loads(row.plan)),
        shown=json.loads(row.shown),
        document=row.document,
        error=None if row.error_code is None else (row.error_code, row.error_message),
        delete_stream=row.delete_stream,
        force_delete=row.force_delete,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


def _plan(kept: dict[str, Any]) -> Plan:
    for name in ("protocols", "things", "groups"):
        kept[name] = tuple(kept[name])
    kept["files"] = tuple(_file(file) for file in kept["files"])
    return Plan(**kept)


def _file(kept: dict[str, Any]) -> UpdateFile:
    signing = kept["signing"]
    if signing is not None:
        if "profile" in signing:
            signing = ByProfile(**signing)
        else:
            signing = Given(signature=Signature(**signing["signature"]), public_key=signing["public_key"])
    return UpdateFile(**(kept | {"object": ObjectRef(**kept["object"]), "signing": signing}))
