"""Following a rollout to its end, and what its end means for the command."""

import argparse
import sys
import time
from typing import Any

from sluice.calling import api, failures
from sluice.failure import INTERRUPTED, UNREACHABLE, Failure
from sluice.rollout.following import Look, Rollout, Watch, find
from sluice.rollout.view import View, show
from sluice.settings import Settings

PERIOD = 1.0
"""Seconds from one look to the next."""


def follow(settings: Settings, client: Any, rollout: Rollout) -> int:
    """Shows the rollout until it is over; returns the exit status. Ctrl-C ends the showing, not the rollout.

    Failure: the update cannot be made (status 1), or nobody has answered for `timeout` seconds (3).
    """
    watch = Watch(client, rollout)
    heard = time.monotonic()
    try:
        with View(settings.json) as view:
            while True:
                now = time.monotonic()
                try:
                    with failures(settings):
                        look = watch.look(now)
                except Failure as failure:
                    # A service that is being restarted comes back.
                    if failure.status != UNREACHABLE or now - heard > settings.timeout:
                        raise
                else:
                    heard = now
                    view(look, now)
                    if look.settled:
                        break
                time.sleep(PERIOD)
    except KeyboardInterrupt:
        print(
            f"\nsluice: the rollout goes on without this command\n{how_to_go_on(rollout.id)}", file=sys.stderr
        )
        return INTERRUPTED
    except Failure as failure:
        if failure.status == UNREACHABLE:
            hint = f"the rollout goes on as soon as the service does\n{how_to_go_on(rollout.id)}"
            raise Failure(f"{failure}\n{hint}", UNREACHABLE) from None
        raise
    if not settings.json:
        show(look)
        _explain(look)
    return look.exit_status


def find_by(args: argparse.Namespace, settings: Settings) -> tuple[Any, Rollout]:
    """A client of the service, and the rollout that the command was called with. Failure as `failures`."""
    with failures(settings):
        client = api(settings)
        return client, find(client, args.id)


def takes_id(parser: argparse.ArgumentParser) -> None:
    """The argument that `find_by` reads."""
    parser.add_argument("id", metavar="ID", help="the rollout's id, or that of any job")


def how_to_go_on(rollout_id: str) -> str:
    """The commands for a rollout that nobody follows."""
    return (
        f"  sluice rollout follow {rollout_id}\n"
        f"  sluice rollout pause {rollout_id}\n"
        f"  sluice rollout cancel {rollout_id}"
    )


def _explain(look: Look) -> None:
    if not sum(look.counts.values()):
        print("sluice: warning: no thing was reached: does the group have any?", file=sys.stderr)
    if look.status == "CANCELED" and look.counts["in_progress"]:
        print(f"{look.counts['in_progress']} things had begun and go on")
