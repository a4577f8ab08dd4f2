"""Names as people bring them: labels, file names and folders that no list could hold."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import unicodedata
from pathlib import Path

import pytest

from tests.stillroom.conftest import write_photos

LATIN = os.fsdecode(b"\xe9t\xe9")


def refused(outcome) -> str:
    assert outcome.code == 2, outcome
    lines = outcome.err.strip().splitlines()
    assert lines[-1].startswith("error: ")
    assert "Traceback" not in outcome.err
    assert lines[-1].isprintable()
    return lines[-1]


def repaired(message: str, photos: Path) -> None:
    """Run the command that a message ends with."""
    command = message[max(message.rfind(" mv -n"), message.rfind(" python3 -c ")) :]
    assert command.strip(), message
    subprocess.run(["bash", "-c", command], check=True, cwd=photos.parent)


@pytest.mark.parametrize(
    "label", ["daisy\r", "daisy ", " daisy", "dai\tsy", "dai\u200bsy", "\ufeffdaisy"]
)
def test_a_label_that_cannot_be_used_is_refused_with_the_line_that_mends_it(
    stillroom, few_photos, tmp_path, label
):
    (few_photos / "red").rename(few_photos / label)
    message = refused(stillroom("audit", few_photos, "--run", tmp_path / "r"))
    assert f"the label {label!a} " in message
    assert "U+" in message
    repaired(message, few_photos)
    assert (few_photos / "daisy" / "001.jpg").is_file()
    assert stillroom("audit", few_photos, "--run", tmp_path / "r").code == 0


def test_a_label_beside_the_one_it_should_be_is_joined_to_it(stillroom, few_photos, tmp_path):
    (few_photos / "red").rename(few_photos / "blue\r")
    for path in (few_photos / "blue\r").iterdir():
        path.rename(path.with_stem(f"red-{path.stem}"))
    message = refused(stillroom("audit", few_photos, "--run", tmp_path / "r"))
    repaired(message, few_photos)
    assert list((few_photos / "blue\r").iterdir()) == []
    assert (few_photos / "blue" / "red-001.jpg").is_file()


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("Tulip", "tulip"),
        ("pâquerette", unicodedata.normalize("NFD", "pâquerette")),
        ("red tulip", "red\u00a0tulip"),
    ],
)
def test_labels_that_look_alike_are_a_finding_and_strict_fails(
    stillroom, few_photos, tmp_path, first, second
):
    (few_photos / "red").rename(few_photos / first)
    (few_photos / "green").rename(few_photos / second)
    outcome = stillroom("audit", few_photos, "--run", tmp_path / "r", "--strict")
    assert outcome.code == 1
    assert "look alike" in outcome.out
    assert "U+" in outcome.out
    assert "labels that look alike (1)" in outcome.err
    assert "Labels that look alike" in (tmp_path / "r" / "data" / "audit.html").read_text()


def test_a_test_folder_spelt_otherwise_shows_code_points(stillroom, few_photos, tmp_path):
    photos = tmp_path / "split"
    for split, form in (("train", "NFC"), ("test", "NFD")):
        write_photos(photos / split, 4)
        name = unicodedata.normalize(form, "pâquerette")
        (photos / split / "red").rename(photos / split / name)
    message = refused(stillroom("audit", photos, "--run", tmp_path / "r"))
    assert "(U+0061 U+0302) of val or test looks like" in message
    assert "(U+00E2) of train" in message


def test_a_list_with_a_label_spelt_otherwise_shows_code_points(stillroom, few_photos, tmp_path):
    lines = ["path,label,split"]
    for label in ("red", "green", "blue"):
        lines += [f"{label}/00{i}.jpg,{label},train" for i in range(3)]
        lines += [f"{label}/00{i}.jpg,{label.title()},test" for i in (3, 4)]
    (few_photos / "list.csv").write_text("\n".join(lines))
    message = refused(stillroom("audit", few_photos / "list.csv", "--run", tmp_path / "r"))
    assert "line 5: the label 'Red' (U+0052) of val or test looks like 'red' (U+0072)" in message


def test_audit_lists_names_that_are_not_utf8_and_train_refuses_them(
    stillroom, few_photos, tmp_path
):
    bad = few_photos / "red" / f"{LATIN}.jpg"
    (few_photos / "red" / "001.jpg").rename(bad)
    run = tmp_path / "r"
    outcome = stillroom("audit", few_photos, "--run", run)
    assert outcome.code == 0
    assert r"The name of red/\xe9t\xe9.jpg is not UTF-8" in outcome.out
    assert r"red/\xe9t\xe9.jpg" in (run / "data" / "audit.html").read_text(encoding="utf-8")
    audit = json.loads((run / "data" / "audit.json").read_text(encoding="utf-8"))
    assert audit["problems"][0]["paths"] == [r"red/\xe9t\xe9.jpg"]
    assert stillroom("audit", few_photos, "--run", run, "--strict").code == 1
    for command in (("train", few_photos), ("run", few_photos)):
        message = refused(stillroom(*command, "--run", run))
        assert r"the name of red/\xe9t\xe9.jpg is not UTF-8" in message
    repaired(message, few_photos)
    assert (few_photos / "red" / "été.jpg").is_file()
    assert stillroom("audit", few_photos, "--run", run, "--strict").code == 0


def test_many_names_are_mended_by_one_line_and_nothing_is_written_over(
    stillroom, few_photos, tmp_path
):
    for label in ("red", "green"):
        (few_photos / label / "001.jpg").rename(few_photos / label / f"{LATIN}.jpg")
    (few_photos / "red" / "002.jpg").rename(few_photos / "red" / "été.jpg")
    (few_photos / "blue").rename(few_photos / os.fsdecode(b"bl\xfc"))
    taken = (few_photos / "red" / "été.jpg").read_bytes()
    outcome = stillroom("audit", few_photos, "--run", tmp_path / "r")
    assert outcome.code == 0
    assert r"The name of bl\xfc is not UTF-8; images left out: " in outcome.out
    message = refused(stillroom("run", few_photos, "--run", tmp_path / "r", "--until", "teacher"))
    repaired(message, few_photos)
    assert (few_photos / "blü").is_dir()
    assert (few_photos / "green" / "été.jpg").is_file()
    assert (few_photos / "red" / "été.jpg").read_bytes() == taken
    last = refused(stillroom("run", few_photos, "--run", tmp_path / "r", "--until", "teacher"))
    repaired(last, few_photos)
    assert (few_photos / "red" / "été-2.jpg").is_file()


def test_names_with_control_characters_are_treated_alike(stillroom, few_photos, tmp_path):
    (few_photos / "red" / "001.jpg").rename(few_photos / "red" / "a\nb.jpg")
    outcome = stillroom("audit", few_photos, "--run", tmp_path / "r")
    assert r"The name of red/a\x0ab.jpg holds a control character (U+000A)" in outcome.out
    repaired(refused(stillroom("train", few_photos, "--run", tmp_path / "r")), few_photos)
    assert (few_photos / "red" / "ab.jpg").is_file()


def test_a_class_left_alone_by_such_names_is_refused_by_the_audit(stillroom, tmp_path):
    photos = tmp_path / "photos"
    write_photos(photos, 3)
    (photos / "red").rename(photos / LATIN)
    (photos / "blue").rename(photos / os.fsdecode(b"bl\xfc"))
    assert "is not UTF-8" in refused(stillroom("audit", photos, "--run", tmp_path / "r"))


def test_words_of_the_command_line_and_the_working_folder_are_checked(
    stillroom, few_photos, tmp_path, monkeypatch
):
    raw = tmp_path / LATIN
    few_photos.rename(raw)
    for words in (
        ("audit", raw),
        ("run", raw, "--run", tmp_path / "r"),
        ("train", tmp_path, "--run", raw / "r"),
        ("predict", raw, "a.jpg"),
        ("status", raw),
        ("verify", raw),
        ("loadtest", "http://127.0.0.1:9", "--photos", raw),
    ):
        message = refused(stillroom(*words))
        assert r"\xe9t\xe9" in message
    monkeypatch.chdir(raw)
    refused(stillroom("audit", "."))
    assert stillroom("--version").code == 0
    monkeypatch.chdir(tmp_path)
    repaired(refused(stillroom("audit", LATIN)), raw)
    assert (tmp_path / "été").is_dir()
    message = refused(stillroom("audit", os.fsdecode(b"gone\xff")))
    assert "Write it in UTF-8" in message


def test_labels_with_marks_of_every_kind_are_read_back_from_what_was_written(
    stillroom, few_photos, tmp_path
):
    names = {"red": "[/b] 'a', \"b\"; c", "green": "#=1 [red]", "blue": "<i>&amp;"}
    rows = [("path", "label")]
    rows += [(f"{old}/00{i}.jpg", new) for old, new in names.items() for i in range(6)]
    with (few_photos / "list.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    outcome = stillroom("audit", few_photos / "list.csv", "--run", tmp_path / "r")
    assert outcome.code == 0
    for name in names.values():
        assert name in outcome.out
    flat = tmp_path / "flat"
    flat.mkdir()
    for old in names:
        (few_photos / old).rename(flat / old)
    for split in ("train", "val", "test"):
        shutil.copy(tmp_path / "r" / "data" / f"{split}.csv", flat)
    (flat / "train.csv").rename(flat / "list.csv")
    again = stillroom("audit", flat / "list.csv", "--run", tmp_path / "again")
    assert again.code == 0
    for name in names.values():
        assert name in again.out


def test_a_list_beside_a_name_that_is_not_utf8_says_so(stillroom, few_photos, tmp_path):
    (few_photos / "red" / "001.jpg").rename(few_photos / "red" / f"{LATIN}.jpg")
    rows = [f"{label}/00{i}.jpg,{label}" for label in ("green", "blue") for i in range(4)]
    rows += ["red/été.jpg,red", "red/002.jpg,red", "red/003.jpg,red"]
    (few_photos / "list.csv").write_text("\n".join(["path,label", *rows]), encoding="utf-8")
    message = refused(stillroom("audit", few_photos / "list.csv", "--run", tmp_path / "r"))
    assert r"beside it the name of \xe9t\xe9.jpg is not UTF-8" in message
    repaired(message, few_photos)
    assert stillroom("audit", few_photos / "list.csv", "--run", tmp_path / "r").code == 0
