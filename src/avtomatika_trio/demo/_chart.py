"""The picture in the demo's report: the largest packages as bars, shaded by their docstrings.

Written by hand as SVG: no drawing library, the same bytes for the same numbers.  It carries its
own background and two sets of colours, so that it can be read on a light and on a dark page.
"""

from collections.abc import Iterator, Sequence
from html import escape
from typing import Any

BARS = 20
"""How many of the largest are drawn."""

SHADES = ("0–20 %", "20–40 %", "40–60 %", "60–80 %", "80–100 %")  # noqa: RUF001 - ranges
"""Docstring coverage in five steps, as the legend names them."""

_WIDTH = 860
_MARGIN = 28
_TOP = 128
"""Where the first bar starts, below title and legend."""
_ROW = 27
_BAR = 17
_LABEL = 7.6
"""Width of one character of the names: 12.5 px monospace is 0.6 em wide, with some slack."""
_VALUES = 124
"""Room right of the longest bar for its numbers."""
_SWATCH = 66

# One hue from pale to deep on light, from dim to bright on dark: more docstrings stand out more.
# The weakest shade keeps a contrast of 1.7 to 1 with its background; lengths and numbers carry
# the message, the shade only groups.
_STYLE = """\
  text { font-family: ui-sans-serif, system-ui, "Segoe UI", "DejaVu Sans", sans-serif; }
  .paper { fill: #fcfcfb; stroke: #e2e1dc; }
  .ink { fill: #1c1c1a; }
  .soft { fill: #63625d; }
  .heading { font-size: 18px; font-weight: 600; }
  .note { font-size: 12.5px; }
  .name { font-family: ui-monospace, "SF Mono", "DejaVu Sans Mono", monospace; font-size: 12.5px; }
  .value { font-size: 12.5px; font-variant-numeric: tabular-nums; }
  .axis { stroke: #c9c8c2; }
  .shade0 { fill: #a9c6ee; }
  .shade1 { fill: #78a6e4; }
  .shade2 { fill: #4583d3; }
  .shade3 { fill: #235fae; }
  .shade4 { fill: #123b74; }
  @media (prefers-color-scheme: dark) {
    .paper { fill: #1a1a19; stroke: #34342f; }
    .ink { fill: #f3f2ee; }
    .soft { fill: #a9a8a1; }
    .axis { stroke: #4b4a45; }
    .shade0 { fill: #27466f; }
    .shade1 { fill: #2f66ab; }
    .shade2 { fill: #4a8be0; }
    .shade3 { fill: #86b6f3; }
    .shade4 { fill: #cbe0fd; }
  }"""


def coverage(row: dict[str, Any]) -> str:
    """Docstring coverage of an audit or a summary in whole percent; a dash where none is due."""
    if not row["documentable"]:
        return "-"
    return f"{100 * row['documented'] // row['documentable']} %"


def draw(rows: Sequence[dict[str, Any]]) -> str:
    """Draw the first `BARS` of *rows*, audits in the order of a summary, as an SVG document."""
    shown = rows[:BARS]
    height = _TOP + _ROW * len(shown) + _MARGIN - 8
    heading = f"The {len(shown)} largest by lines of source"
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}"',
            f'width="{_WIDTH}" height="{height}" role="img" aria-labelledby="title desc">',
            f'<title id="title">{heading}</title>',
            '<desc id="desc">Horizontal bars, longest first. Each bar is shaded by the share of',
            "modules, public classes and public functions that have a docstring.</desc>",
            f"<style>\n{_STYLE}\n</style>",
            '<rect class="paper" x="0.5" y="0.5" rx="10"',
            f'width="{_WIDTH - 1}" height="{height - 1}"/>',
            f'<text class="ink heading" x="{_MARGIN}" y="42">{heading}</text>',
            *_legend(),
            *_bars(shown),
            "</svg>\n",
        ]
    )


def _legend() -> Iterator[str]:
    yield f'<text class="soft note" x="{_MARGIN}" y="64">Shade: modules, public classes and '
    yield "public functions with a docstring</text>"
    for step, label in enumerate(SHADES):
        x = _MARGIN + step * (_SWATCH + 8)
        yield f'<rect class="shade{step}" x="{x}" y="76" width="{_SWATCH}" height="9" rx="2"/>'
        yield f'<text class="soft note" x="{x}" y="100">{label}</text>'


def _bars(shown: Sequence[dict[str, Any]]) -> Iterator[str]:
    names = max((len(row["name"]) for row in shown), default=0)
    left = round(_MARGIN + names * _LABEL + 10)
    longest = max((row["lines"] for row in shown), default=0) or 1  # nothing but empty files
    scale = (_WIDTH - left - _VALUES - _MARGIN) / longest
    bottom = _TOP + _ROW * len(shown) - (_ROW - _BAR) + 4
    for index, row in enumerate(shown):
        y = _TOP + index * _ROW
        length = row["lines"] * scale
        name, lines, share = escape(row["name"]), f"{row['lines']:,}", coverage(row)
        yield f"<g><title>{name}: {lines} lines, {share} documented</title>"
        yield f'<text class="ink name" x="{left - 10}" y="{y + 13}" text-anchor="end">{name}</text>'
        yield f'<path class="shade{_shade(row)}" d="{_bar(left, y, length)}"/>'
        yield f'<text class="value" x="{left + length + 8:.1f}" y="{y + 13}">'
        yield f'<tspan class="ink">{lines}</tspan><tspan class="soft" dx="8">{share}</tspan></text>'
        yield "</g>"
    if shown:
        yield f'<line class="axis" x1="{left}" x2="{left}" y1="{_TOP - 4}" y2="{bottom}"/>'


def _bar(x: int, y: int, length: float) -> str:
    """The outline of a bar that is round at its end only: it starts flat at the axis."""
    round_off = min(4.0, length)
    straight = length - round_off
    return (
        f"M{x},{y} h{straight:.1f} q{round_off:.1f},0 {round_off:.1f},4 v{_BAR - 8} "
        f"q0,4 -{round_off:.1f},4 h-{straight:.1f} z"
    )


def _shade(row: dict[str, Any]) -> int:
    """The step of `SHADES` that a row is in; where no docstring is due, none is missing."""
    if not row["documentable"]:
        return len(SHADES) - 1
    step = len(SHADES) * int(row["documented"]) // int(row["documentable"])
    return min(step, len(SHADES) - 1)
