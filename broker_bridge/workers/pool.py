"""The worker processes of a service: started, told who answers what, replaced when they end."""

import asyncio
import random
from dataclasses import replace
from typing import Any

import structlog

from broker_bridge.counting import Counts, lasting, total
from broker_bridge.mqtt.address import BrokerAddress
from broker_bridge.mqtt.errors import BrokerError, BrokerUnreachable
from broker_bridge.pace import RATES
from broker_bridge.settings import ServiceSettings
from broker_bridge.workers.membership import Membership, Tell
from broker_bridge.workers.process import WorkerProcess
from broker_bridge.workers.wire import plain

log = structlog.get_logger("workers")

BACKOFF = (0.2, 30.0)
"""The shortest and the longest wait before an ended worker is replaced, seconds."""
STEADY_SECONDS = 10.0
"""How long a worker must have lived for the back-off to begin anew."""


class WorkersFailed(Exception):
    """The workers could not be started."""


class Pool:
    """`settings.workers` processes that answer devices between them; used as `worker.Worker` is."""

    def __init__(self, settings: ServiceSettings, address: BrokerAddress) -> None:
        """In a running event loop, to which it belongs."""
        self._settings = settings
        self._address = address
        self._membership = Membership()
        self._processes: dict[int, WorkerProcess] = {}
        self._answering: set[int] = set()
        self._keeping: list[asyncio.Task[None]] = []
        self._closing = asyncio.Event()
        self._started: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._ended: Counts = {"sluice_workers_replaced": 0}
        """What those have counted that are no more."""

    def start(self) -> None:
        """Starts them, each in a task that ends with `close`."""
        workers = range(self._settings.workers)
        self._keeping = [asyncio.ensure_future(self._keep(worker)) for worker in workers]

    async def ready(self) -> None:
        """Waits until all of them answer devices. BrokerUnreachable, WorkersFailed."""
        await self._started

    def forget(self, stream_id: str) -> None:
        """The stream was changed or deleted."""
        for process in self._processes.values():
            process.send({"do": "forget", "stream": stream_id})

    async def counts(self) -> Counts:
        """What all of them have counted since the start, those that are no more too.

        Of one that does not answer within a second, what it said last. Of one that died, what it counted in
        its last second may be missing.
        """
        processes = list(self._processes.values())
        fresh = await asyncio.gather(*(process.fresh_counts() for process in processes))
        return total([*fresh, self._ended]) | {"sluice_workers": len(self._answering)}

    def health(self) -> tuple[bool, dict[str, object]]:
        """Whether devices can be answered now, and how the workers are."""
        states = {
            str(worker): "answering" if worker in self._answering else self._state(worker)
            for worker in range(self._settings.workers)
        }
        well = bool(self._answering)
        broker = "connected" if well else next(iter(states.values()))
        return well, {"broker": broker, "workers": states}

    async def close(self) -> None:
        """Lets all of them finish what they have in hand, and ends them."""
        self._closing.set()
        await asyncio.gather(*(process.close() for process in self._processes.values()))
        await asyncio.gather(*self._keeping)

    def _state(self, worker: int) -> str:
        process = self._processes.get(worker)
        if process is None:
            return "ended"
        return "joining" if process.state == "connected" else process.state

    async def _keep(self, worker: int) -> None:
        """Has a process run as `worker`, one after the other."""
        loop = asyncio.get_running_loop()
        shortest, longest = BACKOFF
        pause = shortest
        while True:
            began = loop.time()
            why = await self._run(worker)
            if self._closing.is_set():
                return
            self._fail(WorkersFailed(f"worker {worker}: {why}"))
            if loop.time() - began > STEADY_SECONDS:
                pause = shortest
            retry = pause * random.uniform(0.5, 1.0)  # noqa: S311
            pause = min(pause * 2, longest)
            log.error("a worker ended", worker=worker, why=why, retry_in=round(retry, 2))
            try:
                await asyncio.wait_for(self._closing.wait(), retry)
            except TimeoutError:
                self._ended["sluice_workers_replaced"] += 1
                continue
            return

    async def _run(self, worker: int) -> str:
        """One process from its start to its end; why it ended."""
        settings = plain(_share(self._settings), ServiceSettings)
        first = {"settings": settings, "broker": plain(self._address), "worker": worker}
        try:
            process = await WorkerProcess.start(first)
        except OSError as error:
            return error.strerror or str(error)
        self._processes[worker] = process
        if self._closing.is_set():
            await process.close()
        log.info("a worker runs", worker=worker, pid=process.pid)
        try:
            status = await process.run(lambda message: self._heard(worker, process, message))
        finally:
            del self._processes[worker]
            self._ended = total([self._ended, lasting(process.counts)])
            self._left(worker)
        return f"exit status {status}"

    def _heard(self, worker: int, process: WorkerProcess, message: dict[str, Any]) -> None:
        said = message["say"]
        if said == "connected":
            process.state = "connected"
            self._tell(self._membership.connected(worker, message["session"]))
        elif said == "disconnected":
            self._left(worker)
        elif said == "let go":
            self._tell(self._membership.let_go(worker, message["epoch"]))
        elif said == "answering":
            self._answering.add(worker)
            if len(self._answering) == self._settings.workers:
                self._succeed()
        elif said == "unable":
            process.state = message["error"]
            log.error("a worker is unable", worker=worker, error=message["error"])
            kind = BrokerUnreachable if message["broker"] else WorkersFailed
            self._fail(kind(message["error"]))

    def _left(self, worker: int) -> None:
        self._answering.discard(worker)
        self._tell(self._membership.gone(worker))

    def _tell(self, tells: list[Tell]) -> None:
        for tell in tells:
            self._processes[tell.worker].send(
                {
                    "do": "answer",
                    "epoch": tell.epoch,
                    "session": tell.session,
                    "workers": sorted(tell.workers),
                }
            )

    def _succeed(self) -> None:
        if not self._started.done():
            self._started.set_result(None)

    def _fail(self, error: BrokerError | WorkersFailed) -> None:
        """Of consequence only during the start."""
        if not self._started.done():
            self._started.set_exception(error)


def _share(settings: ServiceSettings) -> ServiceSettings:
    """The settings of one worker: of what is for the whole service, its part."""
    rate = settings.broker.bytes_per_second
    if rate is None:
        return settings
    each = max(RATES[0], rate // settings.workers)
    return replace(settings, broker=replace(settings.broker, bytes_per_second=each))
