"""Terminal: what a load test prints and reads on any of them, however it was set up.

An ASCII terminal cannot show a label such as "pâquerette", and a locale without UTF-8 makes file
names unreadable to what writes JSON and CSV. Neither may end a command. stillroom has a copy of its
own, for a generator imports nothing of the other packages.
"""

from __future__ import annotations

import os
import sys

__all__ = ["settle_terminal"]


def settle_terminal() -> None:
    """Print what the terminal lacks as escapes; start again in UTF-8 mode where names need it.

    The new process has the number of this one. Its terminal keeps its encoding, its files and file
    names are UTF-8, and so are those of its children.
    """
    if sys.getfilesystemencoding() != "utf-8" and not sys.flags.utf8_mode:
        environ = {**os.environ, "PYTHONUTF8": "1"}
        if sys.stdout is not None:
            environ.setdefault("PYTHONIOENCODING", sys.stdout.encoding)
        os.execve(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]], environ)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a test's own has none
            stream.reconfigure(errors="backslashreplace")
