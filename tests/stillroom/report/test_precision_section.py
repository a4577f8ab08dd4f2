"""The report's table of precisions."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from export.mobile import write_ort
from serve.contract.manifest import write_manifest
from stillroom.report import precision_section
from stillroom.report.page import write_report
from stillroom.run.folder import RunFolder
from stillroom.run.stage_graph import Context

FLIPS = """asked_for,path,sha256,label,reference,candidate,margin,change
test,1/2.png,s,weed,weed,rose,0.5,lost
test,0/2.png,s,rose,weed,rose,0.7,gained
gate,0/1.png,s,rose,rose,weed,0.1,lost
"""
TIMING = {"median_ms": 0.25, "speedup": 1.87}


def add_int8(run: Path, parity: dict[str, Any], *, parent: str | None = None) -> None:
    """An int8 artifact of a hand-made run."""
    fp32, folder = run / "artifact", run / "artifact-int8"
    shutil.copytree(fp32, folder)
    fields = json.loads((folder / "manifest.json").read_bytes())
    (folder / "manifest.json").unlink()
    digest = fields["digest"]
    for name in ("files", "digest", "schema_version"):
        del fields[name]
    (folder / "flips.csv").write_text(FLIPS)
    (folder / "parity.json").write_text(json.dumps(parity))
    made = {"precision": "int8", "kept_float": ["conv0"], "parents": {"export": parent or digest}}
    write_manifest(folder, fields | made)
    benefit = {"benefit": {"verdict": "worth it", "latency": TIMING}, "tried": None}
    (folder / "benefit.json").write_text(json.dumps(benefit))


@pytest.fixture
def int8_run(
    make_run: Callable[..., Context], make_parity: Callable[..., dict[str, Any]]
) -> Context:
    context = make_run()
    add_int8(context.run.path, make_parity(test=make_parity(lost=7, gained=5)))
    return context


def page_of(context: Context) -> str:
    write_report(context)
    return (context.out / "index.html").read_text(encoding="utf-8")


def test_each_precision_has_its_row(int8_run: Context) -> None:
    page = page_of(int8_run)
    assert '<a href="#precisions">' in page
    assert "in float: 1 layer<" in page
    assert "7, 5" in page
    assert "1.87, worth it" in page
    assert "Not made: fp16, int8-tensorrt" in page
    assert "of an earlier fp32 file" not in page


def test_lost_test_images_come_first_and_the_gates_own_are_not_shown(int8_run: Context) -> None:
    page = page_of(int8_run)
    shown = page[page.index("Test images whose answer int8 changes") :]
    assert shown.index("lost") < shown.index("gained")
    assert "0/1.png" not in shown[: shown.index("</ul>")]


def test_a_file_of_an_earlier_fp32_one_is_said(
    make_run: Callable[..., Context], make_parity: Callable[..., dict[str, Any]]
) -> None:
    context = make_run()
    add_int8(context.run.path, make_parity(), parent="0" * 64)
    assert "of an earlier fp32 file" in page_of(context)


def test_the_form_for_devices_is_measured_and_a_false_one_is_said(
    int8_run: Context, monkeypatch: pytest.MonkeyPatch, build_artifact, tmp_path: Path
) -> None:
    def rows(run: RunFolder) -> list[dict[str, Any]]:
        found = precision_section.precision_section(run, [], None)  # type: ignore[arg-type]
        return found["rows"]

    good = rows(int8_run.run)[0]["mobile"]
    assert 0 < good["gzip_bytes"] < good["bytes"]
    assert good["max_abs_diff"] < 1e-3
    other = build_artifact(tmp_path / "other", seed=5, labels=("rose", "weed", "tulip"))
    monkeypatch.setattr(
        precision_section,
        "write_ort",
        lambda source, path: write_ort(other / "model.onnx", path),
    )
    assert "PARITY FAIL ORT format" in rows(int8_run.run)[0]["mobile"]["failed"]
