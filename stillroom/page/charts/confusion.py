"""The confusion matrix as a heat map: right predictions in one hue, mistakes in another."""

from __future__ import annotations

from markupsafe import Markup

from stillroom.page.charts.svg import svg, tag, text

__all__ = ["MAX_CLASSES", "draw_confusion"]

MAX_CLASSES = 30
TEXT_PX = 6.5  # about one character of a label
LABEL_CHARACTERS = 18

Attributes = dict[str, str | float]


def draw_confusion(
    confusion: list[list[int]], labels: list[str], totals: list[int] | None = None
) -> Markup:
    """Rows are true classes, columns are predictions; colour is the share of the row.

    Args:
        confusion: (K, K) counts.
        labels: K class names; long ones are cut, whole on hover.
        totals: images of each class, where the matrix is a part of a larger one.
    """
    totals = totals or [sum(row) for row in confusion]
    cell = 40.0 if len(labels) <= 12 else 30.0 if len(labels) <= 20 else 25.0
    names = [_cut(label) for label in labels]
    margin = 30 + TEXT_PX * max(len(name) for name in names)
    rotated = max(len(name) for name in names) > 4
    top = margin if rotated else 44.0
    right_pad = 0.6 * margin if rotated else 8.0
    parts = [
        text("prediction", margin, 12, class_="axis"),
        text("truth", 4, top - 8, class_="axis"),
    ]
    for k, (label, name) in enumerate(zip(labels, names, strict=True)):
        middle = (k + 0.5) * cell
        parts.append(_row_name(label, name, margin - 6, top + middle + 4))
        parts.append(_column_name(label, name, margin + middle, top - 8, rotated=rotated))
    for i, row in enumerate(confusion):
        for j, count in enumerate(row):
            x, y = margin + j * cell, top + i * cell
            parts.append(_cell(count, totals[i], (labels[i], labels[j]), x=x, y=y, side=cell))
    side = len(labels) * cell
    width, height = margin + side + right_pad, top + side + 4
    return svg(width, height, *parts, label="Confusion matrix", class_="confusion")


def _cell(count: int, n: int, names: tuple[str, str], *, x: float, y: float, side: float) -> Markup:
    truth, answer = names
    rate = count / n if n else 0.0
    kind = "right" if truth == answer else "wrong"
    # The square root keeps a mistake of 1 % visible beside a diagonal of 99 %.
    strength = 0.12 + 0.88 * rate**0.5 if count else 0.0
    hint = tag("title", f"{truth} → {answer}: {count} of {n} ({rate:.1%})")
    box: Attributes = {"x": x + 0.5, "y": y + 0.5, "width": side - 1, "height": side - 1, "rx": 3}
    parts = [tag("rect", hint, **box, class_="empty")]
    if count:
        parts.append(tag("rect", hint, **box, class_=kind, fill_opacity=strength))
        tone = "on" if strength > 0.6 else "off"
        place: Attributes = {"x": x + side / 2, "text_anchor": "middle", "class_": f"count {tone}"}
        two_lines = side >= 40
        parts.append(tag("text", str(count), y=y + side / 2 + (0 if two_lines else 4), **place))
        if two_lines:
            place["class_"] = f"rate {tone}"
            parts.append(tag("text", f"{100 * rate:.0f} %", y=y + side / 2 + 13, **place))
    return tag("g", *parts)


def _row_name(label: str, name: str, x: float, y: float) -> Markup:
    return tag("text", tag("title", label), name, x=x, y=y, text_anchor="end", class_="name")


def _column_name(label: str, name: str, x: float, y: float, *, rotated: bool) -> Markup:
    hint = tag("title", label)
    if not rotated:
        return tag("text", hint, name, x=x, y=y, text_anchor="middle", class_="name")
    turn = f"rotate(-55 {x:.1f} {y:.1f})"
    return tag("text", hint, name, x=x, y=y, transform=turn, class_="name")


def _cut(label: str) -> str:
    """Long names lose their middle: what tells them apart is often at the end."""
    if len(label) <= LABEL_CHARACTERS:
        return label
    half = LABEL_CHARACTERS // 2
    return f"{label[:half]}…{label[1 - half :]}"
