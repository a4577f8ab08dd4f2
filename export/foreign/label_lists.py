"""Class names in a JSON or Python literal, or in one JSON value a line; nothing of it is run."""

from __future__ import annotations

import ast
import io
import json
import re
import tokenize
from collections.abc import Collection, Iterator
from typing import Any

__all__ = ["entries_of", "value_of"]

# Where configurations keep them: Hugging Face, timm, Keras, torchvision, COCO, Ultralytics.
FIELDS = (
    *("id2label", "label2id", "label_names", "class_names", "class_to_idx"),
    *("classes", "labels", "names", "categories"),
)
ASSIGNED = re.compile(r"(?:const\s+|let\s+|var\s+)?[A-Za-z_]\w*\s*[:=]\s*(?=[\[({])")
BRACKETED = re.compile(r"\[[^][,]*\]|\([^(),]*\)|{[^{},]*}")
LAYOUT = (tokenize.NL, tokenize.NEWLINE, tokenize.COMMENT, tokenize.INDENT, tokenize.DEDENT)
SHOWN = 60

Found = tuple[str, str, int | None]  # place, name, number


def value_of(text: str) -> Any:
    """The list or mapping that a text is; None where it is none, but plain lines.

    Raises:
        ValueError: it begins and ends as one, and cannot be read.
    """
    body = ASSIGNED.sub("", text.strip(), count=1).rstrip(" \t\r\n;,")
    if len(body) < 2 or body[0] not in "[({" or body[-1] not in "])}":
        return None
    try:
        return json.loads(body, object_pairs_hook=_once)
    except json.JSONDecodeError as error:
        if (lines := _json_lines(body)) is not None:
            return lines
        if all(BRACKETED.fullmatch(line.strip()) for line in body.splitlines()):
            return None  # each name is in brackets of its own
        return _literal(body, error)


def entries_of(
    value: Any, name_words: Collection[str], number_words: Collection[str]
) -> Iterator[Found]:
    """Place, name and number of each class.

    Args:
        value: of `value_of`.
        name_words: keys of a record that hold the name.
        number_words: keys of a record that hold the number.

    Raises:
        ValueError: an entry that is not a name; it names the entry.
    """
    if isinstance(value, dict):
        field = next((f for f in FIELDS if isinstance(value.get(f), (dict, list, tuple))), None)
        if field is not None:
            yield from entries_of(value[field], name_words, number_words)
            return
        value = [list(pair) for pair in value.items()]
    for number, item in enumerate(value, 1):
        place = f"entry {number}"
        if isinstance(item, dict):
            item = _of_record(item, name_words, number_words)
        if isinstance(item, str):
            yield place, item.strip(), None
        elif (pair := _pair(item)) is not None:
            yield place, *pair
        else:
            raise ValueError(f"{place} is not a name, nor a number and a name: {_short(item)}")


def _of_record(
    item: dict[str, Any], name_words: Collection[str], number_words: Collection[str]
) -> Any:
    names = [v for k, v in item.items() if str(k).casefold() in name_words and isinstance(v, str)]
    numbers = [v for k, v in item.items() if str(k).casefold() in {*number_words, *name_words}]
    numbers = [v for v in numbers if type(v) is int]
    if len(names) != 1 or len(numbers) > 1:
        return item
    return [numbers[0], names[0]] if numbers else names[0]


def _pair(item: Any) -> tuple[str, int] | None:
    """Name and number of a pair, in either order: {"0": "a"} and {"a": 0} alike."""
    if not isinstance(item, (list, tuple)) or len(item) != 2:
        return None
    first, second = item
    if type(second) is int and isinstance(first, str):
        return first.strip(), second
    if isinstance(second, str) and (type(first) is int or str(first).isdecimal()):
        return second.strip(), int(first)
    if isinstance(first, str) and isinstance(second, str) and second.isdecimal():
        return first.strip(), int(second)
    return None


def _json_lines(text: str) -> list[Any] | None:
    values = []
    for line in text.splitlines():
        try:
            value = json.loads(line, object_pairs_hook=_once)
        except json.JSONDecodeError:
            return None
        if not isinstance(value, (dict, list)):
            return None
        values.append(_single(value) or value)
    return values


def _single(value: Any) -> Any:
    """Of one class a line as {"0": "a"}: number and name."""
    if not isinstance(value, dict) or len(value) != 1:
        return None
    item = next(iter(value.items()))
    return item if _pair(item) else None


def _literal(text: str, error: json.JSONDecodeError) -> Any:
    try:
        tree = ast.parse(text, mode="eval")
        value = ast.literal_eval(tree)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise ValueError(f"line {error.lineno} is not JSON ({error.msg}), nor Python") from None
    if not isinstance(value, (list, tuple, dict)):
        raise ValueError("line 1 begins a set, which has no order")
    for node in ast.walk(tree):
        if isinstance(node, ast.Dict):
            _once([(ast.literal_eval(key), None) for key in node.keys if key is not None])
    previous = None
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in LAYOUT:
            if token.type == previous == tokenize.STRING:  # which Python would join to one
                raise ValueError(f"line {token.start[0]} has no comma before {token.string}")
            previous = token.type
    return value


def _once(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    keys = [key for key, _ in pairs]
    if twice := [key for key in keys if keys.count(key) > 1]:
        raise ValueError(f"the key {twice[0]!r} is there twice")
    return dict(pairs)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]} ..."
