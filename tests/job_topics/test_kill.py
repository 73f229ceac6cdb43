"""`kill -9` of the service: what it had promised it does when it comes back."""

import json
import random
import signal
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import update

from broker_bridge.registry.jobs.tables import executions
from broker_bridge.registry.registry import Registry
from tests.conftest import MosquittoFactory
from tests.job_topics.living import Device, Listener, arn, create_job, operator
from tests.sluice.support import Service
from tests.support.waiting import wait_until

THINGS = 30
A_MINUTE = 900
"""Things a minute that the job may reach: two seconds for all."""


def killed(service: Service) -> None:
    service.stop(signal.SIGKILL)


def test_a_notice_outlives_service_and_broker(tmp_path: Path, mosquitto: MosquittoFactory) -> None:
    broker = mosquitto()
    with Service(tmp_path, "--broker", broker.url) as service:
        iot = operator(service.http)
        iot.create_thing(thingName="mast")
        broker.kill()
        create_job(iot, "job", "mast")
        wait_until(
            lambda: iot.describe_job(jobId="job")["job"]["jobProcessDetails"].get("numberOfQueuedThings")
        )
        killed(service)
    broker.restart()
    with Device(broker.port, "mast") as device, Service(tmp_path, "--broker", broker.url):
        assert device.told()["execution"]["jobId"] == "job"
        device.accepted("job/update", {"status": "SUCCEEDED"})
        assert device.told()["execution"] == {}


def test_a_timer_goes_on(tmp_path: Path, mosquitto: MosquittoFactory) -> None:
    broker = mosquitto()
    with Device(broker.port, "mast") as device:
        with Service(tmp_path, "--broker", broker.url) as service:
            iot = operator(service.http)
            iot.create_thing(thingName="mast")
            create_job(iot, "job", "mast", timeoutConfig={"inProgressTimeoutInMinutes": 1})
            device.told()
            device.accepted("job/update", {"status": "IN_PROGRESS"})
            killed(service)
        # While no service runs, the minute passes.
        registry = Registry.open(f"sqlite:///{service.state}/registry.db")
        past = datetime.now(UTC) - timedelta(seconds=1)
        with registry._database.changing() as connection:
            done = connection.execute(
                update(executions)
                .where(executions.c.deadline.is_not(None))
                .values(deadline=past, due_at=past)
            )
        registry.close()
        assert done.rowcount == 1
        with Service(tmp_path, "--broker", broker.url) as service:
            assert device.told()["execution"] == {}
            refused = device.rejected("job/update", {"status": "SUCCEEDED"})
            assert refused["executionState"]["status"] == "TIMED_OUT"


class Crowd(Listener):
    """Things that do what they are told: begin, report, end. A report without an answer is sent again."""

    def __init__(self, port: int) -> None:
        super().__init__(port, "$aws/things/+/jobs/notify-next", "$aws/things/+/jobs/+/update/+")
        self.told: set[str] = set()
        self.unanswered: dict[str, str] = {}
        self.done: set[str] = set()

    def live(self, until_done: int, timeout: float = 90.0) -> None:
        """Goes on until so many things are done."""
        deadline, again = time.monotonic() + timeout, time.monotonic() + 1
        while len(self.done) < until_done:
            assert time.monotonic() < deadline, f"{len(self.done)} are done, {len(self.told)} were told"
            if not self.messages.empty():
                self._take(*self.next())
            elif time.monotonic() > again:
                again = time.monotonic() + 1
                for thing, status in list(self.unanswered.items()):
                    self._report(thing, status)
            else:
                time.sleep(0.01)

    def _take(self, topic: str, message: dict[str, Any]) -> None:
        thing = topic.split("/")[2]
        if topic.endswith("notify-next"):
            if message["execution"] and thing not in self.told:
                self.told.add(thing)
                self._report(thing, "IN_PROGRESS")
            return
        status = message.get("executionState", {}).get("status")
        if status == "SUCCEEDED":
            self.done.add(thing)
            self.unanswered.pop(thing, None)
        elif status == "IN_PROGRESS":
            self._report(thing, "SUCCEEDED")

    def _report(self, thing: str, status: str) -> None:
        self.unanswered[thing] = status
        payload = json.dumps({"status": status, "includeJobExecutionState": True})
        self.client.publish(f"$aws/things/{thing}/jobs/job/update", payload, 1)


def test_a_rollout_goes_on_and_what_was_acknowledged_stands(
    tmp_path: Path, mosquitto: MosquittoFactory
) -> None:
    broker = mosquitto()
    names = [f"mast-{number}" for number in range(THINGS)]
    chance = random.Random(5)
    with Crowd(broker.port) as crowd:
        for kill_at in (5, 16, None):
            with Service(tmp_path, "--broker", broker.url) as service:
                iot = operator(service.http)
                if not crowd.told:
                    for name in names:
                        iot.create_thing(thingName=name)
                    rate = {"maximumPerMinute": A_MINUTE}
                    targets = [arn(name) for name in names]
                    create_job(iot, "job", targets=targets, jobExecutionsRolloutConfig=rate)
                found = iot.list_job_executions_for_job(jobId="job", maxResults=250)["executionSummaries"]
                succeeded = {
                    one["thingArn"].rpartition("/")[2]
                    for one in found
                    if one["jobExecutionSummary"]["status"] == "SUCCEEDED"
                }
                assert crowd.done <= succeeded
                if kill_at is None:
                    crowd.live(THINGS)
                    job = iot.describe_job(jobId="job")["job"]
                    assert job["status"] == "COMPLETED"
                    assert job["jobProcessDetails"]["numberOfSucceededThings"] == THINGS
                else:
                    crowd.live(kill_at)
                    # In the midst of whatever it does.
                    time.sleep(chance.uniform(0, 0.05))
                    killed(service)
    assert crowd.told == set(names)
