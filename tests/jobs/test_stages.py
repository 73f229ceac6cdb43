"""Stages: the plan's text, and what follows from where a rollout is."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker_bridge.jobs.execution import Status
from broker_bridge.jobs.job import Counts, Place
from broker_bridge.jobs.stages import (
    MAX_STAGES,
    PAUSED_TAG,
    STAGES_TAG,
    Plan,
    Stage,
    check_tag,
    look,
    of_tags,
    parse,
    read,
    told,
)

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
EXAMPLE = "5@95:10m/25@98:1h/100"


def test_the_plan_of_the_example() -> None:
    assert parse(EXAMPLE) == (
        Stage(Fraction(5), Fraction(95), 10 * MINUTE),
        Stage(Fraction(25), Fraction(98), 60 * MINUTE),
        Stage(Fraction(100), None, timedelta(0)),
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "'sluice:stages' is '', whose stage 1, '', is not of the form PERCENT@SUCCEEDED:SOAK/…/100"),
        ("5@95:10m", "stage 1, '5@95:10m', is the last one and must reach 100 percent"),
        ("5@95/100:1m", "stage 2, '100:1m', is the last one: nothing comes after it"),
        ("5/100", "stage 1, '5', needs @SUCCEEDED"),
        ("0@95/100", "stage 1, '0@95', must reach over 0 to 100 percent"),
        ("20@95/20@95/100", "stage 2, '20@95', must reach over 20 to 100 percent"),
        ("20@95/101", "stage 2, '101', must reach over 20 to 100 percent"),
        ("100@95/100", "stage 2, '100', must reach over 100 to 100 percent"),
        ("5@0/100", "stage 1, '5@0', needs 0 percent succeeded; it must be over 0 to 100"),
        ("5@100.1/100", "needs 100.1 percent succeeded; it must be over 0 to 100"),
        ("5@95:31d/100", "stage 1, '5@95:31d', soaks for 31d; at most 30d may be"),
        ("5@95:9999999d/100", "soaks for 9999999d"),
        ("5@95:10/100", "is not of the form"),
        ("5@95:-1m/100", "is not of the form"),
        ("5@95:1m30s/100", "is not of the form"),
        ("5%@95/100", "is not of the form"),
        ("1.0001@95/100", "is not of the form"),
        ("٥@95/100", "is not of the form"),
        ("5@95/100@9/", "stage 3, '', is not of the form"),
        ("/".join([f"{i}@1" for i in range(1, MAX_STAGES + 1)] + ["100"]), "has 17 stages; at most 16"),
    ],
)
def test_what_is_no_plan(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse(text)
    with pytest.raises(ValueError, match=message):
        check_tag(STAGES_TAG, text)


def test_tags() -> None:
    assert check_tag(STAGES_TAG, EXAMPLE)
    assert check_tag(PAUSED_TAG, "")
    assert not check_tag("sluice:stage", "x")
    assert of_tags({STAGES_TAG: "100", "other": "x"}) == ("100", False)
    assert of_tags({PAUSED_TAG: "lunch"}) == (None, True)


def percents(low: int = 1, high: int = 100_000) -> st.SearchStrategy[Fraction]:
    return st.integers(low, high).map(lambda thousandths: Fraction(thousandths, 1000))


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    ends = sorted(draw(st.sets(percents(high=99_999), max_size=MAX_STAGES - 1)))
    soaks = st.integers(0, 3600).map(lambda seconds: timedelta(seconds=seconds))
    first = [Stage(end, draw(percents()), draw(soaks)) for end in ends]
    return (*first, Stage(Fraction(100), draw(st.none() | percents()), timedelta(0)))


def written(plan: Plan) -> str:
    parts = []
    for stage in plan:
        needed = "" if stage.needed is None else f"@{float(stage.needed):.3f}"
        soak = f":{stage.soak // timedelta(seconds=1)}s" if stage.soak else ""
        parts.append(f"{float(stage.percent):.3f}{needed}{soak}")
    return "/".join(parts)


@given(plans())
def test_a_plan_is_read_as_it_is_written(plan: Plan) -> None:
    assert parse(written(plan)) == plan


@given(st.text("0123456789@:/.smhd", max_size=30))
def test_any_text_is_a_plan_or_says_why_not(text: str) -> None:
    try:
        plan = parse(text)
    except ValueError:
        return
    assert plan[-1].percent == 100
    assert parse(written(plan)) == plan


PLAN = parse("10@80:10m/50@90/100")


def test_a_rollout_from_its_first_stage_to_its_last() -> None:
    view = look(PLAN, Place(), Counts(), 100, NOON)
    assert (view.place, view.room, view.needed, view.failed) == (Place(0), 10, 8, False)
    assert told(view, Counts()) == "stage 1 of 3: 10 %, 10 of 100 things, at least 8 must succeed"
    # Half of it is reached; whoever is there has succeeded, which is no verdict yet.
    view = look(PLAN, view.place, Counts(succeeded=8), 92, NOON)
    assert (view.place, view.room) == (Place(0), 2)
    # Reached, and too few yet.
    counts = Counts(succeeded=7, queued=2, failed=1)
    view = look(PLAN, view.place, counts, 90, NOON)
    assert (view.place, view.room, view.again_at, view.failed) == (Place(0), 0, None, False)
    # Passed: the two that are offline hold nothing up.
    counts = Counts(succeeded=8, queued=1, failed=1)
    view = look(PLAN, view.place, counts, 90, NOON)
    assert (view.place, view.room, view.again_at) == (Place(0, NOON), 0, NOON + 10 * MINUTE)
    said = told(view, counts)
    assert said == (
        "stage 1 of 3: 10 %, 10 of 100 things, passed with 8 SUCCEEDED; soaks until 2026-03-04T12:10:00Z"
    )
    assert look(PLAN, view.place, counts, 90, NOON + 9 * MINUTE) == view
    view = look(PLAN, view.place, counts, 90, NOON + 10 * MINUTE)
    assert (view.place, view.room, view.needed) == (Place(1), 40, 45)
    # No soak time: the last stage follows in the same look.
    counts = Counts(succeeded=45, failed=5)
    view = look(PLAN, view.place, counts, 50, NOON + 20 * MINUTE)
    assert (view.place, view.room) == (Place(2), 50)
    view = look(PLAN, view.place, Counts(succeeded=45, failed=55), 0, NOON)
    assert (view.failed, view.room) == (False, 0)
    assert told(view, Counts()) == "stage 3 of 3: 100 %, 100 of 100 things"


def test_a_stage_fails_when_it_can_no_longer_pass() -> None:
    # Of ten eight must succeed: with the third that does not, eight no longer can.
    assert not look(PLAN, Place(0), Counts(queued=3, failed=1, timed_out=1), 95, NOON).failed
    counts = Counts(queued=2, failed=1, timed_out=1, rejected=1)
    view = look(PLAN, Place(0), counts, 95, NOON)
    assert (view.failed, view.room, view.bad) == (True, 0, 3)
    assert told(view, counts) == (
        "stage 1 of 3: 10 %, 10 of 100 things, at least 8 had to succeed, and 3 did not: "
        "1 FAILED, 1 TIMED_OUT, 1 REJECTED"
    )


def test_failures_of_a_stage_that_soaks_or_came_before_count() -> None:
    # Of 50 reached in the second stage, five may fail: four of the first stage's are among them.
    counts = Counts(succeeded=40, failed=4, in_progress=6)
    assert not look(PLAN, Place(1), counts, 50, NOON).failed
    assert look(PLAN, Place(1), replace(counts, failed=6, in_progress=4), 50, NOON).failed
    # An execution of it was canceled while it soaked, others failed.
    assert look(PLAN, Place(0, NOON), Counts(succeeded=7, failed=3), 90, NOON).failed


def test_things_that_left_count_nowhere() -> None:
    counts = Counts(succeeded=8, removed=5, canceled=7)
    view = look(PLAN, Place(0), counts, 72, NOON)
    assert (view.total, view.reach, view.place) == (80, 8, Place(0, NOON))


def test_without_things_a_stage_waits_for_them() -> None:
    view = look(PLAN, Place(), Counts(), 0, NOON)
    assert (view.place, view.room, view.again_at, view.failed) == (Place(0), 0, None, False)


def test_a_changed_plan_goes_on_where_the_rollout_is() -> None:
    counts = Counts(succeeded=30, in_progress=1)
    view = look(PLAN, Place(), counts, 69, NOON)
    assert (view.place, view.room) == (Place(1), 19)
    assert look(PLAN, Place(), Counts(in_progress=10), 90, NOON).place == Place(0)


def test_a_clock_that_was_set_back_holds_nothing_up() -> None:
    view = look(PLAN, Place(0, NOON + 60 * MINUTE), Counts(succeeded=10), 90, NOON)
    assert view.again_at == NOON + 10 * MINUTE


@given(plans(), st.integers(0, 2000), st.data())
def test_a_rollout_ends_and_reaches_no_more_than_it_may(plan: Plan, things: int, data: st.DataObject) -> None:
    """Whatever devices do in whatever order: a stage begins when the one before it has passed and soaked,
    a rollout stops in the very moment in which its stage cannot pass any more, and otherwise ends."""
    failing = data.draw(st.integers(0, 100), label="percent that fail")
    counts, waiting, now = Counts(), things, NOON
    place, began = Place(), NOON
    for _ in range(50 + 3 * len(plan)):
        view = look(plan, place, counts, waiting, now)
        assert look(plan, view.place, counts, waiting, now) == view, "a look changes nothing"
        stage = view.place.stage
        assert stage is not None
        assert stage >= (place.stage or 0)
        if stage > (place.stage or 0) and things:
            passed = plan[stage - 1]
            reached = things - waiting
            assert reached * 100 >= passed.percent * things
            assert passed.needed is not None
            assert counts.succeeded * 100 >= passed.needed * reached
            assert now >= began + passed.soak
            began = now
        if view.failed:
            needed = plan[stage].needed
            assert needed is not None
            assert (view.reach - view.bad) * 100 < needed * view.reach
            return
        place = view.place
        reached = things - waiting
        assert view.room <= waiting
        assert reached + view.room <= max(reached, -(-plan[stage].percent * things // 100))
        if view.again_at is not None:
            assert view.room == 0
            assert view.again_at > now
            now = view.again_at
        elif view.room:
            # As a rate would have it: not all at once.
            some = data.draw(st.integers(1, view.room), label="reached") if view.room < 50 else view.room
            counts.queued += some
            waiting -= some
        elif counts.queued:
            some = (
                data.draw(st.integers(1, counts.queued), label="ended")
                if counts.queued < 50
                else counts.queued
            )
            bad = some * failing // 100
            counts.queued -= some
            counts.succeeded += some - bad
            counts.failed += bad
            now += MINUTE
        else:
            assert waiting == 0
            assert stage == len(plan) - 1 or not things
            return
    # Slow as it was: it had something to do each time.
    assert waiting or counts.queued


@given(plans(), st.integers(1, 500), st.sampled_from([Status.FAILED, Status.TIMED_OUT, Status.REJECTED]))
def test_a_bad_image_goes_no_further_than_its_first_stage(plan: Plan, things: int, how: Status) -> None:
    counts, waiting, place = Counts(), things, Place()
    view = look(plan, place, counts, waiting, NOON)
    counts.queued, waiting = view.room, waiting - view.room
    first = view.room
    assert first == -(-plan[0].percent * things // 100)
    while counts.queued:
        view = look(plan, view.place, counts, waiting, NOON)
        assert view.room == 0
        if view.failed:
            break
        counts.move(Status.QUEUED, how)
    view = look(plan, view.place, counts, waiting, NOON)
    if plan[0].needed is not None:
        assert view.failed
        assert read(told(view, counts)) is not None


@given(plans(), st.integers(1, 10**6), st.integers(0, 10**6))
def test_what_is_told_can_be_read(plan: Plan, reached: int, waiting: int) -> None:
    counts = Counts(succeeded=reached)
    view = look(plan, Place(), counts, waiting, NOON)
    said = read(told(view, counts))
    assert said is not None
    assert view.place.stage is not None
    assert (said.stage, said.stages, said.total) == (view.place.stage + 1, len(plan), reached + waiting)
    assert said.soaks_until == view.again_at
    assert read("stage fright of 3 things") is None
    assert read("") is None
