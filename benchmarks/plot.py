"""The figures as one SVG: each beside its goal, so that rows of different units can be read at a glance."""

from collections.abc import Iterator, Sequence
from html import escape

from benchmarks.report import Row, shown

WIDTH, BAR_LEFT, BAR_WIDTH, LINE = 1020, 500, 260, 26
SCALE = 2.0
"""The bar's whole length, in goals: what is better or worse than that is cut off."""
MET, MISSED, INK, FAINT = "#2e7d4f", "#b5402f", "#1c2430", "#8a93a0"


def drawing(rows: Sequence[Row], machine: dict[str, object]) -> str:
    """An SVG of all rows that have a goal and a figure."""
    body: list[str] = []
    y = 58
    for sense, title in (
        (">=", "At least the goal: longer is better"),
        ("<=", "At most the goal: shorter is better"),
    ):
        chosen = [row for row in rows if row.goal and row.goal.sense == sense and row.result is not None]
        if not chosen:
            continue
        body.append(_text(20, y, title, weight="bold"))
        top = y + 10
        for row in chosen:
            y += LINE
            body += _bar(row, y)
        x = BAR_LEFT + BAR_WIDTH / SCALE
        body.append(f'<path d="M{x} {top}V{y + 8}" stroke="{INK}" stroke-dasharray="3 3"/>')
        body.append(_text(x, y + 22, "goal", anchor="middle", colour=FAINT))
        y += 56
    title = f"Sluice, measured on {machine['cores']} cores"
    versions = ", ".join(f"{name} {machine[name]}" for name in ("system", "python", "uvloop", "mosquitto"))
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{y}" viewBox="0 0 {WIDTH} {y}" '
            'font-family="system-ui, sans-serif" font-size="13">',
            f'<rect width="{WIDTH}" height="{y}" fill="#ffffff"/>',
            _text(20, 28, title, weight="bold", size=17),
            _text(WIDTH - 20, 28, versions, anchor="end", colour=FAINT),
            *body,
            "</svg>\n",
        ]
    )


def _bar(row: Row, y: int) -> Iterator[str]:
    assert row.goal is not None
    result = row.result or 0.0
    # A goal of 0 is met by 0 alone.
    share = result / row.goal.bound if row.goal.bound else (SCALE if result > 0 else 0.0)
    length = max(2.0, BAR_WIDTH * min(max(share, 0.0), SCALE) / SCALE)
    colour = MET if row.verdict == "met" else MISSED
    yield _text(20, y, row.what)
    yield f'<rect x="{BAR_LEFT}" y="{y - 12}" width="{length:.0f}" height="15" rx="2" fill="{colour}"/>'
    text = f"{shown(result, row.goal.unit)} (goal {shown(row.goal.bound, '')})"
    yield _text(BAR_LEFT + BAR_WIDTH + 12, y, text)


def _text(
    x: float,
    y: float,
    text: str,
    *,
    weight: str = "normal",
    anchor: str = "start",
    colour: str = INK,
    size: int = 13,
) -> str:
    style = f'font-weight="{weight}" text-anchor="{anchor}" fill="{colour}" font-size="{size}"'
    return f'<text x="{x:g}" y="{y}" {style}>{escape(text)}</text>'
