"""Matplotlib figures as inline SVG that belongs to the page.

Matplotlib knows nothing of the page's colours and writes ids that clash between figures. So a
figure is drawn in stand-in colours, which become CSS variables here; ids get the figure's name;
text stays text, in the page's font; and equal figures give equal bytes.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from markupsafe import Markup, escape
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

__all__ = ["AMBER", "BLUE", "GREEN", "GRID", "INK", "RED", "SOFT", "drawing", "inline_svg", "plain"]

# Stand-ins: near-black colours that nothing else draws in.
INK, SOFT, GRID = "#010101", "#010102", "#010103"
BLUE, RED, GREEN, AMBER = "#010104", "#010105", "#010106", "#010107"
VARIABLES = {
    INK: "var(--ink)",
    SOFT: "var(--soft)",
    GRID: "var(--line)",
    BLUE: "var(--blue)",
    RED: "var(--red)",
    GREEN: "var(--green)",
    AMBER: "var(--amber)",
}
STYLE: dict[Any, Any] = {  # matplotlib types the keys as one literal of all names
    "svg.fonttype": "none",
    "svg.hashsalt": "stillroom",
    "font.family": "sans-serif",
    "font.size": 10.5,
    "text.color": INK,
    "axes.labelcolor": SOFT,
    "axes.edgecolor": GRID,
    "axes.titlesize": 10.5,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": GRID,
    "ytick.color": GRID,
    "xtick.labelcolor": SOFT,
    "ytick.labelcolor": SOFT,
    "legend.frameon": False,
    "legend.fontsize": 10,
    "lines.linewidth": 1.8,
}
NO_METADATA = dict.fromkeys(("Date", "Creator", "Format", "Type"))


@contextmanager
def drawing(width_px: int, height_px: int) -> Iterator[Figure]:
    """A figure in the report's style; draw and call `inline_svg` inside the block."""
    with rc_context(STYLE):
        size_in = (width_px / 72, height_px / 72)
        yield Figure(figsize=size_in, layout="constrained")


def plain(axes: Axes, *, x: str = "", y: str = "", title: str = "") -> Axes:
    """Labels of an axis, and no tick marks."""
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.set_title(title)
    axes.tick_params(which="both", length=0)
    return axes


def inline_svg(figure: Figure, *, name: str, label: str) -> Markup:
    """The figure as an element for HTML.

    Args:
        figure: drawn in the stand-in colours.
        name: unique on the page; letters, digits and dashes.
        label: what a screen reader says.
    """
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata=NO_METADATA)
    text = buffer.getvalue()
    box = re.search(r'viewBox="([^"]+)"', text)
    assert box is not None, "matplotlib writes a viewBox"
    body = text[text.index(">", box.end()) + 1 : text.rindex("</svg>")]
    body = _own_ids(_without_page_styles(body), name)
    for stand_in, variable in VARIABLES.items():
        body = body.replace(stand_in, variable)
    body = re.sub(r"<[^>]+>", lambda found: _shortened(found[0]), body)
    body = re.sub(r">\s+<", "><", body)
    root = f'<svg class="plot" viewBox="{box[1]}" role="img" aria-label="{escape(label)}">'
    return Markup(f"{root}{body}</svg>")


def _shortened(element: str) -> str:
    """A tag, but not text, with coordinates to a hundredth of a pixel: half the bytes."""
    return re.sub(r"\s+", " ", re.sub(r"(\d\.\d\d)\d+", r"\1", element))


def _without_page_styles(body: str) -> str:
    """Drop comments, the style element (it would rule the whole page) and fixed fonts."""
    body = re.sub(r"<!--.*?-->", "", body, flags=re.DOTALL)
    body = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", body, flags=re.DOTALL)
    return re.sub(r"font: ([\d.]+px)[^;\"]*", r"font-size: \1", body)


def _own_ids(body: str, name: str) -> str:
    """Keep only ids that something refers to, and make them the figure's own."""
    used = sorted(set(re.findall(r"(?:url\(#|href=\"#)([\w-]+)", body)))
    own = {old: f"{name}-{number}" for number, old in enumerate(used)}
    body = re.sub(r'\bid="([^"]+)"', lambda m: f'id="{own[m[1]]}"' if m[1] in own else "", body)
    return re.sub(r"(url\(#|href=\"#)([\w-]+)", lambda m: f"{m[1]}{own[m[2]]}", body)
