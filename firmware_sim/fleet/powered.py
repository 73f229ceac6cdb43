"""What every simulated device has: power that fails, a connection that is lost, and one timer.

Everything happens in callbacks of one event loop; there is no task but while a device connects. What runs on
the device, whoever derives from `Powered` says.
"""

import asyncio
import math
import random
import time

from device_client.clock import now as milliseconds
from device_client.errors import DownloadError
from device_client.mqtt import BrokerUnreachable, Session
from firmware_sim.fleet.air import Air
from firmware_sim.fleet.broker import connect
from firmware_sim.fleet.connection import Connection
from firmware_sim.fleet.order import Site
from firmware_sim.fleet.profiles import DeviceProfile
from firmware_sim.links.framing import FramingError
from firmware_sim.links.model import Link, LinkProfile

FIRST_BACKOFF, LONGEST_BACKOFF = 250, 8000
"""Milliseconds from a lost connection to the next one, half of it to one and a half by chance."""
LEAST_PAUSE = 0.001
"""Seconds from one timer to the next: what event loops can tell apart."""

_DISCONNECT = b"\xe0\x00"


class PowerCut(Exception):
    """The power fails in the middle of what the device does: everything that is not durable is gone."""


class Powered:
    """One device. `_power_on` starts it, in a running event loop."""

    def __init__(self, thing: str, profile: DeviceProfile, link: LinkProfile, site: Site) -> None:
        self._thing, self._profile, self._link, self._site = thing, profile, link, site
        self._chance = random.Random(f"{site.seed} {thing}")
        self._loop = asyncio.get_running_loop()
        self._session: Session | None = None  # while there is power
        self._up = False  # the session stands, and the device knows
        self._connection: Connection | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._armed = 0.0
        self._cut_at = self._retry_at = math.inf
        self._busy_until = 0.0  # the flash is written
        self._backoff = FIRST_BACKOFF
        self._connections = self._received = self._reconnects = self._power_cuts = 0

    # --- what runs on it

    def _boot(self) -> Session:
        """Starts the program: what it connects with. DownloadError, ValueError."""
        raise NotImplementedError

    def _heard(self, topic: str, payload: memoryview) -> None:
        """A message came. DownloadError ends the device."""
        raise NotImplementedError

    def _session_is(self, up: bool) -> None:
        """There is a session, or it is lost."""
        raise NotImplementedError

    def _work(self) -> None:
        """Does what is due. DownloadError ends the device."""
        raise NotImplementedError

    def _due(self) -> float:
        """When more is, in seconds of the clock."""
        raise NotImplementedError

    def _failed(self, error: DownloadError | ValueError) -> None:
        """What cannot go on."""
        raise NotImplementedError

    def _halted(self) -> None:
        """The power is gone, by a cut or because the program ended: so is what is in memory."""
        raise NotImplementedError

    def _spoil(self) -> None:
        """By a cut: what was written and not made durable is lost."""
        raise NotImplementedError

    # --- what the connection says

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

    def step(self, data: bytes = b"") -> None:
        """Hears `data` and what the link delivers, and does what is due."""
        connection, now = self._connection, time.monotonic()
        if self._session is None:
            return
        if now >= self._cut_at:
            self._cut()
            return
        try:
            if connection:
                self._hear(connection, data, now)
            self._work()
            if self._session is None:
                return
            if connection:
                self._speak(connection, now)
        except PowerCut:
            self._cut()
            return
        except BrokerUnreachable:
            self._disconnected()
            return
        except DownloadError as error:
            self._failed(error)
            return
        if now >= self._retry_at:
            self._retry_at = math.inf
            self._connecting = self._loop.create_task(self._connect())
        self._arm()

    # --- power

    def _power_on(self) -> None:
        """The first time, or after it was off."""
        profile, now = self._profile, time.monotonic()
        try:
            self._session = self._boot()
        except (DownloadError, ValueError) as error:
            self._failed(error)
            return
        if profile.power_cut_every and self._power_cuts < profile.power_cuts:
            self._cut_at = now + self._chance.expovariate(1 / profile.power_cut_every)
        self._busy_until, self._backoff = 0.0, FIRST_BACKOFF
        self._retry_at = now
        self.step()

    def _cut(self) -> None:
        self._power_cuts += 1
        self._power_off()
        self._spoil()
        # In the end: a callback may be what has brought us here.
        self._loop.call_later(self._profile.boot, self._power_back)

    def _power_back(self) -> None:
        """`boot` seconds after a cut."""
        self._power_on()

    def _power_off(self, *, politely: bool = False) -> None:
        self._drop(_DISCONNECT if politely else b"")
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._session, self._up = None, False
        self._cut_at = self._retry_at = math.inf
        self._halted()

    # --- connection

    def _hear(self, connection: Connection, data: bytes, now: float) -> None:
        if data:
            self._take_in(data)
        air = connection.air
        if air is not None:
            if now >= air.ends:
                raise BrokerUnreachable("cut by the link")
            for packet in air.down.arrived(now):
                self._take_in(packet)
            connection.hold_back()

    def _take_in(self, data: bytes) -> None:
        # All of it: the session hands out each message as soon as it is whole.
        session = self._session
        assert session
        self._received += len(data)
        rest = memoryview(data)
        while rest:
            room = session.room()
            count = min(len(room), len(rest))
            room[:count] = rest[:count]
            rest = rest[count:]
            session.filled(count, milliseconds())
            while True:
                message = session.message()
                if session.up and not self._up:
                    self._up, self._backoff = True, FIRST_BACKOFF
                    self._session_is(True)
                if message is None:
                    break
                self._heard(*message)

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
        connection = self._connection
        at = min(self._cut_at, self._retry_at, self._due())
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
        site, link = self._site, self._link
        slow = link != LinkProfile(name=link.name)
        try:
            sock = await connect(site.addresses, slow)
            air = None
            if slow:
                seed = f"{site.seed} {self._thing}"
                air = Air(Link(link, seed, self._connections, time.monotonic()))
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
        if self._session is None:
            return
        if self._up:
            self._reconnects += 1
            self._up = False
            self._session_is(False)
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
