"""Charts as SVG. The same figures give the same bytes, so that a chart changes only with its figures.

Text is not converted to paths; the background is white, so that charts are legible on dark pages.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Sequence

import matplotlib

matplotlib.use("svg")

from matplotlib import pyplot, ticker  # noqa: E402

matplotlib.rcParams.update({
    "svg.fonttype": "none",
    "svg.hashsalt": "boxoffice",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Verdana", "Arial"],
    "font.size": 10,
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.7,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
})  # fmt: skip

# Colours that people with red-green colour blindness can distinguish (Okabe and Ito).
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#555555")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")

WIDTH_INCHES = 8.5


@dataclass(frozen=True)
class Spread:
    """The median, minimum and maximum of several runs."""

    median: float
    low: float
    high: float


@dataclass(frozen=True)
class Bar:
    label: str
    spread: Spread


@dataclass(frozen=True)
class Group:
    """A group of bars with a heading."""

    name: str
    bars: Sequence[Bar]


@dataclass(frozen=True)
class Series:
    """A line: values of x with the spread of y."""

    name: str
    points: Sequence[tuple[float, Spread]]


@dataclass(frozen=True)
class Panel:
    """The lines over one y axis, which begins at 0 unless it is logarithmic."""

    y_label: str
    series: Sequence[Series]
    log_y: bool = False


@dataclass(frozen=True)
class Lines:
    """Panels below each other with the same x axis."""

    title: str
    x_label: str
    panels: Sequence[Panel] = field(default_factory=list)
    log_x: bool = True


def bars(file: Path, title: str, x_label: str, groups: Sequence[Group], *, log: bool = False) -> None:
    """Draws horizontal bars of medians, with whiskers from minimum to maximum, labelled with the median."""
    rows = [(group, bar) for group in groups for bar in group.bars]
    if not rows:
        raise ValueError(f"{title}: there is nothing to draw")
    # From the top down: the row of a heading, then its bars.
    positions, headings, at = [], [], 0.0
    for group in groups:
        headings.append((at, group.name))
        at += 0.9
        positions.extend(at + index for index in range(len(group.bars)))
        at += len(group.bars) + 0.2
    figure, axes = pyplot.subplots(figsize=(WIDTH_INCHES, 1.1 + 0.3 * at), layout="constrained")
    highest = max(bar.spread.high for _, bar in rows)
    lowest = min(bar.spread.low for _, bar in rows)
    left = 10 ** _floor_log10(lowest * 0.7) if log else 0.0
    for position, (group, bar) in zip(positions, rows):
        colour = COLOURS[list(groups).index(group) % len(COLOURS)]
        spread = bar.spread
        axes.barh(position, spread.median - left, left=left, height=0.72, color=colour)
        axes.plot(
            [spread.low, spread.high], [position, position], color="black", linewidth=1.2, marker="|", markersize=6
        )
        axes.annotate(
            number(spread.median),
            (spread.high, position),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
        )
    if log:
        axes.set_xscale("log")
        axes.xaxis.set_minor_formatter(ticker.NullFormatter())
        axes.set_xlim(left, highest * (highest / left) ** 0.12)
    else:
        axes.set_xlim(0, highest * 1.12)
    axes.set_ylim(at - 0.4, -0.6)
    axes.set_yticks(positions, [bar.label for _, bar in rows])
    for position, name in headings:
        axes.annotate(
            name, (0, position), xycoords=("axes fraction", "data"), xytext=(4, 0), textcoords="offset points",
            va="center", fontweight="bold", fontsize=10,
        )  # fmt: skip
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel(x_label + (" (logarithmic)" if log else ""))
    axes.xaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: number(value)))
    figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold")
    _save(figure, file)


def lines(file: Path, chart: Lines) -> None:
    """Draws lines through the medians, with bands from minimum to maximum."""
    count = len(chart.panels)
    if count == 0 or not any(series.points for panel in chart.panels for series in panel.series):
        raise ValueError(f"{chart.title}: there is nothing to draw")
    figure, all_axes = pyplot.subplots(
        count, 1, sharex=True, squeeze=False, figsize=(WIDTH_INCHES, 0.9 + 2.0 * count), layout="constrained"
    )
    # A series has the same style in each panel, and a legend in the first.
    names = list(dict.fromkeys(series.name for panel in chart.panels for series in panel.series))
    for axes, panel in zip(all_axes[:, 0], chart.panels):
        _panel(axes, panel, names)
    if len(names) > 1:
        all_axes[0, 0].legend(frameon=False, fontsize=9)
    bottom = all_axes[-1, 0]
    bottom.set_xlabel(chart.x_label)
    xs = sorted({x for panel in chart.panels for series in panel.series for x, _ in series.points})
    if chart.log_x:
        # Zero is drawn next to the smallest other value.
        if xs[0] == 0:
            smallest = next((x for x in xs if x > 0), 1)
            bottom.set_xscale("symlog", linthresh=smallest, linscale=0.6)
            bottom.set_xlim(-0.15 * smallest, xs[-1] * 1.3)
        else:
            bottom.set_xscale("log")
            bottom.set_xlim(xs[0] / 1.15, xs[-1] * 1.15)
        bottom.xaxis.set_minor_locator(ticker.NullLocator())
    bottom.set_xticks(xs, [number(x) for x in xs])
    figure.suptitle(chart.title, x=0.01, ha="left", fontsize=12, fontweight="bold")
    _save(figure, file)


def _panel(axes, panel: Panel, names: Sequence[str]) -> None:
    for series in panel.series:
        index = names.index(series.name)
        xs = [x for x, _ in series.points]
        spreads = [spread for _, spread in series.points]
        colour = COLOURS[index % len(COLOURS)]
        axes.fill_between(
            xs,
            [spread.low for spread in spreads],
            [spread.high for spread in spreads],
            color=colour,
            alpha=0.18,
            linewidth=0,
        )
        axes.plot(
            xs, [spread.median for spread in spreads],
            color=colour, marker=MARKERS[index % len(MARKERS)], markersize=5, linewidth=1.6, label=series.name,
        )  # fmt: skip
    axes.set_ylabel(panel.y_label)
    if panel.log_y:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_minor_locator(ticker.NullLocator())
    else:
        highest = max((spread.high for series in panel.series for _, spread in series.points), default=1)
        axes.set_ylim(0, highest * 1.1 or 1)
    axes.yaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: number(value)))


def number(value: float) -> str:
    """Formats a number for an axis: three digits, with k or M for thousands and millions."""
    for size, suffix in ((1e6, "M"), (1e3, "k")):
        # Values that would be rounded up to 1000k are formatted as 1M.
        if abs(value) >= size * 0.9995:
            return f"{float(f'{value / size:.3g}'):g}{suffix}"
    return f"{float(f'{value:.3g}'):g}"


def _floor_log10(value: float) -> int:
    power = 0
    while 10**power > value:
        power -= 1
    while 10 ** (power + 1) <= value:
        power += 1
    return power


def _save(figure, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    pyplot.close(figure)
    # matplotlib writes trailing spaces on some lines.
    file.write_text("\n".join(line.rstrip() for line in file.read_text().splitlines()) + "\n")
