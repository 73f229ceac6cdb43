"""`sluice serve --workers`: real processes, a real broker, kills and hangs in the middle of it."""

import json
import os
import random
import signal
import time
import urllib.request
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import boto3
import psutil
import pytest

from broker_bridge.workers.ownership import owner
from tests.conftest import MosquittoFactory
from tests.sluice.support import Service, sluice
from tests.support.waiting import wait_until
from tests.workers.fleet import Fleet

ROLE = "arn:aws:iam::000000000000:role/sluice"
THINGS = [f"mast-{number}" for number in range(30)]


def publish(folder: Path, service: Service, size: int, seed: int = 0) -> bytes:
    data = random.Random(seed).randbytes(size)
    (folder / "fw.bin").write_bytes(data)
    flags = ["--http", service.http, "--state", service.state]
    done = sluice(["publish", "fw.bin", "--stream", "fw", *flags], folder)
    assert done.returncode == 0, done.stderr
    return data


def workers_of(service: Service) -> dict[int, int]:
    """The process ids of the workers that live, by the workers' numbers."""
    found = {}
    for text in service.log_path.read_text().splitlines():
        entry = json.loads(text) if text.startswith("{") else {}
        if entry.get("event") == "a worker runs" and psutil.pid_exists(entry["pid"]):
            found[entry["worker"]] = entry["pid"]
    return found


def get(service: Service, path: str) -> str:
    with urllib.request.urlopen(f"http://{service.http}{path}", timeout=30) as answer:
        return str(answer.read().decode())


def states(service: Service) -> dict[str, str]:
    found: dict[str, str] = json.loads(get(service, "/healthz"))["workers"]
    return found


def metrics(service: Service) -> dict[str, float]:
    lines = (line for line in get(service, "/metrics").splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def all_answer(service: Service) -> bool:
    return set(states(service).values()) == {"answering"}


class At:
    """Does something once, when a share of the blocks has come."""

    def __init__(self, share: float, action: Any) -> None:
        self.share = share
        self.action = action
        self.done = False

    def __call__(self, share: float) -> None:
        if not self.done and share >= self.share:
            assert share < 1, "all was over before anything could happen to it"
            self.done = True
            self.action()


def check(fleet: Fleet, *, exactly_once: bool = False) -> None:
    """Every file is exact, and no block came oftener than it was asked for."""
    fleet.linger()
    assert fleet.rejected == []
    for device in fleet.devices.values():
        assert device.exact, device.thing
        assert not device.arrived - device.asked, device.thing
        if exactly_once:
            assert set(device.arrived.values()) == {1}


@pytest.mark.parametrize("workers", [2, 3])
def test_workers_share_a_fleet(tmp_path: Path, mosquitto: MosquittoFactory, workers: int) -> None:
    broker = mosquitto().url
    with Service(tmp_path, "--broker", broker, "--workers", str(workers)) as service:
        data = publish(tmp_path, service, 400_001)
        processes = workers_of(service)
        assert len(processes) == workers
        with Fleet(broker, "fw", data, THINGS) as fleet:
            fleet.download()
            check(fleet, exactly_once=True)
            counted = metrics(service)
            blocks = sum(device.arrived.total() for device in fleet.devices.values())
        assert counted["sluice_blocks_total"] == blocks
        assert counted["sluice_block_bytes_total"] == len(data) * len(THINGS)
        assert counted['sluice_requests_total{encoding="cbor",verb="get"}'] == len(THINGS) * -(
            -blocks // len(THINGS) // 16
        )
        assert counted["sluice_workers"] == counted["sluice_broker_connected"] == workers
        shares = Counter(owner(thing, range(workers)) for thing in THINGS)
        assert len(shares) == workers, "the fleet of this test is shared by all"
        assert counted["sluice_store_reads_total"] == workers, "each has read the one range for itself"
        children = psutil.Process(service.process.pid).children(recursive=True)
        assert service.stop(signal.SIGTERM) == 0
        assert not any(child.is_running() for child in children)
        log = service.log_path.read_text()
        assert "Traceback" not in log
        assert "did not bring our own message back" not in log


def test_a_killed_worker_is_taken_over_and_replaced(tmp_path: Path, mosquitto: MosquittoFactory) -> None:
    broker = mosquitto().url
    with Service(tmp_path, "--broker", broker, "--workers", "3") as service:
        data = publish(tmp_path, service, 2_000_001)
        before = workers_of(service)
        counted: list[dict[str, float]] = []

        def kill() -> None:
            counted.append(metrics(service))
            os.kill(before[1], signal.SIGKILL)
            wait_until(lambda: states(service)["1"] != "answering", what="the death to be noticed")
            counted.append(metrics(service))

        at = At(0.3, kill)
        with Fleet(broker, "fw", data, THINGS) as fleet:
            fleet.download(at)
            check(fleet)
        assert at.done
        wait_until(lambda: all_answer(service), what="a replacement that answers")
        after = workers_of(service)
        assert after[1] != before[1]
        assert (after[0], after[2]) == (before[0], before[2])
        counted.append(metrics(service))
        for earlier, later in pairwise(counted):
            for name in ("sluice_blocks_total", "sluice_broker_connects_total", "sluice_store_reads_total"):
                assert earlier[name] <= later[name]
        assert counted[-1]["sluice_workers_replaced_total"] == 1
        assert counted[-1]["sluice_workers"] == 3


def test_others_answer_before_the_replacement_does(tmp_path: Path, mosquitto: MosquittoFactory) -> None:
    broker = mosquitto().url
    with Service(tmp_path, "--broker", broker, "--workers", "2") as service:
        data = publish(tmp_path, service, 4096)
        thing = next(thing for thing in THINGS if owner(thing, (0, 1)) == 0)
        with Fleet(broker, "fw", data, [thing]) as fleet:
            os.kill(workers_of(service)[0], signal.SIGKILL)
            began = time.monotonic()
            while True:
                fleet.describe(thing)
                if fleet.answer("description", 0.02):
                    break
                assert time.monotonic() < began + 30, "nobody took over"
            assert states(service)["0"] != "answering", "this was the replacement"


def test_a_worker_that_hangs_is_replaced(tmp_path: Path, mosquitto: MosquittoFactory) -> None:
    broker = mosquitto().url
    with Service(tmp_path, "--broker", broker, "--workers", "2") as service:
        data = publish(tmp_path, service, 1_000_001)
        before = workers_of(service)
        at = At(0.3, lambda: os.kill(before[0], signal.SIGSTOP))
        with Fleet(broker, "fw", data, THINGS) as fleet:
            fleet.download(at)
            check(fleet)
        assert at.done
        wait_until(lambda: workers_of(service).get(0) not in (None, before[0]), what="a replacement")
        assert "a worker hangs and is killed" in service.log_path.read_text()


def test_a_change_reaches_the_devices_of_all_workers(tmp_path: Path, mosquitto: MosquittoFactory) -> None:
    broker = mosquitto().url
    with Service(tmp_path, "--broker", broker, "--workers", "3") as service:
        data = publish(tmp_path, service, 5000)
        iot = boto3.client("iot", endpoint_url=f"http://{service.http}", region_name="us-east-1")
        with Fleet(broker, "fw", data, THINGS) as fleet:

            def versions() -> set[object]:
                for thing in THINGS:
                    fleet.describe(thing)
                answers = [fleet.answer("description") for _ in THINGS]
                return {answer[1]["s"] for answer in answers if answer is not None}

            assert versions() == {1}
            iot.update_stream(streamId="fw", description="another")
            wait_until(lambda: versions() == {2}, what="the change")
            iot.delete_stream(streamId="fw")

            def refusal() -> object:
                # A worker hears of the change soon after the call has returned, not before.
                fleet.describe(THINGS[0])
                answer = fleet.answer("rejected", timeout=1.0)
                return answer and answer[1]["o"]

            wait_until(lambda: refusal() == "ResourceNotFound", what="the refusal")


def test_the_broker_is_killed_and_started_again(tmp_path: Path, mosquitto: MosquittoFactory) -> None:
    broker = mosquitto()
    with Service(tmp_path, "--broker", broker.url, "--workers", "2") as service:
        data = publish(tmp_path, service, 1_000_001)

        def restart() -> None:
            broker.kill()
            broker.restart()

        at = At(0.3, restart)
        with Fleet(broker.url, "fw", data, THINGS) as fleet:
            fleet.download(at)
            check(fleet)
        assert at.done
        wait_until(lambda: all_answer(service), what="both to answer again")
        assert metrics(service)["sluice_workers_replaced_total"] == 0


def test_the_service_is_killed_and_started_again(tmp_path: Path, mosquitto: MosquittoFactory) -> None:
    broker = mosquitto().url
    flags = ("--broker", broker, "--workers", "2")
    running = [Service(tmp_path, *flags)]
    try:
        data = publish(tmp_path, running[0], 1_000_001)

        def restart() -> None:
            # The old workers still write what they had promised while the new service begins.
            running[0].stop(signal.SIGKILL)
            running.append(Service(tmp_path, *flags))

        at = At(0.3, restart)
        with Fleet(broker, "fw", data, THINGS) as fleet:
            fleet.download(at)
            check(fleet)
        assert at.done
    finally:
        for service in running:
            service.__exit__(None, None, None)


def test_the_embedded_broker(tmp_path: Path) -> None:
    with Service(tmp_path, "--mqtt", "127.0.0.1:0", "--workers", "2") as service:
        data = publish(tmp_path, service, 100_001)
        with Fleet(service.mqtt, "fw", data, THINGS) as fleet:
            fleet.download()
            check(fleet, exactly_once=True)
        assert service.stop() == 0


@pytest.mark.parametrize("broker", ["mosquitto", "embedded"])
def test_killed_it_leaves_nothing_behind(tmp_path: Path, mosquitto: MosquittoFactory, broker: str) -> None:
    flags = ["--broker", mosquitto().url] if broker == "mosquitto" else ["--mqtt", "127.0.0.1:0"]
    with Service(tmp_path, *flags, "--workers", "2") as service:
        children = psutil.Process(service.process.pid).children(recursive=True)
        assert len(children) == (2 if broker == "mosquitto" else 3)
        assert service.stop(signal.SIGKILL) == -signal.SIGKILL
        wait_until(lambda: not any(child.is_running() for child in children), what="the end of all")


def test_ctrl_c_goes_to_all_and_ends_them_in_order(tmp_path: Path, mosquitto: MosquittoFactory) -> None:
    with Service(tmp_path, "--broker", mosquitto().url, "--workers", "2") as service:
        children = psutil.Process(service.process.pid).children(recursive=True)
        for child in children:
            child.send_signal(signal.SIGINT)
            child.send_signal(signal.SIGTERM)
        assert all_answer(service)
        assert service.stop(signal.SIGINT) == 0
        assert not any(child.is_running() for child in children)
        assert "a worker ended" not in service.log_path.read_text()


def test_passwords_are_in_no_arguments_and_no_environment(
    tmp_path: Path, mosquitto: MosquittoFactory
) -> None:
    port = mosquitto().port
    with Service(tmp_path, "--broker", f"mqtt://me:s3cret@127.0.0.1:{port}", "--workers", "2") as service:
        for pid in workers_of(service).values():
            process = psutil.Process(pid)
            assert "s3cret" not in " ".join(process.cmdline())
            assert "s3cret" not in str(process.environ())
