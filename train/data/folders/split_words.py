"""Which names mean train, val or test: of folders, of list files and of the column split."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

__all__ = ["SPLIT_WORDS", "is_wrapper", "split_of", "splits_of", "two_meanings", "word_of"]

# What the word means -> the split, and the words. Two folders of one split are both read where
# they mean the same; `dev` beside `eval` leaves open which of them is for choosing.
MEANINGS = {
    "train": ("train", ("train", "training", "trn")),
    "val": ("val", ("val", "valid", "validation", "validate")),
    "dev": ("val", ("dev", "devel", "development")),
    "eval": ("val", ("eval", "evaluation")),
    "test": ("test", ("test", "testing", "tst")),
    "holdout": ("test", ("holdout", "heldout")),
}
SPLIT_WORDS = {word: split for split, words in MEANINGS.values() for word in words}
MEANING_OF = {word: meaning for meaning, (_, words) in MEANINGS.items() for word in words}
FILLERS = frozenset(
    "set sets data dataset datasets images image imgs img photos photo pictures pics samples "  # noqa: SIM905  # not a page
    "split splits folder folders dir files all".split()
)
HELD_OUT = re.compile(r"(hold|held)[\s._-]*out", re.IGNORECASE)
NUMBER = re.compile(
    r"^[\s(\[]*\d+[\s._)\]-]*|[\s._-]*\d{4}$"
)  # `1_train`, `01-training`, `train2017`
BETWEEN = re.compile(r"[\s._()\[\]-]+|(?<=[a-z])(?=[A-Z])")


def split_of(word: str) -> str:
    """train, val or test for a word that means one of them; else empty."""
    return SPLIT_WORDS.get(HELD_OUT.sub(r"\1out", word.strip()).lower(), "")


def word_of(name: str) -> tuple[str, tuple[str, ...]]:
    """The split's word in the name of a folder, and what else the name says.

    Returns:
        For `01-TrainingSet_flowers` ("training", ("flowers",)); for a name without such a word, or
        with two of them, an empty word.
    """
    tokens = _tokens(name)
    words = {token for token in tokens if token in SPLIT_WORDS}
    rest = tuple(t for t in tokens if t not in SPLIT_WORDS and t not in FILLERS)
    return (words.pop() if len(words) == 1 else ""), rest


def splits_of(names: Iterable[str]) -> dict[str, str]:
    """Split of each folder, where all are named after one and say nothing else that differs.

    Returns:
        name -> train, val or test; empty where one of them is not a split.
    """
    found = {name: word_of(name) for name in names}
    if len({rest for _, rest in found.values()}) > 1 or not all(word for word, _ in found.values()):
        return {}
    return {name: SPLIT_WORDS[word] for name, (word, _) in found.items()}


def two_meanings(splits: Mapping[str, str]) -> tuple[str, str] | None:
    """Two folders that would be one split and mean different things, as `dev` and `eval` do.

    Returns:
        The one that is rather for choosing first; None where there are no such two.
    """
    first: dict[str, str] = {}
    for name, split in splits.items():
        both = (first.setdefault(split, name), name)
        meanings = [MEANING_OF[word_of(one)[0]] for one in both]
        if meanings[0] != meanings[1]:
            order = list(MEANINGS)
            return both if order.index(meanings[0]) < order.index(meanings[1]) else both[::-1]
    return None


def is_wrapper(name: str) -> bool:
    """Whether a name says nothing but `data`, `images` or a split: no class is called so."""
    tokens = _tokens(name)
    return bool(tokens) and all(token in SPLIT_WORDS or token in FILLERS for token in tokens)


def _tokens(name: str) -> list[str]:
    bare = NUMBER.sub("", HELD_OUT.sub(r"\1out", name))
    return [_without_filler(token.lower()) for token in BETWEEN.split(bare) if token]


def _without_filler(token: str) -> str:
    """`trainset` -> `train`."""
    for filler in FILLERS:
        if token.endswith(filler) and token.removesuffix(filler) in SPLIT_WORDS:
            return token.removesuffix(filler)
    return token
