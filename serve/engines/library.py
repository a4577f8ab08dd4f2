"""EngineLibrary: which TensorRT is here, `tensorrt` (10 or 11) or `tensorrt_rtx`, and what it says.

Both have the same classes under the same names, so that the rest of the code asks one question
only: can this library compile ahead of time for a named GPU (TensorRT-RTX), or does it measure the
GPU that is present (full TensorRT)?

TensorRT returns None or False where another library raises, and says why in its log. So every call
is given a log that keeps the errors, and `checked` raises with them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from serve.contract.errors import EngineError

__all__ = [
    "EngineLibrary",
    "EngineLog",
    "find_engine_library",
    "installed_engine_libraries",
    "plain",
]

LIBRARIES = ("tensorrt", "tensorrt_rtx")  # where both are installed, the first is taken
SHOWN = 3  # messages of one error
FOLDERS = re.compile(r"(?:/[\w.+-]+)+/")  # of an absolute path; a server may show these messages


@dataclass(frozen=True)
class EngineLibrary:
    """An imported TensorRT.

    Args:
        module: `tensorrt` or `tensorrt_rtx`.
    """

    module: Any

    @property
    def version(self) -> str:
        """Name and version, for example "tensorrt_rtx 1.7.1.116": what a plan is valid for."""
        return f"{self.module.__name__} {self.module.__version__}"

    @property
    def is_ahead_of_time(self) -> bool:
        """Whether it compiles for a named compute capability, with or without a GPU."""
        return hasattr(self.module, "ComputeCapability")

    @property
    def gpus(self) -> tuple[str, ...]:
        """Names that an ahead-of-time build takes, such as "sm86"; empty for full TensorRT."""
        if not self.is_ahead_of_time:
            return ()
        names = self.module.ComputeCapability.__members__
        return tuple(name.lower() for name in names if name.startswith("SM"))

    def require_gpu(self, name: str) -> None:
        """Refuse a GPU that an ahead-of-time build does not know.

        Raises:
            EngineError: names those that it knows.
        """
        if name not in self.gpus:
            raise EngineError(
                f"{self.version} does not build for {name!r}; it knows {', '.join(self.gpus)}.",
                "Name one of these with --gpu; for another GPU, install full TensorRT there: "
                'pip install ".[tensorrt]"',
            )

    def open_log(self) -> EngineLog:
        """A log for one build or one runner."""
        return EngineLog(self.module)


class EngineLog:
    """Keeps the errors that TensorRT logs.

    Attributes:
        handle: TensorRT's own logger object; it must outlive what was made with it.
        errors: messages so far, oldest first.
    """

    def __init__(self, module: Any) -> None:
        self.errors: list[str] = []
        self.handle = _logger_class(module)(self.errors)

    def checked(self, result: Any, what: str, next_step: str = "") -> Any:
        """Give a result back, unless TensorRT says by None or False that it failed.

        Raises:
            EngineError: it failed; carries what TensorRT logged.
        """
        if result is None or result is False:
            why = "; ".join(self.errors[-SHOWN:]) or "TensorRT gave no reason"
            raise EngineError(f"{what}: {why.rstrip('.')}.", next_step)
        return result


def plain(message: str) -> str:
    """A message of a library on one line, without the folders in it."""
    return FOLDERS.sub("", " ".join(message.split()))


def installed_engine_libraries(*, ahead_of_time: bool = False) -> list[str]:
    """Names of the TensorRTs that are installed here, none of them imported.

    Args:
        ahead_of_time: only those that build for a named GPU.

    Raises:
        EngineError: none is.
    """
    wanted = ("tensorrt_rtx",) if ahead_of_time else LIBRARIES
    if found := [name for name in wanted if find_spec(name) is not None]:
        return found
    raise _no_library(_missing(ahead_of_time), ahead_of_time)


def find_engine_library(*, ahead_of_time: bool = False) -> EngineLibrary:
    """The TensorRT that is installed here; imported on the first call, which takes 120 MiB.

    Args:
        ahead_of_time: take only one that builds for a named GPU.

    Raises:
        EngineError: none is installed, or it does not load.
    """
    broken = []
    for name in installed_engine_libraries(ahead_of_time=ahead_of_time):
        try:
            return EngineLibrary(import_module(name))
        except (ImportError, OSError, RuntimeError) as error:  # a shared library is missing
            broken.append(f"{name} is installed but does not load ({_first_line(error)})")
    raise _no_library("; ".join(broken), ahead_of_time)


def _no_library(why: str, ahead_of_time: bool) -> EngineError:
    extra = "tensorrt-rtx" if ahead_of_time else "tensorrt"
    return EngineError(
        f"{why}.", f'From a checkout: pip install ".[{extra}]", or uv sync --extra {extra}.'
    )


def _missing(ahead_of_time: bool) -> str:
    if ahead_of_time:
        return "TensorRT-RTX, which builds for a GPU that is not here, is not installed"
    return "TensorRT is not installed"


def _logger_class(module: Any) -> Any:
    serious = (module.ILogger.Severity.ERROR, module.ILogger.Severity.INTERNAL_ERROR)

    class Logger(module.ILogger):  # type: ignore[misc]  # a class of that module
        def __init__(self, errors: list[str]) -> None:
            module.ILogger.__init__(self)
            self._errors = errors

        def log(self, severity: Any, message: str) -> None:
            if severity in serious:
                self._errors.append(plain(message))

    return Logger


def _first_line(error: Exception) -> str:
    return plain((str(error).strip().splitlines() or [type(error).__name__])[0])[:200]
