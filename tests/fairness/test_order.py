"""The order in which the service writes, to a broker that may stop reading: bytes are counted, not time."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker_bridge.delivery.scheduler import QUANTUM
from tests.fairness.sink import RECEIVE_BUFFER, Sink
from tests.fairness.support import metric, publish
from tests.sluice.support import Service

BLOCK = 4096
REQUEST = 131072
SIZE = 20 * REQUEST
STREAM = "firmware"
SEND_BUFFER = 128 * 1024
BATCH = 64 * 1024
OVERHEAD = 100
"""More than topic and heads of one message take."""
TURN = QUANTUM + (QUANTUM // BLOCK) * OVERHEAD


def started(folder: Path, sink: Sink, settings: str = "") -> Service:
    """A service on the sink, in whose stream there is a file that it has read before."""
    (folder / "sluice.toml").write_text(settings)
    return Service(folder, "--broker", sink.url)


def published(folder: Path, sink: Sink, service: Service, size: int = SIZE) -> bytes:
    data = publish(folder, service, STREAM, size)
    blocks = -(-size // BLOCK)
    for first in range(0, blocks, REQUEST // BLOCK):
        sink.get("warm", STREAM, o=first)
        wanted = min(blocks, first + REQUEST // BLOCK)
        sink.until(lambda wanted=wanted: len(sink.of("warm")) == wanted, "the file's blocks")  # type: ignore[misc]
    assert b"".join(sent.fields["p"] for sent in sink.of("warm")) == data
    return data


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Sink, Service, bytes]]:
    folder = tmp_path_factory.mktemp("service")
    with Sink() as sink, started(folder, sink) as service:
        yield sink, service, published(folder, sink, service)


def heard(sink: Sink, service: Service) -> None:
    """Waits until the service has heard all requests. Its PUBACKs say nothing here: they are not read."""

    def all_of_them() -> bool:
        return metric(service, "sluice_requests_total", verb="get", encoding="cbor") == sink.asked

    sink.until(all_of_them, "requests that were not heard")


def stopped(sink: Sink, service: Service, filler: str) -> int:
    """Stops reading, has `filler` ask until the socket takes no more; bytes that the service wrote."""
    sink.reading.clear()
    for number in range(16):
        sink.get(filler, STREAM, o=number * 32)
    heard(sink, service)
    sent = -1.0
    while sent != (sent := metric(service, "sluice_broker_sent_bytes_total")):
        pass
    assert metric(service, "sluice_blocks_waiting") > 0
    return int(sent)


def drained(sink: Sink, service: Service) -> None:
    sink.reading.set()
    sink.until(lambda: metric(service, "sluice_requests_waiting") == 0, "what waits")
    total = int(metric(service, "sluice_broker_sent_bytes_total"))
    sink.until(lambda: sink.received >= total, "what was written")


def test_one_block_waits_for_the_send_buffer_and_one_turn(running: tuple[Sink, Service, bytes]) -> None:
    sink, service, data = running
    written = stopped(sink, service, "greedy-0")
    # What has left the scheduler and cannot be overtaken: the kernel takes twice SO_SNDBUF for its own
    # bookkeeping, and one batch may wait behind it.
    assert written - sink.received <= 2 * SEND_BUFFER + 2 * RECEIVE_BUFFER + BATCH + TURN
    for number in range(100):
        sink.get(f"greedy-{number % 4}", STREAM, o=number % 20 * 32)
    sink.get("modest", STREAM, o=7, n=1)
    heard(sink, service)
    assert int(metric(service, "sluice_broker_sent_bytes_total")) - written < 100 * 10, "more than PUBACKs"
    drained(sink, service)
    (block,) = sink.of("modest")
    assert block.fields["p"] == data[7 * BLOCK : 8 * BLOCK]
    # The turn that had begun is ended first, and three others were there before it. The PUBACKs of the
    # requests go before all data.
    assert block.start <= written + 120 * 10 + 4 * TURN
    after = [sent for sent in sink.sent if sent.start > block.start]
    assert sum(sent.thing.startswith("greedy") for sent in after) > 4 * 32, "there was nobody to overtake"


def test_asking_block_by_block_waits_one_turn_of_each_at_most(running: tuple[Sink, Service, bytes]) -> None:
    sink, service, _ = running
    written = stopped(sink, service, "hungry-0")
    for other in range(1, 5):
        for number in range(16):
            sink.get(f"hungry-{other}", STREAM, o=number * 32)
    for block in range(3):  # it asks before it was answered, as one with a window does
        sink.get("modest-2", STREAM, o=block, n=1)
    heard(sink, service)
    drained(sink, service)
    assert [sent.block for sent in sink.of("modest-2")] == [0, 1, 2]
    assert sink.of("modest-2")[-1].start <= written + 100 * 10 + 6 * TURN


def test_a_block_that_waits_is_not_queued_twice(running: tuple[Sink, Service, bytes]) -> None:
    sink, service, data = running
    stopped(sink, service, "filler-1")
    for first, count in ((0, 10), (5, 10), (3, 4), (0, 15)):
        sink.get("overlapping", STREAM, o=first, n=count)
    heard(sink, service)
    drained(sink, service)
    got = sink.of("overlapping")
    assert [sent.block for sent in got] == list(range(15))
    assert b"".join(sent.fields["p"] for sent in got) == data[: 15 * BLOCK]
    # What was written is written again when it is asked for again.
    sink.get("overlapping", STREAM, o=5, n=5)
    sink.until(lambda: len(sink.of("overlapping")) >= 20, "blocks asked for again")
    assert [sent.block for sent in sink.of("overlapping")[15:]] == list(range(5, 10))


def test_sixteen_requests_wait_and_the_next_is_dropped(running: tuple[Sink, Service, bytes]) -> None:
    sink, service, _ = running
    stopped(sink, service, "filler-2")
    dropped = metric(service, "sluice_dropped_total", what="request")
    for number in range(16):
        sink.get("patient", STREAM, o=number, n=1)
    heard(sink, service)
    assert metric(service, "sluice_dropped_total", what="request") == dropped
    sink.get("patient", STREAM, o=16, n=1)
    heard(sink, service)
    assert metric(service, "sluice_dropped_total", what="request") == dropped + 1
    sink.get("patient", STREAM, o=15, n=1)  # waits already: no further request
    heard(sink, service)
    sink.get("another", STREAM, o=16, n=1)
    heard(sink, service)
    assert metric(service, "sluice_dropped_total", what="request") == dropped + 1
    drained(sink, service)
    assert [sent.block for sent in sink.of("patient")] == list(range(16))
    assert [sent.block for sent in sink.of("another")] == [16]


def test_credit(tmp_path: Path) -> None:
    with Sink() as sink, started(tmp_path, sink, "[broker]\nhold = 50\n") as service:
        published(tmp_path, sink, service, REQUEST)

        def asked(thing: str) -> float:
            """Has the thing ask for 512 blocks once more; when that was."""
            before = time.monotonic()
            sink.get(thing, STREAM, l=256)
            return before

        def stays_at(thing: str, count: int, since: float) -> bool:
            """Whether it was sent no more when somebody else's block came; False if that took too long."""
            sink.until(lambda: len(sink.of(thing)) >= count, f"{count} messages")
            sink.get(f"other-{thing}", STREAM, o=count % 32, n=1)
            sink.until(lambda: sink.of(f"other-{thing}"), "another's block")
            found = len(sink.of(thing))
            if time.monotonic() - since > 0.9:
                return False
            assert found == count
            return True

        for attempt in range(20):
            if stays_at(f"first-{attempt}", 50, asked(f"first-{attempt}")):
                break
        else:
            raise AssertionError("the machine is too slow to look within a second")
        # A second has passed, and again: it gets the rest without another word.
        sink.until(lambda: len(sink.of(f"first-{attempt}")) >= 200, "what a second gives back")
        for attempt in range(20):
            thing = f"again-{attempt}"
            since = asked(thing)
            sink.until(lambda thing=thing: len(sink.of(thing)) >= 50, "50 messages")  # type: ignore[misc]
            asked(thing)
            if stays_at(thing, 100, since):
                break
        else:
            raise AssertionError("the machine is too slow to look within a second")


def test_qos_1_has_a_window_of_twenty(tmp_path: Path) -> None:
    with Sink() as sink, started(tmp_path, sink, "[broker]\ndata_qos = 1\n") as service:
        data = published(tmp_path, sink, service, REQUEST)
        sink.keeps_unacknowledged = True
        sink.get("thing", STREAM)
        sink.until(lambda: len(sink.of("thing")) >= 10, "the window")
        taken = 0
        while taken < 32:
            # Whatever it still had to write for its window, it has written when it hears another request.
            sink.until_acknowledged(sink.get("nobody", "no-such-stream"))
            unacknowledged = sink.of("thing")[taken:]
            assert 1 <= len(unacknowledged) <= 20
            sink.acknowledge(unacknowledged[0])
            taken += 1
            if taken < 32:
                sink.until(lambda taken=taken: len(sink.of("thing")) > taken, "a block")  # type: ignore[misc]
        got = sink.of("thing")
        assert len({sent.packet_id for sent in got[:10]}) == 10
        assert [sent.block for sent in got] == list(range(32))
        assert b"".join(sent.fields["p"] for sent in got) == data
