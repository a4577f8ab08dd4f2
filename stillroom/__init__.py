"""stillroom: from a folder of labelled images to a small, load-tested classifier behind HTTP.

    import stillroom

    with stillroom.load("runs/mine") as model:
        print(model.predict("photo.jpg").label)

`load` opens an artifact for predictions, `evaluate` measures it on labelled images, `open_run`
reads a run's stages, figures and predictions. A run is built by the command `stillroom run`.
"""

from pkgutil import resolve_name
from typing import Any

import serve.contract  # noqa: F401  # settles what holds for every process, before any library

_PUBLIC = {
    "Evaluation": "stillroom.library.accuracy:Evaluation",
    "ImagePrediction": "stillroom.library.rows:ImagePrediction",
    "LabelledPrediction": "stillroom.library.rows:LabelledPrediction",
    "Model": "stillroom.library.model:Model",
    "OpenedRun": "stillroom.library.opened_run:OpenedRun",
    "StageSummary": "stillroom.library.opened_run:StageSummary",
    "StillroomError": "serve.contract.errors:StillroomError",
    "evaluate": "stillroom.library.accuracy:evaluate",
    "load": "stillroom.library.model:load",
    "open_run": "stillroom.library.opened_run:open_run",
}
__all__ = [*_PUBLIC]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return resolve_name(_PUBLIC[name])


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
