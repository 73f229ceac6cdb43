"""The service's side of the embedded broker: starts it, hears of its end, ends it."""

import asyncio
import json
from asyncio.subprocess import Process
from typing import Any, Final

from broker_bridge import children
from broker_bridge.mqtt.address import BrokerAddress

START_TIMEOUT: Final = 30.0
"""Seconds from the child's start to its being ready; its imports take most of a second."""
STOP_TIMEOUT: Final = 5.0
"""Seconds from the closing of the pipe to a SIGKILL."""


class EmbeddedBrokerError(Exception):
    """The embedded broker could not be started."""


class PortTaken(EmbeddedBrokerError):
    """Something else listens on the port that the embedded broker was to have."""


class EmbeddedBroker:
    """A running broker without access control, reached over TCP at `address` like any other.

    It ends with `stop`, and also with this process, however that ends: a pipe between the two closes. (A
    process forked from this one without an exec would hold that pipe open.)
    """

    def __init__(self, process: Process, address: BrokerAddress) -> None:
        """For `start`."""
        self.address = address
        self.pid = process.pid
        self._process = process

    @classmethod
    async def start(cls, host: str = "127.0.0.1", port: int = 1883) -> "EmbeddedBroker":
        """Starts it on `host` and `port`, 1–65535 or 0 for a free one.

        PortTaken, or EmbeddedBrokerError with the reason.
        """
        process = await children.start("broker_bridge.embedded", "--host", host, "--port", str(port))
        report: dict[str, Any] = {}
        try:
            assert process.stdout is not None
            line = await asyncio.wait_for(process.stdout.readline(), START_TIMEOUT)
            report = json.loads(line) if line else {"error": "it ended before it was ready"}
        except TimeoutError:
            report = {"error": f"it was not ready within {START_TIMEOUT:g} s"}
        finally:
            if "port" not in report:
                await children.end(process, STOP_TIMEOUT)
        if report.get("taken"):
            raise PortTaken(f"the embedded broker cannot listen on {host}:{port}: the port is taken")
        if "port" not in report:
            raise EmbeddedBrokerError(
                f"the embedded broker cannot listen on {host}:{port}: {report['error']}"
            )
        return cls(process, BrokerAddress(host, report["port"]))

    async def died(self) -> int:
        """Waits for the broker's end, whatever its cause, and returns its exit status (below 0: a signal)."""
        return await self._process.wait()

    async def stop(self) -> None:
        """Ends it. No harm in a second call, or where it has died."""
        await children.end(self._process, STOP_TIMEOUT)

    async def __aenter__(self) -> "EmbeddedBroker":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()
