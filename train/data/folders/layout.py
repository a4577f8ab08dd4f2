"""Which folders of a tree are splits and which are classes: by their names, else by what is said.

What cannot be told is refused, and the keys that say it are named: a classifier of places or of
splits would look like one of classes.
"""

from __future__ import annotations

import json
import shlex
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from serve.contract.errors import DatasetError
from train.data.folders.split_words import SPLIT_WORDS, is_wrapper, splits_of, two_meanings, word_of
from train.options import DataOptions

__all__ = ["Layout", "find_layout"]

SHOWN = 4  # names in a message
FEW = 0.1  # share of a folder's images that may lie loose in it beside its folders

Parts = tuple[str, ...]


@dataclass(frozen=True)
class Layout:
    """How a path is read.

    Args:
        splits: name of a folder, or of folders in each other, -> train, val or test.
        level: of the class folders: 1 lie in the dataset's folder, 2 in a folder of it.
        remarks: what was understood that the names did not say plainly.
    """

    splits: Mapping[Parts, str]
    level: int
    remarks: Sequence[str] = ()

    def read(self, path: str) -> tuple[str, str]:
        """Label and split of an image; no label where it lies in no class folder."""
        folders = tuple(path.split("/")[:-1])  # no Path: there may be a million
        split, at = _find_split(self.splits, folders)
        if len(folders) < self.level or self.level - 1 in at or (self.splits and not split):
            return "", ""
        return folders[self.level - 1], split

    def is_class(self, folder: str) -> bool:
        """Whether a folder is one of the class folders."""
        depth = len(PurePosixPath(folder).parts)
        return depth == self.level and bool(self.read(f"{folder}/image")[0])


class _Tree:
    """Folders with the images in and below them.

    Args:
        paths: of images, also of formats that are not read: a class may consist of them.
    """

    def __init__(self, paths: Iterable[str]) -> None:
        self.own: Counter[Parts] = Counter()
        self.all: Counter[Parts] = Counter()
        folders: dict[Parts, set[str]] = defaultdict(set)
        for path in paths:
            parts = tuple(path.split("/")[:-1])
            self.own[parts] += 1
            for depth in range(len(parts) + 1):
                self.all[parts[:depth]] += 1
                if depth < len(parts):
                    folders[parts[:depth]].add(parts[depth])
        self.folders = {parent: sorted(names) for parent, names in folders.items()}

    def inner(self, folder: Parts) -> list[str]:
        """Names of the folders in a folder that hold images, sorted."""
        return self.folders.get(folder, [])

    def is_hollow(self, folder: Parts) -> bool:
        """Whether its images lie in folders of their own, but for a few."""
        return bool(self.inner(folder)) and self.own[folder] <= FEW * self.all[folder]

    def bottom(self, folder: Parts) -> Parts:
        """The first folder below that holds more than one other, or images."""
        while self.is_hollow(folder) and len(self.inner(folder)) == 1:
            folder = (*folder, self.inner(folder)[0])
        return folder


def find_layout(root: str, paths: Sequence[str], options: DataOptions) -> Layout:
    """Tell splits and classes.

    Args:
        root: the dataset's folder, for messages.
        paths: of its images, relative to it.
        options: what `splits` or `class_level` say is not guessed.

    Raises:
        DatasetError: it cannot be told, or what was said is not there.
    """
    tree = _Tree(paths)
    deepest = max((len(parts) for parts in tree.own), default=0)
    if options.class_level > deepest > 0:
        raise DatasetError(
            f"data.class_level = {options.class_level}, and no image in {root} lies in more than "
            f"{deepest} folders.",
            f"Choose 1 to {deepest}.",
        )
    if options.splits:
        return _as_told(root, tree, options)
    if options.class_level:
        return _at_level(root, tree, options.class_level)
    return _guess(root, tree, ())


def _as_told(root: str, tree: _Tree, options: DataOptions) -> Layout:
    splits = {PurePosixPath(folder).parts: split for split, folder in options.splits.items()}
    ends: dict[Parts, list[Parts]] = {
        names: [] for names in splits
    }  # where each one is, below root
    for parts in tree.all:
        split, at = _find_split(splits, parts)
        if split and at.stop == len(parts):
            ends[parts[at.start :]].append(parts)
    if missing := next((names for names, found in ends.items() if not found), None):
        there = sorted({parts[-1] for parts in tree.all if parts})
        raise DatasetError(
            f"data.splits names the folder {'/'.join(missing)!r}; {root} has none of that name "
            "that holds images.",
            f"It has {_listed(there)}.",
        )
    places = [parts for found in ends.values() for parts in found]
    holding = [len(parts) for parts in places if tree.inner(parts)]
    level = options.class_level or (min(holding) + 1 if holding else len(places[0]) - 1)
    if not level:
        raise DatasetError(
            f"{root}: the split folders {_listed(['/'.join(names) for names in splits])} hold no "
            "class folders.",
            "Put the images of each class into a folder named after it, in each of them.",
        )
    return Layout(splits, level, _nested(tree, level, splits))


def _at_level(root: str, tree: _Tree, level: int) -> Layout:
    """Classes at a level that was given; folders above them that are called so are splits."""
    prefix: Parts = ()
    while len(prefix) + 1 < level:
        tops = tree.inner(prefix)
        if splits := splits_of(tops):
            return _of_splits(root, tree, prefix, splits, level)
        if len(tops) != 1:
            break
        prefix = (*prefix, tops[0])
    return Layout({}, level, _nested(tree, level))


def _find_split(splits: Mapping[Parts, str], folders: Parts) -> tuple[str, range]:
    """The first split folder of a path, and which of its folders that is."""
    for start in range(len(folders)):
        for names, split in splits.items():
            if folders[start : start + len(names)] == names:
                return split, range(start, start + len(names))
    return "", range(0)


def _guess(root: str, tree: _Tree, prefix: Parts) -> Layout:
    """The layout below a folder that is around all others."""
    tops = tree.inner(prefix)
    level = len(prefix) + 1
    splits = splits_of(tops)
    if len(tops) == 1 and _is_around(tree, (*prefix, tops[0])):
        return _guess(root, tree, (*prefix, tops[0]))
    if splits:
        return _of_splits(root, tree, prefix, splits)
    words = {SPLIT_WORDS[word] for name in tops if (word := word_of(name)[0])}
    others = [name for name in tops if not word_of(name)[0]]
    if len(words) > 1:
        named = _listed(others) if others else _listed(tops)
        raise DatasetError(
            f"{root} has split folders, and beside them {named}: not both can be classes.",
            "Move the others out, or rename the classes that are called like a split. Or say it: "
            f"{_key_of_splits(_proposed(tops))}, or data.class_level={level} where all are "
            "classes.",
        )
    _refuse_same_folders(root, tree, [(*prefix, top) for top in tops], level)
    hollow = [t for t in tops if word_of(t)[0] and tree.is_hollow((*prefix, t))]
    if hollow and others:
        raise DatasetError(
            f"{root}: {hollow[0]} is called like a split and holds folders "
            f"({_listed(tree.inner((*prefix, hollow[0])))}), and beside it is {_listed(others)}.",
            f"Say which: {_key_of_splits({'train': hollow[0]})}, or data.class_level={level} where "
            "both are classes.",
        )
    return Layout({}, level, [*_around(prefix), *_nested(tree, level)])


def _is_around(tree: _Tree, top: Parts) -> bool:
    """Whether a single folder is not a class but lies around splits, or is called `data`."""
    if len(set(splits_of(tree.inner(tree.bottom(top))).values())) > 1:
        return True
    return tree.is_hollow(top) and is_wrapper(top[-1]) and not word_of(top[-1])[0]


def _of_splits(
    root: str, tree: _Tree, prefix: Parts, splits: dict[str, str], level: int = 0
) -> Layout:
    """Split folders by their names; their classes are at the level that is given, or found."""
    names = list(splits)
    if "train" not in splits.values():
        raise DatasetError(
            f"{root} has the folders {', '.join(names)} but no train folder.",
            "Add train/, or put the class folders directly into it. Or say it: "
            f"{_key_of_splits({'train': names[0]})}, or data.class_level={len(prefix) + 1} where "
            "these are classes.",
        )
    if both := two_meanings(splits):
        proposed = dict(zip(("val", "test"), both, strict=True))
        trained = next(name for name, split in splits.items() if split == "train")
        raise DatasetError(
            f"{root} has {both[0]} and {both[1]}, and both may mean {splits[both[0]]}.",
            f"Say which: {_key_of_splits({'train': trained, **proposed})}",
        )
    parents = [(*prefix, name) for name in names if tree.inner((*prefix, name))]
    if not parents:
        raise DatasetError(
            f"{root} has the folders {', '.join(names)}, and no class folders in them.",
            "Put the images of each class into a folder named after it, in each of them. Or say "
            f"data.class_level={len(prefix) + 1} where these are the classes.",
        )
    remarks = _remark_on_splits(prefix, splits)
    if not level:
        level = len(prefix) + 2
        while all(_has_wrapper(tree, parent) for parent in parents):
            parents = [(*parent, tree.inner(parent)[0]) for parent in parents]
            level += 1
        for parent in parents:
            tops = [(*parent, name) for name in tree.inner(parent)]
            _refuse_same_folders(root, tree, tops, level, may_be_splits=False)
        if level > len(prefix) + 2:
            remarks += _around(*parents)
    keys: dict[Parts, str] = {(name,): split for name, split in splits.items()}
    return Layout(keys, level, [*remarks, *_nested(tree, level, keys)])


def _remark_on_splits(prefix: Parts, splits: dict[str, str]) -> list[str]:
    if not prefix and all(name.lower() == split for name, split in splits.items()):
        return []
    said = ", ".join(f"{name}/ is {split}" for name, split in splits.items())
    return [f"Splits by the names of folders: {said}. data.splits says it otherwise."]


def _has_wrapper(tree: _Tree, parent: Parts) -> bool:
    inner = tree.inner(parent)
    return len(inner) == 1 and is_wrapper(inner[0]) and tree.is_hollow((*parent, inner[0]))


def _refuse_same_folders(
    root: str, tree: _Tree, tops: list[Parts], level: int, *, may_be_splits: bool = True
) -> None:
    """Folders that hold no image but folders of the same names are places or splits, or classes."""
    bottoms = [tree.bottom(top) for top in tops]
    hollow = [(t, b) for t, b in zip(tops, bottoms, strict=True) if tree.is_hollow(b)]
    counts = Counter(name.casefold() for _, bottom in hollow for name in tree.inner(bottom))
    same = [name for name, count in counts.items() if count > 1]
    if len(counts) < 2 or 2 * len(same) <= len(counts):
        return
    inner = tree.inner(hollow[0][1])
    deeper = level + len(hollow[0][1]) - len(tops[0]) + 1
    outer = [top[-1] for top, _ in hollow]
    ways = []
    if splits := splits_of(inner):
        ways.append(
            f"{_key_of_splits({split: name for name, split in splits.items()})} "
            f"data.class_level={level} where {_listed(inner)} are the splits"
        )
    ways.append(f"data.class_level={deeper} where {_listed(inner)} are the classes")
    ways.append(f"data.class_level={level} where {_listed(outer)} are")
    if may_be_splits and not splits and 1 < len(outer) <= 3:
        by_size = sorted(outer, key=lambda name: -tree.all[(*tops[0][:-1], name)])
        ways.append(f"{_key_of_splits(_in_order(by_size))} where they are splits")
    raise DatasetError(
        f"{root}: the folders {_listed(outer)} hold no images of their own, but folders of the "
        f"same names ({_listed(inner)}): which of them are the classes cannot be told.",
        f"Say {'; or '.join(ways)}.",
    )


def _nested(tree: _Tree, level: int, splits: Mapping[Parts, str] | None = None) -> list[str]:
    """A remark where class folders hold folders of images."""
    names = {name for parts in splits or {} for name in parts}
    inner = sorted({parts[level] for parts in tree.own if len(parts) > level} - names)
    if not inner:
        return []
    classes = sorted({parts[level - 1] for parts in tree.own if len(parts) >= level})
    return [
        f"Classes are the folders of level {level} ({_listed(classes)}); folders in them "
        f"({_listed(inner)}) count as parts of them. data.class_level={level + 1} makes those the "
        "classes."
    ]


def _around(*prefixes: Parts) -> list[str]:
    named = [f"{'/'.join(prefix)}/" for prefix in prefixes if prefix]
    return [f"Classes are the folders in {_listed(named)}."] if named else []


def _proposed(names: Iterable[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name in names:
        if word := word_of(name)[0]:
            found.setdefault(SPLIT_WORDS[word], name)
    return found


def _in_order(names: list[str]) -> dict[str, str]:
    splits = ("train", "test") if len(names) == 2 else ("train", "val", "test")
    return dict(zip(splits, names, strict=True))


def _key_of_splits(splits: Mapping[str, str]) -> str:
    """The override as it is typed in a shell."""
    order = [split for split in ("train", "val", "test") if split in splits]
    values = ", ".join(
        f"{split} = {json.dumps(splits[split], ensure_ascii=False)}" for split in order
    )
    return shlex.quote(f"data.splits={{{values}}}")


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
