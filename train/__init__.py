"""train: an image folder becomes an audited dataset, then a trained and evaluated model.

`open_source` lists labelled images, `audit_images` audits and splits them, `Dataset` reads them.
`train_model` trains, evaluates and writes a checkpoint; `fit_model` and `Trainer` are the parts it
is made of. `load_checkpoint` gives the model and its `ModelCard` back; `Predictions` hold what it
predicted, and `evaluate` computes every figure from them.
"""

from pkgutil import resolve_name
from typing import Any

import serve.contract  # noqa: F401  # settles what holds for every process, before any library

_PUBLIC = {
    "DataOptions": "train.options:DataOptions",
    "Dataset": "train.data.dataset:Dataset",
    "ImageClassifier": "train.models.classifier:ImageClassifier",
    "ModelCard": "train.models.checkpoint:ModelCard",
    "Predictions": "train.evaluation:Predictions",
    "TrainOptions": "train.options:TrainOptions",
    "Trainer": "train.engine.trainer:Trainer",
    "audit_images": "train.data.audit.dataset_audit:audit_images",
    "build_model": "train.models.classifier:build_model",
    "evaluate": "train.evaluation:evaluate",
    "fit_model": "train.fitting:fit_model",
    "load_checkpoint": "train.models.checkpoint:load_checkpoint",
    "open_source": "train.data.source:open_source",
    "predict_logits": "train.evaluation:predict_logits",
    "read_predictions": "train.evaluation:read_predictions",
    "save_checkpoint": "train.models.checkpoint:save_checkpoint",
    "train_model": "train.stage:train_model",
}
__all__ = [*_PUBLIC]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return resolve_name(_PUBLIC[name])


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
