"""Valid requests of any kind in any order: each has an answer that the models know, and none is a fault."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from botocore import xform_name
from botocore.exceptions import ClientError
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from broker_bridge.api import iot, jobs_data
from broker_bridge.api.dispatch import Dispatcher
from broker_bridge.api.model import LoadedService
from tests.api.conforming import conforms
from tests.api.engine import settle
from tests.api.generated import sendable
from tests.api.in_process import Joined
from tests.api.operations import EVERY
from tests.api.running import ROLE, Running, arn
from tests.api.smallest import smallest

OPERATIONS = [(service, name) for service, names in EVERY.items() for name in sorted(names)]

NAMES = st.sampled_from(["x", "y"])
TARGETS = st.builds(arn, NAMES, st.sampled_from(["thing", "thinggroup"]))
_NAMED = (
    *("StreamId", "ThingName", "ThingTypeName", "ThingGroupName", "JobId", "OTAUpdateId"),
    *("DescribeJobExecutionJobId", "AttributeName", "TagKey"),
)
KNOWN = {
    **dict.fromkeys(_NAMED, NAMES),
    "TargetArn": TARGETS,
    "Target": TARGETS,
    "ResourceArn": st.builds(
        arn, NAMES, st.sampled_from(["stream", "thing", "thinggroup", "thingtype", "job", "otaupdate"])
    ),
    "S3Bucket": st.just("firmware"),
    "S3Key": st.sampled_from(["app.bin", "conf.json"]),
    "JobDocument": st.just('{"a":1}'),
    "JobDocumentSource": st.just("s3://firmware/job.json"),
    "FileId": st.sampled_from([0, 1]),
    "RoleArn": st.just(ROLE),
    "ExpectedVersion": st.integers(1, 3),
    "ExecutionNumber": st.integers(1, 2),
    "NextToken": st.just("token"),
}


NOT_OFFERED = {
    *("namespaceId", "jobTemplateArn", "documentParameters", "destinationPackageVersions"),
    *("billingGroupName", "nextToken", "beforeSubstitution"),
}
"""Members that are refused, or that nothing is found with: they would be in half of all requests."""


class Clients:
    """A client of either service, and what they were answered."""

    def __init__(self, api: Running) -> None:
        services = (iot.SERVICE, jobs_data.SERVICE)
        dispatcher = Dispatcher(services, api.context)
        self.models = {service.name: LoadedService(service, api.context) for service in services}
        self.joined = {name: Joined(api.client(service=name), dispatcher) for name in self.models}
        self.answered: set[tuple[str, str]] = set()
        self.api = api

    def call(self, service: str, name: str, given: dict[str, Any]) -> None:
        """Makes the call, and holds its answer against the model."""
        joined, operation = self.joined[service], self.models[service].operations[name].model
        refusal = None
        try:
            getattr(joined.client, xform_name(name))(**given)
        except ClientError as error:
            refusal = error
        body = joined.response.body
        if refusal is not None:
            code: Any = refusal.response["Error"]["Code"]
            assert code in {shape.name for shape in operation.error_shapes}, refusal
            assert joined.response.status < 500, refusal
            conforms(self.models[service].error_shape(code), json.loads(body), code)
        else:
            self.answered.add((service, name))
            if operation.output_shape is not None:
                conforms(operation.output_shape, json.loads(body), name)


FURNITURE = ("CreateThing", "CreateThingType", "CreateThingGroup", "CreateStream", "CreateJob")


@pytest.fixture
def clients(api: Running) -> Iterator[Clients]:
    api.put("firmware", "job.json", b'{"a":1}')
    with capture_logs():
        yield Clients(api)


# Without replaying and shrinking: what a request does depends on those before it.
@settings(
    max_examples=50,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=[*HealthCheck],
)
@given(data=st.data())
def one_after_the_other(clients: Clients, data: st.DataObject) -> None:
    for name in FURNITURE:
        clients.call("iot", name, smallest("iot", name))
    settle(clients.api)
    for service, name in data.draw(st.lists(st.sampled_from(OPERATIONS), min_size=5, max_size=10)):
        model = clients.models[service].operations[name].model
        sent = data.draw(sendable(model.input_shape, KNOWN), label=name)
        clients.call(service, name, {key: sent[key] for key in sent if key not in NOT_OFFERED})


def test_every_valid_request_has_an_answer_of_the_models(clients: Clients) -> None:
    one_after_the_other(clients)
    # Not only refusals: most are answered at least once; which, chance decides.
    assert len(clients.answered) > len(OPERATIONS) // 2
