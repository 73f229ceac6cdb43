"""Opening the registry's database: the lock, the connections, the schema brought up to date."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, inspect, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, NoSuchModuleError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from broker_bridge.registry.errors import RegistryLocked, RegistryUnavailable
from broker_bridge.registry.schema import REVISION

_CONNECTIONS = 4
_WAIT_SECONDS = 10


@contextmanager
def unavailable_if_failing() -> Iterator[None]:
    """Turns what the driver raises, and too long a wait for a connection, into RegistryUnavailable."""
    try:
        yield
    except IntegrityError:
        # A caller's mistake (a file id twice), no failure of the database: not to be retried or hidden.
        raise
    except DBAPIError as error:
        raise RegistryUnavailable(f"the registry's database failed: {error.orig}") from error
    except PoolTimeout as error:
        raise RegistryUnavailable(f"no connection to the registry's database in {_WAIT_SECONDS} s") from error


def parse_url(text_url: str) -> URL:
    """The URL of a database that we can use: SQLite in a file, or a server whose driver is installed."""
    try:
        url = make_url(text_url)
        url.get_dialect().import_dbapi()
    except (NoSuchModuleError, ImportError) as error:
        raise RegistryUnavailable(f"the driver that the database URL names is missing: {error}") from error
    except ArgumentError as error:
        # Not its text: the URL may hold a password.
        raise RegistryUnavailable("the database URL is none; sqlite:///PATH would be one") from error
    if url.get_backend_name() == "sqlite" and (url.database or ":").startswith((":", "file:")):
        raise RegistryUnavailable(
            "a SQLite registry is sqlite:///PATH, a file: nothing in memory, no file: URI"
        )
    return url


class Lock:
    """Keeps a SQLite file to one service: a lock on a file beside it, which its holder's death releases."""

    def __init__(self, database: Path) -> None:
        """Takes the lock, or raises RegistryLocked at once."""
        # Not there on Windows, where the service does not run and its command's other parts do.
        import fcntl

        # Not the database itself: whoever closes any handle of that drops SQLite's own locks on it. And
        # flock, not lockf, so that two registries in one process exclude each other too.
        self._handle = os.open(f"{database}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._handle)
            raise RegistryLocked(f"another service works in {database.parent}") from error

    def release(self) -> None:
        """Lets the next one in. The file stays: removing it could remove the next holder's."""
        os.close(self._handle)


def prepare_file(database: Path) -> Lock:
    """Locks a SQLite database, and makes its folder and file where they are not there yet."""
    try:
        database.parent.mkdir(parents=True, exist_ok=True)
        # Resolved: by whichever link two services came, they meet at one lock.
        lock = Lock(database.resolve())
        # For its owner alone: it holds the key that signs paging tokens.
        os.close(os.open(database, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise RegistryUnavailable(f"the registry's database cannot be opened: {error}") from error
    return lock


def connect(url: URL) -> Engine:
    """The engine; every wait on it is bounded by ten seconds."""
    options: dict[str, Any] = {
        "pool_size": _CONNECTIONS,
        "max_overflow": 0,
        "pool_timeout": _WAIT_SECONDS,
        "pool_pre_ping": True,
    }
    if url.get_backend_name() != "sqlite":
        return create_engine(url, **options)
    engine = create_engine(url, connect_args={"timeout": _WAIT_SECONDS}, **options)

    @event.listens_for(engine, "connect")
    def set_up(connection: Any, _record: object) -> None:
        # The driver's own transactions begin at the first change only and leave CREATE TABLE outside; ours
        # begin where SQLAlchemy says.
        connection.isolation_level = None
        connection.execute("PRAGMA foreign_keys=ON")
        connection.execute("PRAGMA journal_mode=WAL")
        # WAL with NORMAL already survives kill -9, but forgets the last changes when the power fails. An
        # operator who was told "created" may have told a fleet, so every commit is synced: 0.3 ms more, on
        # a path that people and their tools walk and devices do not.
        connection.execute("PRAGMA synchronous=FULL")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN")

    return engine


def revision(connection: Connection) -> str | None:
    """The schema's revision; None for an empty database."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def check_schema(engine: Engine) -> None:
    """Raises RegistryUnavailable unless the schema is this program's."""
    with engine.connect() as connection:
        found = revision(connection)
    if found != REVISION:
        raise RegistryUnavailable(
            f"the registry's schema is {found or 'not made yet'}, this program's is {REVISION}"
        )


def upgrade(engine: Engine) -> None:
    """Brings the schema up to date, in one transaction where the database can (SQLite, PostgreSQL).

    Raises RegistryUnavailable if a newer Sluice has been here.
    """
    with engine.begin() as connection:
        found = revision(connection)
        if found == REVISION:
            return
        # Only now: it costs a start 60 ms and several megabytes, and is needed once per release.
        from alembic import command
        from alembic.config import Config
        from alembic.script import ScriptDirectory

        config = Config(attributes={"connection": connection})
        config.set_main_option("script_location", "broker_bridge.registry:migrations")
        known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
        if found is not None and found not in known:
            raise RegistryUnavailable(
                f"the registry's schema {found} was made by a newer Sluice; this one knows up to {REVISION}"
            )
        command.upgrade(config, "head")
