"""A simulated device that is updated: the OTA agent on two slots, with connection and power of its own."""

import json
import math
import secrets
import time

from device_client.agent import IDLE, LOADING, MESSAGE_HEAD, TESTING, Agent
from device_client.client import verifier
from device_client.errors import DownloadError
from device_client.fetch import Fetch
from device_client.jobs import FAILED, REJECTED, SUCCEEDED
from device_client.mqtt import Session
from firmware_sim.fleet.order import Site
from firmware_sim.fleet.powered import Powered
from firmware_sim.ota_fleet.order import Moment, Order
from firmware_sim.ota_fleet.report import DeviceResult, Phase, Told
from firmware_sim.ota_fleet.slots import Slots

UNWELL = "the simulated version does not work"
"""What a version says that finds in its test boot that it does not."""

Keys = dict[str, bytes]
"""Public keys, PEM or DER, by the name of the signer's certificate in job documents."""


_ENDED = {SUCCEEDED: Phase.SUCCEEDED, FAILED: Phase.FAILED, REJECTED: Phase.REJECTED}


class OneKey(Keys):
    """One key for every name."""

    def __init__(self, key: bytes) -> None:
        super().__init__()
        self._key = key

    def __contains__(self, _name: object) -> bool:
        return True

    def __missing__(self, _name: str) -> bytes:
        return self._key


class Device(Powered):
    """One device. `power_on` starts it, in a running event loop; it goes on until `stop`."""

    def __init__(self, order: Order, site: Site, slots: Slots, keys: Keys) -> None:
        super().__init__(order.thing, order.profile, order.link, site)
        self.order, self.slots = order, slots
        self.jobs: dict[str, Told] = {}
        """By job id, in the order in which it heard of them."""
        self.failure = ""
        """Why it is off for good."""
        self._boots = self._resumed = 0
        self._keys = keys
        self._agent: Agent | None = None  # while there is power
        self._fetch: Fetch | None = None  # the agent's, when it was last looked at
        self._last: Told | None = None
        self._knows = False  # what its next job is: this session has told
        self._token = b""  # of this run
        self._turn_at = math.inf
        self._stopped = False

    @property
    def online(self) -> bool:
        """Whether it has a session that has told what its next job is."""
        return self._knows

    @property
    def phase(self) -> Phase:
        """Where it is."""
        agent, last = self._agent, self._last
        if last is None:
            return Phase.WAITING
        if last.status in _ENDED:
            return _ENDED[last.status]
        if agent is None or not self._knows:
            return Phase.REBOOTING
        return {LOADING: Phase.LOADING, TESTING: Phase.TESTING, IDLE: Phase.DROPPED}.get(
            agent.state, Phase.REBOOTING
        )

    @property
    def settled(self) -> bool:
        """Whether it has nothing to do: connected, knows of no job, on no test; or off for good."""
        if self.failure:
            return True
        idle = self._agent is not None and self._agent.state == IDLE
        return idle and self._knows and not self.slots.testing()

    def power_on(self) -> None:
        """The first time."""
        if not self._stopped:
            self._power_on()

    def stop(self) -> None:
        """The run is over."""
        if not self._stopped:
            self._stopped = True
            self._power_off(politely=True)

    def result(self, settled: bool, sha256: str) -> DeviceResult:
        """What became of it; `sha256` of what runs."""
        return DeviceResult(
            thing=self._thing,
            profile=self._profile.name,
            link=self._link.name,
            works=self.order.works,
            sha256=sha256,
            version=self.slots.version,
            settled=settled,
            failure=self.failure,
            jobs=self.jobs,
            boots=self._boots,
            test_boots=self.slots.test_boots,
            power_cuts=self._power_cuts,
            reconnects=self._reconnects,
            received=self._received,
            resumed=self._resumed,
        )

    def _boot(self) -> Session:
        profile, login = self._profile, (self._site.broker.user, self._site.broker.password)
        self.slots.boot()
        self._boots += 1
        token = secrets.token_hex(8)
        self._token = token.encode()
        self._agent = agent = Agent(
            self._thing,
            self.slots,
            self._keys,
            self._self_test,
            token,
            block_size=profile.block_size,
            budget=min(profile.budget, profile.in_flight * profile.block_size),
            patience=round(profile.patience * 1000),
            verify=_genuine,
        )
        agent.send = self._say
        self._turn_at = time.monotonic()
        return Session(self._thing, agent.topics, bytearray(profile.block_size + MESSAGE_HEAD), *login)

    def _self_test(self) -> str:
        self.slots.cut(Moment.TESTING)
        return "" if self.order.works else UNWELL

    def _heard(self, topic: str, payload: memoryview) -> None:
        assert self._agent
        spare = self.slots.spare
        written = spare.written
        self._agent.message(topic, payload)
        if spare.written > written:
            took = (spare.written - written) / self._profile.flash
            self._busy_until = max(self._busy_until, time.monotonic()) + took
        elif topic.endswith("/jobs/$next/get/accepted") and self._token in bytes(payload):
            self._knows = True  # an answer to what it asked before a power cut tells nothing

    def _session_is(self, up: bool) -> None:
        assert self._agent
        self._knows = False
        self._agent.session(up)

    def _work(self) -> None:
        agent, now = self._agent, time.monotonic()
        assert agent
        fetch = agent.fetch
        if fetch:
            fetch.machine.busy = now < self._busy_until
            if fetch.unsaved >= self._profile.save_every:
                fetch.save()
        wait = agent.turn()
        if agent.fetch is not self._fetch:
            self._count(agent.fetch)
        self._turn_at = now + wait / 1000
        if agent.over:
            self._power_off()
            self._loop.call_later(self._profile.boot, self.power_on)

    def _due(self) -> float:
        busy = self._fetch is not None and self._fetch.machine.busy
        return min(self._turn_at, self._busy_until) if busy else self._turn_at

    def _failed(self, error: DownloadError | ValueError) -> None:
        self.failure = str(error)
        self._power_off(politely=True)

    def _halted(self) -> None:
        self._count(None)
        self._agent, self._knows = None, False

    def _spoil(self) -> None:
        self.slots.lose_power(self._chance)

    def _power_back(self) -> None:
        self.power_on()

    def _count(self, fetch: Fetch | None) -> None:
        if self._fetch is not None:
            self._resumed += self._fetch.resumed
        self._fetch = fetch

    def _say(self, topic: str, payload: bytes) -> None:
        assert self._session
        self._session.publish(topic, payload)
        levels = topic.split("/")
        if levels[-1] != "update":
            return
        fields, now = json.loads(payload), time.monotonic() - self._site.began
        told = self.jobs.setdefault(levels[-2], Told("", "", now, now))
        told.status, told.reason = fields["status"], fields["statusDetails"].get("reason", "")
        told.last, self._last = now, told


def _genuine(key: bytes, digest: bytes, signature: bytes) -> bool:
    return verifier(key, signature)(digest)
