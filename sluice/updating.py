"""What `sluice sim update` wants of the service: things and their group, and how the job fares meanwhile."""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from sluice.calling import api, failures
from sluice.failure import UNREACHABLE, Failure
from sluice.settings import Settings

CALLS = 8
"""Under way at once while things are registered."""
PERIOD = 0.5
"""Seconds from one look at the job to the next."""
_PAGE = 250
_COUNTS = ("Queued", "InProgress", "Succeeded", "Failed", "Rejected", "TimedOut", "Canceled", "Removed")


def register(
    settings: Settings, group: str, things: Sequence[str], report: Callable[[int, int], object]
) -> None:
    """Makes things and group, where they are not there, and the things its members. Failure.

    `report` is told how many of how many things are done.
    """
    with failures(settings):
        client = api(settings)
        client.create_thing_group(thingGroupName=group)

        def one(thing: str) -> None:
            client.create_thing(thingName=thing)
            client.add_thing_to_thing_group(thingGroupName=group, thingName=thing)

        with ThreadPoolExecutor(CALLS) as threads:
            for done, _ in enumerate(threads.map(one, things), 1):
                report(done, len(things))


def statuses(settings: Settings, job_id: str) -> dict[str, str]:
    """Of the job's executions, the last of each thing, by thing. Failure."""
    found: dict[str, tuple[int, str]] = {}
    more: dict[str, str] = {}
    with failures(settings):
        client = api(settings)
        while True:
            page = client.list_job_executions_for_job(jobId=job_id, maxResults=_PAGE, **more)
            for entry in page["executionSummaries"]:
                thing, told = entry["thingArn"].rpartition("/")[2], entry["jobExecutionSummary"]
                found[thing] = max(
                    found.get(thing, (0, "")), (told.get("executionNumber", 1), told["status"])
                )
            if not page.get("nextToken"):
                return {thing: status for thing, (_, status) in found.items()}
            more = {"nextToken": page["nextToken"]}


class JobWatch:
    """Looks at the update of that id, or the job, from when it is there until it has ended; a thread.

    Without an id there is nothing to look at. A service that does not answer is waited for. What else goes
    wrong ends it: `failure`.
    """

    def __init__(self, settings: Settings, update_id: str | None) -> None:
        self.job_id = ""
        """Once it is there."""
        self.failure: Failure | None = None
        self.samples: list[tuple[float, dict[str, int]]] = []
        """When, on the monotonic clock in seconds, and how many things in each status."""
        self.over = False
        """The job has ended, or the watch has."""
        self._settings, self._id = settings, update_id
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="job-watch")

    def __enter__(self) -> "JobWatch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._thread.join()

    def _watch(self) -> None:
        if self._id is None:
            return
        client = api(self._settings)
        while not self._closing.is_set() and not self.over:
            try:
                with failures(self._settings):
                    self.over = self._look(client)
            except Failure as failure:
                if failure.status != UNREACHABLE:
                    self.failure, self.over = failure, True
            self._closing.wait(PERIOD)

    def _look(self, client: Any) -> bool:
        missing = client.exceptions.ResourceNotFoundException
        if not self.job_id:
            try:
                info = client.get_ota_update(otaUpdateId=self._id)["otaUpdateInfo"]
                if info["otaUpdateStatus"] == "CREATE_FAILED":
                    error = info.get("errorInfo", {})
                    raise Failure(f"{self._id} cannot be made: {error.get('code')}: {error.get('message')}")
                job_id = info["awsIotJobId"]
            except missing:
                job_id = self._id
        try:
            job = client.describe_job(jobId=self.job_id or job_id)["job"]
        except missing:
            return bool(self.job_id)  # it was deleted; else it is yet to come
        self.job_id = job["jobId"]
        details = job["jobProcessDetails"]
        counts = {name: details.get(f"numberOf{name}Things", 0) for name in _COUNTS}
        self.samples.append((time.monotonic(), counts))
        return job["status"] in ("COMPLETED", "CANCELED")
