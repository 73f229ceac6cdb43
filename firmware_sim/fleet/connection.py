"""One connection of a simulated device, as asyncio has it."""

import asyncio
from typing import Protocol, cast

from firmware_sim.fleet.air import Air


class Owner(Protocol):
    """The device, as its connection knows it."""

    def opened(self, connection: "Connection", /) -> None:
        """It stands."""

    def came(self, connection: "Connection", data: bytes, /) -> None:
        """The socket had this."""

    def lost(self, connection: "Connection", /) -> None:
        """It is gone."""

    def step(self) -> None:
        """The socket takes more again."""


class Connection(asyncio.Protocol):
    """One of the device's connections; a device hears only of the one that it has now."""

    def __init__(self, device: "Owner", air: Air | None) -> None:
        self.air = air
        self.full = False  # the socket takes no more for now
        self.paused = False  # nothing is read for now
        self._device = device

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is none by name
        self._device.opened(self)

    def data_received(self, data: bytes) -> None:
        self._device.came(self, data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._device.lost(self)

    def pause_writing(self) -> None:
        self.full = True

    def resume_writing(self) -> None:
        self.full = False
        self._device.step()

    def hold_back(self) -> None:
        """Reads no more while the link's queue is full, and goes on when it is not."""
        assert self.air is not None
        if self.air.down.full != self.paused:
            self.paused = not self.paused
            (self.transport.pause_reading if self.paused else self.transport.resume_reading)()
