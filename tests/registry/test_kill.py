"""kill -9 at any moment loses no acknowledged change and leaves no half of one."""

import subprocess
import sys
from pathlib import Path

import pytest

from broker_bridge.registry.registry import Registry
from broker_bridge.registry.streams import Stream

WRITER = """
import sys
from broker_bridge.registry.registry import Registry
from tests.registry.making import NOON, a_file, create

registry = Registry.open(sys.argv[1])
start = registry.count()
for number in range(start, start + 100000):
    name = f"s{number:06}"
    create(registry, name, *(a_file(i, "1") for i in range(5)), one="1", two="2")
    print(name, 1, flush=True)
    for version in (2, 3):
        files = tuple(a_file(i, str(version)) for i in range(5))
        registry.update_stream(name, description=str(version), role_arn=None, files=files, now=NOON)
        print(name, version, flush=True)
    registry.tag(name, {"three": "3"})
"""

THINGS_WRITER = """
import sys
from broker_bridge.registry.registry import Registry
from tests.registry.making import group, thing, thing_type

registry = Registry.open(sys.argv[1])
thing_type(registry, "pump")
for name in ("odd", "even"):
    group(registry, name)
start = registry.things.count()
for number in range(start, start + 100000):
    name = f"t{number:06}"
    thing(registry, name, "pump", one="1", two="1")
    print(name, 1, flush=True)
    registry.thing_groups.change(name, join=["even"])
    registry.things.update(name, remove_type=True, attributes={"one": "2", "two": "2"})
    print(name, 2, flush=True)
    registry.thing_groups.change(name, leave=["even"], join=["odd"])
    registry.things.update(name, type_name="pump", attributes={"one": "3", "two": "3"})
    print(name, 3, flush=True)
"""


def whole(registry: Registry, stream: Stream) -> bool:
    """Whether nothing of the stream's version is missing."""
    tags = registry.tags(stream.stream_id)
    return [file.object.etag for file in stream.files] == [str(stream.version)] * 5 and (
        tags == {"one": "1", "two": "2"} or tags == {"one": "1", "two": "2", "three": "3"}
    )


def test_acknowledged_changes_survive_kill(url: str, tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    acknowledged: dict[str, int] = {}
    for lines in (1, 2, 30, 101):
        command = [sys.executable, "-c", WRITER, url]
        with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            for _ in range(lines):
                name, version = writer.stdout.readline().split()
                acknowledged[name] = int(version)
            writer.kill()
            # What it had written before it died was acknowledged too; a last line may be cut.
            for line in writer.stdout.read().split("\n")[:-1]:
                name, version = line.split()
                acknowledged[name] = int(version)
        registry = Registry.open(url)
        streams = {
            stream.stream_id: stream for stream in registry.streams(after=None, limit=10**6, ascending=True)
        }
        assert streams.keys() >= acknowledged.keys()
        assert len(streams) <= len(acknowledged) + 1
        for name, stream in streams.items():
            assert stream.version >= acknowledged.get(name, 1)
            assert whole(registry, stream), stream
        acknowledged = {name: stream.version for name, stream in streams.items()}
        registry.close()
    assert len(acknowledged) >= 40


def test_acknowledged_things_survive_kill(url: str) -> None:
    acknowledged: dict[str, int] = {}
    for lines in (1, 20, 51):
        command = [sys.executable, "-c", THINGS_WRITER, url]
        root = Path(__file__).parents[2]
        with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            read = [writer.stdout.readline() for _ in range(lines)]
            writer.kill()
            read += writer.stdout.read().splitlines(keepends=True)
        for line in read:
            if line.endswith("\n"):
                name, version = line.split()
                acknowledged[name] = int(version)
        registry = Registry.open(url)
        things = {one.name: one for one in registry.things.list(limit=10**6).items}
        assert things.keys() >= acknowledged.keys()
        assert len(things) <= len(acknowledged) + 1
        for name, one in things.items():
            assert one.version >= acknowledged.get(name, 1)
            assert one.attributes == {"one": str(one.version), "two": str(one.version)}
            assert one.type_name == (None if one.version == 2 else "pump")
            groups = list(registry.thing_groups.of_thing(name, limit=5).items)
            # A change of groups stands before the update that follows it, never half.
            assert groups in {1: ([], ["even"]), 2: (["even"], ["odd"]), 3: (["odd"],)}[one.version]
        acknowledged = {name: one.version for name, one in things.items()}
        registry.close()
    assert len(acknowledged) >= 20


@pytest.mark.parametrize(
    "statement", ["CREATE TABLE tags", "CREATE TABLE secrets", "INSERT INTO alembic_version"]
)
def test_a_first_start_that_dies_half_way_is_done_again(url: str, statement: str) -> None:
    script = f"""
import os, sys
from sqlalchemy import Engine, event
from broker_bridge.registry.registry import Registry

@event.listens_for(Engine, "after_cursor_execute")
def die(connection, cursor, text, *others):
    if {statement!r} in text:
        os.kill(os.getpid(), 9)

Registry.open(sys.argv[1])
"""
    ended = subprocess.run([sys.executable, "-c", script, url], cwd=Path(__file__).parents[2], check=False)
    assert ended.returncode == -9
    registry = Registry.open(url)
    assert registry.count() == 0
    registry.close()
