"""Curves of metrics by epoch as a picture within a page, in the colours of the page, light or dark."""

import html
import math
from collections.abc import Mapping, Sequence

WIDTH, HEIGHT = 360, 200
LEFT, RIGHT, TOP, BOTTOM = 64, 12, 24, 30  # margins
COLOURS = ("#3a87d6", "#d9662b")  # of at least 3 : 1 on white and on black
TICKS = 4


def svg(history: Sequence[Mapping[str, float]], tags: Sequence[str], best: int) -> str:
    """A picture of metrics by epoch; '' if none of them was ever finite.

    Args:
        history: the metrics of each epoch, by tag, with 'epoch'.
        tags: of the metrics that share the picture.
        best: the epoch of the best weights, which gets a line; -1: there is none.

    Example:
        >>> svg([{"epoch": 0, "val/loss": 1.0}], ["val/loss"], -1).startswith("<svg")
        True
        >>> svg([{"epoch": 0, "val/loss": math.nan}], ["val/loss"], -1)
        ''
    """
    lines = {
        tag: [(line["epoch"], line[tag]) for line in history if math.isfinite(line.get(tag, math.nan))]
        for tag in tags
    }
    values = [value for points in lines.values() for _, value in points]
    if not values:
        return ""
    low, high = min(values), max(values)
    if low == high:
        low, high = low - (abs(low) or 1) / 2, high + (abs(high) or 1) / 2
    last = max(1, *(epoch for points in lines.values() for epoch, _ in points))

    def x(epoch: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * epoch / last

    def y(value: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (high - value) / (high - low)

    parts = [_axes(low, high, last)]
    if best >= 0:
        parts.append(
            f'<line x1="{x(best):.1f}" x2="{x(best):.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}" '
            f'stroke="currentColor" stroke-dasharray="3 3" opacity="0.6">'
            f"<title>best: epoch {best}</title></line>"
        )
    for place, (tag, points) in enumerate(lines.items()):
        colour = COLOURS[place % len(COLOURS)]
        dash = ' stroke-dasharray="6 3"' if place else ""  # not by colour alone
        path = " ".join(f"{x(epoch):.1f},{y(value):.1f}" for epoch, value in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"{dash}/>')
        if len(points) == 1:
            parts.append(
                f'<circle cx="{x(points[0][0]):.1f}" cy="{y(points[0][1]):.1f}" r="3" fill="{colour}"/>'
            )
        at = LEFT + place * 110
        parts.append(
            f'<line x1="{at}" x2="{at + 22}" y1="10" y2="10" stroke="{colour}" stroke-width="2"{dash}/>'
            f'<text x="{at + 27}" y="14">{html.escape(tag)}</text>'
        )
    said = html.escape(f"{', '.join(tags)} by epoch" + (f", best at epoch {best}" if best >= 0 else ""))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{said}" width="{WIDTH}" '
        f'height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="11" '
        f'fill="currentColor">{"".join(parts)}</svg>'
    )


def _axes(low: float, high: float, last: float) -> str:
    """Horizontal lines with their values, and the first and the last epoch."""
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    parts = []
    for tick in range(TICKS):
        value = low + (high - low) * tick / (TICKS - 1)
        at = bottom - (bottom - TOP) * tick / (TICKS - 1)
        parts.append(
            f'<line x1="{LEFT}" x2="{right}" y1="{at:.1f}" y2="{at:.1f}" stroke="currentColor" '
            f'opacity="0.2"/>'
            f'<text x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{value:.3g}</text>'
        )
    for at, anchor, text in ((LEFT, "start", "0"), (right, "end", f"{last:g}")):
        parts.append(f'<text x="{at}" y="{bottom + 14}" text-anchor="{anchor}">{text}</text>')
    middle = (LEFT + right) / 2
    parts.append(f'<text x="{middle:g}" y="{bottom + 24}" text-anchor="middle">epoch</text>')
    return "".join(parts)
