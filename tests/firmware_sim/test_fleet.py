"""A fleet over a real broker: exact under loss and power cuts, and nobody disturbs another."""

import hashlib
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from device_client.mqtt import BrokerUnreachable
from firmware_sim.fleet.broker import Broker
from firmware_sim.fleet.loop import MOST_DEVICES, FleetError
from firmware_sim.fleet.order import Order, State
from firmware_sim.fleet.profiles import DeviceProfile, parse
from firmware_sim.fleet.report import Outcome, Report
from firmware_sim.fleet.run import Snapshot, plan, run
from firmware_sim.links.model import LinkProfile, ProfileError, Way
from firmware_sim.links.profiles import find as find_link
from tests.conftest import MosquittoFactory
from tests.device_client.doing import certificate_for_loopback
from tests.device_client.model import Service as ModelService
from tests.device_client.responder import Responder
from tests.sluice.support import Service, sluice
from tests.support.mosquitto import MosquittoServer
from tests.support.waiting import free_port

PERFECT = LinkProfile(name="perfect")
LOSSY = LinkProfile(
    name="lossy",
    up=Way(rate=200_000, delay=5, jitter=5, loss=0.03, duplicate=0.02, reorder=0.03, reorder_by=30),
    down=Way(rate=200_000, delay=5, jitter=5, loss=0.03, duplicate=0.02, reorder=0.03, reorder_by=30),
    stall_every=2.0,
    stall_for=0.2,
    disconnect_every=3.0,
)
PLAIN = DeviceProfile(name="plain", block_size=1024, patience=60.0)
FRAIL = parse("""
[frail]
block_size = "512 B"
budget = "4 KiB"
flash = "100 kB/s"
save_every = "2 KiB"
power_cut_every = "300 ms"
power_cuts = 3
boot = "50 ms"
patience = "60 s"

[json]
block_size = "2 KiB"
encoding = "json"
in_flight = 4
patience = "60 s"

[fast]
block_size = "16 KiB"
patience = "60 s"

[slow]
block_size = "256 B"
gap = "10 ms"
flash = "200 kB/s"
patience = "60 s"

[all]
mix = { frail = 2, json = 1, fast = 1, slow = 1 }
""")


@dataclass(frozen=True)
class Site:
    """A broker with a service on it, and what each stream holds."""

    broker: Broker
    content: dict[str, bytes]

    def sha256(self, stream: str) -> str:
        return hashlib.sha256(self.content[stream]).hexdigest()

    def run(self, orders: list[Order], **settings: object) -> Report:
        return run(self.broker, orders, **settings)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("service")
    broker = MosquittoServer(tmp_path_factory.mktemp("mosquitto"))
    content = {"one": 50_001, "two": 30_000, "tiny": 700, "empty": 0}
    chance = random.Random(7)
    try:
        with Service(folder, "--broker", broker.url) as service:
            held = {}
            for stream, size in content.items():
                held[stream] = chance.randbytes(size)
                (folder / "fw.bin").write_bytes(held[stream])
                flags = ["--http", service.http, "--state", service.state]
                done = sluice(["publish", "fw.bin", "--stream", stream, *flags], folder)
                assert done.returncode == 0, done.stderr
            yield Site(Broker.parse(broker.url), held)
    finally:
        broker.close()


def order(thing: str, stream: str = "one", **settings: object) -> Order:
    return Order(**{"thing": thing, "stream": stream, "profile": PLAIN, "link": PERFECT, **settings})  # type: ignore[arg-type]


def test_a_mixed_fleet_under_loss_and_power_cuts_is_exact(site: Site) -> None:
    orders = plan(120, FRAIL["all"], LOSSY, stream="one", ramp=3, seed=11, thing_prefix="mast-")
    orders = [replace(order, sha256=site.sha256("one")) for order in orders]
    told: list[Snapshot] = []
    report = site.run(orders, seed=11, progress=told.append)
    assert report.ok, [one for one in report.devices if one.outcome is not Outcome.DONE][:3]
    assert [one.thing for one in report.devices] == [f"mast-{number:03}" for number in range(120)]
    assert {one.sha256 for one in report.devices} == {site.sha256("one")}
    assert {one.size for one in report.devices} == {50_001}
    assert {one.link for one in report.devices} == {"lossy"}
    frail = [one for one in report.devices if one.profile == "frail"]
    assert len(frail) == 48
    assert all(one.power_cuts == 0 and one.resumed == 0 for one in report.devices if one.profile != "frail")
    # Chance is seeded, but how far a device is when it strikes is not: what nearly all of them meet.
    assert sum(one.power_cuts for one in frail) > len(frail)
    assert sum(one.resumed > 0 for one in frail) > 10
    assert report.total.reconnects > 0
    assert report.total.duplicates > 0
    assert all(one.received > 50_001 for one in report.devices)
    assert all(one.started >= order.start for one, order in zip(report.devices, orders, strict=True))
    assert all(snapshot.held <= snapshot.size for snapshot in told)
    assert all(sum(snapshot.states.values()) == 120 for snapshot in told)
    assert told[-1].states == {State.ENDED: 120}
    assert told[-1].held == told[-1].size == 120 * 50_001


def test_a_preset_of_devices_over_a_preset_of_links(site: Site) -> None:
    from firmware_sim.fleet import profiles

    orders = plan(40, profiles.find("mixed"), find_link("bad-wifi"), stream="tiny", ramp=0.5, patience=60)
    report = site.run(orders)
    assert report.ok
    assert {one.profile for one in report.devices} >= {"esp32", "nrf", "linux", "legacy"}
    assert {one.sha256 for one in report.devices} == {site.sha256("tiny")}


def test_each_gets_its_own_file_whatever_happens_to_others(site: Site) -> None:
    (frail,) = FRAIL["frail"]
    orders = []
    for number in range(10):
        orders += [
            order(f"a-{number}", "one", sha256=site.sha256("one")),
            order(f"b-{number}", "two", sha256=site.sha256("two").upper()),
            order(f"c-{number}", "one", profile=frail, link=LOSSY, sha256=site.sha256("one")),
            order(f"d-{number}", "nowhere"),
            order(f"e-{number}", "two", file_id=9),
            order(f"f-{number}", "two", sha256=site.sha256("one")),
            order(f"g-{number}", "empty", sha256=site.sha256("empty")),
            order(f"h-{number}", "two", profile=replace(PLAIN, encoding="json")),
        ]
    report = site.run(orders, seed=2)
    by_kind: dict[str, list[object]] = {}
    for one in report.devices:
        by_kind.setdefault(one.thing[0], []).append((one.outcome, one.code, one.sha256))
        if one.thing[0] != "c":
            assert (one.power_cuts, one.reconnects, one.resumed) == (0, 0, 0), one
    done = Outcome.DONE
    assert by_kind == {
        "a": [(done, "", site.sha256("one"))] * 10,
        "b": [(done, "", site.sha256("two"))] * 10,
        "c": [(done, "", site.sha256("one"))] * 10,
        "d": [(Outcome.REJECTED, "ResourceNotFound", "")] * 10,
        "e": [(Outcome.REJECTED, "ResourceNotFound", "")] * 10,
        "f": [(Outcome.MISMATCH, "", "")] * 10,
        "g": [(done, "", site.sha256("empty"))] * 10,
        "h": [(done, "", site.sha256("two"))] * 10,
    }
    assert not report.ok


def test_a_device_whose_blocks_cannot_reach_the_file_fails_alone(site: Site) -> None:
    small = replace(PLAIN, block_size=256, budget=256, in_flight=1)
    report = site.run([order("ok-1"), order("one-by-one", "two", profile=small)])
    assert report.ok
    assert report.devices[1].requests >= -(-30_000 // 256)


def test_power_that_fails_before_anything_is_saved_comes_to_an_end_too(site: Site) -> None:
    hopeless = DeviceProfile(
        name="h", block_size=256, flash=50_000, power_cut_every=0.1, power_cuts=5, boot=0
    )
    report = site.run([order(f"h-{number}", profile=hopeless) for number in range(5)])
    assert report.ok
    assert all(1 <= one.power_cuts <= 5 for one in report.devices)


def test_writing_takes_its_time(site: Site) -> None:
    slow = DeviceProfile(name="slow", block_size=1024, flash=50_000)
    (one,) = site.run([order("slow", profile=slow)]).devices
    assert one.outcome is Outcome.DONE
    assert one.seconds >= 50_001 / 50_000


def test_without_a_service_devices_give_up(mosquitto: MosquittoFactory) -> None:
    hasty = replace(PLAIN, patience=1.0)
    report = run(Broker.parse(mosquitto().url), [order(f"t-{number}", profile=hasty) for number in range(3)])
    assert [one.outcome for one in report.devices] == [Outcome.TIMEOUT] * 3
    assert all(re.search(r"nothing new for \d+ s while describing", one.reason) for one in report.devices)


def test_without_a_broker_nothing_starts() -> None:
    with pytest.raises(BrokerUnreachable, match=r"cannot reach 127\.0\.0\.1"):
        run(Broker.parse(f"mqtt://127.0.0.1:{free_port()}"), [order("t")])


def test_a_broker_that_goes_away_in_mid_run_costs_nothing_but_time(
    tmp_path: Path, mosquitto: MosquittoFactory
) -> None:
    broker, data = mosquitto(), random.Random(1).randbytes(40_000)
    (tmp_path / "fw.bin").write_bytes(data)
    with Service(tmp_path, "--broker", broker.url) as service:
        flags = ["--http", service.http, "--state", service.state]
        assert sluice(["publish", "fw.bin", "--stream", "fw", *flags], tmp_path).returncode == 0
        slow = DeviceProfile(name="slow", block_size=1024, in_flight=2, flash=20_000, patience=60)
        gone: list[bool] = []

        def restart(snapshot: Snapshot) -> None:
            if not gone and snapshot.held > snapshot.size // 4:
                gone.append(True)
                broker.kill()
                broker.restart()

        orders = [order(f"t-{number}", "fw", profile=slow) for number in range(20)]
        report = run(Broker.parse(broker.url), orders, progress=restart)
    assert gone
    assert report.ok
    assert {one.sha256 for one in report.devices} == {hashlib.sha256(data).hexdigest()}
    assert all(one.reconnects >= 1 for one in report.devices)


def test_a_full_queue_holds_back_the_broker_and_everything_arrives(site: Site) -> None:
    narrow = LinkProfile(name="narrow", down=Way(rate=100_000, delay=20), queue=1024)
    report = site.run([order(f"t-{number}", link=narrow, sha256=site.sha256("one")) for number in range(5)])
    assert report.ok
    assert {one.reconnects for one in report.devices} == {0}


def test_a_bug_ends_the_run_and_hides_in_no_device(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def buggy(*_: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("firmware_sim.fleet.store.Region.write", buggy)
    with pytest.raises(ZeroDivisionError, match="a bug"):
        site.run([order(f"t-{number}") for number in range(3)])


@pytest.mark.parametrize("link", [PERFECT, LOSSY], ids=["at once", "over a link"])
def test_tls_with_certificates_of_the_devices(
    tmp_path: Path, mosquitto: MosquittoFactory, link: LinkProfile
) -> None:
    certificate, key = certificate_for_loopback(tmp_path)
    lines = [f"cafile {certificate}", f"certfile {certificate}", f"keyfile {key}", "require_certificate true"]
    broker = mosquitto(listener_lines=lines)
    url, data = f"mqtts://127.0.0.1:{broker.port}", random.Random(3).randbytes(20_000)
    with pytest.raises(BrokerUnreachable):
        run(Broker.parse(url, certificate), [order("t")])
    with Responder(ModelService({0: data}), broker.port, (certificate, key)):
        orders = [order(f"t-{number}", link=link) for number in range(5)]
        report = run(Broker.parse(url, certificate, certificate, key), orders)
    assert report.ok
    assert {one.sha256 for one in report.devices} == {hashlib.sha256(data).hexdigest()}


def test_what_progress_raises_ends_the_run(site: Site) -> None:
    def fail(_snapshot: Snapshot) -> None:
        raise BrokenPipeError("nobody looks")

    slow = DeviceProfile(name="slow", block_size=1024, flash=1000)
    with pytest.raises(BrokenPipeError, match="nobody looks"):
        site.run([order("t", profile=slow)], progress=fail)


class TestPlans:
    def test_shares_are_exact_and_the_same_from_the_same_seed(self) -> None:
        make: Callable[[int, int], list[Order]] = lambda devices, seed: plan(  # noqa: E731
            devices, FRAIL["all"], PERFECT, stream="fw", seed=seed, ramp=10
        )
        orders = make(52, 1)
        counts = Counter(one.profile.name for one in orders)
        assert counts == {"frail": 21, "json": 10, "fast": 11, "slow": 10}
        assert [one.start for one in orders] == pytest.approx([number * 10 / 52 for number in range(52)])
        assert make(52, 1) == orders
        assert make(52, 2) != orders
        assert make(1, 1)[0].profile.name == "frail"
        assert [one.thing for one in make(11, 1)][::10] == ["sim-00", "sim-10"]

    def test_links_and_patience_of_their_own(self) -> None:
        own = parse('[a]\nlink = "nb-iot"\n[b]\n[m]\nmix = { a = 1, b = 1 }')
        orders = plan(2, own["m"], PERFECT, stream="fw", patience=5.0)
        assert {one.profile.name: one.link.name for one in orders} == {"a": "nb-iot", "b": "perfect"}
        assert {one.profile.patience for one in orders} == {5.0}
        with pytest.raises(ProfileError, match="there is no link profile 'x'"):
            plan(1, parse('[a]\nlink = "x"')["a"], PERFECT, stream="fw")
        with pytest.raises(ProfileError, match="patience is 0 s"):
            plan(1, own["a"], PERFECT, stream="fw", patience=0.0)

    @pytest.mark.parametrize(
        ("devices", "settings", "said"),
        [
            (0, {}, "devices is 0; it must be from 1 to 20000"),
            (MOST_DEVICES + 1, {}, "devices is 20001"),
            (1, {"ramp": -1.0}, "ramp is -1 s; it must be from 0 to 86400 s"),
            (1, {"ramp": float("nan")}, "ramp is nan s"),
            (1, {"thing_prefix": "a/b"}, "thing_prefix is 'a/b'; it must be at most 120 of"),
        ],
    )
    def test_errors(self, devices: int, settings: dict[str, float], said: str) -> None:
        with pytest.raises(FleetError) as caught:
            plan(devices, FRAIL["all"], PERFECT, stream="fw", **settings)  # type: ignore[arg-type]
        assert said in str(caught.value)

    def test_two_of_one_thing(self, site: Site) -> None:
        for orders in ([order("t"), order("t")], []):
            with pytest.raises(FleetError, match="each for a thing of its own"):
                site.run(orders)


@pytest.mark.parametrize("url", ["http://h", "mqtt://", "mqtt://h/path", "mqtt://h:x", "h:1883"])
def test_what_is_no_broker(url: str) -> None:
    with pytest.raises(ValueError, match=r"mqtt\[s\]|[Pp]ort"):
        Broker.parse(url)


def test_a_brokers_url_has_all_it_needs(tmp_path: Path) -> None:
    assert Broker.parse("mqtt://u:p%40@h") == Broker("h", 1883, "u", "p@")
    assert (Broker.parse("mqtts://h").port, Broker.parse("mqtts://h").tls is not None) == (8883, True)
    with pytest.raises(BrokerUnreachable, match="cannot use the TLS files"):
        Broker.parse("mqtts://h", str(tmp_path / "nowhere.pem"))
