"""Pages of lists that may be long: each begins where an index leads to, and costs what it holds."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sqlalchemy import Column, ColumnElement

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Some of a list, in its order. What is added or deleted meanwhile disturbs no other page."""

    items: Sequence[T]
    after: str | None
    """The position behind the last item, for the next page; None where the list ends here."""


def page(found: Sequence[T], limit: int, position: Callable[[T], str]) -> Page[T]:
    """The first `limit` of what was found, of which one more than `limit` was asked for."""
    items = found[:limit]
    return Page(items, position(items[-1]) if len(found) > limit else None)


def check_limit(limit: int) -> None:
    """Raises ValueError for a page that holds nothing."""
    if limit < 1:
        raise ValueError(f"limit is {limit}, at least 1 is needed")


def up_to(column: Column[Any], prefix: str) -> ColumnElement[bool]:
    """Whether ASCII text stands before the end of what begins with `prefix`. Not LIKE: it uses no index."""
    return column < f"{prefix}\x7f"
