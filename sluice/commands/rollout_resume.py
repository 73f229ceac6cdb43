"""`sluice rollout resume`."""

import argparse

from sluice.failure import DONE
from sluice.loading import Loaded

USAGE = "sluice rollout resume ID [FLAGS]"
EXAMPLES = """examples:
  sluice rollout resume fw-20260304-120000

Takes the tag sluice:paused from the job; does no harm to one that is not paused.
"""
FLAGS = ("http", "region", "timeout")


def arguments(parser: argparse.ArgumentParser) -> None:
    """Which one."""
    from sluice.rollout.running import takes_id

    takes_id(parser)


def run(args: argparse.Namespace, loaded: Loaded) -> int:
    """Takes the tag away."""
    from broker_bridge.jobs.stages import PAUSED_TAG
    from sluice.calling import failures
    from sluice.rollout.running import find_by

    client, rollout = find_by(args, loaded.settings)
    with failures(loaded.settings):
        client.untag_resource(resourceArn=rollout.job_arn, tagKeys=[PAUSED_TAG])
    print(f"rollout {rollout.id} goes on")
    return DONE
