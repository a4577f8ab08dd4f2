from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from export.label_file import read_labels
from serve.contract.errors import UsageError
from tests.train.toy import PATIENT

NAMES = st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=8)


@PATIENT
@given(names=st.lists(NAMES, min_size=2, max_size=9, unique=True), end=st.sampled_from(["", "\n"]))
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, names: list[str], end: str
) -> None:
    path = tmp_path_factory.mktemp("labels") / "labels.txt"
    path.write_text("\n".join(names) + end, encoding="utf-8")
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
