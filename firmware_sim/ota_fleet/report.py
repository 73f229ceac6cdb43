"""What became of a fleet that was updated, and whether the job says the same."""

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from device_client.jobs import FAILED, IN_PROGRESS, QUEUED, REJECTED, SUCCEEDED
from firmware_sim.fleet.loop import Cost
from firmware_sim.fleet.report import percentile


class Phase(Enum):
    """Where a device is with the last job that it heard of."""

    WAITING = "waiting"
    """It has heard of none."""
    LOADING = "downloading"
    REBOOTING = "rebooting"
    """Or without a connection."""
    TESTING = "testing"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    REJECTED = "rejected"
    DROPPED = "dropped"
    """The job is none of this device's any more, and it has not ended it: canceled or timed out."""


@dataclass(slots=True)
class Told:
    """What a device last reported of a job. Times in seconds after the fleet's start."""

    status: str
    reason: str
    began: float
    """The first report."""
    last: float
    """The last one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceResult:
    """One device as the run left it. Sizes in bytes."""

    thing: str
    profile: str
    link: str
    works: bool
    """Whether new versions found that they work."""
    sha256: str
    """Of what runs, read back from its slot; empty for what it had from the factory."""
    version: int
    """Of what runs, major << 24 | minor << 16 | build."""
    settled: bool
    """It had nothing to do any more: connected, no job, and no test boot under way."""
    failure: str
    """Why it was off for good, such as topics that the broker does not grant."""
    jobs: dict[str, Told]
    """What it reported last, by job id."""
    boots: int
    test_boots: int
    power_cuts: int
    reconnects: int
    received: int
    """From the broker."""
    resumed: int
    """Bytes that were still there after power cuts and reboots, all of them together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A whole run."""

    seed: int | str
    cost: Cost
    devices: list[DeviceResult]
    timeline: list[tuple[float, dict[Phase, int]]]
    """Seconds after the start, and how many devices were where."""

    def as_json(self) -> dict[str, object]:
        """Everything, in types that `json` knows."""
        return {
            "seed": self.seed,
            **dataclasses.asdict(self.cost),
            "devices": [dataclasses.asdict(one) for one in self.devices],
            "timeline": [
                [round(seconds, 3), {phase.value: count for phase, count in phases.items()}]
                for seconds, phases in self.timeline
            ],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A job held against the devices."""

    job_id: str
    counts: dict[str, int]
    """Executions in each status, as the service has them."""
    reached: int
    """Devices that the job came to: they reported something of it."""
    updated: int
    """Devices that run the job's file in the end."""
    sha256: str
    """Of that file: what most devices run whose execution SUCCEEDED; empty where none has."""
    p50: float | None
    """Seconds from a device's first report to the last, where it SUCCEEDED."""
    p99: float | None
    reasons: dict[str, int]
    """Of devices that it failed on, and how often each."""
    wrong: dict[str, str]
    """Things that are not as the job says, and how."""


def judge(devices: Sequence[DeviceResult], job_id: str, statuses: Mapping[str, str]) -> Verdict:
    """`statuses`: of the job's executions, the last of each thing; things without one were never reached."""
    told = {one.thing: one.jobs[job_id] for one in devices if job_id in one.jobs}
    done = [one for one in devices if statuses.get(one.thing) == SUCCEEDED]
    sha256 = Counter(one.sha256 for one in done).most_common(1)[0][0] if done else ""
    seconds = sorted(told[one.thing].last - told[one.thing].began for one in done if one.thing in told)
    wrong = {}
    for one in devices:
        said = _wrong(one, told.get(one.thing), statuses.get(one.thing), sha256)
        if said:
            wrong[one.thing] = said
    for thing in statuses.keys() - {one.thing for one in devices}:
        wrong[thing] = f"{statuses[thing]}, and no device of this fleet"
    failed = [one for one in told.values() if one.status in (FAILED, REJECTED)]
    return Verdict(
        job_id=job_id,
        counts=dict(sorted(Counter(statuses.values()).items())),
        reached=len(told),
        updated=sum(bool(sha256) and one.sha256 == sha256 for one in devices),
        sha256=sha256,
        p50=percentile(seconds, 0.5) if seconds else None,
        p99=percentile(seconds, 0.99) if seconds else None,
        reasons=dict(Counter(one.reason for one in failed).most_common()),
        wrong=wrong,
    )


def _wrong(device: DeviceResult, told: Told | None, status: str | None, sha256: str) -> str:
    """How the device is not as the job has it; empty where it is."""
    if device.failure:
        return f"off for good: {device.failure}"
    if not device.settled:
        return f"{status or 'no execution'}, and still at it" + (f": {told.status}" if told else "")
    says = told.status if told else "nothing"
    if status in (SUCCEEDED, FAILED, REJECTED):
        if says != status:
            return f"{status}, and the device reported {says}"
    elif status == IN_PROGRESS:
        return f"{status}, and the device has nothing to do, having reported {says}"
    elif told and told.status in (SUCCEEDED, FAILED, REJECTED):
        return f"{status or 'no execution'}, and the device reported {says}"
    elif told and status in (None, QUEUED):
        return f"{status or 'no execution'}, and the device has begun it"
    runs = bool(sha256) and device.sha256 == sha256
    if runs != (status == SUCCEEDED):
        return f"{status or 'no execution'}, and it runs {device.sha256 or 'what it had from the factory'}"
    return ""
