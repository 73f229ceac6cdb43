"""`sluice rollout pause`."""

import argparse

from sluice.failure import DONE, Failure
from sluice.loading import Loaded

USAGE = "sluice rollout pause ID [FLAGS]"
EXAMPLES = """examples:
  sluice rollout pause fw-20260304-120000

No further things are reached until `sluice rollout resume`. Those that were go on, soak times run, and a
stage may fail. It is the tag sluice:paused of the job.
"""
FLAGS = ("http", "region", "timeout")


def arguments(parser: argparse.ArgumentParser) -> None:
    """Which one."""
    from sluice.rollout.running import takes_id

    takes_id(parser)


def run(args: argparse.Namespace, loaded: Loaded) -> int:
    """Gives the job its tag. Failure for one that has ended."""
    from broker_bridge.jobs.stages import PAUSED_TAG
    from sluice.calling import failures
    from sluice.rollout.running import find_by

    client, rollout = find_by(args, loaded.settings)
    with failures(loaded.settings):
        status = client.describe_job(jobId=rollout.job_id)["job"]["status"]
        if status not in ("IN_PROGRESS", "SCHEDULED"):
            raise Failure(f"rollout {rollout.id} is {status}: there is nothing to pause")
        tag = {"Key": PAUSED_TAG, "Value": "sluice rollout pause"}
        client.tag_resource(resourceArn=rollout.job_arn, tags=[tag])
    print(f"rollout {rollout.id} is paused; sluice rollout resume {rollout.id}")
    return DONE
