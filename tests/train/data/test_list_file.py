from __future__ import annotations

import csv
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.contract.errors import DatasetError
from serve.contract.labels import label_problem
from tests.train.toy import PATIENT, draw, write_photos
from train.data.audit.dataset_audit import audit_images
from train.data.folder import find_images
from train.data.images import LabelledImage
from train.data.list_rows import read_rows
from train.data.source import OpenedSource, name_of, open_source, root_of
from train.options import DataOptions

LABELS = ("aster", "bell")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_photos(tmp_path / "photos", count=4, classes=LABELS)


def names(label: str = "", count: int = 4) -> list[str]:
    return [f"{one}/{i:03d}.jpg" for one in LABELS if label in ("", one) for i in range(count)]


def label_of(path: str) -> str:
    return path.split("/")[0]


def write(folder: Path, *lines: str, name: str = "list.csv") -> Path:
    path = folder / name
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def good(header: str = "path,label") -> list[str]:
    return [header, *(f"{path},{label_of(path)}" for path in names())]


def refusal(path: Path) -> str:
    with pytest.raises(DatasetError) as caught:
        open_source(path)
    assert caught.value.next_step
    return str(caught.value)


def test_a_csv_list_gives_paths_and_labels_whatever_the_folders_say(root: Path) -> None:
    lines = ["path,label", *(f"{p},{'even' if p[-5] in '02' else 'odd'}" for p in names())]
    source = open_source(write(root, lines[0], *reversed(lines[1:])))
    assert source.root == root.resolve()
    assert [photo.path for photo in source.photos] == names()  # sorted, as of a folder
    assert [p.label for p in source.photos] == ["even", "odd"] * 4
    assert {photo.split for photo in source.photos} == {""}
    assert source.places["aster/000.jpg"] == f"{root / 'list.csv'}, line 9"


def test_columns_may_come_in_any_order_and_case_with_a_byte_order_mark(root: Path) -> None:
    lines = [" Label , PATH", *(f"{label_of(p)}, {p}" for p in names())]
    (root / "list.csv").write_bytes("\r\n".join(lines).encode("utf-8-sig"))
    assert open_source(root / "list.csv").photos == find_images(root)


def test_a_plain_list_has_the_label_last_and_blanks_in_paths(root: Path) -> None:
    spaced = root / "my pictures"
    (root / "aster").rename(spaced)
    lines = [p.replace("aster", "my pictures") + f"\t {label_of(p) == 'bell':d}" for p in names()]
    file = write(root, "# made by hand", "", *lines, "   ", name="list.txt")
    source = open_source(file)
    assert {(p.path, p.label) for p in source.photos} == {
        *((f"my pictures/{i:03d}.jpg", "0") for i in range(4)),
        *((f"bell/{i:03d}.jpg", "1") for i in range(4)),
    }
    assert source.places["my pictures/000.jpg"].endswith("list.txt, line 3")


def test_a_text_file_with_the_header_is_csv(root: Path) -> None:
    file = write(root, *good(), name="photos.txt")
    assert open_source(file).photos == find_images(root)


def test_split_words_are_those_of_folders(root: Path) -> None:
    words = ("Train", "valid", "test", "train")
    lines = [f"{p},{label_of(p)},{words[int(p[-5])]}" for p in names()]
    source = open_source(write(root, "path,label,split", *lines))
    assert [photo.split for photo in source.photos] == ["train", "val", "test", "train"] * 2


def test_paths_are_normalised_and_may_leave_the_folder(root: Path, tmp_path: Path) -> None:
    lists = tmp_path / "lists"
    lists.mkdir()
    near, far = names("aster"), names("bell")
    lines = [f"./../photos//{p},aster" for p in near] + [f"{root / p},bell" for p in far]
    source = open_source(write(lists, "path,label", *lines))
    assert [photo.path for photo in source.photos] == [f"../photos/{p}" for p in near + far]
    assert all((source.root / photo.path).is_file() for photo in source.photos)


def test_a_list_reached_through_a_link_is_relative_to_its_own_folder(
    root: Path, tmp_path: Path
) -> None:
    write(root, *good())
    (tmp_path / "link.csv").symlink_to(root / "list.csv")
    assert open_source(tmp_path / "link.csv").photos == find_images(root)


def test_root_and_name_are_those_of_the_list(root: Path) -> None:
    file = write(root, *good(), name="summer.2024.csv")
    assert (root_of(file), root_of(root)) == (root.resolve(), root)
    assert (name_of(file), name_of(root)) == ("summer.2024", "photos")


def test_the_fingerprint_follows_labels_and_splits_and_not_order_or_comments(root: Path) -> None:
    def of(*lines: str) -> str:
        return open_source(write(root, *lines)).fingerprint()

    before = of(*good())
    assert of("label,path", *(f"{label_of(p)},{p}" for p in reversed(names()))) == before
    assert of(*good()[:-1], "bell/003.jpg,aster") != before
    assert of("path,label,split", *(f"{p},{label_of(p)},train" for p in names())) != before


def test_the_lists_of_an_audit_give_back_its_photographs(root: Path, tmp_path: Path) -> None:
    (root / "aster").rename(root / 'a, "b" é')
    out = tmp_path / "data"
    out.mkdir()
    audit_images(root, DataOptions(0.25, 0.25), seed=0, out=out)
    rows = [row for split in ("train", "val", "test") for row in read_rows(out / f"{split}.csv")]
    assert {(row.path, row.label) for row in rows} == {(p.path, p.label) for p in find_images(root)}
    trained = len(read_rows(out / "train.csv"))
    moved = (out / "train.csv").rename(root / "kept.csv")
    with moved.open("a", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows((row.path, row.label) for row in rows[trained:])
    assert open_source(moved).photos == find_images(root)


TEXT = st.text(
    st.one_of(
        st.sampled_from(" ,\"'#;é\u2028\xa0\U0001f33c"),
        st.characters(exclude_categories=("Cc", "Cs")),
    ),
    min_size=1,
    max_size=12,
).filter(lambda text: text == text.strip())


LABEL = TEXT.filter(lambda text: not label_problem(text))


@PATIENT
@given(rows=st.lists(st.tuples(TEXT, LABEL), min_size=1, max_size=4))
def test_any_path_and_label_survive_csv(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]]
) -> None:
    file = tmp_path_factory.mktemp("csv") / "list.csv"
    with file.open("w", encoding="utf-8", newline="") as out:
        csv.writer(out, lineterminator="\n").writerows([("path", "label"), *rows])
    assert [(row.path, row.label) for row in read_rows(file)] == rows
    assert [row.line for row in read_rows(file)] == list(range(2, len(rows) + 2))


PLAIN_PATH = TEXT.filter(lambda text: text[0] != "#" and text == text.strip(" \t\r"))
WORD = LABEL.filter(lambda text: " " not in text)


@PATIENT
@given(rows=st.lists(st.tuples(PLAIN_PATH, WORD), min_size=1, max_size=4))
def test_any_path_and_word_survive_a_plain_list(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]]
) -> None:
    file = tmp_path_factory.mktemp("plain") / "list.txt"
    lines = ["# a comment, label", *(f"{path} {label}" for path, label in rows)]
    file.write_bytes("\n".join(lines).encode())
    assert [(row.path, row.label) for row in read_rows(file)] == rows


def test_a_value_over_two_lines_counts_both(root: Path) -> None:
    file = write(root, "path,label", '"a\nb.jpg",aster', "c.jpg,")
    assert "list.csv, line 4: the label is empty" in refusal(file)


# (lines after which comes nothing, what is said of which line)
BAD_TEXT = {
    "no path column": (["file,label"], "line 1: unknown column 'file'"),
    "no label column": (["path"], "line 1: no column 'label'. The first line must be path,label"),
    "misspelt column": (["path,lable"], "line 1: unknown column 'lable'. Did you mean 'label'?"),
    "semicolons": (["path;label"], "line 1: unknown column 'path;label'"),
    "no header": (["aster/000.jpg,aster"], "line 1: unknown column 'aster/000.jpg'"),
    "a column twice": (["path,label,label"], "line 1: the column 'label' occurs twice"),
    "empty label": (["path,label", "aster/000.jpg, "], "line 2: the label is empty"),
    "empty path": (["path,label", "", ",aster"], "line 3: the path is empty"),
    "too many values": (["path,label", "a,b.jpg,x"], "line 2: 3 values, expected 2 (path,label)"),
    "too few values": (["path,label,split", "a.jpg,x"], "line 2: 2 values, expected 3"),
    "open quotation": (["path,label", "a.jpg,x", '"b.jpg,x'], "line 3: this is not CSV"),
    "control character": (
        ["path,label", "a.jpg,x\ty"],
        "line 2: the label 'x\\ty' holds a control",
    ),
    "unknown split": (
        ["path,label,split", "a.jpg,x,trian"],
        "line 2: unknown split 'trian'. Did you mean 'train'? Splits: train, val, test.",
    ),
    "nothing": ([], "list.csv lists no images"),
    "a header alone": (["path,label", ""], "list.csv lists no images"),
}


@pytest.mark.parametrize("case", BAD_TEXT)
def test_bad_text_names_the_line(tmp_path: Path, case: str) -> None:
    lines, expected = BAD_TEXT[case]
    text = refusal(write(tmp_path, *lines))
    assert text.startswith(str(tmp_path / "list.csv"))
    assert expected in text


def test_a_plain_line_without_a_label_is_named(root: Path) -> None:
    text = refusal(write(root, "# list", "aster/000.jpg aster", "aster/001.jpg", name="l.txt"))
    assert "l.txt, line 3: 'aster/001.jpg' has no label" in text


def test_text_that_is_not_utf8_names_the_line(root: Path) -> None:
    (root / "list.csv").write_bytes("path,label\na.jpg,ok\nb.jpg,é\n".encode("latin-1"))
    assert "list.csv, line 3: the text is not UTF-8. Save" in refusal(root / "list.csv")


def test_missing_images_are_counted_and_the_first_is_named(root: Path) -> None:
    text = refusal(write(root, *good(), "aster/9.jpg,aster", "bell/9.jpg,bell", "a\0.jpg,bell"))
    assert "list.csv, line 10: the image 'aster/9.jpg' is not there, nor are 2 others." in text
    assert f"relative to the list's folder, {root.resolve()}" in text


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("aster", "this is a folder, not an image"),
        ("notes.pdf", "this is a PDF document, and JPEG, PNG and WebP are read"),
        ("pipe.jpg", "this is not a regular file"),
    ],
)
def test_what_is_no_image_file_is_named(root: Path, path: str, expected: str) -> None:
    (root / "notes.pdf").write_bytes(b"%PDF-1.7")
    os.mkfifo(root / "pipe.jpg")
    text = refusal(write(root, *good(), f"{path},aster"))
    assert f"list.csv, line 10: '{path}': {expected}" in text


def test_an_image_of_a_list_may_have_any_name(root: Path) -> None:
    (root / "bell" / "001.jpg").rename(root / "bell" / "scan 7")
    lines = [line.replace("bell/001.jpg", "bell/scan 7") for line in good()]
    assert "bell/scan 7" in [photo.path for photo in open_source(write(root, *lines)).photos]


@pytest.mark.parametrize(
    ("label", "said"), [("aster", "as 'aster'"), ("bell", "as 'aster' and 'bell'")]
)
def test_a_path_named_twice_names_both_lines(root: Path, label: str, said: str) -> None:
    file = write(root, *good(), f"./bell/../aster/001.jpg,{label}")
    text = refusal(file)
    assert f"{file}, line 10: './bell/../aster/001.jpg' is named twice" in text
    assert f"first in {file}, line 3, {said}. Keep one" in text


def test_lines_with_and_without_a_split_do_not_mix(root: Path) -> None:
    lines = [f"{p},{label_of(p)},{'train' if i else ''}" for i, p in enumerate(names())]
    file = write(root, "path,label,split", *lines)
    assert f"{file}, line 2: no split, but {file}, line 3 has one (train)." in refusal(file)


def test_splits_without_train_are_refused(root: Path) -> None:
    lines = [f"{p},{label_of(p)},{'val' if i % 2 else 'test'}" for i, p in enumerate(names())]
    assert "no line of the split train" in refusal(write(root, "path,label,split", *lines))


def test_a_label_that_is_tested_but_not_trained_names_line_and_the_nearest(root: Path) -> None:
    lines = [f"{p},{label_of(p)},{'test' if p[-5] == '3' else 'train'}" for p in names()]
    lines[3] = "aster/003.jpg,astre,test"
    text = refusal(write(root, "path,label,split", *lines))
    assert (
        "line 5: the label 'astre' of test does not occur in train. Did you mean 'aster'?" in text
    )
    lines[3] = "aster/003.jpg,Aster,test"
    text = refusal(write(root, "path,label,split", *lines))
    assert "line 5: the label 'Aster' (U+0041) of val or test looks like 'aster' (U+0061)" in text


def test_one_class_alone_is_refused(root: Path) -> None:
    text = refusal(write(root, "path,label", *(f"{p},bell" for p in names())))
    assert "lists one class only ('bell'); a classifier needs two or more" in text


@pytest.mark.parametrize(("count", "said"), [(1, "1 image;"), (2, "2 images;")])
def test_a_class_with_too_few_images_says_how_many_are_needed(
    root: Path, count: int, said: str
) -> None:
    text = refusal(write(root, *good()[: 5 + count]))
    assert f"list.csv, line 6: the class 'bell' has {said} it needs 3 or more" in text


def test_an_image_is_no_list(root: Path) -> None:
    assert "is an image, not a list" in refusal(root / "aster" / "000.jpg")


def shelve(root: Path) -> Path:
    """Move all images into one folder without classes; return the root."""
    (root / "images").mkdir()
    for path in names():
        (root / path).rename(root / "images" / path.replace("/", "-"))
    for label in LABELS:
        (root / label).rmdir()
    return root


def flat(split: str) -> list[str]:
    number = {"train": "02", "val": "1", "test": "3"}[split]
    return [f"images/{p.replace('/', '-')} {label_of(p)}" for p in names() if p[-5] in number]


def test_a_folder_with_a_list_for_each_split(root: Path) -> None:
    shelve(root)
    for split, name in (("train", "train.txt"), ("val", "valid.txt"), ("test", "Test.txt")):
        write(root, *flat(split), name=name)
    photos = open_source(root).photos
    assert len(photos) == 8
    assert photos[:4] == [
        LabelledImage(f"images/aster-00{i}.jpg", "aster", split)
        for i, split in enumerate(("train", "val", "train", "test"))
    ]


def test_an_image_in_two_lists_of_a_folder_names_both(root: Path) -> None:
    shelve(root)
    write(root, *flat("train"), name="train.txt")
    write(root, flat("train")[0], name="test.txt")
    text = refusal(root)
    assert "is named twice" in text
    assert "train.txt, line 1" in text
    assert "test.txt, line 1" in text


def test_a_folder_with_two_lists_of_one_split_is_refused(root: Path) -> None:
    write(root, *good(), name="train.csv")
    write(root, "x", name="train.txt")
    assert "two lists of one split: train.csv and train.txt" in refusal(root)


def test_a_folder_of_lists_without_train_is_refused(root: Path) -> None:
    write(shelve(root), *flat("val"), name="val.txt")
    assert "Of its lists (val.txt) none is of train." in refusal(root)


def test_a_split_column_must_agree_with_the_lists_name(root: Path) -> None:
    lines = [line.replace(" ", ",") + ",test" for line in flat("train")]
    write(shelve(root), "path,label,split", *lines, name="train.csv")
    assert "train.csv, line 2: the split is 'test' in the list of train" in refusal(root)


def test_lists_that_agree_with_class_folders_add_the_split(root: Path) -> None:
    for split in ("train", "val", "test"):
        number = {"train": "02", "val": "1", "test": "3"}[split]
        lines = [f"{p},{label_of(p)}" for p in names() if p[-5] in number]
        write(root, "path,label", *lines, name=f"{split}.csv")
    source = open_source(root)
    assert [photo.split for photo in source.photos] == ["train", "val", "train", "test"] * 2


def test_lists_that_differ_from_class_folders_are_refused(root: Path) -> None:
    write(root, *good(), name="train.csv")
    draw(0, 9).save(root / "bell" / "new.jpg")
    text = refusal(root)
    assert "they differ: 'bell/new.jpg' as 'bell' is in the folders alone" in text
    assert "column split" in text


def test_a_folder_without_lists_is_as_before(root: Path) -> None:
    assert open_source(root) == OpenedSource(root, find_images(root))
