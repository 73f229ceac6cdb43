"""`sluice rollout list`."""

import argparse
import json

from sluice.failure import DONE
from sluice.loading import Loaded

USAGE = "sluice rollout list [--json] [FLAGS]"
EXAMPLES = """examples:
  sluice rollout list

The newest OTA updates, at most 20, with the states of their jobs. Jobs without an update: aws iot list-jobs.
"""
FLAGS = ("http", "region", "timeout", "json")
NEWEST = 20


def arguments(_parser: argparse.ArgumentParser) -> None:
    """None."""


def run(_args: argparse.Namespace, loaded: Loaded) -> int:
    """The newest first."""
    from sluice.calling import api, failures

    settings = loaded.settings
    rows: list[dict[str, object]] = []
    with failures(settings):
        client = api(settings)
        page = client.list_ota_updates(maxResults=NEWEST)
        for one in page["otaUpdates"]:
            try:
                info = client.get_ota_update(otaUpdateId=one["otaUpdateId"])["otaUpdateInfo"]
                status, comment = info["otaUpdateStatus"], info.get("errorInfo", {}).get("message")
                if status == "CREATE_COMPLETE":
                    job = client.describe_job(jobId=info["awsIotJobId"])["job"]
                    status, comment = job["status"], job.get("comment")
            except client.exceptions.ResourceNotFoundException:
                continue  # somebody deleted it, or its job, meanwhile
            made = one["creationDate"].isoformat(timespec="seconds")
            rows.append({"id": one["otaUpdateId"], "created": made, "status": status, "comment": comment})
    if settings.json:
        print(json.dumps(rows))
        return DONE
    width = max((len(str(row["id"])) for row in rows), default=0)
    for row in rows:
        print(f"{row['id']:<{width}}  {row['created']}  {row['status']:<12}  {row['comment'] or ''}".rstrip())
    if not rows:
        print("no rollouts")
    elif "nextToken" in page:
        print(f"and older ones: the newest {NEWEST} are shown")
    return DONE
