"""Settings: what the service reads from STILLROOM_* environment variables, strictly.

The environment is the only channel that reaches BentoML's worker processes, so the launcher writes
what `settings_from_env` reads. A value that does not parse stops the start; so does a name that is
one typing mistake away from a known one, since a limit that is silently ignored limits nothing.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path

from serve.contract.errors import UsageError
from serve.contract.manifest import MANIFEST

__all__ = ["PACKED", "Settings", "bearer_from_env", "env_from_settings", "settings_from_env"]

PACKED = "artifact"  # folder beside this package, in a Bento
PREFIX = "STILLROOM_"
TOKEN, TOKEN_FILE = "STILLROOM_TOKEN", "STILLROOM_TOKEN_FILE"
SWITCHES = ("drift", "oip", "tracing")  # 1 is on
LEAST = {"gpus": 0, "grace_s": 0, "max_batch": 0, "watch_s": 0, **dict.fromkeys(SWITCHES, 0)}
LARGEST = {"deadline_ms": 30_000, **dict.fromkeys(SWITCHES, 1)}  # after 30 s the request is cut off


@dataclass(frozen=True)
class Settings:
    """All that a server can be told; field `max_batch` is read from STILLROOM_MAX_BATCH, and so on.

    Args:
        artifact: the artifact folder, or the run folder above it.
        backend: "auto" or a name from `serve.runners.open.BACKENDS`.
        workers: processes that serve, each with a model of its own; BentoML starts them.
        gpus: GPUs that BentoML gives them, in turns; 0 leaves them all that the process sees.
        threads: CPU threads inside one inference; more than 1 rarely helps beside decoding.
        decode_threads: threads that decode and resize images; with 1 a huge image holds up all.
        max_batch: largest batch of one inference; 0 takes what suits the backend.
        max_queue: requests that may be decoding or waiting; one more is answered 503.
        max_body_mib: largest request body.
        max_megapixels: of a JPEG; other kinds may have as many as cost the same. A container with
            little memory lowers it.
        body_timeout_s: time in which a request body must have arrived.
        deadline_ms: longest time for a response; X-Request-Timeout-Ms may ask for less.
        max_invalid: predictions in a row that are not finite, after which the service is not ready.
        token: bearer token of every request but probes and the page; empty asks for none.
        token_file: a file that holds the token instead, read at each start; empty for none.
        header_timeout_s: time in which the headers of a request must have arrived.
        grace_s: after SIGTERM, time of being not ready and still serving, for proxies to notice.
        drain_s: after that, time for requests in flight; what is left then is cut.
        max_deaths: workers that may end within `deaths_window_s`; one more ends the service.
        deaths_window_s: the time over which deaths are counted.
        drift: 0 leaves out the metrics of images and predictions (`serve.telemetry.drift`).
        oip: 0 leaves out the Open Inference Protocol, /v2.
        tracing: 1 makes an OpenTelemetry span of each request.
        watch_s: how often to look for a new artifact; 0 never does.
        control: folder for admin sockets and the artifact that is served; empty is neither.
    """

    artifact: Path
    backend: str = "auto"
    workers: int = 1
    gpus: int = 0
    threads: int = 1
    decode_threads: int = 2
    max_batch: int = 0
    max_queue: int = 64
    max_body_mib: int = 10
    max_megapixels: int = 50
    body_timeout_s: int = 10
    deadline_ms: int = 10_000
    max_invalid: int = 3
    token: str = field(default="", repr=False)
    token_file: str = ""
    header_timeout_s: int = 10
    grace_s: int = 1
    drain_s: int = 30
    max_deaths: int = 5
    deaths_window_s: int = 60
    drift: int = 1
    oip: int = 1
    tracing: int = 0
    watch_s: int = 0
    control: str = ""

    def __post_init__(self) -> None:
        for one in fields(self):
            value = getattr(self, one.name)
            least, most = LEAST.get(one.name, 1), LARGEST.get(one.name, 4096)
            if isinstance(value, int) and not least <= value <= most:
                raise UsageError(f"{_variable(one.name)}={value}: expected {least} to {most}.")
        _checked_token(self.token, TOKEN)

    @property
    def bearer(self) -> str:
        """The token, wherever it is; empty for none. A file is read now.

        Raises:
            UsageError: both are given; the file cannot be read or is empty; no header can carry it.
        """
        return _bearer(self.token, self.token_file)


def settings_from_env(environ: Mapping[str, str]) -> Settings:
    """Read STILLROOM_* variables. A Bento has its artifact inside, and needs none of them.

    Raises:
        UsageError: STILLROOM_ARTIFACT is missing, a value does not parse, or a name is misspelt.
    """
    known = {_variable(one.name): one for one in fields(Settings)}
    for name in environ:
        if name.startswith(PREFIX) and name not in known:
            _refuse_near_miss(name, list(known))
    values: dict[str, object] = {}
    packed = Path(__file__).parents[1] / PACKED
    if (packed / MANIFEST).is_file():
        values["artifact"] = packed
    elif not environ.get("STILLROOM_ARTIFACT"):
        raise UsageError(
            "STILLROOM_ARTIFACT is not set; expected the artifact folder.",
            "Run stillroom serve RUN, or STILLROOM_ARTIFACT=RUN/artifact bentoml serve "
            "serve.service:Classifier",
        )
    for name, one in known.items():
        if name not in environ or not (environ[name] or one.name != "artifact"):
            continue
        values[one.name] = _parsed(name, environ[name], str(one.type))
    return Settings(**values)  # type: ignore[arg-type]  # every value was parsed to its field's type


def env_from_settings(settings: Settings) -> dict[str, str]:
    """The variables that `settings_from_env` reads back; paths made absolute."""
    values = {one.name: getattr(settings, one.name) for one in fields(settings)}
    values["artifact"] = settings.artifact.resolve()
    if settings.token_file:
        values["token_file"] = Path(settings.token_file).resolve()
    return {_variable(name): str(value) for name, value in values.items()}


def bearer_from_env(environ: Mapping[str, str]) -> str:
    """The token that a client sends: as `Settings.bearer`, without any other setting.

    Raises:
        UsageError: as `Settings.bearer`.
    """
    return _bearer(environ.get(TOKEN, ""), environ.get(TOKEN_FILE, ""))


def _bearer(text: str, file: str) -> str:
    """The token itself, or what is in the file, without the line's end; empty for neither."""
    if text and file:
        raise UsageError(f"{TOKEN} and {TOKEN_FILE} are both set.", "Unset one of them.")
    if not file:
        return _checked_token(text, TOKEN)
    try:
        found = Path(file).read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{TOKEN_FILE}={file!r} cannot be read ({type(error).__name__}).",
            "Name a file that holds the token and nothing else.",
        ) from None
    if not found:
        raise UsageError(f"{TOKEN_FILE}={file!r} is empty.", "Make one: openssl rand -hex 32")
    return _checked_token(found, TOKEN_FILE)


def _checked_token(token: str, source: str) -> str:
    """The token as it is, if a header can carry it."""
    if token.isascii() and token.isprintable() and " " not in token:
        return token
    raise UsageError(
        f"{source} holds a blank or another character that a header cannot carry.",
        "Make one: openssl rand -hex 32",
    )


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
            f"{name} is not a setting of the service.", f"Did you mean {near[0]}? Else unset it."
        )
