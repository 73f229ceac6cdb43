"""The jobs' engine, run by hand where no service runs it."""

from broker_bridge.jobs.engine import Engine
from tests.api.running import Running


def settle(api: Running) -> None:
    """Does all that is due."""
    engine = Engine(api.registry.jobs, api.registry.job_steps)
    for _ in range(100):
        now = api.clock()
        if engine.run(now) > now:
            return
    raise AssertionError("the engine never comes to rest")
