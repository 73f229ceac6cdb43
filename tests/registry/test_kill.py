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
