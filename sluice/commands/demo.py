"""`sluice demo`."""

import argparse
import hashlib
import json
import signal
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import NoReturn

from broker_bridge.settings import BrokerSettings, StorageSettings
from sluice.failure import DIFFERS, DONE, Failure
from sluice.loading import Loaded
from sluice.progress import Meter, rate
from sluice.settings import Settings

USAGE = "sluice demo [FILE] [--block-size N] [--encoding NAME] [--json]"
EXAMPLES = """examples:
  sluice demo                       delivers a tar of Python's standard library
  sluice demo firmware.bin --block-size 65536

Starts a service with its embedded broker and a folder of objects on free ports, publishes the file, downloads
it as a device would, and compares. Exit status 0 only if both SHA-256 are equal. Nothing is left behind.
"""
FLAGS = ("block_size", "encoding", "timeout", "json")
_THING, _STREAM = "demo-device", "demo"


def arguments(parser: argparse.ArgumentParser) -> None:
    """The file, if it is not to be made."""
    parser.add_argument(
        "source", metavar="FILE", nargs="?", help="the file to deliver [one made on the spot]"
    )


def run(args: argparse.Namespace, loaded: Loaded) -> int:
    """The whole path, in a folder that is gone afterwards."""
    given = loaded.settings
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup has it
            signal.signal(number, _leave)
    source = Path(args.source) if "source" in args else None
    if source is not None and not source.is_file():
        raise Failure(f"there is no file {source}")
    with tempfile.TemporaryDirectory(prefix="sluice-demo-", ignore_cleanup_errors=True) as name:
        figures = _deliver(Path(name), source, given)
    equal = figures["sha256 published"] == figures["sha256 received"]
    figures["equal"] = equal
    if given.json:
        print(json.dumps({key.replace(" ", "_"): value for key, value in figures.items()}))
    else:
        for key, value in figures.items():
            print(f"{key:<18}{'yes' if value is True else 'NO' if value is False else value}")
    return DONE if equal else DIFFERS


def _deliver(folder: Path, source: Path | None, given: Settings) -> dict[str, object]:
    from sluice.child import running_service
    from sluice.fetching import fetch
    from sluice.publishing import publish

    state, out = folder / "state", folder / "received"
    if source is None:
        from sluice.sample import make_sample

        source = make_sample(folder)
    flags = ["--http", "127.0.0.1:0", "--mqtt", "127.0.0.1:0", "--state", str(state)]
    with running_service(folder, flags) as (http, mqtt):
        settings = replace(
            given,
            http=http.removeprefix("http://"),
            broker=BrokerSettings(url=mqtt),
            storage=StorageSettings(),
            state=state,
            bucket="demo",
            thing=_THING,
            stream=_STREAM,
            file=0,
            sha256=None,
        )
        with Meter("publish") as meter:
            published = publish(source, _STREAM, settings, meter)
        with Meter("get") as meter:
            fetched = fetch(settings, out, meter)
    return {
        "file": source.name,
        "size": fetched.size,
        "blocks": fetched.blocks,
        "block size": fetched.block_size,
        "seconds": round(fetched.seconds, 3),
        "rate": rate(fetched.size, fetched.seconds),
        "sha256 published": published.sha256,
        # Of the file as it lies there, whatever the download believes.
        "sha256 received": _sha256(out),
    }


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _leave(number: int, _frame: FrameType | None) -> NoReturn:
    # An exception, so that everything is cleaned up on the way out.
    sys.exit(128 + number)
