"""From the model's shapes to what the rules work with, and what is refused on the way."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from broker_bridge.jobs import config
from broker_bridge.jobs.abort import Criterion, FailureType
from broker_bridge.jobs.errors import InvalidJob
from broker_bridge.jobs.retries import Retries
from broker_bridge.jobs.rollout import Exponential, Rollout
from broker_bridge.jobs.schedule import EndBehavior, Schedule

EXPONENTIAL = {"baseRatePerMinute": 50, "incrementFactor": 2.0}


def test_everything_is_read() -> None:
    read = config.load(
        json.dumps(
            {
                "jobExecutionsRolloutConfig": {
                    "maximumPerMinute": 100,
                    "exponentialRate": {
                        **EXPONENTIAL,
                        "rateIncreaseCriteria": {"numberOfNotifiedThings": 3, "numberOfSucceededThings": 4},
                    },
                },
                "abortConfig": {
                    "criteriaList": [
                        {
                            "failureType": "ALL",
                            "action": "CANCEL",
                            "thresholdPercentage": 12.5,
                            "minNumberOfExecutedThings": 8,
                        }
                    ]
                },
                "timeoutConfig": {"inProgressTimeoutInMinutes": 10080},
                "jobExecutionsRetryConfig": {
                    "criteriaList": [
                        {"failureType": "FAILED", "numberOfRetries": 4},
                        {"failureType": "TIMED_OUT", "numberOfRetries": 6},
                    ]
                },
                "schedulingConfig": {
                    "startTime": "2026-03-04 12:00",
                    "endTime": "2026-03-05 12:00",
                    "endBehavior": "FORCE_CANCEL",
                    "maintenanceWindows": [{"startTime": "cron(0 2 * * ? *)", "durationInMinutes": 90}],
                },
            }
        )
    )
    assert read.rollout == Rollout(100, Exponential(50, 2.0, 3, 4))
    assert read.abort == (Criterion(FailureType.ALL, 12.5, 8),)
    assert read.timeout_minutes == 10080
    assert read.retries == (Retries(FailureType.FAILED, 4), Retries(FailureType.TIMED_OUT, 6))
    noon = datetime(2026, 3, 4, 12, tzinfo=UTC)
    assert (read.schedule.start, read.schedule.end) == (noon, noon + timedelta(days=1))
    assert read.schedule.at_end is EndBehavior.FORCE_CANCEL
    assert read.schedule.windows[0].length == timedelta(minutes=90)


def test_nothing_is_no_bound_at_all() -> None:
    assert config.read({}) == config.Config(Rollout(), (), None, (), Schedule())


def retry(*criteria: tuple[str, int]) -> dict[str, Any]:
    return {
        "jobExecutionsRetryConfig": {
            "criteriaList": [{"failureType": kind, "numberOfRetries": number} for kind, number in criteria]
        }
    }


def exponential(**criteria: int) -> dict[str, Any]:
    return {"exponentialRate": {**EXPONENTIAL, "rateIncreaseCriteria": criteria}}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"jobExecutionsRolloutConfig": exponential()}, "numberOfNotifiedThings or"),
        (
            {"jobExecutionsRolloutConfig": {"maximumPerMinute": 49, **exponential(numberOfNotifiedThings=1)}},
            "50 is over maximumPerMinute, 49",
        ),
        (
            {
                "abortConfig": {
                    "criteriaList": [
                        {
                            "failureType": "ALL",
                            "action": "CANCEL",
                            "thresholdPercentage": 0.0,
                            "minNumberOfExecutedThings": 1,
                        }
                    ]
                }
            },
            r"criteriaList\[0\].thresholdPercentage: it must be over 0",
        ),
        ({"abortConfig": {"criteriaList": [{}] * 11}}, "11 are over the maximum of 10"),
        ({"timeoutConfig": {"inProgressTimeoutInMinutes": 0}}, "0 is not within 1 and 10080"),
        ({"timeoutConfig": {"inProgressTimeoutInMinutes": 10081}}, "10081 is not within"),
        (retry(("FAILED", 1), ("FAILED", 1)), "once each"),
        (retry(("ALL", 1), ("FAILED", 1)), "ALL alone"),
        (retry(("FAILED", 6), ("TIMED_OUT", 5)), "11 retries are over the maximum of 10"),
        ({"schedulingConfig": {"endBehavior": "CANCEL"}}, "endBehavior: it says nothing without endTime"),
        ({"schedulingConfig": {"startTime": "soon"}}, "schedulingConfig.startTime: 'soon'"),
        (
            {
                "schedulingConfig": {
                    "maintenanceWindows": [{"startTime": "cron(0 2 * * ? *)", "durationInMinutes": 1}] * 8
                }
            },
            "8 are over the maximum of 7",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidJob, match=said):
        config.read(given)
