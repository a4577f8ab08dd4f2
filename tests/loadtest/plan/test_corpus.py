from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from loadtest.errors import CorpusError
from loadtest.plan.corpus import content_type_from_bytes, corpus_sha256, load_corpus
from tests.loadtest.stub_server import png, write_corpus

JPEG = b"\xff\xd8\xff\xe0" + bytes(8)
WEBP = b"RIFF\x00\x00\x00\x00WEBP"


def test_csv_paths_are_relative_to_the_csv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    images = load_corpus(write_corpus(tmp_path, images=2))
    assert [image.path for image in images] == ["0.png", "1.png"]
    assert {image.expected for image in images} == {"roses"}


def test_csv_with_absolute_paths_and_no_other_column(tmp_path: Path) -> None:
    image = tmp_path / "a.png"
    image.write_bytes(png(1))
    corpus = tmp_path / "elsewhere" / "c.csv"
    corpus.parent.mkdir()
    corpus.write_text(f"path\n{image}\n")
    (image,) = load_corpus(corpus)
    assert image.expected == ""
    assert image.content_type == "image/png"


def test_csv_as_a_spreadsheet_saves_it(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(1))
    corpus = tmp_path / "c.csv"
    corpus.write_bytes("\ufeffpath,expected\r\na.png,Gänseblümchen\r\n".encode())
    assert load_corpus(corpus)[0].expected == "Gänseblümchen"


def test_folder_is_walked_in_order_without_hidden_and_other_files(tmp_path: Path) -> None:
    for name in ("b/x.PNG", "a/y.png", ".thumbs/z.png", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(png(1))
    assert [image.path for image in load_corpus(tmp_path)] == ["a/y.png", "b/x.PNG"]


def test_the_bytes_decide_the_type_not_the_name(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(JPEG)
    assert load_corpus(tmp_path)[0].content_type == "image/jpeg"


def test_content_types() -> None:
    heads = (JPEG, png(0)[:12], WEBP, b"RIFF\0\0\0\0WAVE", b"GIF89a", b"")
    assert [content_type_from_bytes(head) for head in heads] == [
        "image/jpeg",
        "image/png",
        "image/webp",
        None,
        None,
        None,
    ]


def test_digest_follows_bytes_and_answers_not_paths(tmp_path: Path) -> None:
    one, copy, other = (tmp_path / name for name in ("one", "copy", "other"))
    for folder in (one, other):
        folder.mkdir()
    digest = corpus_sha256(load_corpus(write_corpus(one)))
    shutil.copytree(one, copy)
    assert corpus_sha256(load_corpus(copy / "corpus.csv")) == digest
    assert corpus_sha256(load_corpus(write_corpus(other, expected="daisy"))) != digest


def _csv(text: str) -> bytes:
    return text.encode()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "does not exist; give a folder"),
        (_csv(""), "has no column 'path'"),
        (_csv("file,label\nx.png,a\n"), "has no column 'path' in its header 'file,label'"),
        (_csv("path,label\n"), "names no images"),
        (_csv("path,label\n,a\n"), "line 2: the path is empty"),
        (_csv("path\nabsent.png\n"), "absent.png' cannot be read (No such file"),
        (_csv("path\nbad.gif\n"), "begins with b'GIF89a': not JPEG, PNG or WebP; convert"),
        (b"path\n\xff\xfe\xfa\n", "not CSV text in UTF-8"),
        (_csv("path\nnull\0.png\n"), "cannot be read (embedded null byte)"),
    ],
)
def test_what_is_wrong_with_it(tmp_path: Path, content: bytes | None, message: str) -> None:
    corpus = tmp_path / "c.csv"
    (tmp_path / "bad.gif").write_bytes(b"GIF89a")
    if content is not None:
        corpus.write_bytes(content)
    with pytest.raises(CorpusError) as caught:
        load_corpus(corpus)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="names no images"):
        load_corpus(tmp_path)


@pytest.mark.parametrize("name", [b"\xe9t\xe9.png", b"a\rb.png", b"caf\xe9/a.png"])
def test_a_name_that_no_table_could_hold_is_refused_with_the_line_that_mends_it(
    tmp_path: Path, name: bytes
) -> None:
    image = tmp_path / os.fsdecode(name)
    image.parent.mkdir(exist_ok=True)
    image.write_bytes(png(1))
    with pytest.raises(CorpusError, match="not UTF-8, or with a control character") as caught:
        load_corpus(tmp_path)
    subprocess.run(["bash", "-c", str(caught.value).partition("rename it: ")[2]], check=True)
    (image,) = load_corpus(tmp_path)
    assert image.path in ("été.png", "ab.png", "café/a.png")
