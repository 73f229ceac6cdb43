"""A rollout as people see it: a table that changes on a terminal, lines elsewhere, JSON for programs."""

import json
import sys
from types import TracebackType
from typing import TYPE_CHECKING

from sluice.progress import LINE_SECONDS
from sluice.rollout.following import STATES, Look

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live

REASONS = 8
"""That are shown at most; JSON has all of them."""


class View:
    """Is told of each look: on a terminal it draws, else it prints what is new, at most every few seconds."""

    def __init__(self, as_json: bool) -> None:
        self._json = as_json
        self._live: Live | None = None
        self._said = ""
        self._said_at = 0.0

    def __call__(self, look: Look, now: float) -> None:
        """`now`: a monotonic clock's seconds."""
        if self._json:
            text = json.dumps(look.as_json())
            # What changes with the clock alone is no news.
            news = json.dumps({**look.as_json(), "per_minute": None, "seconds_left": None})
            if news != self._said:
                self._said = news
                print(text, flush=True)
        elif sys.stderr.isatty():
            self._draw(look)
        else:
            # Another state or stage at once, other counts now and then.
            step = f"{look.status} {look.stage} {look.soaks_until} {look.settled}"
            if step != self._said or now - self._said_at >= LINE_SECONDS:
                self._said, self._said_at = step, now
                print(line(look), file=sys.stderr, flush=True)

    def __enter__(self) -> "View":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leaves the last look as it stands."""
        if self._live is not None:
            self._live.stop()

    def _draw(self, look: Look) -> None:
        from rich.console import Console
        from rich.live import Live

        if self._live is None:
            self._live = Live(console=Console(stderr=True), auto_refresh=False)
            self._live.start()
        self._live.update(_drawn(look), refresh=True)


def line(look: Look) -> str:
    """All of a look in a line."""
    parts = [f"rollout {look.id}: {look.status}", _counts(look)]
    if (stage := _stage(look)) is not None:
        parts.append(stage)
    if (pace := _pace(look)) is not None:
        parts.append(pace)
    return ", ".join(part for part in parts if part)


def show(look: Look) -> None:
    """The whole of it, on stdout."""
    print(line(look))
    if look.reason_code is not None:
        print(f"{look.reason_code}: {look.comment or ''}".rstrip(": "))
    for text in _reasons(look):
        print(text)


def _drawn(look: Look) -> "RenderableType":
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(min_width=12)
    table.add_column(justify="right", min_width=7)
    table.add_column(width=32)
    known = look.total if look.total is not None else sum(look.counts.values())
    for state in STATES:
        count = look.counts[state]
        if count or state in ("queued", "in_progress", "succeeded", "failed"):
            bar = ProgressBar(total=max(known, 1), completed=count, width=32)
            table.add_row(Text(state.upper()), str(count), bar)
    if look.total is not None and known > sum(look.counts.values()):
        table.add_row(Text("not reached"), str(known - sum(look.counts.values())), "")
    parts: list[RenderableType] = [Text(f"rollout {look.id}: {look.status}", style="bold"), table]
    parts += [Text(text) for text in (_stage(look), _pace(look)) if text is not None]
    if look.reason_code is not None:
        parts.append(Text(f"{look.reason_code}: {look.comment or ''}", style="red"))
    parts += [Text(text) for text in _reasons(look)]
    return Group(*parts)


def _counts(look: Look) -> str:
    total = "" if look.total is None else f" of {look.total}"
    others = [f"{look.counts[state]} {state.upper()}" for state in STATES if look.counts[state]]
    return f"{look.ended}{total} things done" + (f" ({', '.join(others)})" if others else "")


def _stage(look: Look) -> str | None:
    if look.stage is None:
        return None
    soaks = "" if look.soaks_until is None else f", soaks until {look.soaks_until:%H:%M:%S} UTC"
    return f"stage {look.stage} of {look.stages}{soaks}"


def _pace(look: Look) -> str | None:
    if not look.per_minute or look.settled:
        return None
    left = "" if look.seconds_left is None else f", {_duration(look.seconds_left)} left at that rate"
    return f"{look.per_minute:.3g} a minute{left}"


def _duration(seconds: float) -> str:
    minutes = int(seconds + 59) // 60
    if minutes < 120:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min" if minutes < 2880 else f"{minutes // 1440} days"


def _reasons(look: Look) -> list[str]:
    texts = []
    for one in look.failures[:REASONS]:
        things = (
            f" ({', '.join(one.things)}{', …' if one.count > len(one.things) else ''})" if one.things else ""
        )
        texts.append(f"  {one.count} x {one.state}: {one.reason or 'no reason told'}{things}")
    if len(look.failures) > REASONS:
        texts.append(f"  and {len(look.failures) - REASONS} reasons more: --json")
    return texts
