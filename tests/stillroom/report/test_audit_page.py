from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from serve.contract.errors import GateError
from stillroom.commands.data.audit import require_sound, show_audit
from stillroom.report.audit_page import MAX_GROUPS, write_audit_page
from tests.train.toy import write_photos
from train.data.audit.dataset_audit import audit_images
from train.data.images import read_index
from train.options import DataOptions


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_photos(tmp_path / "photos", count=8)


def _page(root: Path, run: Path) -> str:
    data = run / "data"
    data.mkdir(parents=True, exist_ok=True)
    audit = audit_images(root, DataOptions(unreadable="skip"), seed=0, out=data)
    write_audit_page(root, read_index(data / "index.csv"), audit, data / "audit.html")
    return (data / "audit.html").read_text("utf-8")


def _spoil(root: Path) -> None:
    shutil.copy(root / "bell" / "001.jpg", root / "aster" / "odd.jpg")
    shutil.copy(root / "bell" / "002.jpg", root / "bell" / "again.jpg")
    Image.new("RGB", (40, 30)).save(root / "bell" / "black.png")
    (root / "bell" / "cut.jpg").write_bytes(b"")


def test_sound_photographs_say_so(root: Path, tmp_path: Path) -> None:
    page = _page(root, tmp_path / "run")
    assert 'class="verdict passed"' in page
    assert "24 images in 3 classes: every file decodes" in page
    assert 'id="problems"' not in page
    assert page.count("<img ") == 24  # every image is on a contact sheet


def test_every_problem_is_shown_with_its_pictures(root: Path, tmp_path: Path) -> None:
    _spoil(root)
    page = _page(root, tmp_path / "run")
    assert 'class="verdict failed"' in page
    assert "1 under two labels, 1 not decoding, 1 showing nothing." in page
    assert re.findall(r'<h3 id="(\w+)"', page) == [
        "conflict",
        "unreadable",
        "constant",
        "duplicate",
    ]
    assert "bell/cut.jpg does not decode: The body holds no bytes." in page
    assert page.count("The same bytes.") == 2
    assert page.count('alt="Image filed under') == 2 + 1 + 2


def test_the_page_needs_no_other_file_and_no_host(root: Path, tmp_path: Path) -> None:
    page = _page(root, tmp_path / "run")
    assert not re.search(r'(?:src|href)="(?!data:|#)', page)
    assert "http://" not in page
    assert "https://" not in page
    assert "<script" not in page


def test_equal_photographs_give_equal_pages(root: Path, tmp_path: Path) -> None:
    _spoil(root)
    page = _page(root, tmp_path / "run")
    assert _page(Path(shutil.copytree(root, tmp_path / "b" / "copy")), tmp_path / "other") == page


def test_names_are_text_not_markup(root: Path, tmp_path: Path) -> None:
    (root / "bell").rename(root / "<b>&bell")
    (root / "<b>&bell" / "001.jpg").rename(root / "<b>&bell" / "<i>.jpg")
    page = _page(root, tmp_path / "run")
    assert "<b>&bell" not in page
    assert "&lt;b&gt;&amp;bell" in page


def test_many_problems_are_counted_beyond_those_shown(root: Path, tmp_path: Path) -> None:
    write_photos(root, count=MAX_GROUPS + 6, classes=("aster",))
    for path in sorted((root / "aster").iterdir()):
        shutil.copy(path, path.with_name(f"copy-{path.name}"))
    page = _page(root, tmp_path / "run")
    assert page.count("The same bytes.") == MAX_GROUPS
    assert "6 more in audit.json." in page


def test_many_classes_are_folded_and_bounded(tmp_path: Path) -> None:
    classes = tuple(f"class{number:02d}" for number in range(24))
    root = write_photos(tmp_path / "photos", count=20, classes=classes)
    page = _page(root, tmp_path / "run")
    assert page.count("<summary>class") == 24
    assert page.count('width="96"') == 24 * (400 // 24)


def test_a_photograph_that_is_gone_leaves_its_place_empty(root: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    _page(root, run)
    audit: dict[str, Any] = json.loads((run / "data" / "audit.json").read_bytes())
    (root / "bell" / "001.jpg").unlink()
    write_audit_page(root, read_index(run / "data" / "index.csv"), audit, run / "page.html")
    assert (run / "page.html").read_text("utf-8").count('class="gone"') == 1


def test_strict_refuses_errors_and_says_where_to_look(root: Path, tmp_path: Path) -> None:
    _spoil(root)
    _page(root, tmp_path / "run")
    with pytest.raises(GateError, match="The audit has 3 errors: one picture under two") as caught:
        require_sound(tmp_path / "run" / "data")
    assert caught.value.exit_code == 1
    assert "audit.html" in caught.value.next_step


def test_strict_lets_warnings_pass(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(root / "bell" / "002.jpg", root / "bell" / "again.jpg")
    _page(root, tmp_path / "run")
    show_audit(tmp_path / "run", strict=True)
    assert "1 image is stored more than once." in capsys.readouterr().out


def test_without_strict_errors_are_shown_only(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _spoil(root)
    _page(root, tmp_path / "run")
    show_audit(tmp_path / "run", strict=False)
    assert "is filed under aster and bell." in capsys.readouterr().out
