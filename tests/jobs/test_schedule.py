"""Schedules, maintenance windows and their cron expressions, against a look at every minute."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker_bridge.jobs.cron import Cron
from broker_bridge.jobs.errors import InvalidJob
from broker_bridge.jobs.schedule import Schedule, Window, check_ahead, parse_moment

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)  # a Wednesday
MINUTE = timedelta(minutes=1)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cron(0 18 ? * MON *)", "2026-03-09 18:00"),
        ("cron(0 12 * * ? *)", "2026-03-05 12:00"),
        ("cron(*/20 * * * ? *)", "2026-03-04 12:20"),
        ("cron(5,1 * * * ? *)", "2026-03-04 12:01"),
        ("cron(0/45 13-14 ? * * *)", "2026-03-04 13:00"),
        ("cron(0 0 31 * ? *)", "2026-03-31 00:00"),
        ("cron(0 0 29 FEB ? *)", "2028-02-29 00:00"),
        ("cron( 0  0 1 jan ? 2030 )", "2030-01-01 00:00"),
        ("cron(30 23 ? 1-2,12 sun-tue *)", "2026-12-01 23:30"),
        ("cron(0 0 ? * 7 *)", "2026-03-07 00:00"),
        ("cron(0 0 30 2 ? *)", None),
        ("cron(0 0 1 1 ? 2020)", None),
    ],
)
def test_when_an_expression_comes(text: str, expected: str | None) -> None:
    found = Cron.parse(text).after(NOON)
    assert found == (expected and datetime.fromisoformat(expected).replace(tzinfo=UTC))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("0 18 ? * MON *", "is not cron"),
        ("cron(0 18 ? * MON)", "is not cron"),
        ("cron(0 0 18 ? * MON *)", "is not cron"),
        ("rate(1 day)", "is not cron"),
        ("cron(0 18 1 * MON *)", "one must be '\\?'"),
        ("cron(? 18 1 * ? *)", "minutes of a cron expression cannot be '\\?'"),
        ("cron(60 18 1 * ? *)", "minutes '60' .* is not within 0 and 59"),
        ("cron(5-1 18 1 * ? *)", "minutes"),
        ("cron(*/0 18 1 * ? *)", "minutes"),
        ("cron(*-5 18 1 * ? *)", "minutes"),
        ("cron(0 18 L * ? *)", "day of month 'L'"),
        ("cron(0 18 ? * 2#1 *)", "day of week '2#1' .* cannot be read"),
        ("cron(0 18 ? * 0 *)", "day of week"),
        ("cron(0 18 ? JANUARY * *)", "month"),
        ("cron(0 18 ? * * 99999)", "year"),
        ("cron(0, 18 ? * * *)", "minutes"),
    ],
)
def test_what_is_no_expression(text: str, said: str) -> None:
    with pytest.raises(InvalidJob, match=said):
        Cron.parse(text)


fields = st.tuples(
    st.sampled_from(["0", "*/7", "10-20", "59", "3,40"]),
    st.sampled_from(["*", "0", "22/1", "5-6"]),
    st.sampled_from([("*", "?"), ("?", "MON-WED"), ("1,4-5", "?"), ("?", "*")]),
    st.sampled_from(["*", "3", "MAR-APR"]),
)


@settings(max_examples=40)
@given(fields, st.integers(0, 3000), st.integers(1, 1430))
def test_windows_are_open_exactly_when_one_began_less_than_its_length_ago(
    fields: tuple[str, str, tuple[str, str], str], offset: int, length: int
) -> None:
    minutes, hours, (day, weekday), month = fields
    cron = Cron.parse(f"cron({minutes} {hours} {day} {month} {weekday} *)")
    schedule = Schedule(windows=(Window(cron, timedelta(minutes=length)),))
    now = NOON + offset * MINUTE
    opens = schedule.opens_at(now)

    def begins(at: datetime) -> bool:
        return cron.after(at - MINUTE) == at

    is_open = any(begins(now - back * MINUTE) for back in range(length))
    assert (opens == now) is is_open
    if opens is not None and opens > now:
        assert begins(opens)
        assert cron.after(now) == opens


def test_a_rollout_waits_for_its_start_and_then_for_a_window() -> None:
    window = Window(Cron.parse("cron(0 2 * * ? *)"), timedelta(hours=1))
    start = NOON + timedelta(days=2)
    assert Schedule().opens_at(NOON) == NOON
    assert Schedule(start=start).opens_at(NOON) == start
    assert Schedule(start=start).opens_at(start + MINUTE) == start + MINUTE
    two = start.replace(hour=2) + timedelta(days=1)
    both = Schedule(start=start, windows=(window,))
    assert both.opens_at(NOON) == two
    assert both.opens_at(two + 59 * MINUTE) == two + 59 * MINUTE
    assert both.opens_at(two + 60 * MINUTE) == two + timedelta(days=1)
    never = Schedule(windows=(Window(Cron.parse("cron(0 0 1 1 ? 2020)"), MINUTE),))
    assert never.opens_at(NOON) is None


def test_coming_windows_are_shown_up_to_the_end() -> None:
    window = Window(Cron.parse("cron(0 2 * * ? *)"), timedelta(hours=1))
    other = Window(Cron.parse("cron(0 14 * * ? *)"), timedelta(hours=1))
    schedule = Schedule(windows=(window, other))
    shown = schedule.next_windows(NOON)
    assert len(shown) == 7
    assert shown[:3] == [NOON + timedelta(hours=hours) for hours in (2, 14, 26)]
    assert Schedule(end=NOON + timedelta(hours=14), windows=(window, other)).next_windows(NOON) == shown[:1]
    assert Schedule().next_windows(NOON) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-03-04 12:00", NOON),
        ("2026-03-04T12:00", NOON),
        ("2026-03-04T12:00:30Z", NOON + timedelta(seconds=30)),
        ("2026-03-04T14:00+02:00", NOON.astimezone(timezone(timedelta(hours=2)))),
    ],
)
def test_moments_are_in_utc_unless_they_say_so(text: str, expected: datetime) -> None:
    assert parse_moment("startTime", text) == expected


@pytest.mark.parametrize("text", ["2026-03-04", "20260304T1200", "12:00", "2026-02-30 12:00", "tomorrow"])
def test_what_is_no_moment(text: str) -> None:
    with pytest.raises(InvalidJob, match=r"startTime: .* is not a time"):
        parse_moment("startTime", text)


@pytest.mark.parametrize(
    ("start", "end", "said"),
    [
        (None, None, None),
        (30, None, None),
        (29, None, "startTime"),
        (365 * 1440, None, None),
        (365 * 1440 + 1, None, "startTime"),
        (None, 30, None),
        (None, 29, "endTime"),
        (None, 730 * 1440 + 1, "endTime"),
        (60, 90, None),
        (60, 89, "at least 30 minutes after"),
    ],
)
def test_how_far_ahead_a_schedule_may_be(start: int | None, end: int | None, said: str | None) -> None:
    schedule = Schedule(
        start=None if start is None else NOON + start * MINUTE,
        end=None if end is None else NOON + end * MINUTE,
    )
    if said is None:
        check_ahead(schedule, NOON)
    else:
        with pytest.raises(InvalidJob, match=said):
            check_ahead(schedule, NOON)
