"""A service that is killed at any transaction of an update's making or unmaking goes on with it."""

import json
import os
import shutil
import subprocess
import sys
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import Engine, event

from broker_bridge.jobs import engine
from broker_bridge.jobs.errors import JobNotFound
from broker_bridge.ota.update import ByProfile, UpdateStatus
from broker_bridge.registry.ota import OtaUpdateNotFound
from broker_bridge.registry.registry import Registry
from broker_bridge.storage.folder import FolderStore
from tests.ota.making import a_file, a_plan, ended, making, profiles
from tests.support.waiting import wait_until

# Each life is a fork, so that Python and its libraries are loaded once for all of them.
SCRIPT = """
import sys
from pathlib import Path
from tests.ota.test_kill import sweep

print(*sweep(Path(sys.argv[1])))
"""
Step = Callable[[Path], None]
SIGNERS = profiles("ecdsa")
LONGEST = 40
"""Transactions after which a life ends for certain."""


def now() -> datetime:
    return datetime.now(UTC)


def make(folder: Path) -> None:
    """Asks for the update, unless that was done, and waits for its stream and job."""
    registry, store = opened(folder)
    if not there(registry):
        signing = ByProfile(profile="ecdsa", certificate_path="/c")
        plan = a_plan(a_file(store, signing=signing))
        registry.ota.create("u", plan=plan, shown={}, tags={"sluice:x": "1"}, now=now())
    with making(registry, store, SIGNERS):
        ended(registry, "u")


def unmake(folder: Path) -> None:
    """Asks for the update's deletion and waits for its end."""
    registry, store = opened(folder)
    if there(registry):
        if registry.ota.get("u").status is UpdateStatus.CREATE_COMPLETE:
            registry.ota.delete("u", delete_stream=True, force=True, now=now())
        running = engine.Engine(registry.jobs, registry.job_steps)
        with making(registry, store, SIGNERS):
            wait_until(lambda: running.run(now()) and not there(registry), 60, "the end of the update")


def opened(folder: Path) -> tuple[Registry, FolderStore]:
    return Registry.open(f"sqlite:///{folder}/registry.db"), FolderStore(folder / "objects")


def there(registry: Registry) -> bool:
    try:
        registry.ota.get("u")
    except OtaUpdateNotFound:
        return False
    return True


def check_made(folder: Path) -> None:
    """There is one stream and one job, whose document names it."""
    registry, _ = opened(folder)
    update = registry.ota.get("u")
    assert update.status is UpdateStatus.CREATE_COMPLETE, update
    (stream,) = registry.streams(after=None, limit=9, ascending=True)
    (job,) = registry.jobs.list(limit=9).items
    document = json.loads(registry.jobs.document(job.job_id))["afr_ota"]
    assert (job.job_id, document["streamname"]) == ("AFR_OTA-u", stream.stream_id)
    assert registry.jobs.document(job.job_id) == update.document
    assert registry.jobs.tagging.tags(job.job_id) == {"sluice:x": "1"}
    assert "sig-sha256-ecdsa" in document["files"][0]


def check_unmade(folder: Path) -> None:
    """There is nothing left."""
    registry, _ = opened(folder)
    assert not there(registry)
    assert registry.count() == 0
    try:
        registry.jobs.get("AFR_OTA-u")
    except JobNotFound:
        return
    raise AssertionError("the job is left")


def sweep(folder: Path) -> tuple[int, int]:
    """Kills making and unmaking before each commit, one after the other; how many there were of each."""
    empty, whole = folder / "empty", folder / "whole"
    (empty / "objects" / "firmware").mkdir(parents=True)
    (empty / "objects" / "firmware" / "app.bin").write_bytes(b"image")
    assert life(empty, prepare) == 0
    shutil.copytree(empty, whole)
    assert life(whole, make) == 0
    return killed(empty, make, check_made), killed(whole, unmake, check_unmade)


def killed(start: Path, live: Step, check: Step) -> int:
    for kill_at in range(1, LONGEST):
        place = start.with_name(f"{live.__name__}{kill_at}")
        shutil.copytree(start, place)
        status = life(place, live, kill_at)
        assert life(place, live) == 0
        assert life(place, check) == 0
        if status == 0:
            return kill_at - 1
        assert status == -9, status
    raise AssertionError(f"{live.__name__} is not done after {LONGEST} transactions")


def prepare(folder: Path) -> None:
    """The registry, with the update's target."""
    opened(folder)[0].things.create("t", type_name=None, attributes={})


def life(folder: Path, what: Step, kill_at: int = 0) -> int:
    """Does it in a process of its own, killed before its `kill_at`-th commit; the process's exit status."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    commits = 0

    def count(_: object) -> None:
        nonlocal commits
        commits += 1
        if commits == kill_at:
            os.kill(os.getpid(), 9)

    status = 1
    try:
        event.listen(Engine, "commit", count)
        what(folder)
        status = 0
    finally:
        sys.stderr.flush()
        if status:
            traceback.print_exc()
        os._exit(status)


def test_killed_at_any_transaction(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", SCRIPT, str(tmp_path)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr
    made, unmade = map(int, done.stdout.split()[-2:])
    # Opening, asking, beginning, stream, document, job, end.
    assert made == 7
    # Opening, asking, the job's deletion, two parts of it at least, stream, end.
    assert unmade >= 7
