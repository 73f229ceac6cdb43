"""One simulated device that downloads: power on, connect, download, lose link or power, come back, check.

What runs is the device library itself: `Fetch` with its machine, the sink of a device's own, and a session.
"""

import asyncio
import secrets
import time
from collections.abc import Callable

from device_client.clock import now as milliseconds
from device_client.download import Download
from device_client.errors import DownloadError, DownloadTimeout, Rejected
from device_client.fetch import Fetch, NotGenuine
from device_client.mqtt import Session
from device_client.sinks import Record
from firmware_sim.fleet.order import Order, Site, State
from firmware_sim.fleet.powered import Powered
from firmware_sim.fleet.report import DeviceResult, Outcome
from firmware_sim.fleet.store import Region

MESSAGE_HEAD = 600
"""Bytes of a `data` message that are not the block: topic, fixed header, fields, a token of 64 bytes."""

_OUTCOMES = ((DownloadTimeout, Outcome.TIMEOUT), (NotGenuine, Outcome.MISMATCH))


class Device(Powered):
    """One device. `power_on` starts it, in a running event loop; its end is told to `ended`."""

    def __init__(
        self, order: Order, site: Site, region: Region, ended: Callable[[DeviceResult], object]
    ) -> None:
        super().__init__(order.thing, order.profile, order.link, site)
        self.order = order
        self.state = State.WAITING
        self._region, self._ended = region, ended
        self._fetch: Fetch | None = None  # while there is power
        self._began = site.began
        self._machine: Download | None = None
        self._requests = self._duplicates = self._resumed = 0

    @property
    def held(self) -> int:
        """Bytes of the file that are there; 0 where the device is off or has ended."""
        if self.state is State.CHECKING:
            return self.size
        return self._fetch.held if self._fetch else 0

    @property
    def size(self) -> int:
        """Bytes of the file, or 0 while it is not described."""
        return self._machine.size if self._machine else 0

    def power_on(self) -> None:
        """The first time."""
        self._began = time.monotonic()
        self._power_on()

    def stop(self) -> None:
        """The run is over: the device ends as it is."""
        if self.state is not State.ENDED:
            self._end(Outcome.UNFINISHED, f"stopped while {self.state.value}")

    def _boot(self) -> Session:
        order, profile = self.order, self.order.profile
        self._fetch = fetch = Fetch(
            self._new_machine,
            self._region,
            bytes.fromhex(order.sha256) if order.sha256 else None,
            busy=lambda: time.monotonic() < self._busy_until,
            save_bytes=profile.save_every,
            trusting=True,
        )
        fetch.send = self._publish
        block = profile.block_size if profile.encoding == "cbor" else profile.block_size * 4 // 3
        login = self._site.broker.user, self._site.broker.password
        session = Session(order.thing, fetch.machine.topics, bytearray(block + MESSAGE_HEAD), *login)
        self.state = State.CONNECTING
        return session

    def _heard(self, topic: str, payload: memoryview) -> None:
        assert self._fetch
        written = self._region.written
        self._fetch.message(topic, payload)
        if self._region.written > written:
            took = (self._region.written - written) / self._profile.flash
            self._busy_until = max(self._busy_until, time.monotonic()) + took

    def _session_is(self, up: bool) -> None:
        assert self._fetch
        self.state = State.DOWNLOADING if up else State.CONNECTING
        self._fetch.session(up)

    def _work(self) -> None:
        assert self._fetch
        self._fetch.turn()
        if self._fetch.finished():
            self._downloaded(self._fetch)

    def _due(self) -> float:
        assert self._fetch
        machine = self._fetch.machine
        at = machine.deadline / 1000
        return min(at, self._busy_until) if machine.busy else at

    def _failed(self, error: DownloadError | ValueError) -> None:
        if isinstance(error, Rejected):
            self._end(Outcome.REJECTED, error.message, error.code)
            return
        found = (outcome for kind, outcome in _OUTCOMES if isinstance(error, kind))
        self._end(next(found, Outcome.FAILED), str(error))

    def _halted(self) -> None:
        if self._fetch is not None:
            self._resumed += self._fetch.resumed
        self._count()
        self._fetch = None

    def _spoil(self) -> None:
        self.state = State.OFF
        self._region.power_cut(self._chance)

    def _power_back(self) -> None:
        if self.state is State.OFF:
            self._power_on()

    def _downloaded(self, fetch: Fetch) -> None:
        expected = (self.order.sha256 or fetch.digest.hex()).lower()
        self._power_off(politely=True)
        self.state = State.CHECKING
        # The flash has yet to take the last blocks.
        self._loop.call_later(max(0.0, self._busy_until - time.monotonic()), self._check, expected)

    def _check(self, expected: str) -> None:
        if self.state is not State.CHECKING:
            return
        seconds = time.monotonic() - self._began  # what we read back is no part of the device's time

        def checked(future: "asyncio.Future[str]") -> None:
            if future.cancelled() or self.state is not State.CHECKING:
                return
            if error := future.exception():
                self._end(Outcome.FAILED, f"the store cannot be read back: {error}", seconds=seconds)
            elif (found := future.result()) == expected:
                self._end(Outcome.DONE, seconds=seconds, sha256=found)
            else:
                reason = f"the store holds SHA-256 {found}, not {expected}"
                self._end(Outcome.MISMATCH, reason, seconds=seconds, sha256=found)

        self._loop.run_in_executor(self._site.checker, self._region.digest).add_done_callback(checked)

    def _end(
        self, outcome: Outcome, reason: str = "", code: str = "", *, seconds: float = 0.0, sha256: str = ""
    ) -> None:
        now = time.monotonic()
        self._power_off(politely=True)
        waited = self.state is State.WAITING
        self.state = State.ENDED
        machine, order = self._machine, self.order
        self._ended(
            DeviceResult(
                thing=order.thing,
                stream=order.stream,
                file_id=order.file_id,
                profile=order.profile.name,
                link=order.link.name,
                outcome=outcome,
                code=code,
                reason=reason,
                started=0.0 if waited else self._began - self._site.began,
                seconds=seconds or (0.0 if waited else now - self._began),
                size=machine.size if machine else 0,
                version=machine.version if machine else 0,
                sha256=sha256,
                received=self._received,
                requests=self._requests,
                duplicates=self._duplicates,
                reconnects=self._reconnects,
                power_cuts=self._power_cuts,
                resumed=self._resumed,
            )
        )
        self._machine = None

    def _publish(self, topic: str, payload: bytes) -> None:
        assert self._session
        self._session.publish(topic, payload)

    def _new_machine(self, record: Record | None) -> Download:
        self._count()
        order, profile = self.order, self.order.profile
        self._machine = Download(
            order.thing,
            order.stream,
            order.file_id,
            secrets.token_hex(8),
            milliseconds(),
            profile.encoding,
            profile.block_size,
            profile.budget,
            round(profile.patience * 1000),
            record,
            profile.in_flight,
            round(profile.gap * 1000),
        )
        return self._machine

    def _count(self) -> None:
        # What the machine counted, before there is another one.
        machine = self._machine
        if machine is not None:
            self._requests += machine.requests
            self._duplicates += machine.duplicates
            machine.requests = machine.duplicates = 0
