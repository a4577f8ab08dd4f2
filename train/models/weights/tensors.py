"""Which of a checkpoint's tensors are a model's weights: by names, below any wrapper and prefix."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from serve.contract.errors import CheckpointError, UsageError

__all__ = ["COUNTER", "Found", "choose_weights"]

COUNTER = "num_batches_tracked"  # of batch norm: old files lack it, and evaluation never reads it
COMPILED = "_orig_mod."  # torch.compile puts it before the names of what it compiled
DEPTH = 4
SHOWN = 3


@dataclass(frozen=True)
class Found:
    """Tensors that may be a model's.

    Args:
        key: names of the dicts around them and their prefix, joined by dots: "state_dict.model".
        tensors: by name, without the prefix.
        others: names of tensors beside them that do not have the prefix.
        fitting: number of the model's names that are there.
    """

    key: str
    tensors: dict[str, Tensor]
    others: tuple[str, ...]
    fitting: int

    def __str__(self) -> str:
        left = f"; {len(self.others)} left out ({', '.join(self.others[:SHOWN])})"
        return f"the tensors under {self.key!r}{left if self.others else ''}"


def choose_weights(
    content: Mapping[str, Any],
    names: Collection[str],
    *,
    named: str,
    key: str = "",
    how: str = "Name one with --weights-key.",
) -> Found:
    """The one set of tensors that has all of a model's names, or else most of them.

    Args:
        content: tensors by name, or dicts of them, as training scripts save them.
        names: of the model's tensors; counters of batch norm need not be there.
        named: the file, for messages.
        key: of the set that is meant, where several fit.
        how: one is chosen, for messages.

    Raises:
        CheckpointError: no tensors are there, or none under that key.
        UsageError: several sets fit, such as raw and averaged weights.
    """
    needed = {name for name in names if not name.endswith(COUNTER)}
    found = [one for path, state in _states(content) for one in _sets(path, state, needed)]
    found.sort(key=lambda one: -one.fitting)  # stable: of equal ones the first
    if not found:
        keys = ", ".join(sorted(map(str, content))[:SHOWN]) or "nothing"
        raise CheckpointError(
            f"{named} is not a state dict; it holds {keys}.",
            "Save model.state_dict(), alone or under state_dict, model or model_state_dict.",
        )
    fit = [one for one in found if one.fitting == len(needed)]
    keys = ", ".join(one.key or "." for one in fit)
    if key:
        meant = [one for one in found if (one.key or ".") == key]
        if not meant:
            raise CheckpointError(
                f"{named} holds no weights under {key!r}.",
                f"These fit: {keys}." if fit else "None fit the model: check its name.",
            )
        return meant[0]
    if len(fit) > 1:
        raise UsageError(
            f"{named} holds {len(fit)} sets of weights that fit: {keys}. Averaged (EMA) and raw "
            "weights answer differently.",
            how,
        )
    return found[0]


def _states(content: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[Any]:
    """Every dict that holds tensors, with the names of the dicts around it."""
    tensors = {str(k): v for k, v in content.items() if isinstance(v, Tensor)}
    if tensors:
        yield path, {name.replace(COMPILED, ""): tensor for name, tensor in tensors.items()}
    if len(path) < DEPTH:
        for name, value in content.items():
            if isinstance(name, str) and isinstance(value, Mapping):
                yield from _states(value, (*path, name))


def _sets(path: tuple[str, ...], state: dict[str, Tensor], needed: set[str]) -> Iterator[Found]:
    """The tensors under each prefix under which all needed names are; else under the best one."""
    counts: Counter[str] = Counter()
    for name in state:
        parts = name.split(".")
        suffixes = ((at, ".".join(parts[at:])) for at in range(len(parts)))
        counts.update(".".join([*parts[:at], ""]) for at, rest in suffixes if rest in needed)
    prefixes = [prefix for prefix, count in counts.items() if count == len(needed)]
    for prefix in prefixes or [most for most, _ in counts.most_common(1)] or [""]:
        inner = tuple(p for p in prefixes if p != prefix and p.startswith(prefix))
        own = [n for n in state if n.startswith(prefix) and not (inner and n.startswith(inner))]
        others = tuple(n for n in state if n not in set(own) and not n.startswith(tuple(prefixes)))
        key = ".".join([*path, *([prefix[:-1]] if prefix else [])])
        yield Found(key, {n[len(prefix) :]: state[n] for n in own}, others, counts[prefix])
