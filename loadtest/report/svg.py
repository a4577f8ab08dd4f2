"""A chart as SVG text: axes, lines, points, cells. Colours are the page's, by class."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from loadtest.report.scales import Scale

__all__ = ["Chart"]

WIDTH, HEIGHT = 760, 320
LEFT, RIGHT, TOP, BOTTOM = 64, 26, 30, 46
LEGEND_PX = 18
LETTER = 7  # width of one, about


class Chart:
    """One drawing, in user units of some CSS pixels.

    Args:
        label: what a screen reader says of it.
        x: scale to the right.
        y: scale upwards.
        x_title: under the axis.
        y_title: above the axis.
        height: of the whole.
    """

    def __init__(
        self,
        label: str,
        x: Scale,
        y: Scale,
        *,
        x_title: str,
        y_title: str,
        height: int = HEIGHT,
    ) -> None:
        self._label, self._x, self._y, self._height = label, x, y, height
        self._parts: list[str] = []
        self._from_y = LEGEND_PX
        self._axes(x_title, y_title)

    def line(self, points: Iterable[tuple[float, float]], kind: str) -> None:
        """A line through points, of class `kind`."""
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (self._at(*point) for point in points))
        self._parts.append(f'<polyline class="line {kind}" points="{path}"/>')

    def point(self, x: float, y: float, kind: str, said: str) -> None:
        """A dot; `said` is what the pointer shows."""
        at_x, at_y = self._at(x, y)
        self._parts.append(
            f'<circle class="dot {kind}" cx="{at_x:.1f}" cy="{at_y:.1f}" r="5">'
            f"<title>{escape(said)}</title></circle>"
        )

    def note(self, x: float, y: float, words: str) -> None:
        """Words beside a dot, above it to the right."""
        at_x, at_y = self._at(x, y)
        self._parts.append(
            f'<text class="on-dot" x="{at_x + 7:.1f}" y="{at_y - 7:.1f}">{escape(words)}</text>'
        )

    def level(self, y: float, words: str) -> None:
        """A horizontal line with words, such as an objective."""
        _, at_y = self._at(0, y)
        end = WIDTH - RIGHT
        self._parts.append(
            f'<line class="level" x1="{LEFT}" x2="{end}" y1="{at_y:.1f}" y2="{at_y:.1f}"/>'
            f'<text class="on-level" x="{LEFT + 6}" y="{at_y - 5:.1f}">{escape(words)}</text>'
        )

    def cell(self, xs: tuple[float, float], ys: tuple[float, float], share: float) -> None:
        """A rectangle from value to value, the darker the larger `share` (0 to 1)."""
        left, bottom = self._at(xs[0], ys[0])
        right, top = self._at(xs[1], ys[1])
        self._parts.append(
            f'<rect class="cell" x="{left:.1f}" y="{top:.1f}" width="{right - left + 0.3:.1f}" '
            f'height="{bottom - top + 0.3:.1f}" fill-opacity="{0.12 + 0.88 * share:.2f}"/>'
        )

    def legend(self, entries: Sequence[tuple[str, str]]) -> None:
        """Names of classes in a row above the drawing, where no line can cross them."""
        self._from_y, x = 0, LEFT
        for kind, words in entries:
            self._parts.append(
                f'<line class="line {kind}" x1="{x}" x2="{x + 24}" y1="12" y2="12"/>'
                f'<text class="legend" x="{x + 30}" y="16">{escape(words)}</text>'
            )
            x += 50 + LETTER * len(words)

    def text(self) -> str:
        """The SVG element."""
        return (
            f'<svg viewBox="0 {self._from_y} {WIDTH} {self._height - self._from_y}" role="img" '
            f'aria-label="{escape(self._label, quote=True)}">{"".join(self._parts)}</svg>'
        )

    def _axes(self, x_title: str, y_title: str) -> None:
        bottom = self._height - BOTTOM
        for value, words in self._x.ticks:
            at_x = LEFT + self._x.place(value) * (WIDTH - LEFT - RIGHT)
            self._parts.append(
                f'<line class="grid" x1="{at_x:.1f}" x2="{at_x:.1f}" y1="{TOP}" y2="{bottom}"/>'
                f'<text class="tick" text-anchor="middle" x="{at_x:.1f}" y="{bottom + 16}">'
                f"{escape(words)}</text>"
            )
        for value, words in self._y.ticks:
            _, at_y = self._at(0, value)
            self._parts.append(
                f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at_y:.1f}" '
                f'y2="{at_y:.1f}"/><text class="tick" text-anchor="end" x="{LEFT - 7}" '
                f'y="{at_y + 4:.1f}">{escape(words)}</text>'
            )
        middle = (LEFT + WIDTH - RIGHT) / 2
        self._parts.append(
            f'<text class="axis" text-anchor="middle" x="{middle}" y="{self._height - 8}">'
            f'{escape(x_title)}</text><text class="axis" transform="rotate(-90)" '
            f'text-anchor="middle" x="{-(TOP + bottom) / 2}" y="14">{escape(y_title)}</text>'
        )

    def _at(self, x: float, y: float) -> tuple[float, float]:
        bottom = self._height - BOTTOM
        return (
            LEFT + self._x.place(x) * (WIDTH - LEFT - RIGHT),
            bottom - self._y.place(y) * (bottom - TOP),
        )
