"""Draws the outcomes of scenarios: how much succeeded beside what was to be reached, and how long it took."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

ROW, TOP, WIDTH = 30, 70, 960
RATE = (150, 540)  # where the panels lie, in pixels
TIME = (640, 930)
LOWEST = 94.0  # percent at the left edge of the first panel
SLOWEST = 60.0  # seconds at the right edge of the second
FASTEST = 0.1
GOOD, BAD, INK, PALE = "#2f7d5b", "#b3403a", "#333", "#ddd"


def draw(outcomes: Mapping[str, Mapping[str, Any]]) -> str:
    """An SVG of all outcomes."""
    height = TOP + ROW * len(outcomes) + 40
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        f'font-family="sans-serif" font-size="13" fill="{INK}">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        _text(RATE[0], 24, "Gets that succeeded (quiet: lookups); mark: the bar"),
        _text(RATE[0] - 12, TOP - 18, "scenario, nodes", anchor="end", size=11),
        _text(TIME[0], 24, "Seconds it took: median, and p95"),
    ]
    bottom = TOP + ROW * len(outcomes)
    for percent in range(math.ceil(LOWEST), 101):
        parts += _grid(_rate(percent), bottom, f"{percent} %")
    for seconds in (0.1, 0.3, 1, 3, 10, 30, 60):
        parts += _grid(_time(seconds), bottom, f"{seconds:g}")
    for row, (name, outcome) in enumerate(outcomes.items()):
        parts += _row(TOP + ROW * row, name, outcome)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _row(y: float, name: str, outcome: Mapping[str, Any]) -> list[str]:
    figures, bars = outcome["figures"], outcome["bars"]
    what = "gets" if "gets_percent" in figures else "lookups"
    percent, bar = figures[f"{what}_percent"], bars[f"{what}_percent"]
    median, p95 = figures[f"{what}_seconds_median"], figures[f"{what}_seconds_p95"]
    colour = BAD if outcome["missed"] else GOOD
    middle = y + 9
    return [
        _text(RATE[0] - 12, y + 14, f"{name}, {outcome['nodes']}", anchor="end"),
        f'<rect x="{RATE[0]}" y="{y}" width="{_rate(percent) - RATE[0]:.1f}" height="18" fill="{colour}"/>',
        f'<path d="M{_rate(bar):.1f} {y - 4}v26" stroke="{INK}" stroke-width="2"/>',
        _text(RATE[1] + 8, y + 14, f"{percent:.4g} % of {figures[f'{what}_tries']}"),
        f'<path d="M{_time(median):.1f} {middle}H{_time(p95):.1f}" stroke="{colour}" stroke-width="3"/>',
        f'<circle cx="{_time(median):.1f}" cy="{middle}" r="5" fill="{colour}"/>',
        f'<path d="M{_time(p95):.1f} {middle - 6}v12" stroke="{colour}" stroke-width="3"/>',
    ]


def _grid(x: float, bottom: float, label: str) -> list[str]:
    line = f'<path d="M{x:.1f} {TOP - 12}V{bottom}" stroke="{PALE}"/>'
    return [line, _text(x, TOP - 18, label, anchor="middle", size=11)]


def _text(x: float, y: float, text: str, *, anchor: str = "start", size: int = 13) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}">{text}</text>'


def _rate(percent: float) -> float:
    share = (max(percent, LOWEST) - LOWEST) / (100 - LOWEST)
    return RATE[0] + share * (RATE[1] - RATE[0])


def _time(seconds: float) -> float:
    span = math.log(SLOWEST / FASTEST)
    share = math.log(min(max(seconds, FASTEST), SLOWEST) / FASTEST) / span
    return TIME[0] + share * (TIME[1] - TIME[0])
