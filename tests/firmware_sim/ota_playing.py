"""A fleet that is updated by a real service, and what an operator does to it meanwhile."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from firmware_sim.fleet.broker import Broker
from firmware_sim.ota_fleet.device import OneKey
from firmware_sim.ota_fleet.order import Order
from firmware_sim.ota_fleet.report import Phase, Report
from firmware_sim.ota_fleet.run import Snapshot, run
from tests.support.waiting import wait_until

KEY = ec.derive_private_key(0x5109CE, ec.SECP256R1())
PUBLIC = KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

Await = Callable[[Callable[[Mapping[Phase, int]], bool]], object]


def register(iot: Any, group: str, orders: Sequence[Order]) -> str:
    """The things and their group; its ARN."""
    arn = iot.create_thing_group(thingGroupName=group)["thingGroupArn"]
    for order in orders:
        iot.create_thing(thingName=order.thing)
        iot.add_thing_to_thing_group(thingGroupName=group, thingName=order.thing)
    return str(arn)


def play(url: str, orders: Sequence[Order], script: Callable[[Await], object]) -> Report:
    """Runs the fleet while `script` runs in a thread, which can wait for the devices' phases; to its end."""
    found: list[Mapping[Phase, int]] = []

    def watch(snapshot: Snapshot) -> None:
        found[:] = [snapshot.phases]

    def wait(condition: Callable[[Mapping[Phase, int]], bool]) -> None:
        wait_until(lambda: found and condition(found[0]), 60, "the fleet's getting there")

    with ThreadPoolExecutor(1) as threads:
        acting = threads.submit(script, wait)
        report = run(Broker.parse(url), orders, OneKey(PUBLIC), over=acting.done, progress=watch)
        acting.result()
    return report


def ended(iot: Any, job_id: str) -> dict[str, Any]:
    """The job, once it is over."""

    def look() -> dict[str, Any]:
        job: dict[str, Any] = iot.describe_job(jobId=job_id)["job"]
        return job if job["status"] in ("COMPLETED", "CANCELED") else {}

    return wait_until(look, 60, f"the end of {job_id}")


def executions(iot: Any, job_id: str) -> dict[str, dict[str, Any]]:
    """The job's executions, by thing."""
    pages = iot.get_paginator("list_job_executions_for_job").paginate(jobId=job_id)
    return {
        one["thingArn"].rpartition("/")[2]: one["jobExecutionSummary"]
        for page in pages
        for one in page["executionSummaries"]
    }


def statuses(iot: Any, job_id: str) -> dict[str, str]:
    """The same, status alone."""
    return {thing: one["status"] for thing, one in executions(iot, job_id).items()}
