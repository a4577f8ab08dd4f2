"""The one rule for labels, and that what a run writes can be read back under it."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from serve.contract.errors import DatasetError
from serve.contract.labels import label_problem, look_alikes, refuse_twins, without_unseen
from train.data.folders.file_names import name_problem
from train.data.images import LabelledImage, read_index, write_index
from train.data.list_rows import read_rows
from train.data.split import write_lists
from train.evaluation import Predictions, read_predictions, write_predictions

GOOD = [
    "daisy",
    "pâquerette",
    "日本語",
    "می\u200cخواهم",  # Persian needs the joiner
    "क्\u200dष",
    "👩\u200d🌾",
    "❤\ufe0f",
    'a "quoted", comma; #1 = $x',
    "#first",
    "=cmd()",
    "-",
    "a\u00a0b",
    "[/red]",
]
BAD = {
    "": "is empty",
    "a\r": "a control character (U+000D)",
    "a\tb": "a control character (U+0009)",
    "a\nb": "a control character (U+000A)",
    "a\x85b": "a control character (U+0085)",
    "a\x9bb": "a control character (U+009B)",
    "a\udce9": "bytes that are not UTF-8 (U+DCE9)",
    "a\u2028b": "a line separator",
    "a ": "ends with a blank (U+0020)",
    "\u00a0a": "begins with a blank (U+00A0)",
    "a\u3000": "ends with a blank (U+3000)",
    "a\u200b": "nobody sees (U+200B)",
    "\ufeffa": "nobody sees (U+FEFF)",
    "a\u202eb": "nobody sees (U+202E)",
    "a\u2066b": "nobody sees (U+2066)",
    "a\u00adb": "nobody sees (U+00AD)",
    "\u200d": "holds nothing that anybody sees",
}
ALIKE = [
    ("Tulip", "tulip"),
    ("pâquerette", unicodedata.normalize("NFD", "pâquerette")),
    ("Straße", "STRASSE"),
    ("red  tulip", "red tulip"),
    ("red\u00a0tulip", "red tulip"),
    ("❤\ufe0f", "❤"),
    ("ab", "a\u200db"),
    ("ΌΣΟΣ", "όσος"),
    ("Ångström", "\u212bngström"),
]


@pytest.mark.parametrize("label", GOOD)
def test_what_people_write_may_name_a_class(label: str) -> None:
    assert label_problem(label) == ""
    assert label_problem(without_unseen(label)) == ""


@pytest.mark.parametrize("label", BAD)
def test_what_may_not_name_a_class_is_said(label: str) -> None:
    assert BAD[label] in label_problem(label)


@pytest.mark.parametrize(("first", "second"), ALIKE)
def test_labels_that_look_alike_are_found_with_their_code_points(first: str, second: str) -> None:
    (sentence,) = look_alikes([first, "other", second])
    assert "look alike" in sentence
    assert "U+" in sentence
    with pytest.raises(DatasetError, match=r"U\+"):
        refuse_twins("photos", [first], [second, "other"])


@pytest.mark.parametrize("others", [("rose", "roses"), ("l", "I"), ("1", "l"), ("a b", "ab")])
def test_other_labels_do_not(others: tuple[str, str]) -> None:
    assert look_alikes(others) == []
    refuse_twins("photos", others[:1], others[1:])


TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
LABELS = st.one_of(TEXT, st.sampled_from(GOOD)).filter(lambda text: not label_problem(text))
PATHS = st.one_of(
    TEXT, st.sampled_from(['#1/a,b";.jpg', "=x/'y'.png", "a  b/c\u2028d.webp"])
).filter(lambda text: not name_problem(text) and "\0" not in text)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(labels=st.lists(LABELS, min_size=2, max_size=4, unique=True), path=PATHS)
@example(labels=["a", "b"], path="#")
def test_what_a_run_writes_comes_back_as_it_was(
    tmp_path: Path, labels: list[str], path: str
) -> None:
    photos = [LabelledImage(f"{path}{i}", label, "train") for i, label in enumerate(labels)]
    write_index(tmp_path / "index.csv", photos)
    assert read_index(tmp_path / "index.csv") == photos
    write_lists(tmp_path, photos)
    rows = read_rows(tmp_path / "train.csv")
    assert [(row.path, row.label) for row in rows] == [(p.path, p.label) for p in photos]
    logits = np.eye(len(labels), dtype=np.float32)
    write_predictions(tmp_path / "predictions.csv", Predictions(photos, tuple(labels), logits))
    read = read_predictions(tmp_path / "predictions.csv")
    assert (list(read.photos), read.labels) == (photos, tuple(labels))


@given(st.text(max_size=12))
def test_the_repaired_label_may_name_a_class_or_nothing_is_left(label: str) -> None:
    repaired = without_unseen(label)
    assert label_problem(repaired) in ("", "is empty", "holds nothing that anybody sees") or any(
        unicodedata.category(character) == "Cs" for character in repaired
    )
