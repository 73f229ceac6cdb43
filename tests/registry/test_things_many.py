"""A hundred thousand things: a page costs what it holds, wherever it is. Steps of SQLite are counted."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from sqlalchemy import event, insert

from broker_bridge.registry import schema
from broker_bridge.registry.pages import Page
from broker_bridge.registry.registry import Registry
from broker_bridge.registry.things import AttributeFilter
from tests.registry.making import group, thing_type

COUNT = 100_000
LIMIT = 100
STEPS = 100
"""SQLite says so after each hundred steps of its virtual machine; a row of a scan is a few steps at least."""
FEW = 150
"""Hundreds of steps that a page of 100 may cost; a scan of all things costs thousands."""


class Steps:
    """Counts what SQLite does on every connection of a registry."""

    def __init__(self, registry: Registry) -> None:
        self.taken = 0
        event.listen(registry._database._engine, "checkout", self._checkout)

    def _checkout(self, connection: Any, _record: object, _proxy: object) -> None:
        connection.set_progress_handler(self._step, STEPS)

    def _step(self) -> int:
        self.taken += 1
        return 0

    def of(self, call: Callable[[], Any]) -> tuple[Any, int]:
        """What the call returns, and how many hundreds of steps it took."""
        before = self.taken
        return call(), self.taken - before


def name(number: int) -> str:
    return f"t{number:06}"


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Registry, Steps]]:
    """Half of the things are pumps; all are of one colour, and in three groups below `all`."""
    registry = Registry.open(f"sqlite:///{tmp_path_factory.mktemp('many')}/registry.db")
    thing_type(registry, "pump")
    group(registry, "all")
    paths = [group(registry, f"g{part}", "all").path for part in range(3)]
    numbers = range(COUNT)
    with registry._database.changing() as connection:
        connection.execute(
            insert(schema.things),
            [
                {
                    "thing_name": name(number),
                    "thing_id": "x",
                    "thing_type_name": "pump" if number % 2 else None,
                    "version": 1,
                }
                for number in numbers
            ],
        )
        connection.execute(
            insert(schema.thing_attributes),
            [{"thing_name": name(number), "name": "colour", "value": "red"} for number in numbers],
        )
        connection.execute(
            insert(schema.memberships),
            [{"thing_name": name(number), "group_path": paths[number % 3]} for number in numbers],
        )
    yield registry, Steps(registry)
    registry.close()


READS: dict[str, tuple[Callable[..., Page[Any]], str]] = {
    "all": (lambda registry, **page: registry.things.list(**page), name(COUNT - 2000)),
    "type": (
        lambda registry, **page: registry.things.list(type_name="pump", **page),
        name(COUNT - 2000),
    ),
    "attribute": (
        lambda registry, **page: registry.things.list(
            attribute=AttributeFilter("colour", "red", prefix=False), **page
        ),
        f"red/{name(COUNT - 2000)}",
    ),
    "prefix": (
        lambda registry, **page: registry.things.list(attribute=AttributeFilter("colour", "r"), **page),
        f"red/{name(COUNT - 2000)}",
    ),
    "attribute and type": (
        lambda registry, **page: registry.things.list(
            type_name="pump", attribute=AttributeFilter("colour"), **page
        ),
        f"red/{name(COUNT - 2000)}",
    ),
    "members": (
        lambda registry, **page: registry.thing_groups.members("g1", recursive=False, **page),
        f"all/g1/{name(COUNT - 2000)}",
    ),
    "members below": (
        lambda registry, **page: registry.thing_groups.members("all", recursive=True, **page),
        f"all/g2/{name(COUNT - 2000)}",
    ),
}


@pytest.mark.parametrize("kind", READS)
def test_a_page_costs_what_it_holds(many: tuple[Registry, Steps], kind: str) -> None:
    registry, steps = many
    read, late = READS[kind]
    for after in (None, late):
        page, taken = steps.of(partial(read, registry, after=after, limit=LIMIT))
        assert len(page.items) == LIMIT
        assert page.after is not None
        assert taken <= FEW, (after, taken)


def test_a_thing_costs_the_same_among_many(many: tuple[Registry, Steps]) -> None:
    registry, steps = many
    calls: list[Callable[[], Any]] = [
        lambda: registry.things.get(name(COUNT // 2)),
        lambda: registry.thing_groups.of_thing(name(COUNT // 2), limit=10),
        lambda: registry.things.update(name(COUNT // 2), attributes={"colour": "red", "new": "1"}),
        lambda: registry.thing_groups.change(name(COUNT // 2), leave=["g0", "g1", "g2"], join=["g0"]),
        lambda: registry.things.create("new", type_name="pump", attributes={"colour": "red"}),
        lambda: registry.things.delete("new"),
        lambda: registry.thing_groups.delete("none"),
    ]
    for call in calls:
        _, taken = steps.of(call)
        assert taken <= FEW


def test_steps_are_counted(many: tuple[Registry, Steps]) -> None:
    registry, steps = many
    count, taken = steps.of(registry.things.count)
    assert count == COUNT
    _, taken = steps.of(lambda: registry.things.list(limit=COUNT // 10))
    assert taken > 10 * FEW
