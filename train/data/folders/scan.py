"""What a folder holds: the images that are taken, and everything else with the reason why not.

One walk serves every place that lists the images of a folder. The content decides what is an image;
it is looked at only where the name does not say so already.
"""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from serve.contract.image.sniff import kind_of
from train.data.folders.notices import Notice, Reason, printable

__all__ = ["SUFFIXES", "Scan", "scan_folder", "why_no_image"]

SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".jfi", ".jif", ".pjpeg", ".pjp", ".mpo", ".png", ".webp"}
)
HEAD = 1024  # bytes that tell what a file is
WORD = re.compile(r"\.[a-z][a-z0-9_-]*", re.IGNORECASE)  # a suffix that says what a file is
COPY = re.compile(r"(~|[._](bak|old|orig|original|tmp|part|partial|crdownload|download))$", re.I)
IMAGE = re.compile(r"image|raw file|drawing|Photoshop|GIMP|OpenEXR|texture")  # of `kind_of`
SYSTEM_FILES = frozenset(
    {"thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "picasa.ini", "icon\r"}
)
# Folders that programs keep beside images: thumbnails, bins, snapshots, caches, version control.
COMPANIONS = frozenset(
    "@eadir @tmp @recycle #recycle #snapshot .snapshot .snapshots @recently-snapshot .@__thumb "  # noqa: SIM905  # not a page
    "$recycle.bin recycler __macosx .appledouble .trash .trashes .trash-1000 .spotlight-v100 "
    ".fseventsd .temporaryitems .documentrevisions-v100 .ipynb_checkpoints __pycache__ .thumbnails "
    ".thumbs .picasaoriginals .xvpics .comments lost+found lost.dir .git .svn .hg .dvc .cache "
    ".venv .idea .vscode .sync .stfolder .stversions .dropbox .dropbox.cache".split()
) | {"system volume information"}


@dataclass
class Scan:
    """What one walk found; paths are relative to the folder, with forward slashes.

    Args:
        images: that are taken, sorted.
        folders: that were read, sorted.
        notices: what was passed over, and why.
    """

    images: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)


@dataclass(frozen=True)
class _Folder:
    """A folder to read.

    Args:
        path: as the user sees it, below the root; empty for the root.
        real: where it lies.
        left: folders that links were followed from, on the way here.
        branch: the first of those links; empty without one.
    """

    path: str
    real: str
    left: tuple[str, ...] = ()
    branch: str = ""


def scan_folder(root: Path) -> Scan:
    """Walk a folder in depth.

    Linked folders are followed, each once for every link outside of linked folders, and never into
    a folder that holds the link.

    Raises:
        OSError: the folder itself cannot be read.
    """
    scan = Scan()
    seen: set[tuple[str, str]] = set()
    todo: deque[_Folder] = deque([_Folder("", os.path.realpath(root))])
    while todo:
        folder = todo.popleft()
        if (folder.branch, folder.real) in seen:
            scan.notices.append(Notice(folder.path, "again"))
            continue
        seen.add((folder.branch, folder.real))
        if folder.path:
            scan.folders.append(folder.path)
        for inner, is_link in _read(root, folder, scan):
            # Real folders first: what lies in the place itself is never named by a link to it.
            todo.append(inner) if is_link else todo.appendleft(inner)
    scan.images.sort()
    scan.folders.sort()
    _mark_converted(scan)
    scan.notices = [
        replace(one, path=printable(one.path), what=printable(one.what)) for one in scan.notices
    ]
    return scan


def why_no_image(file: Path) -> str:
    """What a file is that is not taken for an image; empty for one that is, by its content."""
    try:
        head = _head_of(file)
    except OSError as error:
        return _why(error)
    if _format_of(head):
        return ""
    return f"this is {kind_of(head).name or 'no image'}, and JPEG, PNG and WebP are read"


def _read(root: Path, folder: _Folder, scan: Scan) -> Iterator[tuple[_Folder, bool]]:
    """Take what lies in a folder; yield the folders in it, and whether they are links."""
    try:
        entries = list(os.scandir(root / folder.path))
    except OSError as error:
        if not folder.path:
            raise
        scan.notices.append(Notice(folder.path, "denied", _why(error)))
        return
    for entry in entries:
        path = f"{folder.path}/{entry.name}" if folder.path else entry.name
        try:
            is_folder, is_file = entry.is_dir(), entry.is_file()
        except OSError as error:  # links in a circle, or rights
            is_link = entry.is_symlink()
            scan.notices.append(Notice(path, "dangling" if is_link else "denied", _why(error)))
            continue
        if is_folder:
            yield from _inner(folder, entry, path, scan)
        elif reason := _reason_by_name(entry.name):
            scan.notices.append(Notice(path, reason))
        elif is_file:
            _take(root / path, path, scan)
        elif entry.is_symlink() and not Path(entry.path).exists():
            scan.notices.append(Notice(path, "dangling", str(Path(entry.path).readlink())))
        else:
            scan.notices.append(Notice(path, "special"))


def _inner(
    folder: _Folder, entry: os.DirEntry[str], path: str, scan: Scan
) -> Iterator[tuple[_Folder, bool]]:
    if entry.name.lower() in COMPANIONS:
        scan.notices.append(Notice(path, "companion", entry.name))
    elif entry.name.startswith("."):
        count = _images_below(entry.path)
        what = "1 image" if count == 1 else f"{count} images"
        scan.notices.append(
            Notice(path, "hidden_images", what) if count else Notice(path, "hidden")
        )
    elif not entry.is_symlink():
        yield _Folder(path, f"{folder.real}/{entry.name}", folder.left, folder.branch), False
    else:
        real, left = os.path.realpath(entry.path), (*folder.left, folder.real)
        if any(f"{holder}/".startswith(f"{real.rstrip('/')}/") for holder in left):
            scan.notices.append(Notice(path, "cycle", str(Path(entry.path).readlink())))
        else:
            yield _Folder(path, real, left, folder.branch or path), True


def _reason_by_name(name: str) -> Reason | None:
    """Why a file is passed over unopened."""
    if name.startswith(".") or name.lower() in SYSTEM_FILES:
        return "hidden"
    return "copy" if COPY.search(name) else None


def _take(file: Path, path: str, scan: Scan) -> None:
    """Take an image by its name, or else by its content; of what is none, note what it is."""
    suffix = _suffix(path)
    if suffix in SUFFIXES:
        scan.images.append(path)
        return
    try:
        head = _head_of(file)
    except OSError as error:
        scan.notices.append(Notice(path, "denied", _why(error)))
        return
    if found := _format_of(head):
        scan.images.append(path)
        if WORD.fullmatch(suffix):
            scan.notices.append(Notice(path, "other_suffix", f"{found} named {suffix}"))
        return
    kind = re.sub(r"^an? ", "", kind_of(head).name)
    reason: Reason = "format" if IMAGE.search(kind) else "other"
    scan.notices.append(Notice(path, reason, kind or suffix))


def _head_of(file: Path) -> bytes:
    with file.open("rb") as opened:
        return opened.read(HEAD)


def _suffix(name: str) -> str:
    """With its dot, in lower case; a plain function, for folders of a million names."""
    dot = name.rfind(".")
    return "" if dot <= name.rfind("/") + 1 else name[dot:].lower()


def _format_of(head: bytes) -> str:
    if head.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    return "WebP" if head.startswith(b"RIFF") and head[8:12] == b"WEBP" else ""


def _images_below(folder: str) -> int:
    names = (name for _, _, files in os.walk(folder) for name in files)
    return sum(_suffix(name) in SUFFIXES and not name.startswith(".") for name in names)


def _mark_converted(scan: Scan) -> None:
    """An image of another format beside its copy by `stillroom convert` is not missing."""
    images = set(scan.images)
    scan.notices = [
        Notice(one.path, "converted", one.what)
        if one.reason == "format" and f"{one.path}.png" in images
        else one
        for one in sorted(scan.notices, key=lambda notice: notice.path)
    ]


def _why(error: OSError) -> str:
    return error.strerror or type(error).__name__
