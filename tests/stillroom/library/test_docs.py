"""The blocks of docs/python.md, run in their order on the old run."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pandas

PAGE = Path(__file__).parents[3] / "docs" / "python.md"


def test_the_blocks_of_the_page_run(old_run, monkeypatch, capsys):
    (old_run / "runs").mkdir()
    (old_run / "run").rename(old_run / "runs" / "mine")
    shutil.copytree(old_run / "photos", old_run / "new-photos")
    shutil.copyfile(old_run / "photos" / "0" / "01.jpg", old_run / "photo.jpg")
    monkeypatch.chdir(old_run)
    names: dict[str, object] = {}
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.M | re.S)
    assert len(blocks) == 6
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)
    table = names["table"]
    assert isinstance(table, pandas.DataFrame)
    assert list(table.columns) == [
        *("image", "label", "probability", "labels", "probabilities", "truth", "correct", "split")
    ]
    assert set(table["truth"]) == {"0", "1", "2"}
    assert "fixres done" in capsys.readouterr().out
