"""Jobs: requests of devices through Mosquitto, and a job for a hundred thousand things.

As a program (`benchmarks.rig.Program`) it is the devices: all of them on a few connections, each asking on
time whether it was answered or not, as devices do that know nothing of each other.
"""

import json
import select
import statistics
import sys
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import boto3
from botocore.config import Config

from benchmarks.report import Goal, Row
from benchmarks.rig import Program, Service, Workshop, cpu_seconds, workshop
from benchmarks.wire import connected, published
from broker_bridge.mqtt.framing import Framer
from broker_bridge.mqtt.packets import V311, Publish
from broker_bridge.registry import schema
from broker_bridge.registry.registry import Registry

RATE, TAIL_MS = 2000, 20
"""Requests a second, half of them reports, and the 99th percentile of the wait for an answer."""
DEVICES, JOBS, SECONDS = 1000, 2, 20
THINGS, QUEUED_SECONDS = 100_000, 60
PAGES_FLAT = 1.5
"""The last pages of a listing may take so many times what the first take."""
GROUP = "masts"
DOCUMENT = json.dumps(
    {"operation": "update", "files": [{"path": f"/fw/{i}", "size": 1000} for i in range(5)]}
)
CONNECTIONS = 20
REPORTS = range(10, 20)
"""Reports of one job, the last of which ends it: not as many from each device, or all would end at once."""


def run(quick: bool) -> list[Row]:
    """Two runs: one of requests, one of a large job."""
    return [*_requests(quick), *_large(quick)]


def _requests(quick: bool) -> list[Row]:
    devices, seconds = (100, 3) if quick else (DEVICES, SECONDS)
    with workshop(0) as shop:
        _load(shop, devices)
        with shop.broker() as broker, shop.service(broker.url) as service:
            client = _client(service.http)
            for number in range(JOBS):
                # One after the other: each device takes them in the order in which they were queued.
                _create(client, f"job-{number}")
                _until_queued(client, f"job-{number}", devices)
            _until_told(service)
            spec = {"host": broker.host, "port": broker.port, "devices": devices, "rate": RATE}
            with Program("jobs", **spec) as fleet:
                before = cpu_seconds(service.pid)
                found = fleet.ask(str(seconds), seconds + 60)
                cpu = cpu_seconds(service.pid) - before
    waits = [1000 * wait for wait in found["waits"]]
    what = f"{RATE:,} job requests a second of {devices:,} devices: "
    return [
        Row(
            what + "answered",
            len(waits) / found["seconds"],
            "/s",
            goal=Goal(">=", 0.99 * RATE, "/s"),
            note=f"{found['asked'] - len(waits)} without an answer, {found['rejected']} rejected",
        ),
        Row(
            what + "99th percentile",
            statistics.quantiles(waits, n=100)[98],
            "ms",
            goal=Goal("<=", TAIL_MS, "ms"),
            note=f"median {statistics.median(waits):.1f} ms, longest {max(waits):.0f} ms",
        ),
        Row(what + "the service's CPU", cpu / found["seconds"], "cores"),
    ]


def _large(quick: bool) -> list[Row]:
    things = 2000 if quick else THINGS
    with workshop(0) as shop:
        _load(shop, things)
        with shop.broker() as broker, shop.service(broker.url) as service:
            client = _client(service.http)
            began = time.monotonic()
            _create(client, "large")
            created = time.monotonic() - began
            _until_queued(client, "large", things)
            queued = time.monotonic() - began
            seconds = list(_pages(client, "large"))
    few = max(1, len(seconds) // 20)
    first, last = (statistics.median(some) for some in (seconds[:few], seconds[-few:]))
    what = f"a job for {things:,} things: "
    return [
        Row(
            what + "until all are queued",
            queued,
            "s",
            goal=Goal("<=", QUEUED_SECONDS, "s"),
            note=f"CreateJob itself {created:.1f} s",
        ),
        Row(
            what + "last pages of its executions",
            1000 * last,
            "ms",
            1000 * first,
            Goal("<=", PAGES_FLAT, "× the first"),
            last / first,
            f"{len(seconds)} pages of 250",
        ),
    ]


def _load(shop: Workshop, things: int) -> None:
    """Things in one group, written straight into the registry: through the API it would take minutes."""
    shop.state.mkdir(parents=True, exist_ok=True)
    registry = Registry.open(f"sqlite:///{shop.state / 'registry.db'}")
    client_rows = [
        {"thing_name": _thing(number), "thing_id": str(uuid.uuid4()), "version": 1}
        for number in range(things)
    ]
    with registry._database.changing() as connection:
        connection.execute(
            schema.thing_groups.insert(),
            {
                "thing_group_name": GROUP,
                "thing_group_id": str(uuid.uuid4()),
                "path": f"{GROUP}/",
                "version": 1,
                "attributes": {},
                "created_at": datetime.now(UTC),
            },
        )
        connection.execute(schema.things.insert(), client_rows)
        connection.execute(
            schema.memberships.insert(),
            [{"group_path": f"{GROUP}/", "thing_name": row["thing_name"]} for row in client_rows],
        )
    registry.close()


def _thing(number: int) -> str:
    return f"mast-{number:06d}"


def _client(http: str) -> Any:
    return boto3.client(
        "iot",
        endpoint_url=http,
        region_name="us-east-1",
        aws_access_key_id="bench",
        aws_secret_access_key="bench",
        config=Config(read_timeout=300, retries={"total_max_attempts": 1}),
    )


def _create(client: Any, job_id: str) -> None:
    target = f"arn:aws:iot:us-east-1:000000000000:thinggroup/{GROUP}"
    client.create_job(jobId=job_id, targets=[target], document=DOCUMENT)


def _until_queued(client: Any, job_id: str, things: int) -> None:
    deadline = time.monotonic() + 300
    while True:
        details = client.describe_job(jobId=job_id)["job"]["jobProcessDetails"]
        if details["numberOfQueuedThings"] == things:
            return
        if time.monotonic() > deadline:
            raise AssertionError(f"{details['numberOfQueuedThings']} of {things} are queued after 300 s")
        time.sleep(0.1)


def _until_told(service: Service) -> None:
    """Returns when no thing was told of a job for a second."""
    told = -1.0
    while (now := service.metric("sluice_job_notices_total")) != told:
        told = now
        time.sleep(1)


def _pages(client: Any, job_id: str) -> Iterator[float]:
    """Seconds for each page of the job's executions."""
    more: dict[str, str] = {}
    while True:
        began = time.monotonic()
        page = client.list_job_executions_for_job(jobId=job_id, maxResults=250, **more)
        yield time.monotonic() - began
        if "nextToken" not in page:
            return
        more = {"nextToken": page["nextToken"]}


def _asks(device: int) -> Iterator[tuple[str, dict[str, object]]]:
    """What a device asks: a read, a report, a read, … and only for more when all its jobs are done."""
    start = f"$aws/things/{_thing(device)}/jobs"
    # By pairs: were it by devices, those that are out of step would end their jobs with those that are not.
    reports = REPORTS[device // 2 % len(REPORTS)]
    if device % 2:
        # Out of step with the others: or all would report at once, and then all read.
        yield f"{start}/$next/get", {}
    for job in range(JOBS):
        for number in range(1, reports + 1):
            yield (f"{start}/get", {}) if number % 3 else (f"{start}/$next/get", {})
            state = "IN_PROGRESS" if number < reports else "SUCCEEDED"
            details = {"receive": f"{number} of {reports}"}
            yield f"{start}/job-{job}/update", {"status": state, "statusDetails": details}
    while True:
        yield f"{start}/$next/get", {}


def devices(host: str, port: int, devices: int, rate: int) -> None:
    """Asks at that rate for as many seconds as it is told; reports all waits for answers, in seconds."""
    filters = [f"$aws/things/+/jobs/{what}" for what in ("get/+", "+/get/+", "+/update/+")]
    hears = connected(host, port, "hears", *filters)
    links = [connected(host, port, f"asks-{number}", "bench/none") for number in range(CONNECTIONS)]
    asks = [_asks(number) for number in range(devices)]
    framer = Framer(V311, 1 << 16)
    print("{}", flush=True)
    seconds = float(sys.stdin.readline())
    waits: list[float] = []
    sent: dict[str, float] = {}
    rejected = 0
    began = time.perf_counter()
    count, total = 0, int(rate * seconds)
    while True:
        now = time.perf_counter()
        while count < total and began + count / rate <= now:
            number = count % devices
            topic, members = next(asks[number])
            # From when it was due: a generator that is late must not make the service look better.
            sent[str(count)] = began + count / rate
            payload = json.dumps({**members, "clientToken": str(count)}).encode()
            links[number % CONNECTIONS].sendall(published(topic, payload))
            count += 1
        due = began + count / rate if count < total else now + 1
        if select.select([hears], [], [], max(0.0, due - time.perf_counter()))[0]:
            data = hears.recv(1 << 20)
            now = time.perf_counter()
            for packet in framer.feed(data):
                if isinstance(packet, Publish):
                    answer = json.loads(packet.payload)
                    waits.append(now - sent.pop(answer["clientToken"]))
                    rejected += "code" in answer
        elif count == total:
            break
        if not sent and count == total:
            break
    done = {"waits": waits, "asked": count, "rejected": rejected, "seconds": time.perf_counter() - began}
    print(json.dumps(done), flush=True)


if __name__ == "__main__":
    devices(**json.loads(sys.argv[1]))
