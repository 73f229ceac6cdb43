"""The agent under every order of what operators, networks, clocks and power supplies do."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.device_client.jobs_model import ENDED, Try, ota_document
from tests.device_client.ota_world import BUFFER, STRANGER, World, image, sign


class Device(RuleBasedStateMachine):
    """One device for a long time, with many updates; versions only go up."""

    @initialize(pace=st.sampled_from([1, 40, 700]))
    def begin(self, pace: int) -> None:
        self.world = World()
        self.world.pace = pace
        self.made = 0
        self.of: dict[int, Try] = {}  # by the version that a try's image has
        self.confirmed = 1
        self.good = {image(1)}  # that may run
        self.long: list[Try] = []  # whose document the device cannot hear

    def create(self, version: int, content: bytes, signature: bytes) -> None:
        self.made += 1
        stream = f"s{self.made}"
        self.world.publish(stream, content)
        document = ota_document(stream, len(content), signature)
        self.of[version] = self.world.jobs.create(f"job{self.made}", document)

    @precondition(lambda self: self.made < 6)
    @rule(size=st.sampled_from([900, 3000, 6000]), works=st.booleans())
    def update(self, size: int, works: bool) -> None:
        version = self.made + 2
        content = image(version, size, works=works)
        self.good.add(content)
        self.create(version, content, sign(content))

    @precondition(lambda self: self.made < 6)
    @rule()
    def forged_update(self) -> None:
        content = image(100 + self.made)
        self.create(100 + self.made, content, sign(content, STRANGER))

    @precondition(lambda self: len(self.long) < 3)
    @rule()
    def job_that_is_too_long(self) -> None:
        self.long.append(self.world.jobs.create(f"long{len(self.long)}", {"steps": "x" * BUFFER}))

    @rule(count=st.integers(1, 60))
    def goes_on(self, count: int) -> None:
        for _ in range(count):
            self.world.step()

    @precondition(lambda self: self.world.network)
    @rule(place=st.integers(0, 30), twice=st.booleans())
    def lost_or_doubled(self, place: int, twice: bool) -> None:
        network = self.world.network
        message = network.pop(place % len(network))
        if twice:
            network += [message, message]

    @rule(up=st.booleans())
    def session(self, up: bool) -> None:
        self.world.up = up

    @rule(milliseconds=st.sampled_from([500, 5000, 60_000, 700_000, 3_700_000]))
    def time_passes(self, milliseconds: int) -> None:
        self.world.now += milliseconds

    @rule()
    def power_cut(self) -> None:
        self.world.start()

    @rule(operations=st.integers(1, 20))
    def power_cut_in_a_while(self, operations: int) -> None:
        self.world.flash.cut_in = self.world.flash.operations + operations

    @precondition(lambda self: self.world.jobs.next() is not None)
    @rule(status=st.sampled_from(["CANCELED", "TIMED_OUT"]), again=st.booleans())
    def ended_by_others(self, status: str, again: bool) -> None:
        found = self.world.jobs.next()
        assert found is not None
        self.world.jobs.end(found, status, again=again and status == "TIMED_OUT" and found.number < 3)

    @rule(code=st.sampled_from(["", "", "InternalError", "RequestThrottled", "InvalidRequest"]))
    def service_refuses(self, code: str) -> None:
        self.world.jobs.refuse = lambda _details: code

    @rule(tries=st.integers(0, 5))
    def self_test_takes_a_while(self, tries: int) -> None:
        self.world.test_says = [None] * tries

    @invariant()
    def what_runs_is_genuine_and_never_older(self) -> None:
        if not hasattr(self, "world"):
            return
        world = self.world
        assert world.running in self.good
        if world.flash.states[world.flash.running] == "confirmed":
            assert world.version >= self.confirmed
            self.confirmed = world.version

    @invariant()
    def what_succeeded_runs(self) -> None:
        for version, one in getattr(self, "of", {}).items():
            if one.status == "SUCCEEDED":
                assert self.confirmed >= version
                assert one.details["reason"] == f"accepted  v0.0.{version}"

    @invariant()
    def what_fits_is_not_refused_as_too_long(self) -> None:
        if not hasattr(self, "world"):
            return
        long = {one.job_id for one in self.long}
        for one in self.world.jobs.tries:
            refused = "do not fit" in one.details.get("reason", "")
            assert refused == (one.job_id in long and one.status in ("FAILED", "REJECTED"))

    def teardown(self) -> None:
        """Whatever happened: with power and a network every job comes to an end."""
        if not hasattr(self, "world"):
            return
        world = self.world
        world.up, world.flash.cut_in, world.test_says = True, 0, []
        world.jobs.refuse = lambda _details: ""
        world.run(minutes=600)
        assert all(one.status in ENDED for one in world.jobs.tries)
        assert not world.testing()
        self.what_runs_is_genuine_and_never_older()
        self.what_succeeded_runs()
        self.what_fits_is_not_refused_as_too_long()
        # And it still takes updates.
        version = 50 + self.made
        content = image(version)
        self.good.add(content)
        self.create(version, content, sign(content))
        world.run(minutes=600)
        assert (world.version, self.of[version].status) == (version, "SUCCEEDED")


TestDevice = Device.TestCase
TestDevice.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
