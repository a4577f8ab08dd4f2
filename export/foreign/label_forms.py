"""The forms in which class names come: plain lines, numbered lines, tables, lists, JSON.

Numbers, quotes, bullets, headings and comments are told apart from names. What could be either is
refused with its line; in a JSON list every text is a name as it stands.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace

from export.foreign.label_lists import entries_of, value_of

__all__ = ["LabelEntry", "read_entries"]

COMMENT = re.compile(r"#.*\S")  # a lone # may be a class
TRAILING_COMMENT = re.compile(r"\s#\s")
SECTION = re.compile(r"[\w-]+:")
BULLET = re.compile(r"[-*•]\s+")
QUOTED = re.compile(r"""(["'])((?:(?!\1)[^\\]|\\.|\1\1)*)\1""")
COMMA_LAST = re.compile(r".*\S\s*,")
CELLS = re.compile(r"[,;\t]")
BETWEEN = r"\s+[-–]\s+|\s*[,;:=|]\s*|\s*\t\s*|[.)]?\s+"
NUMBER_FIRST = re.compile(rf"[\"']?(?P<number>\d+)[\"']?(?P<between>{BETWEEN})(?P<name>\S.*)")
NUMBER_LAST = re.compile(rf"(?P<name>\S.*?)(?P<between>{BETWEEN})[\"']?(?P<number>\d+)[\"']?")
NUMBER_WORDS = ("", "#", "index", "idx", "id", "no", "nr", "number", "class_id", "class_index")
NAME_WORDS = ("name", "names", "label", "labels", "class", "classes", "class_name", "label_name")


@dataclass(frozen=True)
class LabelEntry:
    """One class as it was found.

    Args:
        place: for messages: "line 3".
        name: without what was taken off.
        number: of the output, where it is said.
    """

    place: str
    name: str
    number: int | None = None


Lines = list[LabelEntry]


def read_entries(text: str) -> tuple[list[LabelEntry], str]:
    """Read the classes of a text, in its order.

    Returns:
        The classes, and how they were read, in words; empty of plain names. Either all have a
        number, and the K numbers are 0 to K - 1, or none has.

    Raises:
        ValueError: what may be a number, a quote or a name; it names the place.
    """
    value = value_of(text)
    if value is not None:
        entries = [LabelEntry(*found) for found in entries_of(value, NAME_WORDS, NUMBER_WORDS)]
        return _complete(entries), "as a JSON or Python list"
    lines = re.split(r"\r\n|\n|\r", text.rstrip())
    entries = [LabelEntry(f"line {number}", line.strip()) for number, line in enumerate(lines, 1)]
    said = []
    steps: list[tuple[str, Callable[[Lines], Lines]]] = [
        ("comments", _without_comments),
        ("the section's name", _without_section),
        ("bullets", _without_bullets),
        ("commas at the ends", _without_commas),
        ("the heading", _without_heading),
        ("quotes", _without_quotes),
        ("numbers", _without_numbers),
    ]
    for what, step in steps:
        changed = step(entries)
        if changed != entries:
            said.append(what)
        entries = changed
    return entries, f"without {', '.join(said)}" if said else ""


def _without_comments(lines: Lines) -> Lines:
    kept = [line for line in lines if not COMMENT.fullmatch(line.name)]
    if kept and (found := _first(kept, lambda line: bool(TRAILING_COMMENT.search(line.name)))):
        raise ValueError(f"{found.place} holds a comment or a # of its own: {found.name!r}")
    return kept or lines


def _without_section(lines: Lines) -> Lines:
    """A first line such as `names:`, as YAML has it."""
    rest = lines[1:] if len(lines) > 2 and SECTION.fullmatch(lines[0].name) else lines
    if found := _first(rest, lambda line: bool(SECTION.fullmatch(line.name))):
        raise ValueError(f"{found.place} is not a name but a heading: {found.name!r}")
    return rest


def _without_bullets(lines: Lines) -> Lines:
    if not all(BULLET.match(line.name) for line in lines):
        return lines
    return [replace(line, name=BULLET.sub("", line.name, count=1)) for line in lines]


def _without_commas(lines: Lines) -> Lines:
    """Of a list's fragment all lines end in a comma, but for the last one."""
    if len(lines) < 2 or not any(COMMA_LAST.fullmatch(line.name) for line in lines):
        return lines
    if found := _first(lines[:-1], lambda line: not COMMA_LAST.fullmatch(line.name)):
        raise ValueError(f"{found.place} ends in no comma, other lines do: {found.name!r}")
    return [replace(line, name=line.name.removesuffix(",").rstrip()) for line in lines]


def _without_heading(lines: Lines) -> Lines:
    """A first row of a table, such as `index,label`."""
    cells = [_unquoted(cell).casefold() for cell in CELLS.split(lines[0].name)]
    known = [cell in (*NAME_WORDS, *NUMBER_WORDS) for cell in cells]
    is_heading = any(cells) and any(known) and (len(cells) > 1 or all(known))
    if len(lines) < 3 or not is_heading or any(cell.isdecimal() for cell in cells):
        return lines
    rest = lines[1:]
    if len(cells) > 2:
        raise ValueError(f"{lines[0].place} has {len(cells)} columns; expected a number and a name")
    if len(cells) == 2:
        shaped = (NUMBER_FIRST, NUMBER_LAST)
        if found := _first(rest, lambda line: not any(s.fullmatch(line.name) for s in shaped)):
            raise ValueError(f"{found.place} is not a number and name: {found.name!r}")
    return rest


def _without_quotes(lines: Lines) -> Lines:
    return [replace(line, name=_unquoted(line.name)) for line in lines]


def _without_numbers(lines: Lines) -> Lines:
    """Take numbers off that count the lines; leave those that belong to names, as in `10 cent`."""
    if len(lines) < 2:
        return lines
    readings = [_numbered(lines, form) for form in (NUMBER_FIRST, NUMBER_LAST)]
    for reading in readings:
        found = [entry for entry in reading if entry is not None]
        one_word = len({entry.name for entry in found}) == 1  # class 0, class 1
        if _is_complete([entry.number for entry in found], len(lines)) and not one_word:
            return found
    for form, reading in zip((NUMBER_FIRST, NUMBER_LAST), readings, strict=True):
        if _counts(lines, reading, form):
            if None in reading:
                odd = lines[reading.index(None)]
                raise ValueError(f"{odd.place} has no number, other lines have")
            return _complete([entry for entry in reading if entry is not None])
    return lines


def _numbered(lines: Lines, form: re.Pattern[str]) -> list[LabelEntry | None]:
    matches = [form.fullmatch(line.name) for line in lines]
    return [
        LabelEntry(line.place, _unquoted(match["name"]), int(match["number"])) if match else None
        for line, match in zip(lines, matches, strict=True)
    ]


def _counts(lines: Lines, found: list[LabelEntry | None], form: re.Pattern[str]) -> bool:
    """Whether numbers that are not 0 to K - 1 are still meant to count the lines.

    In a name a number repeats with another word, or with the same one: `10 cent`, `Audi 80`.
    """
    entries = [entry for entry in found if entry is not None]
    if len({entry.name for entry in entries}) < len(entries) or len(entries) < 2:
        return False
    numbers = [entry.number or 0 for entry in entries]
    if len(entries) < len(lines):
        return found[:2] == entries[:2] and numbers[:2] == [0, 1]
    between = [match["between"] for line in lines if (match := form.fullmatch(line.name))]
    return all(re.search(r"[,;:=|\t]", part) for part in between) or max(numbers) <= 2 * len(lines)


def _is_complete(numbers: list[int | None], count: int) -> bool:
    return len(numbers) == count and {*numbers} == {*range(count)}


def _complete(entries: list[LabelEntry]) -> list[LabelEntry]:
    """The same, where the numbers are those of all outputs, or where there are none.

    Raises:
        ValueError: names the first that is not.
    """
    numbers = [entry.number for entry in entries]
    if numbers == [None] * len(entries) or _is_complete(numbers, len(entries)):
        return entries
    seen: dict[int | None, LabelEntry] = {}
    for entry in entries:
        if entry.number is None:
            raise ValueError(f"{entry.place} has no number, others have")
        if entry.number in seen:
            raise ValueError(
                f"{entry.place} has the number {entry.number} of {seen[entry.number].place}"
            )
        seen[entry.number] = entry
    if {*seen} == {*range(1, len(entries) + 1)}:
        raise ValueError(
            f"{seen[1].place} has the number 1, and outputs are counted from 0: number from 0, or, "
            "where the first line is the first output, leave the numbers out"
        )
    odd = next(entry for entry in entries if entry.number not in range(len(entries)))
    raise ValueError(f"{odd.place} has the number {odd.number}, expected 0 to {len(entries) - 1}")


def _unquoted(text: str) -> str:
    match = QUOTED.fullmatch(text.strip())
    if not match:
        return text
    quote, inner = match.groups()
    with suppress(json.JSONDecodeError):  # escapes of JSON
        return str(json.loads(match[0]))
    return inner.replace(f"\\{quote}", quote).replace(quote * 2, quote)


def _first(lines: Lines, test: Callable[[LabelEntry], bool]) -> LabelEntry | None:
    return next(filter(test, lines), None)
