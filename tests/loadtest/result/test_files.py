from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from loadtest.errors import UsageError
from loadtest.generator.outcome import Outcome
from loadtest.result.files import SAMPLE_COLUMNS, check_out_folder, csv_from_samples, write_outputs
from tests.loadtest.hand_made import sample, steady, summary_of


def test_csv_is_pinned() -> None:
    text = csv_from_samples([sample(0.5, 20, request_id="r1"), sample(1, outcome=Outcome.MISSED)])
    assert text == (
        "planned_s,sent_s,done_s,intended_ms,service_ms,outcome,status,bytes,path,request_id,"
        "decode_ms,queue_ms,infer_ms,total_ms\n"
        "0.500000,0.500000,0.520000,20.000,20.000,ok,0,5,a.png,r1,1.000,,3.000,4.000\n"
        "1.000000,,,,,missed,0,5,a.png,,,,,\n"
    )


def test_csv_quotes_what_a_server_or_path_may_hold() -> None:
    text = csv_from_samples([sample(0, request_id='a,"b"\n')])
    (row,) = csv.DictReader(io.StringIO(text))
    assert row["request_id"] == 'a,"b"\n'
    assert tuple(row) == SAMPLE_COLUMNS


def test_both_files_are_written_and_replaced(tmp_path: Path) -> None:
    out = tmp_path / "a" / "b"
    for n in (3, 2):
        write_outputs(out, summary_of(steady(n)), steady(n))
    assert sorted(file.name for file in out.iterdir()) == ["samples.csv", "summary.json"]
    text = (out / "summary.json").read_text()
    assert json.loads(text)["planned"] == 2
    assert text == json.dumps(json.loads(text), indent=2, sort_keys=True) + "\n"
    assert len((out / "samples.csv").read_text().splitlines()) == 3


def test_out_must_be_a_folder_and_is_not_made_yet(tmp_path: Path) -> None:
    check_out_folder(tmp_path / "a" / "b")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="is a file; name a folder"):
        check_out_folder(tmp_path / "file" / "deeper")
