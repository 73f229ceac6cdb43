"""A rollout as the service's API shows it, look after look: counts, stage, rate, and why things failed."""

from collections import Counter, deque
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from broker_bridge.jobs import stages
from sluice.failure import DONE, FAILED, Failure

STATES = (
    *("queued", "in_progress", "succeeded", "failed"),
    *("timed_out", "rejected", "removed", "canceled"),
)
BAD = ("failed", "timed_out", "rejected")
MAX_REASONS = 200
"""Things that are asked why they failed, at most; of further ones the state alone is told."""
MAX_COUNTED = 10_000
"""Things of groups that are counted before the job has told how many it has."""
RATE_SECONDS = 60.0
"""Over which the rate is taken."""

_COUNTS = {
    "queued": "numberOfQueuedThings",
    "in_progress": "numberOfInProgressThings",
    "succeeded": "numberOfSucceededThings",
    "failed": "numberOfFailedThings",
    "timed_out": "numberOfTimedOutThings",
    "rejected": "numberOfRejectedThings",
    "removed": "numberOfRemovedThings",
    "canceled": "numberOfCanceledThings",
}
_PAGE = 250


@dataclass(frozen=True, slots=True)
class Rollout:
    """What an id stands for: an OTA update with its job, or a job alone."""

    id: str
    job_id: str
    job_arn: str


@dataclass(frozen=True, slots=True)
class Failed:
    """Things that failed in one way."""

    state: str
    reason: str
    """What devices said in `statusDetails`; empty where they said nothing."""
    count: int
    things: tuple[str, ...]
    """Some of them."""


@dataclass(frozen=True, slots=True)
class Look:
    """The rollout at one moment."""

    id: str
    job_id: str
    status: str
    """The job's, or PAUSED; the update's, CREATE_…, while the job is not made."""
    settled: bool
    """Whether nothing further will happen by itself: it has ended, and what was queued is canceled."""
    counts: Mapping[str, int]
    """Things by the state of their latest execution."""
    total: int | None
    """Things in all, with those that it has not reached; None: not known."""
    stage: int | None
    """From 1; None without stages."""
    stages: int | None
    soaks_until: datetime | None
    per_minute: float | None
    """Things that ended in the last minute; None where that cannot be said yet."""
    seconds_left: float | None
    """At that rate, for all things; None where that cannot be said."""
    reason_code: str | None
    comment: str | None
    failures: tuple[Failed, ...] = ()

    @property
    def ended(self) -> int:
        """Things that are done, well or not."""
        return sum(self.counts.values()) - self.counts["queued"] - self.counts["in_progress"]

    @property
    def bad(self) -> int:
        """Things that failed."""
        return sum(self.counts[state] for state in BAD)

    @property
    def exit_status(self) -> int:
        """Of the command that followed it to its end: 0 where each thing has succeeded, and there was one."""
        others = self.bad + self.counts["canceled"]
        return DONE if self.status == "COMPLETED" and self.counts["succeeded"] and not others else FAILED

    def as_json(self) -> dict[str, Any]:
        """For `--json`."""
        until = None if self.soaks_until is None else f"{self.soaks_until:%Y-%m-%dT%H:%M:%SZ}"
        return {**asdict(self), "soaks_until": until}


def find(client: Any, rollout_id: str) -> Rollout:
    """The rollout of that id: an OTA update's, or else a job's. Raises as the client does."""
    try:
        info = client.get_ota_update(otaUpdateId=rollout_id)["otaUpdateInfo"]
    except client.exceptions.ResourceNotFoundException:
        job = client.describe_job(jobId=rollout_id)["job"]
        return Rollout(rollout_id, rollout_id, job["jobArn"])
    return Rollout(rollout_id, info["awsIotJobId"], info["awsIotJobArn"])


class Watch:
    """Looks at one rollout again and again. `look` raises as the client does."""

    def __init__(self, client: Any, rollout: Rollout) -> None:
        self._client = client
        self._rollout = rollout
        self._made = rollout.id == rollout.job_id
        self._total: int | None = None
        self._counted = False
        self._ended: deque[tuple[float, int]] = deque()
        self._reasons: dict[tuple[str, int], tuple[str, str]] = {}
        self._bad = -1

    def look(self, now: float) -> Look:
        """The rollout now; `now` is a monotonic clock's, seconds. Failure where the update cannot be made."""
        if not self._made:
            info = self._client.get_ota_update(otaUpdateId=self._rollout.id)["otaUpdateInfo"]
            status = info["otaUpdateStatus"]
            if status == "CREATE_FAILED":
                error = info.get("errorInfo", {})
                raise Failure(
                    f"{self._rollout.id} cannot be made: {error.get('code')}: {error.get('message')}"
                )
            if status != "CREATE_COMPLETE":
                return self._nothing_yet(status)
            self._made = True
        job = self._client.describe_job(jobId=self._rollout.job_id)["job"]
        details = job["jobProcessDetails"]
        counts = {state: details.get(member, 0) for state, member in _COUNTS.items()}
        comment, status = job.get("comment"), job["status"]
        told = stages.read(comment or "")
        total = self._things(job, counts, told)
        ended = sum(counts.values()) - counts["queued"] - counts["in_progress"]
        per_minute = self._rate(now, ended)
        left = None if total is None or not per_minute else max(0, total - ended) * 60 / per_minute
        over = status in ("COMPLETED", "CANCELED")
        until = None if told is None or over else told.soaks_until
        if until is not None and left is not None:
            left += max(0.0, (until - datetime.now(UTC)).total_seconds())
        return Look(
            id=self._rollout.id,
            job_id=self._rollout.job_id,
            status="PAUSED" if not over and self._paused() else status,
            settled=over and not (job.get("isConcurrent") or (status == "CANCELED" and counts["queued"])),
            counts=counts,
            total=total,
            stage=None if told is None else told.stage,
            stages=None if told is None else told.stages,
            soaks_until=until,
            per_minute=per_minute,
            seconds_left=None if over else left,
            reason_code=job.get("reasonCode"),
            comment=comment,
            failures=self._failures(counts),
        )

    def _nothing_yet(self, status: str) -> Look:
        return Look(
            id=self._rollout.id,
            job_id=self._rollout.job_id,
            status=status,
            settled=False,
            counts=dict.fromkeys(STATES, 0),
            total=None,
            stage=None,
            stages=None,
            soaks_until=None,
            per_minute=None,
            seconds_left=None,
            reason_code=None,
            comment=None,
        )

    def _paused(self) -> bool:
        tags = self._client.list_tags_for_resource(resourceArn=self._rollout.job_arn)["tags"]
        return any(tag["Key"] == stages.PAUSED_TAG for tag in tags)

    def _things(
        self, job: Mapping[str, Any], counts: Mapping[str, int], told: stages.Told | None
    ) -> int | None:
        """How many things there are in all: as the job tells, else as many as its targets have."""
        if told is not None:
            return told.total
        if job["status"] != "SCHEDULED" and not job.get("isConcurrent"):
            return sum(counts.values())
        if not self._counted:
            self._counted = True
            self._total = self._count(job.get("targets", ()))
        return self._total

    def _count(self, targets: Any) -> int | None:
        names: set[str] = set()
        for arn in targets:
            kind, _, name = arn.rpartition(":")[2].partition("/")
            if kind == "thing":
                names.add(name)
                continue
            try:
                for page in self._pages("list_things_in_thing_group", thingGroupName=name, recursive=True):
                    names.update(page["things"])
                    if len(names) > MAX_COUNTED:
                        return None
            except self._client.exceptions.ResourceNotFoundException:
                return None
        return len(names)

    def _pages(self, operation: str, **parameters: Any) -> Iterator[Mapping[str, Any]]:
        more: dict[str, str] = {}
        while True:
            page = getattr(self._client, operation)(maxResults=_PAGE, **parameters, **more)
            yield page
            if not page.get("nextToken"):
                return
            more = {"nextToken": page["nextToken"]}

    def _rate(self, now: float, ended: int) -> float | None:
        self._ended.append((now, ended))
        while len(self._ended) > 1 and self._ended[1][0] <= now - RATE_SECONDS:
            self._ended.popleft()
        since, before = self._ended[0]
        return None if now - since < 1 else max(0, ended - before) * 60 / (now - since)

    def _failures(self, counts: Mapping[str, int]) -> tuple[Failed, ...]:
        bad = sum(counts[state] for state in BAD)
        if bad != self._bad:
            self._bad = bad
            for state in BAD:
                if counts[state]:
                    self._ask(state.upper())
        groups: dict[tuple[str, str], list[str]] = {}
        for (thing, _), key in self._reasons.items():
            groups.setdefault(key, []).append(thing)
        found = [Failed(*key, len(things), tuple(things[:3])) for key, things in groups.items()]
        asked = Counter(state for state, _ in self._reasons.values())
        for state in BAD:
            if (more := counts[state] - asked[state.upper()]) > 0:
                found.append(Failed(state.upper(), "not asked for", more, ()))
        return tuple(sorted(found, key=lambda one: (-one.count, one.state, one.reason)))

    def _ask(self, state: str) -> None:
        """Has executions in that state, which is for good, tell why."""
        job_id = self._rollout.job_id
        for page in self._pages("list_job_executions_for_job", jobId=job_id, status=state):
            for one in page["executionSummaries"]:
                if len(self._reasons) >= MAX_REASONS:
                    return
                thing = one["thingArn"].rpartition("/")[2]
                key = (thing, one["jobExecutionSummary"]["executionNumber"])
                if key not in self._reasons:
                    self._reasons[key] = (state, self._reason(*key))

    def _reason(self, thing: str, number: int) -> str:
        found = self._client.describe_job_execution(
            jobId=self._rollout.job_id, thingName=thing, executionNumber=number
        )["execution"]
        details: dict[str, str] = found.get("statusDetails", {}).get("detailsMap", {})
        return details.get("reason") or ", ".join(f"{key}={value}" for key, value in sorted(details.items()))
