"""`sluice rollout cancel`."""

import argparse

from sluice.failure import DONE
from sluice.loading import Loaded

USAGE = "sluice rollout cancel ID [--force] [FLAGS]"
EXAMPLES = """examples:
  sluice rollout cancel fw-20260304-120000
  sluice rollout cancel fw-20260304-120000 --force

No thing that has not begun gets it any more; those that have begun go on, unless --force. There is no way
back: to hold a rollout up, pause it.
"""
FLAGS = ("force", "http", "region", "timeout")


def arguments(parser: argparse.ArgumentParser) -> None:
    """Which one."""
    from sluice.rollout.running import takes_id

    takes_id(parser)


def run(args: argparse.Namespace, loaded: Loaded) -> int:
    """Cancels the job."""
    from sluice.calling import failures
    from sluice.rollout.running import find_by

    settings = loaded.settings
    client, rollout = find_by(args, settings)
    with failures(settings):
        client.cancel_job(
            jobId=rollout.job_id,
            reasonCode="CANCELED_BY_OPERATOR",
            comment="sluice rollout cancel",
            force=settings.rollout.force,
        )
    print(f"rollout {rollout.id} is canceled")
    return DONE
