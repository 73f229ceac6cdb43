"""MQTT on asyncio, CPython's or MicroPython's, for a device that does other things beside a download.

await run_async(fetch, AsyncTransport(session, host, port, fetch.message, fetch.session))
"""

import asyncio
import socket

from device_client.clock import now
from device_client.mqtt import BrokerUnreachable, SubscriptionRefused
from device_client.transport import Transport

TYPE_CHECKING = False  # MicroPython has no `typing` to import it from
if TYPE_CHECKING:
    from typing import Any

    from device_client.fetch import Fetch

_TCP = 6  # IPPROTO_TCP, which MicroPython does not name everywhere
_NODELAY = 1
_QUICKACK = getattr(socket, "TCP_QUICKACK", 0)  # see device_client.socket_transport


class AsyncTransport(Transport):
    """A Transport whose `open`, `wait` and `close` are awaited, all in one task."""

    async def open(self) -> None:
        """Returns when the session stands. BrokerUnreachable, SubscriptionRefused."""
        await self._connect()
        while not self._up:
            await self.wait(1000)
            if self._link is None:
                raise BrokerUnreachable(self._why)

    async def wait(self, milliseconds: int) -> None:
        """Until something came, at most so long. SubscriptionRefused; anything else is tried again."""
        if self._link is None:
            pause = self._retry_at - now()
            if pause > 0:
                await asyncio.sleep(min(milliseconds, pause) / 1000)
            else:
                try:
                    await self._connect()
                except BrokerUnreachable:
                    pass
            return
        try:
            await self._flush()
            count = await self._read(max(0, min(milliseconds, self._session.deadline - now())))
            if count is not None:
                self._came(count)
            self._session.poll(now())
            await self._flush()
        except BrokerUnreachable as error:
            self._lost(error)
        except SubscriptionRefused:
            await self.close()
            raise

    async def close(self) -> None:
        """Ends the session in good order where there is one."""
        if self._link is not None:
            try:
                await self._write(b"\xe0\x00")
            except BrokerUnreachable:
                pass
        self._down()

    async def _read(self, milliseconds: int) -> "int | None":
        if _QUICKACK:
            self._sock.setsockopt(_TCP, _QUICKACK, 1)
        try:
            return await asyncio.wait_for(self._read_into(self._session.room()), milliseconds / 1000)
        except asyncio.TimeoutError:  # noqa: UP041 - MicroPython has no other
            return None
        except OSError as error:
            raise BrokerUnreachable(str(error)) from None

    async def _read_into(self, room: memoryview) -> "int | None":
        if hasattr(self._reader, "readinto"):  # MicroPython's
            count: int | None = await self._reader.readinto(room)
            return count
        data = await self._reader.read(len(room))
        room[: len(data)] = data
        return len(data)

    async def _flush(self) -> None:
        data = self._session.take(now())
        if data:
            await self._write(data)

    async def _write(self, data: bytes) -> None:
        try:
            self._writer.write(data)
            await asyncio.wait_for(self._writer.drain(), self._session.keepalive)
        except (OSError, asyncio.TimeoutError) as error:  # noqa: UP041
            raise BrokerUnreachable(str(error) or "the broker takes nothing") from None

    async def _connect(self) -> None:
        tls: dict[str, Any] = {"ssl": self._tls, "server_hostname": self._host} if self._tls else {}
        opening = asyncio.open_connection(self._host, self._port, **tls)
        try:
            reader, writer = await asyncio.wait_for(opening, self._session.keepalive)
            self._reader: Any = reader
            self._writer: Any = writer
            # MicroPython's streams do not close their sockets.
            sock = getattr(writer, "s", None)
            self._sock: Any = sock or writer.get_extra_info("socket")
            self._link = sock or writer
            self._sock.setsockopt(_TCP, _NODELAY, 1)
        except (OSError, ValueError, asyncio.TimeoutError) as error:  # noqa: UP041
            raise self._unreachable(error) from None
        self._session.begin(now())


async def run_async(fetch: "Fetch", transport: AsyncTransport) -> None:
    """As `device_client.fetch.run`. Sinks and hashes are not awaited: they take the loop for their time."""
    fetch.send = transport.send
    try:
        try:
            await transport.open()
            while not fetch.finished():
                await transport.wait(fetch.turn())
        finally:
            await transport.close()
    finally:
        fetch.close()
