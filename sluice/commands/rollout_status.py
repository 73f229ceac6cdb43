"""`sluice rollout status`."""

import argparse
import json
import time

from sluice.failure import DONE
from sluice.loading import Loaded

USAGE = "sluice rollout status ID [--json] [FLAGS]"
EXAMPLES = """examples:
  sluice rollout status fw-20260304-120000
  sluice rollout status AFR_OTA-fw-20260304-120000 --json

ID is that of an OTA update, or of any job: also of those that the aws command made.
"""
FLAGS = ("http", "region", "timeout", "json")


def arguments(parser: argparse.ArgumentParser) -> None:
    """Which one."""
    from sluice.rollout.running import takes_id

    takes_id(parser)


def run(args: argparse.Namespace, loaded: Loaded) -> int:
    """One look; the exit status says only whether there is such a rollout."""
    from sluice.calling import failures
    from sluice.rollout.following import Watch
    from sluice.rollout.running import find_by
    from sluice.rollout.view import show

    settings = loaded.settings
    client, rollout = find_by(args, settings)
    with failures(settings):
        look = Watch(client, rollout).look(time.monotonic())
    if settings.json:
        print(json.dumps(look.as_json()))
    else:
        show(look)
    return DONE
