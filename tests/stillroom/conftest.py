"""A folder of tiny images, the command line, and one whole run of it."""

from __future__ import annotations

import subprocess
import sys
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stillroom import cli

COLOURS = {"blue": (40, 60, 200), "green": (50, 180, 60), "red": (200, 50, 50)}
TINY = (
    "data.test_fraction=0.5",
    "teacher.arch=test_resnet",
    "teacher.weights=none",
    "teacher.head_epochs=1",
    "teacher.train_size_px=32",
    "teacher.epochs=2",
    "teacher.workers=0",
    "teacher.batch_size=32",
    "student.arch=test_efficientnet",
    "student.weights=none",
    "student.train_size_px=32",
    "student.epochs=2",
    "student.workers=0",
    "student.batch_size=32",
    "fixres.test_size_px=40",
    "fixres.epochs=1",
    "loadtest.duration_s=1.5",
    "loadtest.users=2",
)


OLD_RUN = Path(__file__).parent / "old_run" / "run.tar.xz"  # old_run/README.md says what is in it

# `stillroom`, which leaves the names of all modules it loaded in modules.txt, where it runs.
NAMES_ITS_MODULES = """
import pathlib, sys
from stillroom.cli import main
try:
    main()
finally:
    pathlib.Path("modules.txt").write_text("\\n".join(sorted(sys.modules)))
"""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What needs a finished run belongs to the tier of whole paths, but for one test."""
    for item in items:
        if "tiny_run" in getattr(item, "fixturenames", ()) and not item.get_closest_marker("smoke"):
            item.add_marker(pytest.mark.e2e)


@dataclass(frozen=True)
class Outcome:
    """What a command did."""

    code: int
    out: str
    err: str


def write_photos(folder: Path, per_class: int) -> None:
    """JPEGs of a coloured blob on noise; each file has bytes of its own."""
    random = np.random.default_rng(0)
    for label, colour in COLOURS.items():
        (folder / label).mkdir(parents=True)
        for number in range(per_class):
            pixels = random.integers(0, 120, (40, 48, 3), dtype=np.uint8)
            top, left = random.integers(0, 20, 2)
            pixels[top : top + 18, left : left + 24] = colour
            Image.fromarray(pixels).save(folder / label / f"{number:03d}.jpg", quality=90)


@pytest.fixture
def stillroom(capsys, monkeypatch) -> Callable[..., Outcome]:
    """Run the console script in this process."""

    def run(*arguments: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["stillroom", *map(str, arguments)])
        monkeypatch.setattr("signal.signal", lambda *_: None)
        with pytest.raises(SystemExit) as caught:
            cli.main()
        printed = capsys.readouterr()
        return Outcome(int(caught.value.code or 0), printed.out, printed.err)

    return run


@pytest.fixture
def few_photos(tmp_path) -> Path:
    folder = tmp_path / "photos"
    write_photos(folder, 8)
    return folder


@pytest.fixture(scope="session")
def tiny_photos(tmp_path_factory) -> Path:
    """630 images of three classes: 315 of them in the test split, so parity is conclusive."""
    folder = tmp_path_factory.mktemp("tiny") / "photos"
    write_photos(folder, 210)
    return folder


@pytest.fixture(scope="session")
def tiny_run(tiny_photos) -> Path:
    """A finished run of the whole pipeline; do not change it, copy it."""
    run = tiny_photos.parent / "run"
    command = [sys.executable, "-c", NAMES_ITS_MODULES, "run", str(tiny_photos), "--run", str(run)]
    done = subprocess.run(
        [*command, *TINY], capture_output=True, text=True, check=False, cwd=tiny_photos.parent
    )
    assert done.returncode == 0, done.stderr
    return run


@pytest.fixture(scope="session")
def unpacked_old_run(tmp_path_factory) -> Path:
    """A folder with photos/ and run/, a run made at commit 404c1f5; do not change it."""
    folder = tmp_path_factory.mktemp("old")
    unpack_old_run(folder)
    return folder


@pytest.fixture
def old_run(tmp_path) -> Path:
    """As `unpacked_old_run`, to be changed."""
    unpack_old_run(tmp_path)
    return tmp_path


def unpack_old_run(folder: Path) -> None:
    """Unpack, and say in run.json where the images are now."""
    with tarfile.open(OLD_RUN) as archive:
        archive.extractall(folder, filter="data")
    record = folder / "run" / "run.json"
    text = record.read_text().replace("/tmp/stillroom-old/photos", str(folder / "photos"))
    record.write_text(text)
