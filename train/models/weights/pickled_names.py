"""Names of the classes and functions in a pickle, read without running it."""

from __future__ import annotations

import io
import pickletools
import zipfile
from pathlib import Path
from typing import BinaryIO

__all__ = ["pickled_names"]

PICKLES = 4  # that torch wrote into one file before it wrote archives
# Of every checkpoint that is read: no news.
PLAIN = ("torch._utils.", "torch.FloatStorage", "torch.LongStorage", "collections.OrderedDict")


def pickled_names(path: Path) -> list[str]:
    """Dotted names, in their order, without those of tensors; empty where there are none."""
    try:
        with zipfile.ZipFile(path) as archive:
            inner = next(n for n in archive.namelist() if n.rpartition("/")[2] == "data.pkl")
            return _names(io.BytesIO(archive.read(inner)))
    except (zipfile.BadZipFile, StopIteration, RuntimeError, OSError):
        with path.open("rb") as file:
            return _names(file)


def _names(file: BinaryIO) -> list[str]:
    names: dict[str, None] = {}
    texts: list[str] = []
    try:
        for _ in range(PICKLES):
            for code, argument, _ in pickletools.genops(file):
                if code.name == "GLOBAL":
                    names[str(argument).replace(" ", ".")] = None
                elif code.name == "STACK_GLOBAL" and len(texts) > 1:
                    names[".".join(texts[-2:])] = None
                elif isinstance(argument, str):
                    texts.append(argument)
    except Exception:  # noqa: BLE001  # no pickle, or damaged: the names so far are all there is
        pass
    return [name for name in names if not name.startswith(PLAIN)]
