"""`sluice publish`."""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from sluice.failure import DONE, SettingsError
from sluice.loading import Loaded
from sluice.progress import Meter

USAGE = "sluice publish FILE --stream ID [--file N] [--bucket NAME] [--json] [FLAGS]"
EXAMPLES = """examples:
  sluice publish firmware.bin --stream pump-1-4
  sluice publish modem.bin --stream pump-1-4 --file 1
  sluice publish firmware.bin --stream pump-1-4 --s3-endpoint http://127.0.0.1:9000 --bucket firmware

The object is written under a key that no other bytes ever get; then the stream is created, or the file is
set in it and its version goes up. Its other files stay. Publishing what is there already changes nothing.
"""
FLAGS = (
    *("stream", "file", "bucket", "http", "state", "objects", "s3", "s3_endpoint", "region", "account"),
    *("timeout", "json"),
)
LONGEST_FOR_C = 44
"""Characters of a stream id: a longer one overflows a buffer in AWS's C library (DEVICES 7)."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """The file."""
    parser.add_argument("source", metavar="FILE", help="the file to publish")


def run(args: argparse.Namespace, loaded: Loaded) -> int:
    """Publishes, and prints what stands in the stream now."""
    settings = loaded.settings
    if settings.stream is None:
        raise SettingsError("publish needs --stream ID\nsluice publish --help says more")
    if len(settings.stream) > LONGEST_FOR_C:
        _warn(
            f"stream id {settings.stream} has {len(settings.stream)} characters; "
            f"devices with AWS's C libraries need {LONGEST_FOR_C} or fewer"
        )
    from sluice.publishing import publish

    with Meter(Path(args.source).name) as meter:
        published = publish(Path(args.source), settings.stream, settings, meter)
    for warning in published.warnings:
        _warn(warning)
    if settings.json:
        print(json.dumps(asdict(published)))
    else:
        news = "" if published.changed else " (unchanged)"
        print(f"{published.stream_arn} version {published.stream_version}{news}")
        print(f"file {published.file_id}: {published.size} bytes, SHA-256 {published.sha256}")
    return DONE


def _warn(text: str) -> None:
    print(f"sluice: warning: {text}", file=sys.stderr)
