"""`stillroom audit`: what was found, and with --strict a gate."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from serve.contract.errors import GateError
from stillroom.commands.arguments import Overrides, Photos, RunOption
from stillroom.commands.building import build_and_show

__all__ = ["audit", "require_sound", "show_audit"]

NAMES = {
    "conflict": "one picture under two labels",
    "leak": "one picture in two splits",
    "unreadable": "files that do not decode",
    "constant": "pictures of nothing",
    "not_read": "files or folders that were not read",
    "other_suffix": "images named as something else",
    "too_few": "classes with too few images",
    "look_alike": "labels that look alike",
    "misnamed": "names that cannot be used",
}


def audit(
    photos: Photos,
    overrides: Overrides = None,
    run: RunOption = None,
    strict: Annotated[
        bool,
        typer.Option("--strict", help="Fail on leaks, conflicting labels, bad and missed files."),
    ] = False,
) -> None:
    """What is in the folder, and what is wrong with it: figures here, pictures in data/audit.html.

    Example: stillroom audit photos/ --strict
    """
    folder = build_and_show(photos, run, None, overrides, "audit", None)
    show_audit(folder, strict=strict)


def show_audit(run: Path, *, strict: bool) -> None:
    """Print the audit of a run.

    Raises:
        GateError: `strict`, and the audit has an error.
    """
    from stillroom.commands.tables import audit_table

    audit_table(run)
    if strict:
        require_sound(run / "data")


def require_sound(data: Path) -> None:
    """Refuse images with an error of the audit; warnings pass.

    Args:
        data: folder with audit.json.

    Raises:
        GateError: one picture has two labels or is in two splits, a file shows nothing or does not
            decode, or images were passed over.
    """
    from train.data.audit.findings import files_of

    problems = json.loads((data / "audit.json").read_bytes())["problems"]
    kinds: Counter[str] = Counter()
    for one in problems:
        if one["severity"] == "error":
            kinds[one["kind"]] += files_of(one)
    if kinds:
        counted = ", ".join(f"{NAMES[kind]} ({count})" for kind, count in sorted(kinds.items()))
        raise GateError(
            f"The audit has {sum(kinds.values())} errors: {counted}.",
            f"See {data / 'audit.html'}, put the files right and audit again.",
        )
