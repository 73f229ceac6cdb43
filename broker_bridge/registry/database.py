"""The registry's database: the lock, the connections, the schema brought up to date, transactions."""

import hashlib
import os
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, insert, inspect, make_url, select, text
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, NoSuchModuleError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from broker_bridge.registry import schema
from broker_bridge.registry.errors import RegistryLocked, RegistryUnavailable

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
        # operator who was told "created" may have told a fleet, and a device that was told "accepted" has
        # forgotten what it reported, so every commit is synced: 0.3 ms more. Of reports, one commit serves
        # all that wait (`job_topics.desk`).
        connection.execute("PRAGMA synchronous=FULL")
        # As PostgreSQL has it.
        connection.create_function("md5", 1, _md5, deterministic=True)

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN")

    return engine


def _md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def revision(connection: Connection) -> str | None:
    """The schema's revision; None for an empty database."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def check_schema(engine: Engine) -> None:
    """Raises RegistryUnavailable unless the schema is this program's."""
    with engine.connect() as connection:
        found = revision(connection)
    if found != schema.REVISION:
        raise RegistryUnavailable(
            f"the registry's schema is {found or 'not made yet'}, this program's is {schema.REVISION}"
        )


def upgrade(engine: Engine) -> None:
    """Brings the schema up to date, in one transaction where the database can (SQLite, PostgreSQL).

    Raises RegistryUnavailable if a newer Sluice has been here.
    """
    with engine.begin() as connection:
        found = revision(connection)
        if found == schema.REVISION:
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
                f"the registry's schema {found} was made by a newer Sluice; "
                f"this one knows up to {schema.REVISION}"
            )
        command.upgrade(config, "head")


class Database:
    """The database, open: what streams, things and jobs read and change it through.

    Its calls block, and may come from several threads at once. Every one raises RegistryUnavailable when the
    database fails; only if that was during the commit, the change may stand.
    """

    def __init__(self, engine: Engine, lock: Lock | None, read_only: bool) -> None:
        """For `open` alone."""
        self._engine = engine
        self._lock = lock
        self._read_only = read_only
        # One change at a time: what a change reads first is still so when it writes, and threads do not
        # poll for SQLite's one place for a writer.
        self._writing = threading.Lock()

    @classmethod
    def open(cls, url: str, *, read_only: bool = False) -> "Database":
        """As `Registry.open`."""
        parsed = parse_url(url)
        lock = None
        if parsed.get_backend_name() == "sqlite":
            path = Path(parsed.database or "")
            if not read_only:
                lock = prepare_file(path)
            elif not path.is_file():
                raise RegistryUnavailable("the registry's database is not made yet")
        engine = connect(parsed)
        opened = cls(engine, lock, read_only)
        try:
            with unavailable_if_failing():
                if read_only:
                    check_schema(engine)
                else:
                    upgrade(engine)
        except BaseException:
            opened.close()
            raise
        return opened

    def close(self) -> None:
        """Closes the connections and lets the next service in. No harm in a second call."""
        self._engine.dispose()
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection to read from; what it reads is of one moment."""
        with unavailable_if_failing(), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def changing(self) -> Iterator[Connection]:
        """A transaction: committed and on the disk where its body ends well, undone where it raises.

        No other change runs meanwhile, and none may be begun inside. RuntimeError if opened to be read only.
        """
        if self._read_only:
            raise RuntimeError("this registry was opened to be read only")
        with self._writing, unavailable_if_failing(), self._engine.begin() as connection:
            yield connection

    def secret(self, name: str) -> bytes:
        """32 random bytes of that name (at most 64 characters), made at the first call and kept for good."""
        wanted = select(schema.secrets.c.value).where(schema.secrets.c.name == name)
        with self.reading() as connection:
            value = connection.execute(wanted).scalar()
        if value is not None:
            return bytes(value)
        with self.changing() as connection:
            # Another thread may have made it between the two.
            value = connection.execute(wanted).scalar()
            if value is None:
                value = secrets.token_bytes(32)
                connection.execute(insert(schema.secrets), {"name": name, "value": value})
            return bytes(value)
