from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from export.foreign.label_file import read_labels
from serve.contract.errors import UsageError
from tests.train.toy import PATIENT

NAMES = st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=8)
WORDS = st.text(st.characters(categories=("L", "M", "N")), min_size=1, max_size=8)


@PATIENT
@given(names=st.lists(WORDS, min_size=2, max_size=9, unique=True), end=st.sampled_from(["", "\n"]))
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, names: list[str], end: str
) -> None:
    path = tmp_path_factory.mktemp("labels") / "labels.txt"
    path.write_text("\n".join(names) + end, encoding="utf-8")
    assert read_labels(path) == tuple(names)


@PATIENT
@given(names=st.lists(NAMES, min_size=2, max_size=9, unique=True))
def test_a_json_list_is_read_as_it_stands(
    tmp_path_factory: pytest.TempPathFactory, names: list[str]
) -> None:
    path = tmp_path_factory.mktemp("labels") / "labels.json"
    path.write_text(json.dumps(names), encoding="utf-8")
    assert read_labels(path) == tuple(names)


def test_windows_line_ends_and_blanks_do_not_count(tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    path.write_bytes(b"\xef\xbb\xbf aster \r\nblue bell\r\n\r\n")
    assert read_labels(path) == ("aster", "blue bell")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a\n\nb\n", "line 2 is empty"),
        (b"\na\nb\n", "line 1 is empty"),
        (b"a\nb\na\n", "line 3 repeats 'a' of line 1"),
        (b"a\nb\x07c\n", "line 2 holds a control character"),
        (b"a\n\xff\n", "not UTF-8"),
        (b"", "two classes or more"),
        (b"\n\n", "two classes or more"),
        (b"alone\n", "two classes or more"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "labels.txt"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=message) as caught:
        read_labels(path)
    assert caught.value.message.startswith("--labels ")
    assert caught.value.next_step


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        read_labels(tmp_path / "none.txt")


KEPT = {
    "blank": "0 a\n1 b\n",
    "comma": "0,a\r\n1,b\r\n",
    "tab": "0\ta\n1\tb",
    "colon": "0: a\n1: b\n",
    "dot": "0. a\n1. b\n",
    "bracket": "0) a\n1) b\n",
    "dash": "0 - a\n1 - b\n",
    "equals": "a=0\nb=1\n",
    "padded": "00 a\n01 b\n",
    "any order": "1 b\n0 a\n",
    "number last": "a 0\nb 1\n",
    "number last, comma": "a,0\nb,1\n",
    "number last, tab, any order": "b\t1\na\t0\n",
    "fragment of a list": "'a',\n'b',\n",
    "fragment without the last comma": '"a",\n"b"',
    "fragment of a mapping": "'a': 0,\n'b': 1,\n",
    "quoted cells": '"0","a"\n"1","b"\n',
    "JSON list": '["a", "b"]\n',
    "JSON list over lines": '[\n  "a",\n  "b"\n]\n',
    "JSON names by number": '{"1": "b", "0": "a"}',
    "JSON numbers by name": '{"b": 1, "a": 0}',
    "configuration": '{"architectures": ["X"], "id2label": {"0": "a", "1": "b"}, "label2id": {}}',
    "records": '[{"id": 0, "name": "a", "supercategory": "x"}, {"id": 1, "name": "b"}]',
    "JSON lines": '{"label": "a"}\n{"label": "b"}\n',
    "JSON lines with numbers": '{"index": 1, "label": "b"}\n{"index": 0, "label": "a"}\n',
    "JSON lines of pairs": '[0, "a"]\n[1, "b"]\n',
    "Python": "class_names = ['a', 'b']\n",
    "Python mapping": "{0: 'a', 1: 'b'}",
    "JavaScript": "const labels = ['a', 'b'];\n",
    "YAML": "- a\n- b\n",
    "YAML section": "names:\n  0: a\n  1: b\n",
    "YAML section of items": "names:\n- 'a'\n- 'b'\n",
    "CSV": "index,label\n0,a\n1,b\n",
    "CSV of pandas": ",label\n0,a\n1,b\n",
    "CSV, names first": "class_name;class_id\na;0\nb;1\n",
    "CSV of one column": "label\na\nb\n",
    "comments": "# made by hand\na\n# the other\nb\n\n\n",
    "byte order mark": "\ufeff0 a\r\n1 b\r\n\r\n",
    "line ends of old Macs": "a\rb\r",
}


@pytest.mark.parametrize("text", KEPT.values(), ids=KEPT)
def test_what_is_no_part_of_a_name_is_taken_off_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    path = tmp_path / "labels.txt"
    path.write_bytes(text.encode())
    assert read_labels(path) == ("a", "b")
    said = capsys.readouterr().err
    assert said == "" if text == "a\rb\r" else "labels.txt is read " in said
    assert said == "" or "'a', 'b'" in said


@pytest.mark.parametrize(
    "names",
    [
        ("tench, Tinca tinca", "goldfish, Carassius auratus"),
        ("10 cent", "20 cent", "50 cent"),
        ("20 km/h", "30 km/h"),
        ("Audi 80", "Fiat 500"),
        ("Boeing 737", "Boeing 747"),
        ("class 0", "class 1"),
        ("0 spots", "1 spots"),
        ("0-9 years", "10-19 years"),
        ("001.Black_footed_Albatross", "002.Laysan_Albatross"),
        ("n01440764 tench", "n01443537 goldfish"),
        ("0", "1", "2"),
        ("10", "2"),
        ("+", "-", "#"),
        ("(a)", "(b)"),
        ("[unk]", "[cls]"),
        ("'s-Hertogenbosch", "Breda"),
        ("C#", "F#"),
        ("0", ","),
        ("dog: labrador", "dog: poodle"),
        ("3D model", "2D model"),
        ("label", "no label"),
    ],
)
def test_plain_names_stay_as_they_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], names: tuple[str, ...]
) -> None:
    path = tmp_path / "labels.txt"
    path.write_text("\n".join(names) + "\n", encoding="utf-8")
    assert read_labels(path) == names
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "names", [("0 a", "1 b"), ("'a'", "'b'"), ("# a", "- b"), ("a,", "b,"), ("1 euro", "2 pound")]
)
def test_in_a_json_list_every_text_is_a_name(tmp_path: Path, names: tuple[str, ...]) -> None:
    path = tmp_path / "labels.json"
    path.write_text(json.dumps(names))
    assert read_labels(path) == names


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0 a\n2 b\n", "line 2 has the number 2, expected 0 to 1"),
        ("0,a\n1,b\n1,c\n", "line 3 has the number 1 of line 2"),
        ("1 a\n2 b\n", "line 1 has the number 1, and outputs are counted from 0"),
        ('{"1": "a", "2": "b"}', "entry 1 has the number 1, and outputs are counted from 0"),
        ("0 a\n1 b\nc\n", "line 3 has no number, other lines have"),
        ("100: a\n101: b\n", "line 1 has the number 100, expected 0 to 1"),
        ("0 a\n1 b\n2 a\n", "line 3 repeats 'a' of line 1"),
        ("a,\nb\nc,\n", "line 2 ends in no comma"),
        ("['a'\n 'b',\n 'c']", "line 2 has no comma before 'b'"),
        ("{'a', 'b'}", "a set, which has no order"),
        ("[a, b]", "line 1 is not JSON"),
        ('["a", 3]', "entry 2 is not a name"),
        ('{"0": "a", "0": "b"}', "the key '0' is there twice"),
        ('{"0": ["n1", "a"], "1": ["n2", "b"]}', "entry 1 is not a name"),
        ("id,wnid,name\n0,n1,a\n1,n2,b\n", "line 1 has 3 columns"),
        ("index,label\n0,a\nb\n", "line 3 is not a number and name: 'b'"),
        ("path: x\nnames:\n  0: a\n", "line 2 is not a name but a heading"),
        ("0 a # first\n1 b\n", "line 1 holds a comment"),
    ],
)
def test_what_may_be_a_number_or_a_name_is_refused_with_its_place(
    tmp_path: Path, text: str, message: str
) -> None:
    path = tmp_path / "labels.txt"
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        read_labels(path)
    assert message in caught.value.message
    assert "JSON list" in caught.value.next_step


def test_a_folder_is_no_file_of_labels(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is a folder"):
        read_labels(tmp_path)
