"""Settings: what the service reads from STILLROOM_* environment variables, strictly.

The environment is the only channel that reaches BentoML's worker processes, so the launcher writes
what `settings_from_env` reads. A value that does not parse stops the start; so does a name that is
one typing mistake away from a known one, since a limit that is silently ignored is no limit.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from serve.contract.errors import UsageError

__all__ = ["Settings", "env_from_settings", "settings_from_env"]

PREFIX = "STILLROOM_"


@dataclass(frozen=True)
class Settings:
    """All that a server can be told; field `max_batch` is read from STILLROOM_MAX_BATCH, and so on.

    Args:
        artifact: the artifact folder, or the run folder above it.
        backend: "auto" or a name from `serve.runner.BACKENDS`.
        threads: CPU threads inside one inference; more than 1 rarely helps beside decoding.
        decode_threads: threads that decode and resize images; with 1 a huge photo holds up all.
        max_batch: largest batch of one inference.
        max_queue: requests that may be decoding or waiting; one more is answered 503.
        max_body_mib: largest request body.
        body_timeout_s: time in which a request body must have arrived.
    """

    artifact: Path
    backend: str = "auto"
    threads: int = 1
    decode_threads: int = 2
    max_batch: int = 8
    max_queue: int = 64
    max_body_mib: int = 10
    body_timeout_s: int = 10

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, int) and not 1 <= value <= 4096:
                raise UsageError(f"{_variable(field.name)}={value}: expected 1 to 4096.")


def settings_from_env(environ: Mapping[str, str]) -> Settings:
    """Read STILLROOM_* variables.

    Raises:
        UsageError: STILLROOM_ARTIFACT is missing, a value does not parse, or a name is misspelt.
    """
    known = {_variable(field.name): field for field in fields(Settings)}
    for name in environ:
        if name.startswith(PREFIX) and name not in known:
            _refuse_near_miss(name, list(known))
    if not environ.get("STILLROOM_ARTIFACT"):
        raise UsageError(
            "STILLROOM_ARTIFACT is not set; expected the artifact folder.",
            "Run stillroom serve RUN, or STILLROOM_ARTIFACT=RUN/artifact bentoml serve "
            "serve.service:Classifier",
        )
    values: dict[str, object] = {}
    for name, field in known.items():
        if name not in environ:
            continue
        values[field.name] = _parsed(name, environ[name], str(field.type))
    return Settings(**values)  # type: ignore[arg-type]  # every value was parsed to its field's type


def env_from_settings(settings: Settings) -> dict[str, str]:
    """The variables that `settings_from_env` reads back; the artifact's path made absolute."""
    values = {field.name: getattr(settings, field.name) for field in fields(settings)}
    values["artifact"] = settings.artifact.resolve()
    return {_variable(name): str(value) for name, value in values.items()}


def _variable(field_name: str) -> str:
    return PREFIX + field_name.upper()


def _parsed(name: str, text: str, kind: str) -> object:
    if kind == "Path":
        return Path(text)
    if kind == "str":
        return text
    if not (text.isascii() and text.isdigit()):
        raise UsageError(f"{name}={text!r}: expected a whole number.", f"For example {name}=4.")
    return int(text)


def _refuse_near_miss(name: str, known: list[str]) -> None:
    if near := difflib.get_close_matches(name, known, n=1, cutoff=0.87):
        raise UsageError(
            f"{name} is no setting of the service.", f"Did you mean {near[0]}? Else unset it."
        )
