"""How numbers are written for people. A figure that does not exist is a dash, never a zero."""

from __future__ import annotations

import math

__all__ = [
    "DASH",
    "count",
    "duration",
    "interval",
    "millions",
    "ms",
    "number",
    "p_value",
    "percent",
    "points",
    "scientific",
    "size",
    "times",
]

DASH = "–"
MINUS = "−"
SPACE = "\u202f"  # narrow, and no line breaks there: between thousands, and before a unit

PREFIXES = (("G", 1e9, 1e9), ("M", 1e5, 1e6), ("k", 1e3, 1e3))  # sign, from, divisor
SIZES = (("GB", 1e9), ("MB", 1e6), ("kB", 1e3))


def number(value: float | None, digits: int = 1) -> str:
    """A number with so many decimals; a dash where there is none."""
    if value is None or not math.isfinite(value):
        return DASH
    return f"{value:,.{digits}f}".replace(",", SPACE).replace("-", MINUS)


def count(value: float | None) -> str:
    """A whole number, thousands apart: 12 345."""
    return number(value, 0)


def percent(fraction: float | None, digits: int = 1) -> str:
    """A fraction as a percentage: 0.981 is 98.1 %."""
    return DASH if fraction is None else f"{number(100 * fraction, digits)}{SPACE}%"


def interval(low: float, high: float) -> str:
    """Two fractions as percentages: 96.0 to 99.1 %."""
    return f"{number(100 * low)} to {percent(high)}"


def scientific(value: float | None) -> str:
    """A small number: 3.3e-6; 0 for none at all."""
    if value is None or not math.isfinite(value):
        return DASH
    if value == 0:
        return "0"
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa}e{int(exponent)}".replace("-", MINUS)


def points(fraction: float, digits: int = 1) -> str:
    """A difference of two fractions in percentage points, with its sign."""
    text = number(100 * fraction, digits)
    return f"+{text}" if fraction > 0 else text


def ms(value: float | None) -> str:
    """Milliseconds with three significant digits or so."""
    if value is None or not math.isfinite(value):
        return DASH
    digits = 0 if value >= 100 else 1 if value >= 10 else 2
    return f"{number(value, digits)}{SPACE}ms"


def millions(value: float) -> str:
    """A large number in thousands, millions or billions: 0.37 M, 9.69 M, 1.2 G."""
    for sign, least, divisor in PREFIXES:
        if value >= least:
            scaled = value / divisor
            return f"{number(scaled, 1 if scaled >= 10 else 2)}{SPACE}{sign}"
    return count(value)


def size(value_bytes: float) -> str:
    """A file's size in decimal units, as disks are sold."""
    for unit, scale in SIZES:
        if value_bytes >= scale:
            scaled = value_bytes / scale
            return f"{number(scaled, 0 if scaled >= 100 else 1)}{SPACE}{unit}"
    return f"{count(value_bytes)}{SPACE}B"


def duration(value_s: float | None) -> str:
    """Seconds, or minutes and hours where they are many."""
    if value_s is None:
        return DASH
    if value_s < 120:
        return f"{number(value_s, 1)}{SPACE}s"
    if value_s < 7200:
        return f"{number(value_s / 60, 1)}{SPACE}min"
    return f"{number(value_s / 3600, 1)}{SPACE}h"


def p_value(value: float) -> str:
    """A p value with its sign: = 0.50, = 0.0032, < 0.0001."""
    if value < 0.0001:
        return "< 0.0001"
    return f"= {value:.2f}" if value >= 0.01 else f"= {value:.4f}"


def times(ratio: float) -> str:
    """A ratio: 15 ×, 2.4 ×."""
    return f"{number(ratio, 0 if ratio >= 10 else 1)}{SPACE}×"
