"""`sluice rollout follow`."""

import argparse

from sluice.loading import Loaded

USAGE = "sluice rollout follow ID [--json] [FLAGS]"
EXAMPLES = """examples:
  sluice rollout follow fw-20260304-120000

ID is that of an OTA update, or of any job. Ctrl-C ends the showing, not the rollout. With --json each change
is a line. Exit status: 0 all things have succeeded, 1 some have not, or the rollout was stopped.
"""
FLAGS = ("http", "region", "timeout", "json")


def arguments(parser: argparse.ArgumentParser) -> None:
    """Which one."""
    from sluice.rollout.running import takes_id

    takes_id(parser)


def run(args: argparse.Namespace, loaded: Loaded) -> int:
    """Until it is over."""
    from sluice.rollout.running import find_by, follow

    client, rollout = find_by(args, loaded.settings)
    return follow(loaded.settings, client, rollout)
