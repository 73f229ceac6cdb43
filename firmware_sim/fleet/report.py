"""What became of a fleet, as values and as JSON."""

import dataclasses
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum


class Outcome(Enum):
    """How a device ended."""

    DONE = "done"
    """The whole file is in its store, with the right SHA-256."""
    REJECTED = "rejected"
    """The service refused; `code` says how."""
    TIMEOUT = "timeout"
    """Nothing new for the device's patience."""
    MISMATCH = "mismatch"
    """What its store holds in the end is not the file."""
    FAILED = "failed"
    """Anything else, such as a subscription that is not granted, or a disk that is full."""
    UNFINISHED = "unfinished"
    """The run was stopped before the device had ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceResult:
    """One device, from its start to its end. Times in seconds, sizes in bytes."""

    thing: str
    stream: str
    file_id: int
    profile: str
    link: str
    outcome: Outcome
    code: str = ""
    """Of a rejection: PROTOCOL "Rejections"."""
    reason: str = ""
    """Why it is not done, for people."""
    started: float
    """After the fleet."""
    seconds: float
    """From its start until it had the whole file, or had given up; reboots included."""
    size: int
    """Of the file; 0 where it was never described."""
    version: int
    sha256: str
    """Of what the store holds; empty where it is not whole."""
    received: int
    """Bytes that came from the broker: of all MQTT packets that the link delivered."""
    requests: int
    """GetStreams."""
    duplicates: int
    """Blocks that came when they were held already."""
    reconnects: int
    """Connections that were lost, but not with the power."""
    power_cuts: int
    resumed: int
    """Bytes that were still there after power cuts, all of them together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """Of some devices. Percentiles are of the seconds of those that are done; None where none is."""

    devices: int
    done: int
    failures: dict[str, int]
    """Outcomes other than done, rejections with their code, and how often each."""
    p50: float | None
    p90: float | None
    p99: float | None
    max: float | None
    size: int
    """Bytes of files in the stores of those that are done."""
    received: int
    requests: int
    duplicates: int
    reconnects: int
    power_cuts: int
    resumed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A whole run."""

    seed: int | str
    seconds: float
    cpu_seconds: float
    """Of this process, which is all devices and their links."""
    late_mean: float
    """Seconds by which this process was behind its own clock, on average: above some hundredths it is the
    machine that is measured, and no longer the devices."""
    late_max: float
    memory_before: int
    """Resident bytes of this process before the first device was made; 0 where the system does not say."""
    memory_peak: int
    """The most there ever were."""
    devices: list[DeviceResult] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether every device is done."""
        return all(one.outcome is Outcome.DONE for one in self.devices)

    @property
    def total(self) -> Summary:
        """Of all devices."""
        return summary(self.devices)

    @property
    def profiles(self) -> dict[str, Summary]:
        """By profile and, where devices of one had several, link: in the order of names."""
        kinds: dict[tuple[str, str], list[DeviceResult]] = {}
        for one in self.devices:
            kinds.setdefault((one.profile, one.link), []).append(one)
        links = Counter(profile for profile, _ in kinds)
        return {
            profile if links[profile] == 1 else f"{profile}, {link}": summary(devices)
            for (profile, link), devices in sorted(kinds.items())
        }

    def as_json(self) -> dict[str, object]:
        """Everything, in types that `json` knows."""
        found = dataclasses.asdict(self)
        found["ok"] = self.ok
        for row, one in zip(found["devices"], self.devices, strict=True):
            row["outcome"] = one.outcome.value
        found["total"] = dataclasses.asdict(self.total)
        found["profiles"] = {name: dataclasses.asdict(one) for name, one in self.profiles.items()}
        return found


def percentile(values: Sequence[float], share: float) -> float:
    """The least of `values`, sorted and not empty, that `share` of them (over 0, up to 1) do not exceed."""
    return values[max(0, math.ceil(share * len(values)) - 1)]


def summary(devices: Iterable[DeviceResult]) -> Summary:
    """Of these devices."""
    devices = list(devices)
    done = [one for one in devices if one.outcome is Outcome.DONE]
    seconds = sorted(one.seconds for one in done)
    failed = Counter(one.code or one.outcome.value for one in devices if one.outcome is not Outcome.DONE)
    return Summary(
        devices=len(devices),
        done=len(done),
        failures=dict(failed.most_common()),
        p50=percentile(seconds, 0.5) if done else None,
        p90=percentile(seconds, 0.9) if done else None,
        p99=percentile(seconds, 0.99) if done else None,
        max=seconds[-1] if done else None,
        size=sum(one.size for one in done),
        received=sum(one.received for one in devices),
        requests=sum(one.requests for one in devices),
        duplicates=sum(one.duplicates for one in devices),
        reconnects=sum(one.reconnects for one in devices),
        power_cuts=sum(one.power_cuts for one in devices),
        resumed=sum(one.resumed for one in devices),
    )


def with_disagreements(devices: Iterable[DeviceResult]) -> list[DeviceResult]:
    """Where devices hold different bytes of one file in one version, all but the most are a mismatch."""
    found = list(devices)
    kinds: dict[tuple[str, int, int], Counter[str]] = {}
    for one in found:
        if one.outcome is Outcome.DONE:
            kinds.setdefault((one.stream, one.file_id, one.version), Counter())[one.sha256] += 1
    for place, one in enumerate(found):
        if one.outcome is not Outcome.DONE:
            continue
        (usual, _), *_ = kinds[one.stream, one.file_id, one.version].most_common(1)
        if one.sha256 != usual:
            reason = f"SHA-256 {one.sha256}, where most devices have {usual}"
            found[place] = dataclasses.replace(one, outcome=Outcome.MISMATCH, reason=reason)
    return found
