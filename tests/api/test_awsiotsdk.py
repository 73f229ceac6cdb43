"""AWS's own device SDK for Python as a device: jobs over MQTT, through Mosquitto, with the running service.

It shares no line with us: its own MQTT (in C), its own topics and messages. Both of its clients are here: the
older one over MQTT 3.1.1, whose answers come to callbacks, and the newer one over MQTT 5, whose answers are
matched to requests by their client token alone.
"""

import queue
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import awsiot
import boto3
import pytest
from awscrt import io, mqtt, mqtt5, mqtt_request_response
from awsiot import iotjobs
from botocore.config import Config

from tests.sluice.support import Service
from tests.support.mosquitto import MosquittoServer

SECONDS = 60
DOCUMENT = '{"do":"it","at":1.5,"in":["ü",{}]}'
SPEAKS = {"do": "it", "at": 1.5, "in": ["ü", {}]}


class Operator:
    """AWS's control plane of the running service."""

    def __init__(self, http: str) -> None:
        self.iot = boto3.client(
            "iot",
            endpoint_url=f"http://{http}",
            region_name="us-east-1",
            aws_access_key_id="AKIDEXAMPLE",
            aws_secret_access_key="secret",
            config=Config(retries={"total_max_attempts": 1}),
        )

    def thing(self) -> str:
        name = f"t-{uuid.uuid4()}"
        self.iot.create_thing(thingName=name)
        return name

    def job(self, thing: str) -> str:
        target = self.iot.describe_thing(thingName=thing)["thingArn"]
        made: str = self.iot.create_job(jobId=f"j-{uuid.uuid4()}", targets=[target], document=DOCUMENT)[
            "jobId"
        ]
        return made


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MosquittoServer]:
    server = MosquittoServer(tmp_path_factory.mktemp("mosquitto"))
    yield server
    server.close()


@pytest.fixture(scope="module")
def operator(
    tmp_path_factory: pytest.TempPathFactory, broker: MosquittoServer, no_real_aws: None
) -> Iterator[Operator]:
    with Service(tmp_path_factory.mktemp("service"), "--broker", broker.url) as service:
        yield Operator(service.http)


def result(future: "Future[Any]") -> Any:
    return future.result(SECONDS)


@dataclass
class Refused(Exception):
    """What came on a `rejected` topic."""

    error: Any


class OldClient:
    """`IotJobsClient` over MQTT 3.1.1."""

    def __init__(self, port: int, thing: str) -> None:
        # Neither TLS nor AWS's custom authentication: a plain connection, as to any broker.
        self.connection = mqtt.Connection(
            client=mqtt.Client(io.ClientBootstrap.get_or_create_static_default(), None),
            host_name="127.0.0.1",
            port=port,
            client_id=thing,
        )
        result(self.connection.connect())
        self._jobs = iotjobs.IotJobsClient(self.connection)
        self._thing = thing

    def close(self) -> None:
        result(self.connection.disconnect())

    def hear_next(self, told: Callable[[Any], None]) -> None:
        self._subscribe(
            self._jobs.subscribe_to_next_job_execution_changed_events,
            iotjobs.NextJobExecutionChangedSubscriptionRequest(thing_name=self._thing),
            told,
        )

    def hear_list(self, told: Callable[[Any], None]) -> None:
        self._subscribe(
            self._jobs.subscribe_to_job_executions_changed_events,
            iotjobs.JobExecutionsChangedSubscriptionRequest(thing_name=self._thing),
            told,
        )

    def describe(self, job_id: str, **more: Any) -> Any:
        return self._ask("describe_job_execution", iotjobs.DescribeJobExecutionRequest, job_id=job_id, **more)

    def pending(self) -> Any:
        return self._ask("get_pending_job_executions", iotjobs.GetPendingJobExecutionsRequest)

    def start_next(self, **more: Any) -> Any:
        return self._ask(
            "start_next_pending_job_execution", iotjobs.StartNextPendingJobExecutionRequest, **more
        )

    def update(self, job_id: str, status: str, **more: Any) -> Any:
        request = iotjobs.UpdateJobExecutionRequest
        return self._ask("update_job_execution", request, job_id=job_id, status=status, **more)

    def _ask(self, name: str, request: Any, **members: Any) -> Any:
        """Subscribes to both answers, asks with a token of its own, and takes the answer that has it."""
        token = str(uuid.uuid4())
        asked = request(thing_name=self._thing, client_token=token, **members)
        topics = {key: value for key, value in members.items() if key == "job_id"}
        answers: queue.Queue[Any] = queue.Queue()
        subscription = getattr(iotjobs, request.__name__.removesuffix("Request") + "SubscriptionRequest")(
            thing_name=self._thing, **topics
        )
        for outcome in ("accepted", "rejected"):
            self._subscribe(getattr(self._jobs, f"subscribe_to_{name}_{outcome}"), subscription, answers.put)
        result(getattr(self._jobs, f"publish_{name}")(asked, mqtt.QoS.AT_LEAST_ONCE))
        answer = answers.get(timeout=SECONDS)
        assert answer.client_token == token
        if isinstance(answer, iotjobs.RejectedError):
            raise Refused(answer)
        return answer

    def _subscribe(self, subscribe: Any, request: Any, told: Callable[[Any], None]) -> None:
        future, _ = subscribe(request, mqtt.QoS.AT_LEAST_ONCE, told)
        result(future)


class NewClient:
    """`IotJobsClientV2` over MQTT 5."""

    def __init__(self, port: int, thing: str) -> None:
        connected: Future[None] = Future()
        self._stopped: Future[None] = Future()
        self._client = mqtt5.Client(
            mqtt5.ClientOptions(
                host_name="127.0.0.1",
                port=port,
                connect_options=mqtt5.ConnectPacket(client_id=thing),
                on_lifecycle_event_connection_success_fn=lambda _: connected.set_result(None),
                on_lifecycle_event_stopped_fn=lambda _: self._stopped.set_result(None),
            )
        )
        self._client.start()
        result(connected)
        options = mqtt_request_response.ClientOptions(
            max_request_response_subscriptions=4,
            max_streaming_subscriptions=2,
            operation_timeout_in_seconds=SECONDS,
        )
        self._jobs = iotjobs.IotJobsClientV2(self._client, options)
        self._thing = thing
        self._streams: list[Any] = []

    def close(self) -> None:
        self._streams.clear()
        self._client.stop()
        result(self._stopped)

    def hear_next(self, told: Callable[[Any], None]) -> None:
        self._open(
            self._jobs.create_next_job_execution_changed_stream,
            iotjobs.NextJobExecutionChangedSubscriptionRequest(thing_name=self._thing),
            told,
        )

    def hear_list(self, told: Callable[[Any], None]) -> None:
        self._open(
            self._jobs.create_job_executions_changed_stream,
            iotjobs.JobExecutionsChangedSubscriptionRequest(thing_name=self._thing),
            told,
        )

    def describe(self, job_id: str, **more: Any) -> Any:
        request = iotjobs.DescribeJobExecutionRequest(thing_name=self._thing, job_id=job_id, **more)
        return self._ask(self._jobs.describe_job_execution(request))

    def pending(self) -> Any:
        request = iotjobs.GetPendingJobExecutionsRequest(thing_name=self._thing)
        return self._ask(self._jobs.get_pending_job_executions(request))

    def start_next(self, **more: Any) -> Any:
        request = iotjobs.StartNextPendingJobExecutionRequest(thing_name=self._thing, **more)
        return self._ask(self._jobs.start_next_pending_job_execution(request))

    def update(self, job_id: str, status: str, **more: Any) -> Any:
        request = iotjobs.UpdateJobExecutionRequest(
            thing_name=self._thing, job_id=job_id, status=status, **more
        )
        return self._ask(self._jobs.update_job_execution(request))

    def _ask(self, future: "Future[Any]") -> Any:
        try:
            return result(future)
        except awsiot.V2ServiceException as error:
            raise Refused(error.modeled_error) from error

    def _open(self, create: Any, request: Any, told: Callable[[Any], None]) -> None:
        subscribed: Future[None] = Future()

        def status(event: Any) -> None:
            if event.type == mqtt_request_response.SubscriptionStatusEventType.SUBSCRIPTION_ESTABLISHED:
                subscribed.set_result(None)

        options = awsiot.ServiceStreamOptions(
            incoming_event_listener=told, subscription_status_listener=status
        )
        stream = create(request, options)
        stream.open()
        result(subscribed)
        self._streams.append(stream)


@pytest.fixture(params=[OldClient, NewClient])
def connect(request: pytest.FixtureRequest, broker: MosquittoServer) -> Iterator[Callable[[str], Any]]:
    """Makes the device of that name."""
    clients: list[Any] = []

    def make(thing: str) -> Any:
        clients.append(request.param(urlsplit(broker.url).port, thing))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


def test_a_device_works_its_jobs_off(operator: Operator, connect: Callable[[str], Any]) -> None:
    thing = operator.thing()
    device = connect(thing)
    nexts: queue.Queue[Any] = queue.Queue()
    lists: queue.Queue[Any] = queue.Queue()
    device.hear_next(nexts.put)
    device.hear_list(lists.put)
    assert device.start_next().execution is None
    assert device.describe("$next").execution is None

    before = datetime.now(UTC)
    first = operator.job(thing)
    told = nexts.get(timeout=SECONDS).execution
    assert (told.job_id, told.status, told.version_number, told.execution_number) == (first, "QUEUED", 1, 1)
    assert told.job_document == SPEAKS
    assert abs(told.queued_at.astimezone(UTC) - before) < timedelta(minutes=5)
    listed = lists.get(timeout=SECONDS)
    assert [one.job_id for one in listed.jobs["QUEUED"]] == [first]
    second = operator.job(thing)
    listed = lists.get(timeout=SECONDS)
    assert [one.job_id for one in listed.jobs["QUEUED"]] == [first, second]
    queued = device.pending().queued_jobs
    assert [(one.job_id, one.version_number) for one in queued] == [(first, 1), (second, 1)]

    begun = device.start_next(status_details={"at": "mast"}, step_timeout_in_minutes=5).execution
    assert (begun.job_id, begun.status, begun.version_number) == (first, "IN_PROGRESS", 2)
    assert (begun.job_document, begun.status_details) == (SPEAKS, {"at": "mast"})
    answer = device.update(first, "IN_PROGRESS", expected_version=2, status_details={"at": "home"})
    assert answer.execution_state is None
    shown = device.describe(first, include_job_document=False, execution_number=1).execution
    assert (shown.status_details, shown.version_number, shown.job_document) == ({"at": "home"}, 3, None)
    answer = device.update(first, "SUCCEEDED", include_job_execution_state=True, include_job_document=True)
    state = answer.execution_state
    assert (state.status, state.version_number, state.status_details) == ("SUCCEEDED", 4, {"at": "home"})
    assert answer.job_document == SPEAKS

    # Not at its beginning or its progress: with the end of the first, the second is next.
    assert nexts.get(timeout=SECONDS).execution.job_id == second
    assert device.describe("$next").execution.job_id == second
    device.update(second, "FAILED", status_details={"why": "so"})
    last = nexts.get(timeout=SECONDS).execution
    assert last is None or last.job_id is None
    assert device.pending().queued_jobs == []
    assert operator.iot.describe_job(jobId=first)["job"]["status"] == "COMPLETED"
    ended = operator.iot.describe_job_execution(jobId=second, thingName=thing)["execution"]
    assert (ended["status"], ended["statusDetails"]["detailsMap"]) == ("FAILED", {"why": "so"})
    assert nexts.empty()


def test_a_device_is_refused(operator: Operator, connect: Callable[[str], Any]) -> None:
    thing = operator.thing()
    device = connect(thing)
    lists: queue.Queue[Any] = queue.Queue()
    device.hear_list(lists.put)
    job = operator.job(thing)
    lists.get(timeout=SECONDS)

    def code(call: Callable[[], Any]) -> tuple[str, Any]:
        with pytest.raises(Refused) as caught:
            call()
        error = caught.value.error
        assert error.message
        return error.code, error.execution_state

    assert code(lambda: device.describe("none")) == ("ResourceNotFound", None)
    assert code(lambda: device.update(job, "QUEUED"))[0] == "InvalidRequest"
    assert code(lambda: device.start_next(step_timeout_in_minutes=0))[0] == "InvalidRequest"
    found, state = code(lambda: device.update(job, "IN_PROGRESS", expected_version=7))
    assert (found, state.status, state.version_number) == ("VersionMismatch", "QUEUED", 1)
    device.update(job, "REJECTED")
    found, state = code(lambda: device.update(job, "SUCCEEDED"))
    assert (found, state.status, state.version_number) == ("InvalidStateTransition", "REJECTED", 2)
    assert code(lambda: device.describe(job))[0] == "TerminalStateReached"
