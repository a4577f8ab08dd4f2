"""The command that puts the same load on a service again, out of its summary."""

from __future__ import annotations

import shlex
from typing import Any

from loadtest.plan.target import STILLROOM

__all__ = ["command_of"]


def command_of(summary: dict[str, Any]) -> str:
    """One line; folders are the reader's own.

    Args:
        summary: of summary.json. One of before `asked` was written says what ran instead.
    """
    scenario, asked = summary["scenario"], summary.get("asked", {})
    words = ["python -m loadtest", summary["url"], "--corpus IMAGES --out OUT"]
    words.append(f"--scenario {scenario}")
    if summary["target_rps"] is not None:
        words.append(f"--rate {summary['target_rps']:g}")
    if summary["users"] is not None and scenario not in ("singlestream", "saturation"):
        words.append(f"--users {summary['users']}")
    if scenario == "offline":
        words.append(f"--requests {asked.get('requests') or summary['planned']}")
    words.append(f"--duration-s {asked.get('duration_s', summary['duration_s']):g}")
    if scenario == "recorded":
        words.append("--recorded CSV")
    else:
        words.append(f"--warmup-s {summary['warmup_s']:g}")
    words.append(f"--seed {summary['seed']}")
    if asked.get("repeat_share"):
        words.append(f"--repeat-share {asked['repeat_share']:g}")
    if slo := summary.get("slo"):
        words.append(f"--slo p{slo['percentile']:g}={slo['target_ms']:g}ms")
    words += [
        f"--{name} {shlex.quote(summary['target'][name])}"
        for name in ("route", "field", "answer")
        if summary["target"][name] != getattr(STILLROOM, name)
    ]
    if summary["workers"] > 1:
        words.append(f"--workers {summary['workers']}")
    return " ".join(words)
