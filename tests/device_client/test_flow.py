"""How much is asked for: over links that change while a download runs, in virtual time."""

import pytest

from benchmarks.transfer import Transfer
from device_client.download import Download
from device_client.flow import Flow
from firmware_sim.links.model import Link, LinkProfile, Way

SIZE = 90_000 * 4096


def link(trip: float, rate: float, loss: float = 0.0) -> Link:
    """Milliseconds there and back, bytes a second."""
    up, down = Way(rate=rate, delay=trip / 2), Way(rate=rate, delay=trip / 2, loss=loss)
    return Link(LinkProfile(name="test", up=up, down=down), 1)


def transfer(over: Link, budget: int = 1 << 20) -> Transfer:
    device = Download("mast", "fw", 0, "rdy", 0, block_size=4096, budget=budget)
    return Transfer(device, SIZE, over)


def rate(one: Transfer, begin: float, end: float) -> float:
    """Bytes a second that come between two times in seconds."""
    one.run(begin)
    before = one.counted
    one.run(end)
    return (one.counted - before) / (end - begin)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ((50, 500_000), (300, 500_000)),
        ((300, 500_000), (20, 500_000)),
        ((100, 64_000), (100, 1_000_000)),
        ((100, 1_000_000), (100, 64_000)),
        ((20, 2_000_000), (600, 100_000)),
    ],
)
def test_it_follows_a_link_that_becomes_another(
    before: tuple[float, float], after: tuple[float, float]
) -> None:
    one = transfer(link(*before))
    assert rate(one, 2, 15) > 0.85 * before[1]
    one.link = link(*after)
    assert rate(one, 45, 75) > 0.85 * after[1]


def test_a_queue_in_front_of_the_link_stays_short() -> None:
    over = link(100, 100_000)
    one = transfer(over)
    late = []
    for second in range(5, 60):
        one.run(second)
        late.append(over.down.free - second)
    # A round trip's worth or the least in flight; the whole budget would be ten seconds of it.
    assert max(late) < 0.5


def test_a_download_goes_on_after_a_link_that_stood_still() -> None:
    one = transfer(link(50, 500_000))
    one.run(5)
    working, one.link = one.link, link(50, 500_000, loss=1.0)
    one.run(25)
    one.link = working
    assert rate(one, 45, 60) > 0.9 * 500_000


def test_a_third_of_all_blocks_lost_ends_nothing_and_less_is_asked_for() -> None:
    one = transfer(link(100, 500_000, loss=0.33))
    assert rate(one, 5, 60) > 0.4 * 500_000


class TestFlow:
    """The rule itself, in a few steps."""

    @staticmethod
    def round(flow: Flow, now: int, trip: int = 100, count: int = 10) -> None:
        flow.answered(now - trip, now - trip, count, now)

    def test_twice_what_comes_in_a_round_trip(self) -> None:
        flow = Flow(4, 1000, 32)
        assert (flow.limit, flow.step) == (4, 1)
        self.round(flow, 100, count=40)
        assert flow.limit == pytest.approx(80, abs=1)
        assert flow.step == flow.limit // 8

    def test_within_its_bounds(self) -> None:
        flow = Flow(4, 50, 2)
        self.round(flow, 100, count=40)
        assert (flow.limit, flow.step) == (50, 2)
        flow.stalled()
        assert (flow.limit, flow.step) == (4, 1)

    def test_random_loss_changes_nothing_and_heavy_loss_does(self) -> None:
        flow = Flow(4, 1000, 32)
        limits: list[int] = []
        for lost in (0, 2, 2, 30, 30, 30, 30, 30, 0, 0, 0, 0, 0, 0, 0, 0, 0):
            for _ in range(40):
                flow.came()
            flow.missed(lost)
            self.round(flow, 100 * (len(limits) + 1), count=40)
            limits.append(flow.limit)
        assert limits[0] == limits[1] == limits[2] == limits[-1]
        assert limits[7] < 0.85 * limits[0]

    def test_a_hidden_round_trip_is_looked_for_with_a_nearly_dry_pipe(self) -> None:
        flow = Flow(4, 1000, 32)
        self.round(flow, 100, 100, 40)
        before = flow.limit
        now = 100
        while flow.limit > before // 3:
            now += 100
            self.round(flow, now, 200, 80)
            assert now < 30_000
        self.round(flow, now + 150, 150, 10)  # was sent after the pipe ran dry
        assert flow.limit == pytest.approx(1.5 * before, abs=2)
