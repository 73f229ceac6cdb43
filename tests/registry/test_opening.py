"""Opening: the schema, the lock, and what can be wrong with a database."""

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine

from broker_bridge.registry import schema
from broker_bridge.registry.errors import RegistryLocked, RegistryUnavailable
from broker_bridge.registry.registry import Registry
from tests.registry.making import a_file, create, thing

ROOT = Path(__file__).parents[2]


def in_child(script: str, *arguments: str) -> str:
    """What a Python that runs the script prints."""
    line = [sys.executable, "-c", script, *arguments]
    return subprocess.run(line, cwd=ROOT, check=True, capture_output=True, text=True).stdout


def database(url: str) -> Path:
    """The file of a SQLite URL."""
    return Path(url.removeprefix("sqlite:///"))


def test_migrations_lead_to_the_schema(registry: Registry, url: str) -> None:
    engine = create_engine(url)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, schema.metadata) == []
        assert context.get_current_revision() == schema.REVISION
    engine.dispose()


def test_the_revision_that_starts_trust_is_the_newest() -> None:
    config = Config()
    config.set_main_option("script_location", "broker_bridge.registry:migrations")
    assert ScriptDirectory.from_config(config).get_heads() == [schema.REVISION]


def test_migrations_are_part_of_the_package() -> None:
    # setuptools takes only folders with an __init__.py along into a wheel.
    migrations = ROOT / "broker_bridge" / "registry" / "migrations"
    assert (migrations / "__init__.py").is_file()
    assert (migrations / "versions" / "__init__.py").is_file()


def test_only_a_change_of_schema_loads_alembic(url: str) -> None:
    script = (
        "import sys; from broker_bridge.registry.registry import Registry;"
        "Registry.open(sys.argv[1]).close(); print('alembic' in sys.modules)"
    )
    assert in_child(script, url) == "True\n"
    assert in_child(script, url) == "False\n"


def test_changes_are_synced(registry: Registry) -> None:
    with registry._database.reading() as connection:
        settings = [
            connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        ]
    assert settings == ["wal", 2, 1]


def test_the_database_is_its_owners_alone(registry: Registry, url: str) -> None:
    create(registry, "s")
    files = list(database(url).parent.iterdir())
    assert len(files) >= 3
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}


def test_two_services_cannot_share_a_folder(registry: Registry, url: str, tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(RegistryLocked, match=str(database(url).parent)):
            Registry.open(url)
    (tmp_path / "link").symlink_to(tmp_path / "state")
    with pytest.raises(RegistryLocked):
        Registry.open(f"sqlite:///{tmp_path}/link/registry.db")
    script = "import sys; from broker_bridge.registry.registry import Registry; Registry.open(sys.argv[1])"
    with pytest.raises(subprocess.CalledProcessError) as caught:
        in_child(script, url)
    assert "RegistryLocked" in caught.value.stderr
    registry.close()
    Registry.open(url).close()


def test_of_many_first_starts_one_wins(url: str) -> None:
    script = """
import sys
from broker_bridge.registry.errors import RegistryLocked
from broker_bridge.registry.registry import Registry
sys.stdin.readline()
try:
    registry = Registry.open(sys.argv[1])
except RegistryLocked:
    print("locked", flush=True)
else:
    print("open", flush=True)
sys.stdin.readline()
"""
    line = [sys.executable, "-c", script, url]
    children = [
        subprocess.Popen(line, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    words = [child.stdout.readline() for child in children if child.stdout is not None]
    for child in children:
        child.communicate("end\n")
    assert sorted(words) == ["locked\n"] * 3 + ["open\n"]


def test_a_reader_sees_what_the_writer_does_and_writes_nothing(registry: Registry, url: str) -> None:
    create(registry, "s")
    reader = Registry.open(url, read_only=True)
    assert reader.stream("s").version == 1
    create(registry, "t", a_file(3))
    assert reader.stream("t").files == (a_file(3),)
    with pytest.raises(RuntimeError, match="read only"):
        create(reader, "u")
    with pytest.raises(RuntimeError, match="read only"):
        reader.secret("none")
    reader.close()
    assert registry.count() == 2


def test_a_reader_makes_no_database(url: str) -> None:
    with pytest.raises(RegistryUnavailable, match="not made yet"):
        Registry.open(url, read_only=True)
    assert not database(url).parent.exists()
    database(url).parent.mkdir()
    database(url).touch()
    with pytest.raises(RegistryUnavailable, match=f"not made yet, this program's is {schema.REVISION}"):
        Registry.open(url, read_only=True)


def test_an_older_registry_keeps_what_it_has(url: str) -> None:
    database(url).parent.mkdir()
    engine = create_engine(url)
    with engine.begin() as connection:
        config = Config(attributes={"connection": connection})
        config.set_main_option("script_location", "broker_bridge.registry:migrations")
        command.upgrade(config, "0001")
        connection.exec_driver_sql(
            "INSERT INTO streams VALUES ('s', 7, NULL, 'role', '2026-03-04 12:00:00', '2026-03-04 12:00:00')"
        )
        connection.exec_driver_sql(
            "INSERT INTO files VALUES ('s', 3, 'firmware', 'key/3', NULL, 'etag', 4096)"
        )
        connection.exec_driver_sql("INSERT INTO tags VALUES ('s', 'a', 'b')")
    engine.dispose()
    with pytest.raises(RegistryUnavailable, match=f"schema is 0001, this program's is {schema.REVISION}"):
        Registry.open(url, read_only=True)
    registry = Registry.open(url)
    stream = registry.stream("s")
    assert (stream.version, stream.files) == (7, (a_file(3),))
    assert registry.tags("s") == {"a": "b"}
    assert thing(registry, "t").version == 1
    registry.close()


def test_a_newer_schema_is_left_alone(registry: Registry, url: str) -> None:
    create(registry, "s")
    registry.close()
    with sqlite3.connect(database(url)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    words = f"9999 was made by a newer Sluice; this one knows up to {schema.REVISION}"
    with pytest.raises(RegistryUnavailable, match=words):
        Registry.open(url)
    with pytest.raises(RegistryUnavailable, match="9999"):
        Registry.open(url, read_only=True)
    # And the lock is not kept by an opening that failed.
    with sqlite3.connect(database(url)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", (schema.REVISION,))
    connection.close()
    again = Registry.open(url)
    assert again.count() == 1
    again.close()


def test_a_file_that_is_no_database(url: str) -> None:
    database(url).parent.mkdir()
    database(url).write_bytes(os.urandom(4096))
    with pytest.raises(RegistryUnavailable, match="not a database"):
        Registry.open(url)


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RegistryUnavailable, match="cannot be opened"):
        Registry.open(f"sqlite:///{tmp_path}/file/registry.db")


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("nonsense with secret", "URL is none"),
        ("nosuch://user:secret@host/db", "driver .* is missing"),
        ("sqlite://", "a file"),
        ("sqlite:///:memory:", "a file"),
        ("sqlite:///file:x?mode=memory&uri=true", "a file"),
    ],
)
def test_urls_that_cannot_work(url: str, words: str) -> None:
    with pytest.raises(RegistryUnavailable, match=words) as caught:
        Registry.open(url)
    assert "secret" not in str(caught.value)


def test_a_database_that_fails_later_says_so(registry: Registry, url: str) -> None:
    create(registry, "s")
    with sqlite3.connect(database(url)) as connection:
        connection.execute("DROP TABLE files")
    connection.close()
    with pytest.raises(RegistryUnavailable, match="database failed"):
        registry.stream("s")
    with pytest.raises(RegistryUnavailable, match="database failed"):
        create(registry, "t")
    assert registry.count() == 1
