"""One simulated device: power on, connect, download, lose the connection or the power, come back, check.

What runs is the device library itself: `Fetch` with its machine, the sink of a device's own, and a session.
Everything happens in callbacks of one event loop, a device has one timer and no task but while it connects.
"""

import asyncio
import math
import random
import secrets
import time

from device_client.clock import now as milliseconds
from device_client.download import Download
from device_client.errors import DownloadError, DownloadTimeout, Rejected
from device_client.fetch import Fetch, NotGenuine
from device_client.mqtt import BrokerUnreachable, Session
from device_client.sinks import Record
from firmware_sim.fleet.air import Air
from firmware_sim.fleet.broker import connect
from firmware_sim.fleet.connection import Connection
from firmware_sim.fleet.order import Order, Site, State
from firmware_sim.fleet.report import DeviceResult, Outcome
from firmware_sim.fleet.store import Region
from firmware_sim.links.framing import FramingError
from firmware_sim.links.model import Link, LinkProfile

FIRST_BACKOFF, LONGEST_BACKOFF = 250, 8000
"""Milliseconds from a lost connection to the next one, half of it to one and a half by chance."""
MESSAGE_HEAD = 600
"""Bytes of a `data` message that are not the block: topic, fixed header, fields, a token of 64 bytes."""
LEAST_PAUSE = 0.001
"""Seconds from one timer to the next: what event loops can tell apart."""

_DISCONNECT = b"\xe0\x00"


class Device:
    """One device. `power_on` starts it, in a running event loop; its end is told to `site.ended`."""

    def __init__(self, order: Order, site: Site, region: Region) -> None:
        self.order = order
        self.state = State.WAITING
        self._site, self._region = site, region
        self._chance = random.Random(f"{site.seed} {order.thing}")
        self._loop = asyncio.get_running_loop()
        self._fetch: Fetch | None = None  # while there is power
        self._session: Session | None = None
        self._connection: Connection | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._armed = 0.0
        self._cut_at = self._retry_at = math.inf
        self._busy_until = 0.0
        self._backoff = FIRST_BACKOFF
        self._began = site.began
        self._machine: Download | None = None
        self._connections = self._received = self._requests = self._duplicates = 0
        self._reconnects = self._power_cuts = self._resumed = 0

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
        """The first time, or after a power cut."""
        order, profile, now = self.order, self.order.profile, time.monotonic()
        if self.state is State.WAITING:
            self._began = now
        block = profile.block_size if profile.encoding == "cbor" else profile.block_size * 4 // 3
        try:
            self._fetch = Fetch(
                self._new_machine,
                self._region,
                bytes.fromhex(order.sha256) if order.sha256 else None,
                busy=lambda: time.monotonic() < self._busy_until,
                save_bytes=profile.save_every,
                trusting=True,
            )
            self._fetch.send = self._publish
            login = self._site.broker.user, self._site.broker.password
            topics = self._fetch.machine.topics
            self._session = Session(order.thing, topics, bytearray(block + MESSAGE_HEAD), *login)
        except (DownloadError, ValueError) as error:
            self._end(Outcome.FAILED, str(error))
            return
        if profile.power_cut_every and self._power_cuts < profile.power_cuts:
            self._cut_at = now + self._chance.expovariate(1 / profile.power_cut_every)
        self._busy_until, self._backoff = 0.0, FIRST_BACKOFF
        self._retry_at = now
        self.state = State.CONNECTING
        self.step()

    def opened(self, connection: Connection) -> None:
        """A connection stands."""
        if self._connecting is None or self._session is None:  # the power went at this very moment
            connection.transport.abort()
            return
        self._connection = connection
        self._session.begin(milliseconds())
        self.step()

    def came(self, connection: Connection, data: bytes) -> None:
        """The socket had something."""
        if connection is not self._connection:
            return
        if connection.air is None:
            self.step(data)
            return
        try:
            connection.air.down.feed(data, time.monotonic())
        except FramingError:
            self._disconnected()
            return
        connection.hold_back()
        self._arm()

    def lost(self, connection: Connection) -> None:
        """The broker has closed it, or the network has."""
        if connection is self._connection:
            self._disconnected()

    def stop(self) -> None:
        """The run is over: the device ends as it is."""
        if self.state is not State.ENDED:
            self._end(Outcome.UNFINISHED, f"stopped while {self.state.value}")

    def step(self, data: bytes = b"") -> None:
        """Hears `data` and what the link delivers, and does what is due."""
        fetch, connection, now = self._fetch, self._connection, time.monotonic()
        if fetch is None:
            return
        if now >= self._cut_at:
            self._cut()
            return
        try:
            if connection:
                self._hear(connection, data, now)
            fetch.turn()
            if fetch.finished():
                self._downloaded(fetch)
                return
            if connection:
                self._speak(connection, now)
        except BrokerUnreachable:
            self._disconnected()
            return
        except Rejected as error:
            self._end(Outcome.REJECTED, error.message, error.code)
            return
        except DownloadTimeout as error:
            self._end(Outcome.TIMEOUT, str(error))
            return
        except NotGenuine as error:
            self._end(Outcome.MISMATCH, str(error))
            return
        except DownloadError as error:
            self._end(Outcome.FAILED, str(error))
            return
        if now >= self._retry_at:
            self._retry_at = math.inf
            self._connecting = self._loop.create_task(self._connect())
        self._arm()

    def _hear(self, connection: Connection, data: bytes, now: float) -> None:
        if data:
            self._take_in(data, now)
        air = connection.air
        if air is not None:
            if now >= air.ends:
                raise BrokerUnreachable("cut by the link")
            for packet in air.down.arrived(now):
                self._take_in(packet, now)
            connection.hold_back()

    def _take_in(self, data: bytes, now: float) -> None:
        # All of it: the session hands out each message as soon as it is whole.
        fetch, session, region = self._fetch, self._session, self._region
        assert fetch
        assert session
        self._received += len(data)
        rest = memoryview(data)
        while rest:
            room = session.room()
            count = min(len(room), len(rest))
            room[:count] = rest[:count]
            rest = rest[count:]
            session.filled(count, milliseconds())
            written = region.written
            while True:
                message = session.message()
                if session.up and self.state is State.CONNECTING:
                    self.state, self._backoff = State.DOWNLOADING, FIRST_BACKOFF
                    fetch.session(True)
                if message is None:
                    break
                fetch.message(*message)
            if region.written > written:
                took = (region.written - written) / self.order.profile.flash
                self._busy_until = max(self._busy_until, now) + took

    def _speak(self, connection: Connection, now: float) -> None:
        air, session = connection.air, self._session
        assert session
        session.poll(milliseconds())
        if connection.full or (air and air.up.full):
            return
        data = session.take(milliseconds())
        if air:
            air.up.feed(data, now)
            data = b"".join(air.up.arrived(now))
        if data:
            connection.transport.write(data)

    def _arm(self) -> None:
        # One timer, for what comes first. Where that moves away it stays, and finds nothing to do.
        assert self._fetch
        machine, connection = self._fetch.machine, self._connection
        at = min(self._cut_at, self._retry_at, machine.deadline / 1000)
        if machine.busy:
            at = min(at, self._busy_until)
        if connection:
            assert self._session
            at = min(at, self._session.deadline / 1000)
            if connection.air:
                at = min(at, connection.air.next)
        if self._timer is not None:
            if self._armed <= at:
                return
            self._timer.cancel()
        self._armed = at
        self._timer = self._loop.call_later(max(LEAST_PAUSE, at - time.monotonic()), self._ring)

    def _ring(self) -> None:
        self._timer = None
        self.step()

    async def _connect(self) -> None:
        site, profile = self._site, self.order.link
        slow = profile != LinkProfile(name=profile.name)
        try:
            sock = await connect(site.addresses, slow)
            air = None
            if slow:
                seed = f"{site.seed} {self.order.thing}"
                air = Air(Link(profile, seed, self._connections, time.monotonic()))
            self._connections += 1
            await self._loop.create_connection(
                lambda: Connection(self, air),
                sock=sock,
                ssl=site.broker.tls,
                server_hostname=site.broker.host if site.broker.tls else None,
            )
        except OSError:
            self._disconnected()
        finally:
            if self._connecting is asyncio.current_task():
                self._connecting = None

    def _disconnected(self) -> None:
        self._drop()
        if self._fetch is None:
            return
        if self.state is State.DOWNLOADING:
            self._reconnects += 1
            self._fetch.session(False)
        self.state = State.CONNECTING
        self._retry_at = time.monotonic() + self._backoff * (0.5 + self._chance.random()) / 1000
        self._backoff = min(LONGEST_BACKOFF, 2 * self._backoff)
        self._arm()

    def _drop(self, farewell: bytes = b"") -> None:
        if self._connecting is not None and self._connecting is not asyncio.current_task():
            self._connecting.cancel()
            self._connecting = None
        connection, self._connection = self._connection, None
        if connection is None:
            return
        if farewell:
            connection.transport.write(farewell)
            connection.transport.close()
        else:
            connection.transport.abort()

    def _cut(self) -> None:
        self._power_cuts += 1
        self.state = State.OFF
        self._power_off()
        self._region.power_cut(self._chance)
        # In the end: a callback may be what has brought us here.
        self._loop.call_later(self.order.profile.boot, self._power_back)

    def _power_back(self) -> None:
        if self.state is State.OFF:
            self.power_on()

    def _power_off(self, farewell: bytes = b"") -> None:
        self._drop(farewell)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._fetch is not None:
            self._resumed += self._fetch.resumed
        self._count()
        self._fetch = self._session = None
        self._cut_at = self._retry_at = math.inf

    def _downloaded(self, fetch: Fetch) -> None:
        expected = (self.order.sha256 or fetch.digest.hex()).lower()
        self._power_off(_DISCONNECT)
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
        self._power_off(_DISCONNECT)
        waited = self.state is State.WAITING
        self.state = State.ENDED
        machine, order = self._machine, self.order
        self._site.ended(
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
