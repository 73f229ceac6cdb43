"""Jobs where the service is made otherwise: with its own broker, with several workers, without the broker."""

from pathlib import Path

from tests.conftest import MosquittoFactory
from tests.job_topics.living import Device, create_job, operator
from tests.sluice.support import Service
from tests.support.waiting import wait_until
from tests.workers.test_workers import get, metrics


def whole_life(service: Service, port: int) -> None:
    """A job from its creation to its end, with one answer and one notice of each kind."""
    iot = operator(service.http)
    iot.create_thing(thingName="mast")
    with Device(port, "mast") as device:
        create_job(iot, "job", "mast")
        assert device.told()["execution"]["jobId"] == "job"
        assert device.accepted("$next/get", {"clientToken": "once"})["clientToken"] == "once"
        device.accepted("start-next")
        assert device.rejected("job/update", {"status": "SUCCEEDED", "expectedVersion": 1})["executionState"]
        device.accepted("job/update", {"status": "SUCCEEDED"})
        assert device.told()["execution"] == {}
    assert iot.describe_job(jobId="job")["job"]["status"] == "COMPLETED"


def test_with_the_embedded_broker(tmp_path: Path) -> None:
    with Service(tmp_path, "--mqtt", "127.0.0.1:0") as service:
        whole_life(service, int(service.mqtt.rpartition(":")[2]))
        assert service.stop() == 0


def test_with_two_workers(tmp_path: Path, mosquitto: MosquittoFactory) -> None:
    broker = mosquitto()
    with Service(tmp_path, "--broker", broker.url, "--workers", "2") as service:
        whole_life(service, broker.port)
        counted = metrics(service)
        # Jobs are one process's: nothing was heard twice.
        assert counted['sluice_job_requests_total{operation="StartNextPendingJobExecution"}'] == 1
        assert counted["sluice_jobs_connected"] == 1
        assert '"jobs": "connected"' in get(service, "/healthz")


def test_a_broker_that_goes_and_comes_back(tmp_path: Path, mosquitto: MosquittoFactory) -> None:
    broker = mosquitto()
    with Service(tmp_path, "--broker", broker.url) as service:
        iot = operator(service.http)
        iot.create_thing(thingName="mast")
        broker.kill()
        create_job(iot, "job", "mast")
        wait_until(lambda: metrics(service)["sluice_jobs_connected"] == 0)
        assert metrics(service)["sluice_job_notices_total"] == 0
        broker.restart()
        # What could not be told is told as soon as there is somebody to tell it.
        wait_until(lambda: metrics(service)["sluice_job_notices_total"] == 1)
        with Device(broker.port, "mast") as device:
            assert device.accepted("$next/get")["execution"]["jobId"] == "job"
