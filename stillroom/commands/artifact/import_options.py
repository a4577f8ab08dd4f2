"""`stillroom export` and `stillroom parity` each do two things; their options are not mixed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from serve.contract.errors import UsageError

__all__ = ["refuse_mixed_export", "refuse_mixed_parity"]

EXPORT = (
    "Either stillroom export RUN, or stillroom export --checkpoint FILE --model NAME "
    "--labels labels.txt"
)
PARITY = (
    "Either stillroom parity ARTIFACT, or stillroom parity --reference a.onnx "
    "--candidate b.onnx --photos DIR"
)


def refuse_mixed_export(
    run: Path | None, checkpoint: str | None, imported: Mapping[str, object]
) -> None:
    """Check that a run or a checkpoint is named, and the options of that one alone.

    Args:
        run: the argument.
        checkpoint: the option.
        imported: the options of a checkpoint by name; None where not given.

    Raises:
        UsageError: both, neither, a file as a run, or options that do not go with it.
    """
    if checkpoint is None:
        if given := _given(imported):
            raise UsageError(f"Without --checkpoint nothing is known of {given}.", EXPORT)
        if run is None:
            raise UsageError("Neither a run nor a checkpoint is named.", EXPORT)
        if run.is_file():
            raise UsageError(f"{run} is a file, not a run folder.", EXPORT)
        return
    if run is not None:
        raise UsageError(f"{run} beside --checkpoint: a run has its own checkpoint.", EXPORT)
    if missing := [name for name in ("--model", "--labels") if imported[name] is None]:
        raise UsageError(
            f"--checkpoint needs {' and '.join(missing)}.",
            "A file of weights says neither which timm model it is of, nor its classes.",
        )


def refuse_mixed_parity(
    target: Path | None,
    reference: Path | None,
    candidate: Path | None,
    photos: Path | None,
    of_files: Mapping[str, object],
) -> None:
    """Check that an artifact or two files are named, and the options of these alone.

    Args:
        target: the argument.
        reference: the option.
        candidate: the option.
        photos: the option, which goes with both.
        of_files: options of two files by name; None where not given.

    Raises:
        UsageError: both, neither, or options that do not go with it.
    """
    files = {"--reference": reference, "--candidate": candidate}
    if target is not None:
        if given := _given({**files, **of_files}):
            raise UsageError(
                f"{given} beside {target}: an artifact has its own reference and says how it is "
                "judged.",
                PARITY,
            )
        return
    if reference is None and candidate is None:
        raise UsageError("Neither an artifact nor two files are named.", PARITY)
    if missing := [name for name, v in {**files, "--photos": photos}.items() if v is None]:
        raise UsageError(
            f"Two files are compared, so {' and '.join(missing)} must be given.", PARITY
        )


def _given(options: Mapping[str, object]) -> str:
    return ", ".join(name for name, value in options.items() if value is not None)
