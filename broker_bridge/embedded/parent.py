"""The service's side of the embedded broker: starts it, hears of its end, ends it."""

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE, Process
from pathlib import Path
from typing import Any, Final

import broker_bridge
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
        # The child finds the same package as we did, and looks for no modules in the working directory, which
        # is the user's.
        path = [str(Path(broker_bridge.__file__).parent.parent), os.environ.get("PYTHONPATH", "")]
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "broker_bridge.embedded", "--host", host, "--port", str(port)),
            stdin=PIPE,
            stdout=PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, path))},
        )
        report: dict[str, Any] = {}
        try:
            assert process.stdout is not None
            line = await asyncio.wait_for(process.stdout.readline(), START_TIMEOUT)
            report = json.loads(line) if line else {"error": "it ended before it was ready"}
        except TimeoutError:
            report = {"error": f"it was not ready within {START_TIMEOUT:g} s"}
        finally:
            if "port" not in report:
                await _end(process)
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
        await _end(self._process)

    async def __aenter__(self) -> "EmbeddedBroker":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()


async def _end(process: Process) -> None:
    if process.stdin is not None:
        process.stdin.close()
    try:
        await asyncio.wait_for(process.wait(), STOP_TIMEOUT)
    except TimeoutError:
        process.kill()
        await process.wait()
