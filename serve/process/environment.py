"""Environment: what every process of ours settles before it imports a library.

* No library may report to its maker what runs here.
* Libraries that keep files get a folder, where the process has none that it can use. A container's
  user often has no passwd entry, no HOME, or a home on a read-only file system; BentoML makes
  folders in its own before it looks at a service, and would end in a traceback.

`serve/__init__.py` calls both, and every other package of ours imports that first, so that
commands, workers and child processes are all covered.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import MutableMapping
from pathlib import Path

__all__ = ["SWITCHES", "is_private", "settle_home", "switch_reports_off", "user_folder"]

SWITCHES = {
    "ORT_DISABLE_TELEMETRY": "1",  # ONNX Runtime from 1.29 on: a device id, events and a look-up
    "BENTOML_DO_NOT_TRACK": "True",
    "HF_HUB_DISABLE_TELEMETRY": "1",  # what timm fetches weights with
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "1",  # donottrack.sh, for those that come later
}
BENTOML_FOLDERS = ("bentos", "models", "envs", "tmp")


def switch_reports_off(environ: MutableMapping[str, str]) -> None:
    """Set the variables, over any that would turn reports on.

    Spans and curves that a user asks for go where the user says; they are no reports.
    """
    environ.update(SWITCHES)
    asked = sys.modules.get("bentoml._internal.utils.analytics.usage_stats")
    if asked is not None:  # `bentoml serve` has looked already, and keeps what it saw
        asked.do_not_track.cache_clear()


def settle_home(environ: MutableMapping[str, str]) -> None:
    """Set HOME and USER where the system knows neither, and BENTOML_HOME where BentoML's fails.

    Both are then in a private folder below the temporary one, where the next command finds what
    this one left. Without such a folder nothing changes, and whoever needs one says so.
    """
    if _home() is None and (home := _substitute()):
        environ["HOME"] = str(home)
        if not any(environ.get(name) for name in ("LOGNAME", "USER", "LNAME", "USERNAME")):
            environ["USER"] = str(os.getuid())  # all that getpass asks before the passwd file
    told = environ.get("BENTOML_HOME")
    wanted = Path(told) if told else (_home() or Path()) / "bentoml"
    if not _serves_bentoml(wanted) and (home := _substitute()):
        environ["BENTOML_HOME"] = str(home / "bentoml")


def user_folder() -> Path:
    """Where this user's files are that live as long as the machine runs; it may not be there yet.

    Raises:
        FileNotFoundError: no temporary folder can be written.
    """
    import tempfile  # not paid for by a process that needs none

    return Path(tempfile.gettempdir()) / f"stillroom-{os.getuid()}"


def is_private(folder: Path) -> bool:
    """Whether it is a folder, no link, that only this user can reach."""
    found = folder.lstat()
    ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()
    return ours and not found.st_mode & 0o077


def _home() -> Path | None:
    try:
        home = Path.home()
    except RuntimeError:  # neither HOME nor an entry in the passwd file
        return None
    return home if home.is_absolute() else None


def _substitute() -> Path | None:
    try:
        folder = user_folder()
        folder.mkdir(mode=0o700, exist_ok=True)
        if not is_private(folder):  # what others put there must not be taken for the user's own
            return None
        (folder / "home").mkdir(mode=0o700, exist_ok=True)
    except OSError:
        return None
    return folder / "home"


def _serves_bentoml(home: Path) -> bool:
    """Whether BentoML finds its folders there, or can make them."""
    return home.is_absolute() and all(
        (home / name).is_dir() or _can_be_made(home / name) for name in BENTOML_FOLDERS
    )


def _can_be_made(folder: Path) -> bool:
    above = next(parent for parent in folder.parents if os.path.lexists(parent))
    return above.is_dir() and os.access(above, os.W_OK | os.X_OK)
