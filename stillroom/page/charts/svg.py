"""SVG by hand, for charts that are simpler than a plotting library."""

from __future__ import annotations

from markupsafe import Markup, escape

__all__ = ["svg", "tag", "text"]


def tag(name: str, *children: str, **attributes: str | float) -> Markup:
    """An element. Everything that is not Markup is escaped.

    Args:
        name: of the element.
        children: text or elements.
        attributes: `stroke_width` becomes stroke-width, `class_` becomes class; floats get two
            decimals at most.
    """
    pairs = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_value(value))}"'
        for key, value in attributes.items()
    )
    inner = "".join(escape(child) for child in children)
    return Markup(f"<{name}{pairs}>{inner}</{name}>")


def svg(width: float, height: float, *children: str, label: str, class_: str) -> Markup:
    """The root: scales with its container; `label` is what a screen reader says."""
    box = {"viewBox": f"0 0 {_value(width)} {_value(height)}"}
    size = {"width": _value(width), "height": _value(height)}
    return tag("svg", *children, role="img", aria_label=label, class_=class_, **box, **size)


def text(content: str, x: float, y: float, **attributes: str | float) -> Markup:
    """A line of text at a point."""
    return tag("text", content, x=x, y=y, **attributes)


def _value(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:.2f}".rstrip("0").rstrip(".")
