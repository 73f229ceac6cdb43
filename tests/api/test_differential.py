"""Our reading and writing of AWS's wire against botocore's own, for every operation, on generated values.

A real client builds the request and reads the answer; between both stands our dispatcher, whose operations
note what they were given and answer with what they are told to. What botocore wrote must be what we read, and
what we wrote must be what botocore reads.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from types import ModuleType
from typing import Any

import pytest
from botocore import xform_name
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from broker_bridge.api import iot, jobs_data
from broker_bridge.api.context import Context
from broker_bridge.api.dispatch import Dispatcher
from broker_bridge.api.model import LoadedService
from broker_bridge.api.service import Service
from tests.api.generated import answerable, sendable
from tests.api.in_process import Joined
from tests.api.operations import EVERY
from tests.api.running import Running

SERVICES = {service.name: service for service in (iot.SERVICE, jobs_data.SERVICE)}
OPERATIONS = [(service, name) for service, names in EVERY.items() for name in sorted(names)]


class Between:
    """A client, and operations that note and answer."""

    def __init__(self, api: Running, service: Service) -> None:
        self.told: Mapping[str, Any] = {}
        """What the next operation answers."""
        self.heard: list[tuple[str, Mapping[str, Any]]] = []
        module = ModuleType("noting")
        for name in EVERY[service.name]:
            setattr(module, xform_name(name), self._operation(xform_name(name)))
        noting = replace(service, modules=(module,))
        self.model = LoadedService(noting, api.context)
        self.client = Joined(api.client(service=service.name), Dispatcher([noting], api.context)).client

    def _operation(self, name: str) -> Any:
        def operation(context: Context, **given: Any) -> Mapping[str, Any]:
            self.heard.append((name, given))
            return self.told

        operation.__module__ = "noting"
        return operation


@pytest.fixture(scope="module")
def between(api: Running) -> dict[str, Between]:
    return {name: Between(api, service) for name, service in SERVICES.items()}


@pytest.mark.parametrize(("service", "operation"), OPERATIONS)
@settings(max_examples=15, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(data=st.data())
def test_what_botocore_writes_we_read_and_what_we_write_botocore_reads(
    between: dict[str, Between], service: str, operation: str, data: st.DataObject
) -> None:
    wire = between[service]
    model = wire.model.operations[operation].model
    sent = data.draw(sendable(model.input_shape), label="sent")
    wire.told = {}
    if model.output_shape is not None:
        wire.told = data.draw(answerable(model.output_shape), label="answered")
    wire.heard.clear()
    call = partial(getattr(wire.client, xform_name(operation)), **sent)
    answer = call()
    assert answer.pop("ResponseMetadata")["HTTPStatusCode"] == 200
    assert wire.heard == [(xform_name(operation), {xform_name(name): sent[name] for name in sent})]
    assert answer == wire.told
