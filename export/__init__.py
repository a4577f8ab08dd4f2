"""export: a checkpoint becomes an artifact, and only if it predicts as the checkpoint does.

`export_artifact` writes the fp32 artifact of a run, `export_imported` that of a timm checkpoint
trained elsewhere. `compare_outputs` is the parity gate: it takes a reference (`ModelOutputs`) and
the logits of a candidate, and gives a `Verdict` by `LIMITS`. `times_in_turns` times models fairly.
"""

from pkgutil import resolve_name
from typing import Any

import serve.contract  # noqa: F401  # settles what holds for every process, before any library

_PUBLIC = {
    "LIMITS": "export.parity.tolerances:LIMITS",
    "ExportOptions": "export.options:ExportOptions",
    "ModelOutputs": "export.parity.compare:ModelOutputs",
    "Tolerances": "export.parity.tolerances:Tolerances",
    "Verdict": "export.parity.verdict:Verdict",
    "compare_outputs": "export.parity.compare:compare_outputs",
    "export_artifact": "export.stage:export_artifact",
    "export_imported": "export.foreign.stage:export_imported",
    "times_in_turns": "export.latency:times_in_turns",
}
__all__ = [*_PUBLIC]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return resolve_name(_PUBLIC[name])


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
