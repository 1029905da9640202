"""Colours, type and files of the figures, which follow the light or dark scheme of their page."""

import base64
import io
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import Colormap, LinearSegmentedColormap
from matplotlib.figure import Figure
from PIL import Image

INCH = 72  # points; the page scales a figure to its column
ILLEGAL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")  # in XML
TINY = 32  # pixels: the side up to which embedded pictures stay exact
FONTS = "Inter, 'Segoe UI', 'Helvetica Neue', Helvetica, Arial, 'DejaVu Sans', sans-serif"
HUES = ("#0173b2", "#de8f05", "#029e73", "#d55e00", "#cc78bc", "#56b4e9", "#949494", "#ca9161")  # seaborn "colorblind"
MARKERS = ("o", "s", "^", "D", "v", "P", "X")  # seven, so that hue and marker together name 56 models
GLYPHS = ("●", "■", "▲", "◆", "▼", "✚", "✖")


class OneScheme(Exception):
    """A figure asked for colours that light and dark pages cannot share."""


@dataclass(frozen=True, slots=True)
class Look:
    """One colour scheme, or without ``stops`` one for both."""

    name: str
    paper: str
    ink: str
    soft: str
    grid: str
    stops: tuple[str, ...] = ()

    @property
    def ramp(self) -> tuple[str, ...]:
        """Colours from none to all. Raises ``OneScheme`` where there are none."""
        if not self.stops:
            raise OneScheme
        return self.stops

    @property
    def colours(self) -> Colormap:
        return LinearSegmentedColormap.from_list(f"assay-{self.name}", list(self.ramp))


LIGHT = Look(
    "light", "#ffffff", "#1b2128", "#66707b", "#e4e7eb", ("#f7f3ec", "#bcd7e6", "#5fa3cc", "#0173b2", "#08405f")
)
DARK = Look("dark", "#181d23", "#e8ebee", "#98a3ae", "#2d353e", ("#20262d", "#1d4058", "#1f6f9f", "#56b4e9", "#d9effb"))
BOTH = Look("both", "#fffffe", "#1b2129", "#66707d", "#e4e7ed")  # stand for the colours of the page's scheme
PLAIN = ("paper", "ink", "soft", "grid")


@dataclass(frozen=True, slots=True)
class Identity:
    """What marks a model in every figure and table."""

    label: str
    colour: str
    marker: str
    glyph: str
    dashed: bool = False  # its colour has been given before

    @property
    def line(self) -> str | tuple[int, tuple[int, ...]]:
        """Matplotlib's line style."""
        return (0, (5, 2)) if self.dashed else "-"


@dataclass(frozen=True, slots=True)
class Plot:
    """A figure of the page. ``how`` says in one sentence how to read it, ``alt`` what it shows."""

    name: str  # of the file, without user text
    title: str
    how: str
    alt: str
    draw: Callable[[Look], Figure]


def identities(labels: dict[str, str]) -> dict[str, Identity]:
    """The mark of each model, by its place in the run."""
    return {
        name: Identity(label, HUES[i % len(HUES)], MARKERS[i % len(MARKERS)], GLYPHS[i % len(GLYPHS)], i >= len(HUES))
        for i, (name, label) in enumerate(labels.items())
    }


def canvas(width: float, height: float) -> Figure:
    """An empty figure of that size in inches, outside any global state."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save(plot: Plot, folder: Path) -> tuple[str, str, int]:
    """Write a figure as SVG; the names of the file for light and for dark pages, and the width in pixels at scale 1.

    One file follows the scheme of the page, but for a figure with colours from none to all, which has two.
    """
    try:
        text, width = _svg(plot, BOTH)
        for name in PLAIN:
            text = text.replace(getattr(BOTH, name), f"var(--{name})")
        files = {f"{plot.name}.svg": text.replace('<style type="text/css">', f'<style type="text/css">{_SCHEMES}', 1)}
    except OneScheme:
        files = {}
        for look in (LIGHT, DARK):
            files[f"{plot.name}-{look.name}.svg"], width = _svg(plot, look)
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    return next(iter(files)), list(files)[-1], width


def _svg(plot: Plot, look: Look) -> tuple[str, int]:
    """A figure in one scheme, and its width in pixels."""
    with themed(look):
        figure = plot.draw(look)
        stream = io.StringIO()
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    text = re.sub(r"font: ([^;'\"]*?)'DejaVu Sans'[^;\"]*", rf"font: \1{FONTS}", stream.getvalue())
    text = ILLEGAL.sub("\N{REPLACEMENT CHARACTER}", text)
    text = re.sub(r'\b([dxy])="([^"]+)"', _rounded, text)
    return re.sub(r"data:image/png;base64,\s*([^\"]+)", _smaller, text), round(figure.get_figwidth() * INCH)


def _rounded(match: re.Match[str]) -> str:
    """Coordinates to a hundredth of a point."""
    numbers = re.sub(r"(\.\d\d)\d+", r"\1", match[2])
    return f'{match[1]}="{numbers}"'


def _smaller(match: re.Match[str]) -> str:
    """An embedded picture as WebP: exact where it is tiny or that is smaller, else quality 90."""
    picture = Image.open(io.BytesIO(base64.b64decode(match[1])))
    encodings = []
    for exact in (True, False) if max(picture.size) > TINY else (True,):
        stream = io.BytesIO()
        picture.save(stream, "WEBP", lossless=exact, quality=60 if exact else 90, method=4)
        encodings.append(stream.getvalue())
    return f"data:image/webp;base64,{base64.b64encode(min(encodings, key=len)).decode()}"


def _variables(look: Look) -> str:
    return "".join(f"--{name}:{getattr(look, name)};" for name in PLAIN)


_SCHEMES = f":root{{{_variables(LIGHT)}}}@media (prefers-color-scheme: dark){{:root{{{_variables(DARK)}}}}}"


@contextmanager
def themed(look: Look) -> Iterator[None]:
    """Matplotlib's settings for one scheme, given back after."""
    settings: dict[str, Any] = {
        "svg.fonttype": "none",
        "text.parse_math": False,
        "svg.hashsalt": "assay",
        "font.family": "DejaVu Sans",
        "font.size": 8.5,
        "figure.facecolor": look.paper,
        "savefig.facecolor": look.paper,
        "axes.facecolor": look.paper,
        "axes.edgecolor": look.soft,
        "axes.labelcolor": look.ink,
        "axes.titlecolor": look.ink,
        "axes.titlesize": 9,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.linewidth": 0.8,
        "axes.axisbelow": True,
        "axes.grid": True,
        "grid.color": look.grid,
        "grid.linewidth": 0.8,
        "text.color": look.ink,
        "xtick.color": look.soft,
        "ytick.color": look.soft,
        "xtick.labelcolor": look.ink,
        "ytick.labelcolor": look.ink,
        "xtick.major.size": 3,
        "ytick.major.size": 0,
        "legend.frameon": False,
        "lines.linewidth": 1.6,
    }
    with mpl.rc_context(settings):  # type: ignore[arg-type]
        yield


def grid(count: int, most: int = 4) -> tuple[int, int]:
    """Lines and columns for so many panels, evenly filled."""
    lines = -(-count // most)
    return lines, -(-count // lines)


def label_table(axes: Axes, lines: Sequence[str], columns: Sequence[str]) -> None:
    """Names of a heat map's rows at its left, of its columns slanted above it, and nothing else around it."""
    axes.xaxis.tick_top()
    places = [[i + 0.5 for i in range(len(names))] for names in (columns, lines)]
    axes.set_xticks(places[0], columns, rotation=40, ha="left", rotation_mode="anchor")
    axes.set_yticks(places[1], lines, rotation=0)
    axes.tick_params(length=0)
    axes.grid(visible=False)
    axes.set(xlabel="", ylabel="")


def percents(axes: Axes, which: str) -> None:
    """Ticks at quarters from 0 to 100 %."""
    ticks = (0.0, 0.25, 0.5, 0.75, 1.0)
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_ticks(ticks, [f"{100 * tick:.0f} %" for tick in ticks])


def spread(places: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Move numbers apart until neighbours are ``gap`` away, in order and near where they were, within bounds."""
    order = sorted(range(len(places)), key=lambda i: places[i])
    gap = min(gap, (high - low) / max(1, len(places) - 1))
    blocks: list[tuple[float, int]] = []  # start and length of runs of touching labels
    for i in order:
        start, length = places[i], 1
        while blocks and blocks[-1][0] + blocks[-1][1] * gap > start:
            before, many = blocks.pop()
            start = (before * many + (start - many * gap) * length) / (many + length)
            length += many
        start = min(max(start, low), high - (length - 1) * gap)
        blocks.append((start, length))
    targets = [start + k * gap for start, length in blocks for k in range(length)]
    place = dict(zip(order, targets, strict=True))
    return [place[i] for i in range(len(places))]
