"""What a rollout is to be: from settings to the members of CreateOTAUpdate. Nothing is sent from here."""

import re
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from broker_bridge.jobs import stages
from sluice.failure import SettingsError
from sluice.loading import Loaded
from sluice.settings import Settings

MAX_ID = 56
"""Characters of an update's id: that of its job, `AFR_OTA-` and this, has 64 at most."""
CANARY = "{percent}@95:10m/100"
"""The stages of a canary."""
LEAST = 10
"""Things that must have come to an end before `abort_on` counts, unless it says otherwise."""

_ABORT = re.compile(
    r"(?:(?P<kind>FAILED|REJECTED|TIMED_OUT|ALL):)?(?P<percent>[0-9]{1,3}(?:\.[0-9]{1,2})?)%?(?::(?P<least>[0-9]{1,9}))?"
)
_PERCENT = re.compile(r"(?P<percent>[0-9]{1,3}(?:\.[0-9]{1,3})?)%?")


def targets(loaded: Loaded) -> list[str]:
    """ARNs of the groups, or of the thing, whichever a flag names where both are set."""
    settings, group = loaded.settings, loaded.settings.rollout.group
    both = group is not None and settings.thing is not None
    flags = [name for name in ("rollout.group", "thing") if loaded.sources[name].startswith("--")]
    if (group is None and settings.thing is None) or (both and len(flags) != 1):
        raise SettingsError("rollout needs either --group or --thing\nsluice rollout --help says more")
    if group is None or (both and flags == ["thing"]):
        return [_arn(settings, "thing", settings.thing or "")]
    names = [name.strip() for name in group.split(",")]
    for name in names:
        if not re.fullmatch(r"[a-zA-Z0-9:_-]{1,128}", name):
            raise SettingsError(f"rollout.group is {group!r}; {name!r} is not 1 to 128 of a-z A-Z 0-9 : _ -")
    return [_arn(settings, "thinggroup", name) for name in names]


def update_id(settings: Settings, path: Path, now: datetime) -> str:
    """The id that is set, or one of the file's name and the time."""
    given = settings.rollout.id
    if given is None:
        stem = re.sub(r"[^a-zA-Z0-9]+", "-", path.stem).strip("-")[:40] or "update"
        return f"{stem}-{now:%Y%m%d-%H%M%S}"
    if not re.fullmatch(rf"[a-zA-Z0-9_-]{{1,{MAX_ID}}}", given):
        raise SettingsError(f"rollout.id is {given!r}; it must be 1 to {MAX_ID} of a-z A-Z 0-9 _ -")
    return given


def plan(settings: Settings) -> str | None:
    """The stages as the job's tag has them; None for none."""
    text, canary = settings.rollout.stages, settings.rollout.canary
    if text is not None and canary is not None:
        raise SettingsError("rollout.stages and rollout.canary exclude each other")
    if canary is not None:
        match = _PERCENT.fullmatch(canary)
        if match is None or not 0 < float(match["percent"]) < 100:
            raise SettingsError(f"rollout.canary is {canary!r}; it must be a percentage over 0 and under 100")
        text = CANARY.format(percent=match["percent"])
    if text is None:
        return None
    # Tags of AWS's take no percent signs, people write them.
    text = text.replace("%", "").replace(" ", "")
    try:
        stages.parse(text)
    except ValueError as error:
        raise SettingsError(f"rollout.stages: {error}") from None
    return text


def abort_criteria(text: str) -> list[dict[str, object]]:
    """`abortCriteriaList` of what `abort_on` says."""
    found: list[dict[str, object]] = []
    for part in text.split(","):
        match = _ABORT.fullmatch(part.strip())
        if match is None or not 0 < float(match["percent"]) <= 100 or match["least"] == "0":
            raise SettingsError(
                f"rollout.abort_on is {text!r}, of which {part.strip()!r} is not [KIND:]PERCENT%[:LEAST], "
                "as in FAILED:5%:20: KIND of FAILED, REJECTED, TIMED_OUT and ALL, PERCENT over 0 to 100 with "
                "two decimals at most, LEAST at least 1"
            )
        found.append(
            {
                "failureType": match["kind"] or "ALL",
                "action": "CANCEL",
                "thresholdPercentage": float(match["percent"]),
                "minNumberOfExecutedThings": int(match["least"] or LEAST),
            }
        )
    return found


def options(settings: Settings) -> dict[str, Any]:
    """The members of CreateOTAUpdate that say how it is rolled out."""
    rollout = settings.rollout
    given: dict[str, Any] = {"protocols": _protocols(rollout.protocols)}
    if rollout.continuous:
        given["targetSelection"] = "CONTINUOUS"
    if rollout.max_per_minute is not None:
        _check_range("max_per_minute", rollout.max_per_minute, 1, 1000)
        given["awsJobExecutionsRolloutConfig"] = {"maximumPerMinute": rollout.max_per_minute}
    if rollout.abort_on is not None:
        given["awsJobAbortConfig"] = {"abortCriteriaList": abort_criteria(rollout.abort_on)}
    if rollout.device_timeout is not None:
        _check_range("device_timeout", rollout.device_timeout, 1, 10080)
        given["awsJobTimeoutConfig"] = {"inProgressTimeoutInMinutes": rollout.device_timeout}
    if (text := plan(settings)) is not None:
        given["tags"] = [{"Key": stages.STAGES_TAG, "Value": text}]
    return given


def file(settings: Settings, path: Path, signing: Mapping[str, Any]) -> dict[str, Any]:
    """The entry of `files`, but for where the object is."""
    entry: dict[str, Any] = {"fileName": settings.rollout.path or path.name, "codeSigning": signing}
    if settings.rollout.file_type is not None:
        _check_range("file_type", settings.rollout.file_type, 0, 255)
        entry["fileType"] = settings.rollout.file_type
    return entry


def _protocols(text: str) -> list[str]:
    found = [name.strip().upper() for name in text.split(",")]
    if not set(found) <= {"MQTT", "HTTP"} or len(set(found)) < len(found):
        raise SettingsError(f"rollout.protocols is {text!r}; it must be MQTT, HTTP or MQTT,HTTP")
    return found


def _check_range(name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise SettingsError(f"rollout.{name} is {value}; it must be from {low} to {high}")


def _arn(settings: Settings, kind: str, name: str) -> str:
    return f"arn:aws:iot:{settings.region}:{settings.account}:{kind}/{name}"
