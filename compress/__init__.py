"""compress: a teacher becomes a small student by distillation; FixRes fits it to its test size.

`distil_student` and `fine_tune_fixres` read and write checkpoint folders. `kd_loss` is the
distillation loss, `Distillation` the training task with it; `prove_frozen` shows that FixRes
changed nothing but what it says.
"""

from pkgutil import resolve_name
from typing import Any

import serve.contract  # noqa: F401  # settles what holds for every process, before any library

_PUBLIC = {
    "DistilOptions": "compress.options:DistilOptions",
    "Distillation": "compress.distil:Distillation",
    "FixResOptions": "compress.options:FixResOptions",
    "Teacher": "compress.teachers:Teacher",
    "distil_student": "compress.stage:distil_student",
    "fine_tune_fixres": "compress.fixres_stage:fine_tune_fixres",
    "kd_loss": "compress.distil:kd_loss",
    "open_teachers": "compress.teachers:open_teachers",
    "prove_frozen": "compress.proof:prove_frozen",
}
__all__ = [*_PUBLIC]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return resolve_name(_PUBLIC[name])


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
