"""Recipe keys as people write them: the nearest one, and which section a stage's advice is of."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import SequenceMatcher

from serve.contract.errors import StillroomError

__all__ = ["SYNONYMS", "Near", "advising", "in_section", "nearest_key"]

# The words of other tools, by the last word of our key.
SYNONYMS = {
    "arch": ("model", "backbone", "architecture", "network"),
    "weights": ("pretrained", "checkpoint"),
    "lr": ("learning_rate", "base_lr", "lr0"),
    "min_lr": ("min_learning_rate", "lrf"),
    "epochs": ("num_epochs", "max_epochs", "num_train_epochs"),
    "batch_size": ("batch", "bs", "train_batch_size"),
    "train_size_px": ("size", "image_size", "img_size", "imgsz", "input_size", "resolution"),
    "test_size_px": ("eval_size", "val_size", "size"),
    "optimizer": ("optimiser", "opt", "optim"),
    "schedule": ("scheduler", "lr_scheduler", "sched"),
    "weight_decay": ("wd",),
    "warmup_epochs": ("warmup",),
    "drop_rate": ("dropout", "drop"),
    "label_smoothing": ("smoothing",),
    "clip_norm": ("clip_grad", "grad_clip", "max_grad_norm"),
    "accumulate": ("accumulation_steps", "gradient_accumulation_steps", "grad_accum_steps"),
    "workers": ("num_workers",),
    "precision": ("amp", "mixed_precision", "dtype"),
    "seed": ("random_seed", "random_state"),
    "val_fraction": ("val_split", "validation_split", "val_ratio"),
    "test_fraction": ("test_split", "test_ratio"),
    "kd_weight": ("alpha", "distillation_weight"),
    "temperature": ("tau", "kd_temperature"),
    "flip": ("hflip", "horizontal_flip"),
    "policy": ("auto_augment",),
    "precisions": ("quantize", "quantization"),
}


@dataclass(frozen=True)
class Near:
    """A key, and whether its last word is the one that was written, or another tool's for it."""

    key: str
    is_exact: bool


def nearest_key(
    name: str, keys: Sequence[str], first: Sequence[str] = (), *, like: float = 0.6
) -> Near | None:
    """The key that a name most likely means, judged by its last word and then by its section.

    Args:
        name: as written: teacher.learning_rate, --learning-rate, learning_rate.
        keys: that exist, dotted; of equally near ones the first is taken.
        first: sections that go before others where the name says none.
        like: least likeness of the last words, of difflib.
    """
    *sections, last = name.strip("-").lower().replace("-", "_").split(".")
    tops = dict.fromkeys(key.partition(".")[0] for key in keys)
    if not sections and (top := next((top for top in tops if last.startswith(f"{top}_")), "")):
        sections, last = [top], last.removeprefix(f"{top}_")

    def likeness(key: str) -> float:
        leaf = key.rpartition(".")[2]
        return max(_ratio(last, word) for word in (leaf, *SYNONYMS.get(leaf, ())))

    def fit(key: str) -> float:
        section = key.rpartition(".")[0]
        if sections:
            return likeness(key) + _ratio(".".join(sections), section) / 2
        return likeness(key) + (0.05 if section.partition(".")[0] in first else 0)

    near = [key for key in keys if likeness(key) >= like]
    if not near:
        return None
    best = max(near, key=fit)  # the first of equal ones
    return Near(best, likeness(best) == 1)


def in_section(section: str, text: str) -> str:
    """Words of a training, which knows no section, as the recipe has them: keys with the section.

    Args:
        section: of the recipe, such as teacher.
        text: which may say `weights=none`, `drop_path_rate = 0` or `lower batch_size`.
    """
    from stillroom.recipe import recipe_keys

    keys = [key.removeprefix(f"{section}.") for key in recipe_keys() if key.startswith(section)]
    every, long = (
        "|".join(re.escape(key) for key in sorted(chosen, key=len, reverse=True))
        for chosen in (keys, [key for key in keys if "_" in key])
    )
    told = re.sub(rf"(?<![\w.-])({every}) ?= ?(?=\S)", rf"{section}.\1=", text)
    return re.sub(rf"(?<![\w.-])({long})(?![\w=])", rf"{section}.\1", told)


@contextmanager
def advising(section: str) -> Iterator[None]:
    """Let errors of a training speak of the recipe's keys, whose section it is; "" leaves them."""
    try:
        yield
    except StillroomError as error:
        if section:
            error.message = in_section(section, error.message)
            step = in_section(section, error.next_step)
            error.next_step = re.sub(r"(=\S+)\.$", r"\1", step)  # a value is copied as it stands
        raise


def _ratio(one: str, other: str) -> float:
    return SequenceMatcher(None, one, other).ratio()
