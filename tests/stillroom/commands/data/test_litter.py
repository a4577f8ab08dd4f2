"""What lies in a folder of images beside them: read, or passed over and said."""

from __future__ import annotations

import json
import os
import shutil
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from serve.contract.preprocess import decode
from train.data.folder import find_unlabelled
from train.data.images import read_index


@pytest.fixture
def audit(stillroom, few_photos, tmp_path):
    """Audit the folder; exit code with --strict, what was printed, audit.json and the page."""

    def run(*overrides: str) -> tuple[int, str, dict[str, Any], str]:
        outcome = stillroom("audit", few_photos, *overrides, "--run", tmp_path / "r", "--strict")
        data = tmp_path / "r" / "data"
        if not data.exists():
            return outcome.code, outcome.err, {}, ""
        page = (data / "audit.html").read_text(encoding="utf-8")
        return outcome.code, outcome.out, json.loads((data / "audit.json").read_bytes()), page

    return run


def _draw(seed: int) -> Image.Image:
    levels = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(levels).resize((48, 40), Image.Resampling.BICUBIC)


def _save(path: Path, seed: int, kind: str = "JPEG") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    _draw(seed).save(path, kind)


def _passed_over(found: dict[str, Any]) -> set[tuple[str, str, int]]:
    return {(one["reason"], one["class"], one["count"]) for one in found["passed_over"]}


def test_a_clean_folder_has_nothing_to_say(audit):
    code, out, found, page = audit()
    assert code == 0
    assert found["passed_over"] == found["remarks"] == []
    assert "No findings." in out
    assert "Passed over" not in page


def test_the_content_decides_what_is_an_image(audit, few_photos, tmp_path):
    names = ("a.jfif", "b.JPE", "c", "d.JPG", "e.pjpeg", "2024.05.06")
    for seed, name in enumerate(names):
        _save(few_photos / "red" / name, seed)
    _save(few_photos / "red" / "png.jpg", 90, "PNG")
    _save(few_photos / "red" / "webp", 91, "WEBP")
    code, out, found, _ = audit()
    assert code == 0
    assert "No findings." in out
    paths = {photo.path for photo in read_index(tmp_path / "r" / "data" / "index.csv")}
    assert {f"red/{name}" for name in (*names, "png.jpg", "webp")} <= paths
    assert found["passed_over"] == []


@pytest.mark.parametrize("suffix", ["bmp", "tif", "gif", "dat"])
def test_an_image_under_the_name_of_something_else_is_read_and_said(audit, few_photos, suffix):
    for seed in range(3):
        _save(few_photos / "red" / f"{seed}.{suffix}", seed)
    code, out, found, page = audit()
    assert code == 1
    assert found["photos"] == 27
    assert f"3 images are named as something else; they were read (JPEG named .{suffix} 3)" in out
    assert 'id="other_suffix"' in page


@pytest.mark.parametrize(
    ("name", "kind", "what"),
    [("x.bmp", "BMP", "BMP image"), ("x.tiff", "TIFF", "TIFF image"), ("x", "GIF", "GIF image")],
)
def test_images_of_other_formats_are_counted_by_class(audit, few_photos, name, kind, what):
    for label, count in (("red", 2), ("blue", 1)):
        for seed in range(count):
            _save(few_photos / label / f"{seed}{name}", seed, kind)
    code, out, found, page = audit()
    assert code == 1
    assert found["photos"] == 24
    assert _passed_over(found) == {("format", "red", 2), ("format", "blue", 1)}
    assert "3 images are of formats that are not read" in out
    assert "in red 2, blue 1" in out
    assert f"stillroom convert {few_photos}" in out
    assert what in page


def test_a_class_of_tiffs_alone_is_refused_with_the_command(stillroom, few_photos, tmp_path):
    for seed in range(4):
        _save(few_photos / "steel" / f"{seed}.tif", seed, "TIFF")
    outcome = stillroom("audit", few_photos, "--run", tmp_path / "r")
    assert outcome.code == 2
    assert "steel holds no images" in outcome.err
    assert "TIFF image" in outcome.err
    assert "stillroom convert" in outcome.err


def test_converted_copies_are_read_with_every_level(audit, stillroom, few_photos, tmp_path):
    deep = np.random.default_rng(1).integers(0, 65536, (40, 48)).astype(np.uint16)
    Image.fromarray(deep).save(few_photos / "red" / "deep.tif")
    Image.fromarray(deep).save(few_photos / "red" / "white.tif", tiffinfo={262: 0})
    _save(few_photos / "red" / "a.bmp", 2, "BMP")
    _save(few_photos / "blue" / "a.b.tiff", 3, "TIFF")
    _save(few_photos / "blue" / "one.gif", 4, "GIF")
    before = (few_photos / "red" / "a.bmp").read_bytes()
    done = stillroom("convert", few_photos)
    assert done.code == 0, done.err
    assert "5 converted to PNG" in done.out
    assert (few_photos / "red" / "a.bmp").read_bytes() == before
    copies = few_photos / "red"
    assert np.array_equal(np.asarray(Image.open(copies / "deep.tif.png")), deep)
    assert np.array_equal(np.asarray(Image.open(copies / "white.tif.png")), 65535 - deep)
    data = (copies / "a.bmp.png").read_bytes()
    assert np.array_equal(np.asarray(decode(data)), np.asarray(Image.open(copies / "a.bmp")))
    code, _, found, _ = audit()
    assert code == 0
    assert found["photos"] == 29
    assert _passed_over(found) == {("converted", "red", 3), ("converted", "blue", 2)}
    assert "0 converted" in stillroom("convert", few_photos).out


def test_what_cannot_be_converted_is_named_and_the_rest_is(stillroom, few_photos):
    red = few_photos / "red"
    _save(red / "good.bmp", 1, "BMP")
    floats = Image.fromarray(np.random.default_rng(1).random((9, 9)).astype(np.float32))
    floats.save(red / "floats.tif")
    _draw(1).save(red / "stack.tif", save_all=True, append_images=[_draw(2), _draw(3)])
    (red / "phone.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    (red / "cut.bmp").write_bytes((red / "good.bmp").read_bytes()[:60])
    done = stillroom("convert", few_photos)
    assert done.code == 2
    assert "4 of 5 images were not converted" in done.err
    assert "1 converted to PNG" in done.out
    assert "red/floats.tif: its levels are floating-point numbers" in done.out
    assert "red/stack.tif: it holds 3 images" in done.out
    assert "red/phone.heic: Pillow cannot open it (HEIC image)" in done.out
    assert "red/cut.bmp: " in done.out
    assert sorted(p.name for p in red.iterdir() if "png" in p.name) == ["good.bmp.png"]


@pytest.mark.parametrize(
    "place",
    ["red/@eaDir/000.jpg", "__MACOSX/red", "blue/.thumbnails", "#recycle", "red/LOST+FOUND"],
)
def test_folders_of_other_programs_are_passed_over_and_said(audit, few_photos, place):
    for seed in range(3):
        _save(few_photos / place / f"{seed}.jpg", seed)
    code, out, found, page = audit()
    assert code == 0
    assert found["photos"] == 24
    (one,) = found["passed_over"]
    assert (one["reason"], one["severity"], one["count"]) == ("companion", "note", 1)
    assert "Passed over: 1 folder of another program" in out
    assert "a folder of another program" in page


def test_hidden_and_system_files_are_counted(audit, few_photos):
    for name in ("._000.jpg", ".DS_Store", "Thumbs.db", "desktop.ini"):
        (few_photos / "red" / name).write_bytes(b"x")
    (few_photos / "red" / "001.jpg~").write_bytes(b"x")
    (few_photos / "red" / "002.jpg.crdownload").write_bytes(b"x")
    (few_photos / "README.md").write_text("hello")
    code, out, found, _ = audit()
    assert code == 0
    assert _passed_over(found) == {("hidden", "red", 4), ("copy", "red", 2), ("other", "", 1)}
    assert "Passed over: 4 hidden or system files" in out


@pytest.mark.parametrize("folder", [".wood", "red/.more"])
def test_a_hidden_folder_of_images_is_an_error(audit, few_photos, folder):
    for seed in range(3):
        _save(few_photos / folder / f"{seed}.jpg", seed)
    (few_photos / ".empty").mkdir()
    code, out, found, _ = audit()
    assert code == 1
    assert found["photos"] == 24
    assert "1 hidden folder holds images and was passed over (3 images)" in out
    assert folder in out


def test_linked_folders_are_read(audit, few_photos, tmp_path):
    for seed in range(3):
        _save(tmp_path / "elsewhere" / "deep" / f"{seed}.jpg", seed)
        _save(tmp_path / "pool" / f"{seed}.jpg", seed + 10)
    (few_photos / "red" / "session2").symlink_to(tmp_path / "elsewhere")
    (few_photos / "yellow").symlink_to(tmp_path / "pool")
    code, _, found, _ = audit()
    assert code == 0
    assert "yellow" in found["labels"]
    index = read_index(tmp_path / "r" / "data" / "index.csv")
    assert sum(p.path.startswith("red/session2/deep/") for p in index) == 3


def test_links_in_circles_end_and_are_said(audit, few_photos):
    red, blue = few_photos / "red", few_photos / "blue"
    (red / "up").symlink_to("..")
    (red / "above").symlink_to(few_photos.parent)
    (few_photos / "all").symlink_to(few_photos)
    (red / "self").symlink_to("self")
    code, out, found, _ = audit()
    assert code == 1  # a link to itself leads nowhere
    assert found["photos"] == 24
    reasons = _passed_over(found)
    assert {("cycle", "red", 2), ("cycle", "", 1), ("dangling", "red", 1)} == reasons
    assert "links to folders that they lie in" in out
    (red / "self").unlink()
    (red / "blue").symlink_to(blue)
    (blue / "red").symlink_to(red)
    code, out, found, _ = audit()
    assert code == 1
    assert found["photos"] == 40  # each class once more within the other: found as one picture
    assert "is filed under blue and red" in out


def test_many_links_to_each_other_end_soon(few_photos):
    for one in range(12):
        (few_photos / f"n{one}").mkdir()
        _save(few_photos / f"n{one}" / "x.jpg", one)
    for one in range(12):
        for other in range(12):
            if one != other:
                (few_photos / f"n{one}" / f"to{other}").symlink_to(few_photos / f"n{other}")
    assert 12 * 12 <= len(find_unlabelled(few_photos)) < 12 * 12 * 13


def test_two_links_to_one_folder_give_duplicates(audit, few_photos, tmp_path):
    _save(tmp_path / "elsewhere" / "x.jpg", 5)
    for name in ("one", "two"):
        (few_photos / "red" / name).symlink_to(tmp_path / "elsewhere")
    _, out, found, _ = audit()
    assert found["duplicates"] == [["red/one/x.jpg", "red/two/x.jpg"]]
    assert "1 image is stored more than once." in out


def test_what_is_no_file_is_named_and_not_opened(audit, few_photos):
    os.mkfifo(few_photos / "red" / "pipe.jpg")
    with socket.socket(socket.AF_UNIX) as opened:
        opened.bind(os.path.relpath(few_photos / "red" / "s.jpg"))
        (few_photos / "red" / "gone.jpg").symlink_to("/gone.jpg")
        code, out, found, _ = audit()
    assert code == 1
    assert _passed_over(found) == {("special", "red", 2), ("dangling", "red", 1)}
    assert "1 link leads nowhere (/gone.jpg), in red: red/gone.jpg" in out


def test_images_outside_of_class_folders_are_a_warning(audit, few_photos):
    _save(few_photos / "sample.jpg", 1)
    code, out, found, page = audit()
    assert code == 0
    assert _passed_over(found) == {("outside", "", 1)}
    assert "1 image lies outside of all class folders and was passed over: sample.jpg." in out
    assert 'id="outside"' in page


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_named(audit, few_photos):
    _save(few_photos / "red" / "locked" / "x.jpg", 1)
    (few_photos / "red" / "locked").chmod(0)
    (few_photos / "red" / "001.jpg").chmod(0)
    code, out, found, _ = audit()
    (few_photos / "red" / "locked").chmod(0o755)
    assert code == 1
    assert _passed_over(found) == {("denied", "red", 1)}
    assert found["unreadable"] == [{"path": "red/001.jpg", "why": "Permission denied"}]
    assert "red/locked" in out


def test_names_of_litter_are_escaped(audit, few_photos):
    folder = os.fsencode(few_photos / "red")
    Path(os.fsdecode(folder + b"/\xe9t\xe9.txt")).write_text("x")
    (few_photos / "red" / "two\nlines.txt").write_text("x")
    code, out, found, _ = audit()
    assert code == 0
    (one,) = found["passed_over"]
    assert one["paths"] == ["red/two\\nlines.txt", "red/\\xe9t\\xe9.txt"]
    assert "first red/two\\nlines.txt" in out


def test_litter_that_is_removed_is_not_found_again(audit, few_photos):
    _save(few_photos / "red" / "x.bmp", 1, "BMP")
    assert audit()[0] == 1
    (few_photos / "red" / "x.bmp").unlink()
    code, _, found, _ = audit()
    assert code == 0
    assert found["passed_over"] == []


def test_notes_leave_a_run_done(audit, stillroom, few_photos, tmp_path):
    assert audit()[0] == 0
    (few_photos / "red" / ".DS_Store").write_bytes(b"x")
    (few_photos / "red" / "@eaDir").mkdir()
    status = stillroom("status", tmp_path / "r").out
    assert " done " in next(line for line in status.splitlines() if line.startswith("audit"))


def test_photos_of_other_commands_are_scanned_by_the_same_rules(stillroom, few_photos, tmp_path):
    pool = tmp_path / "pool"
    shutil.copytree(few_photos / "red", pool)
    _save(pool / "a.jfif", 1)
    _save(pool / "none", 2)
    _save(pool / "@eaDir" / "t.jpg", 3)
    _save(pool / ".hidden.jpg", 4)
    _save(tmp_path / "linked" / "x.jpg", 5)
    (pool / "link").symlink_to(tmp_path / "linked")
    names = {photo.path for photo in find_unlabelled(pool)}
    assert {"a.jfif", "none", "link/x.jpg"} <= names
    assert len(names) == 11


def test_the_keys_of_splits_work_as_typed(audit, few_photos):
    for split, seed in (("Lernen", 0), ("Probe", 50)):
        for number, label in enumerate(("red", "blue")):
            for i in range(3):
                _save(few_photos / split / label / f"{i}.jpg", seed + 10 * number + i)
    for label in ("red", "blue", "green"):
        shutil.rmtree(few_photos / label)
    code, err, _, _ = audit()
    assert code == 2
    assert """'data.splits={train = "Lernen", test = "Probe"}'""" in err
    code, _, found, _ = audit('data.splits={train = "Lernen", test = "Probe"}')
    assert code == 0
    assert found["splits"]["test"] == {"blue": 3, "red": 3}
    code, _, found, _ = audit("data.splits={}", "data.class_level=2")
    assert code == 0
    assert sum(found["splits"]["train"].values()) < 12


def test_defaults_leave_no_trace_in_a_stage(audit, few_photos, tmp_path):
    audit()
    manifest = json.loads((tmp_path / "r" / "data" / "manifest.json").read_bytes())
    assert sorted(manifest["options"]) == [
        "near_duplicates",
        "test_fraction",
        "unreadable",
        "val_fraction",
    ]
