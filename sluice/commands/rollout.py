"""`sluice rollout`."""

import argparse
import json
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from sluice.failure import DONE, Failure, SettingsError
from sluice.loading import Loaded
from sluice.progress import Meter

COMMANDS = {
    "status": "one look at a rollout",
    "follow": "follow a rollout to its end",
    "pause": "reach no further things for now",
    "resume": "go on with a rollout that is paused",
    "cancel": "end a rollout where it is",
    "list": "the newest rollouts",
}
USAGE = (
    "sluice rollout FILE (--group NAME | --thing NAME)\n"
    "                      (--key PEM | --signing-profile NAME | --signature PATH) [FLAGS]\n"
    "       sluice rollout (status | follow | pause | resume | cancel) ID [FLAGS]"
    "\n       sluice rollout list [FLAGS]"
)
EXAMPLES = """examples:
  sluice rollout fw.bin --group masts --key signer.key
  sluice rollout fw.bin --group masts --key signer.key --canary 5% --abort-on FAILED:3%:20
  sluice rollout fw.bin --group masts --signing-profile prod --stages 5@95:10m/25@98:1h/100
  sluice rollout fw.bin --thing mast-17 --signature fw.sig
  sluice rollout status fw-20260304-120000 --json
  sluice rollout pause fw-20260304-120000

Signs the file, stores it as an object, has the service make an OTA update of it for all things of the group,
and shows how they fare until all of them are done: states, stage, rate, time left, and why things failed.
Ctrl-C ends the showing and not the rollout; the service goes on with it, through restarts too.

--stages 5@95:10m/25@98:1h/100: 5 % of the things first; when 95 % of those have succeeded and 10 minutes have
gone by, up to 25 %; when 98 % of those have, and an hour, the rest. A stage that cannot succeed any more ends
the rollout. --canary 5% is the first of these alone. --abort-on FAILED:3%:20 ends it at any time when 3 % of
the things that came to an end, 20 or more, have failed. A device that never answers counts only with
--device-timeout. docs/rollouts.md says all of it, and how to do the same with the aws command.

Exit status: 0 all things have succeeded, 1 some have not, or the rollout was stopped, 2 usage, 3 no service,
4 the service refuses.
"""
FLAGS = (
    *("group", "thing", "signing_key", "signing_profile", "signature", "certificate", "path", "file_type"),
    *("protocols", "canary", "stages", "max_per_minute", "abort_on", "device_timeout", "continuous", "id"),
    *("detach", "json", "bucket", "http", "state", "objects", "s3", "s3_endpoint", "region", "account"),
    "timeout",
)
PREFIX = "rollouts"
"""What the keys of objects begin with."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """The file, and the short name of --signing-key: `key` is the broker's among the settings."""
    parser.add_argument("source", metavar="FILE", help="the file that devices are to have")
    parser.add_argument("--key", dest="signing_key", metavar="PEM", help="short for --signing-key")


def run(args: argparse.Namespace, loaded: Loaded) -> int:
    """Checks all that can be checked here, then signs, stores, creates and follows."""
    from sluice.calling import api, failures, role
    from sluice.publishing import store, whereabouts
    from sluice.rollout import order, running, signing
    from sluice.rollout.following import Rollout

    settings, path = loaded.settings, Path(args.source)
    targets = order.targets(loaded)
    update_id = order.update_id(settings, path, datetime.now(UTC))
    options = order.options(settings)
    if not path.is_file():
        near = f"; or {path} as a command: {', '.join(COMMANDS)}" if path.suffix == "" else ""
        raise SettingsError(f"there is no file {path}{near}")
    if not path.stat().st_size:
        raise Failure(f"{path} is empty; devices take no such file")
    entry = order.file(settings, path, signing.code_signing(settings, path))
    with Meter(path.name) as meter:
        stored = store(path, PREFIX, settings, meter)
    entry["fileLocation"] = {"s3Location": {"bucket": stored.bucket, "key": stored.key}}
    with failures(settings, whereabouts(settings, stored)):
        client = api(settings)
        made = client.create_ota_update(
            otaUpdateId=update_id, targets=targets, files=[entry], roleArn=role(settings), **options
        )
    rollout = Rollout(update_id, made["awsIotJobId"], made["awsIotJobArn"])
    if not settings.rollout.detach:
        if not settings.json:
            print(f"rollout {update_id}: {stored.size} bytes, SHA-256 {stored.sha256}", file=sys.stderr)
        return running.follow(settings, client, rollout)
    if settings.json:
        print(json.dumps(asdict(rollout)))
    else:
        print(f"rollout {update_id} begins, job {rollout.job_id}\n{running.how_to_go_on(update_id)}")
    return DONE
