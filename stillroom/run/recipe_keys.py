"""Recipe keys as people write them: the nearest one that there is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

__all__ = ["SYNONYMS", "Near", "nearest_key"]

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


def _ratio(one: str, other: str) -> float:
    return SequenceMatcher(None, one, other).ratio()
