"""`stillroom compress --search`, from the command to the page."""

from __future__ import annotations

import html
import json
import os
import shlex
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compress import fixres_stage
from export.options import ExportOptions
from export.precision import stage as precision_stage
from serve.contract.errors import (
    ArtifactError,
    GateError,
    Interrupted,
    MeasurementError,
    RunError,
    StillroomError,
    UsageError,
)
from stillroom.run.execution import Request, run_stages
from stillroom.run.pipeline import PIPELINE
from stillroom.run.recipe import load_recipe
from stillroom.sweep.students import precision_cells, student_cells
from stillroom.sweep.students.pareto import Bounds
from stillroom.sweep.students.run import StudentsRequest, choose_student, refuse_without_pick
from tests.stillroom.sweeps import OPTIONS, fake_latency
from tests.train.toy import write_photos
from train.evaluation import read_predictions

pytestmark = pytest.mark.e2e

STUDENT = tuple(entry.replace("teacher.", "student.") for entry in OPTIONS)
TOLD = ("fixres.epochs=1", "fixres.batch_size=12", "distil.temperature=3.0")


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A run with a toy teacher, whose recipe has a toy student of three epochs."""
    folder = tmp_path_factory.mktemp("students")
    photos = write_photos(folder / "photos", count=24)
    split = ("data.val_fraction=0.2", "data.test_fraction=0.17")
    overrides = (*split, *OPTIONS, *STUDENT, "student.epochs=3")
    run_stages(PIPELINE, Request(folder / "run", photos, None, overrides, "teacher"))
    return folder / "run"


@pytest.fixture
def untimed(made, tmp_path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "run"))


@pytest.fixture
def run(untimed, monkeypatch) -> Path:
    """A run whose latencies are invented: the later the slower."""

    def fake(folders: dict[str, Path], *, opset: int, out: Path, device: str) -> dict[str, float]:
        assert device == "cpu"
        return fake_latency(folders, opset=opset, out=out)

    monkeypatch.setattr("stillroom.sweep.students.run.compare_latency", fake)
    return untimed


def request_of(run: Path, **changes: Any) -> StudentsRequest:
    given = {"students": "test_efficientnet,test_resnet:none", "test_sizes": "32,40", **changes}
    return StudentsRequest(run, ("student.epochs=1", *TOLD), **given)


def test_each_student_is_distilled_once_and_fitted_to_each_size(run):
    found = choose_student(request_of(run, bounds=Bounds(max_latency_ms=3.0)))
    folder = run / "sweep" / "students"
    results = json.loads((folder / "results.json").read_bytes())
    rows = results["rows"]
    assert [(row["arch"], row["test_size_px"]) for row in rows] == [
        (arch, size) for arch in ("test_efficientnet", "test_resnet") for size in (32, 40)
    ]
    assert [row["latency_ms"] for row in rows] == [1.0, 2.0, 3.0, 4.0]
    assert {row["epochs"] for row in rows} == {1}
    assert rows[0]["before_fixres_val_top1"] == rows[1]["before_fixres_val_top1"]
    assert rows[0]["flops"] < rows[1]["flops"]
    pick = results["pick"]
    assert pick["val_top1"] == max(row["val_top1"] for row in rows[:3])
    assert found.picked.row() == pick
    assert results["test_photographs_held_back"] > 0
    for path in folder.rglob("predictions.csv"):
        assert ",test," not in path.read_text()
    # the students were distilled, and their cells have the proof of what FixRes left alone
    logs = [path.read_text() for path in folder.glob("trials/*/metrics.jsonl")]
    assert len(logs) == 2
    assert all('"agreement":' in log for log in logs)
    cells = [json.loads(path.read_bytes()) for path in folder.glob("trials/*/*/cell.json")]
    assert len(cells) == 4
    for cell in cells:
        assert cell["proof"]["frozen_digest_before"] == cell["proof"]["frozen_digest_after"]
    page = (folder / "index.html").read_text()
    assert results["sentences"][0] in page.replace("&#39;", "'")
    assert "The ring is the pick" in page


def test_the_overrides_of_the_pick_build_it(run):
    found = choose_student(request_of(run, bounds=Bounds(min_top1=0.01)))
    overrides = found.recipe_overrides()
    assert found.picked.latency["median_ms"] == 1.0  # the fastest that is good enough
    recipe = load_recipe(run / "recipe.toml", overrides)
    assert recipe.student.arch == "test_efficientnet"
    assert recipe.fixres.test_size_px == 32
    assert recipe.distil.temperature == 3.0
    assert recipe.student.epochs == 3  # of the run, not of the shorter search
    assert load_recipe(run / "recipe.toml").fixres.test_size_px != 32  # the run was left alone


def test_the_pick_is_what_is_exported(run):
    given = ("student.epochs=1", *TOLD, "export.source=student", 'export.precisions=["fp16"]')
    bounds = Bounds(min_top1=0.01)
    found = choose_student(StudentsRequest(run, given, "test_efficientnet", "32", bounds))
    overrides = found.recipe_overrides()
    assert "export.source=fixres" in overrides  # the run's own recipe may name the student
    recipe = load_recipe(run / "recipe.toml", overrides)
    assert recipe.export.source == "fixres"
    assert recipe.export.precisions == ("fp16",)  # an fp32 pick leaves what the user wants beside


def test_what_is_done_is_not_computed_again(run, monkeypatch):
    choose_student(request_of(run, students="test_efficientnet", test_sizes="32"))
    folder = run / "sweep" / "students"
    before = {path: path.stat().st_mtime_ns for path in (folder / "trials").rglob("*.json*")}
    trained: list[Path] = []
    tuned: list[int] = []
    train, tune = student_cells.train_trial, student_cells.tune_fixres

    def count_training(path: Path, *arguments: Any, **options: Any) -> Any:
        trained.append(path)
        return train(path, *arguments, **options)

    def count_tuning(*arguments: Any, **options: Any) -> Any:
        tuned.append(1)
        return tune(*arguments, **options)

    monkeypatch.setattr(student_cells, "train_trial", count_training)
    monkeypatch.setattr(student_cells, "tune_fixres", count_tuning)
    found = choose_student(request_of(run))
    assert [path.name.split("-")[0] for path in trained] == ["test_resnet"]
    assert len(tuned) == 3
    assert len(found.entries) == 4
    assert {path: path.stat().st_mtime_ns for path in before} == before
    # Other options are other cells.
    trained.clear()
    choose_student(StudentsRequest(run, TOLD, "test_efficientnet", "32"))
    assert len(trained) == 1


PROVEN = "export.parity.min_images=20"  # of 45 to train on and 15 of val

LOOSE = (
    "min_snr_db=0",
    "min_agreement=0",
    "max_flip_margin=1000",
    "max_diff_sd=1000",
    "max_batch_diff_sd=1000",
    "max_top1_drop=1",
)
FP16 = ("student.epochs=1", *TOLD, PROVEN, *(f"export.parity.fp16.{limit}" for limit in LOOSE))


@pytest.fixture
def lenient(monkeypatch) -> None:
    """int8 is called fast without a measurement."""
    monkeypatch.setattr(precision_stage, "measure_speedup", lambda *_: 2.0)


def test_each_precision_is_a_cell_of_its_own(run, lenient, monkeypatch):
    told = ("student.epochs=1", *TOLD, PROVEN)
    loose = [f"export.parity.{name}.{limit}" for name in ("fp16", "int8") for limit in LOOSE]
    request = StudentsRequest(
        run, (*told, *loose), "test_efficientnet", "32", precisions="fp16,int8"
    )
    found = choose_student(request)
    assert [entry.cell.precision for entry in found.entries] == ["fp32", "fp16", "int8"]
    assert not found.refused
    for entry in found.entries:
        own = read_predictions(entry.cell.folder / "predictions.csv")
        assert {photo.split for photo in own.photos} == {"val"}
        assert entry.cell.scores["top1"] == (own.predicted == own.targets).mean()
    fp32, _, int8 = (read_predictions(e.cell.folder / "predictions.csv") for e in found.entries)
    assert [p.sha256 for p in fp32.photos] == [p.sha256 for p in int8.photos]
    assert 0 < np.abs(fp32.logits - int8.logits).max() < 1
    page = (run / "sweep" / "students" / "index.html").read_text()
    assert "test_efficientnet, int8" in page

    def never(*_: Any) -> None:
        raise AssertionError("what is done is not made again")

    monkeypatch.setattr(precision_cells, "write_precision", never)
    bounds = Bounds(min_top1=found.entries[2].cell.scores["top1"])
    entry = choose_student(replace(request, precisions="int8", bounds=bounds)).entries[1]
    picked = replace(found, picked=entry)
    assert 'export.precisions=["int8"]' in picked.recipe_overrides()
    recipe = load_recipe(run / "recipe.toml", picked.recipe_overrides())
    assert recipe.export.precisions == ("int8",)


def test_a_precision_that_export_would_refuse_is_left_out_and_named(run, lenient):
    strict = ("export.parity.fp16.min_snr_db=300", "export.parity.int8.min_snr_db=300")
    given = ("student.epochs=1", *TOLD, PROVEN, *strict)
    found = choose_student(
        StudentsRequest(run, given, "test_efficientnet", "32", precisions="fp16,int8")
    )
    assert [entry.cell.precision for entry in found.entries] == ["fp32"]
    assert [one.precision for one in found.refused] == ["fp16", "int8"]
    assert all("PARITY FAIL" in one.why for one in found.refused)
    (told,) = [text for text in found.sentences() if "Left out" in text]
    assert told.startswith("Left out are 2 of the files of reduced precision")
    assert "test_efficientnet at 32 px: PARITY FAIL" in told
    results = json.loads((run / "sweep" / "students" / "results.json").read_bytes())
    assert [one["precision"] for one in results["refused"]] == ["fp16", "int8"]


def _refuse(error: StillroomError) -> Any:
    def judge(*_: Any, **__: Any) -> None:
        raise error

    return judge


@pytest.mark.parametrize("kind", [GateError, ArtifactError, MeasurementError])
def test_a_file_that_cannot_be_judged_does_not_end_the_search(run, monkeypatch, kind):
    with monkeypatch.context() as patched:
        patched.setattr(precision_cells, "judge_file", _refuse(kind("It answers NaN.")))
        request = StudentsRequest(run, FP16, "test_efficientnet", "32", precisions="fp16")
        found = choose_student(request)
    assert [entry.cell.precision for entry in found.entries] == ["fp32"]
    assert [(one.precision, one.why) for one in found.refused] == [("fp16", "It answers NaN.")]
    assert "It answers NaN." in (run / "sweep" / "students" / "index.html").read_text()
    assert not list(run.glob("sweep/students/trials/*/*/fp16-*/*.onnx"))
    # What failed to measure is tried again; a refusal is kept, on this machine.
    again = choose_student(request)
    assert len(again.refused) == (0 if kind is MeasurementError else 1)
    monkeypatch.setattr(precision_cells, "machine_identity", lambda: {"machine": "another"})
    assert not choose_student(request).refused


def test_a_reduced_file_is_known_by_what_decides_it(monkeypatch):
    options, key = ExportOptions(), precision_cells._key
    idle = replace(options, source="teacher", golden_images=3, strict=True, precisions=("fp16",))
    assert key(idle, "int8") == key(options, "int8")
    loose = replace(options.parity, int8=replace(options.parity.int8, min_snr_db=1.0))
    for changed in (
        replace(options, calibration_images=7),
        replace(options, parity=loose),
        replace(options, parity=replace(options.parity, min_images=7)),
        replace(options, opset=19),
    ):
        assert key(changed, "int8") != key(options, "int8")
    assert key(replace(options, parity=loose), "fp16") == key(options, "fp16")
    here = key(options, "int8")
    versions = {"versions": {"onnxruntime": "0.1"}}
    monkeypatch.setattr(precision_cells, "machine_identity", lambda: versions)
    assert key(options, "int8") != here


def test_a_stopped_search_goes_on_where_it_was(run, monkeypatch):
    plan = fixres_stage._plan

    def stop(*arguments: Any) -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        return plan(*arguments)

    handler = signal.signal(signal.SIGINT, lambda *_: (_ for _ in ()).throw(Interrupted("x")))
    try:
        monkeypatch.setattr(fixres_stage, "_plan", stop)
        with pytest.raises(Interrupted):
            choose_student(request_of(run, students="test_efficientnet"))
    finally:
        signal.signal(signal.SIGINT, handler)
    folder = run / "sweep" / "students"
    assert not (folder / "results.json").exists()
    (student,) = folder.glob("trials/*/trial.json")
    first = student.read_bytes()
    monkeypatch.setattr(fixres_stage, "_plan", plan)
    assert len(choose_student(request_of(run, students="test_efficientnet")).entries) == 2
    assert student.read_bytes() == first


@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        (
            Bounds(max_latency_ms=0.5),
            r"holds 0.50.ms an image at most: the fastest, .* 1.00",
        ),
        (Bounds(max_latency_ms=0.5, min_top1=1.0), r"and 100.0.% on val at least: the fastest, "),
    ],
)
def test_where_none_holds_the_bounds_it_is_said(run, bounds, message):
    found = choose_student(request_of(run, students="test_efficientnet", bounds=bounds))
    with pytest.raises(GateError, match=message) as caught:
        refuse_without_pick(found)
    assert "Loosen the bound" in caught.value.next_step
    assert found.recipe_overrides() == []
    results = json.loads((run / "sweep" / "students" / "results.json").read_bytes())
    assert results["pick"] is None
    assert results["sentences"][0] == found.refusal
    assert len(results["rows"]) == 2


def test_without_bounds_nothing_is_picked(run):
    found = choose_student(request_of(run, students="test_efficientnet"))
    refuse_without_pick(found)
    assert found.picked is None
    assert "No bound was given" in found.sentences()[0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"students": "test_resnet,resnet19"}, r"timm .* has no model 'resnet19'"),
        ({"students": "test_resnet,test_resnet"}, "--search .* different values"),
        ({"students": "test_vit3"}, "test_vit3 was built for one size"),
        ({"precisions": "int8-tensorrt"}, "--precisions: int8-tensorrt is none of fp16, int8"),
        ({"precisions": "fp32"}, "--precisions: fp32 is none of fp16, int8"),
        ({"test_sizes": "4"}, "--test-sizes: 4 is not between 16 and 4096"),
        ({"bounds": Bounds(min_top1=93.0)}, "--min-top1 93: expected a fraction"),
        ({"bounds": Bounds(max_latency_ms=0.0)}, "--max-latency-ms 0: expected more than 0"),
    ],
)
def test_what_cannot_be_is_refused_before_training(run, monkeypatch, changes, message):
    monkeypatch.setattr(student_cells, "train_trial", None)
    with pytest.raises(UsageError, match=message):
        choose_student(request_of(run, **changes))
    assert not (run / "sweep").exists()


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(RunError, match="holds no run") as caught:
        choose_student(request_of(tmp_path / "nothing"))
    assert "stillroom train" in caught.value.next_step


def test_the_command_prints_the_table_and_how_to_build_the_pick(untimed, stillroom):
    run = untimed
    names = ("--search", "test_efficientnet", "--test-sizes", "40", "--max-latency-ms", "1000")
    done = stillroom("compress", run, *TOLD, "student.epochs=1", *names)
    assert done.code == 0, done.err
    assert "test_efficientnet <- pick" in done.out
    assert "Pick: test_efficientnet at 40 px" in done.out
    assert f"stillroom compress {run} student.arch=test_efficientnet" in done.out
    rows = json.loads((run / "sweep" / "students" / "results.json").read_bytes())["rows"]
    assert 0 < rows[0]["latency_q1_ms"] <= rows[0]["latency_ms"] <= rows[0]["latency_q3_ms"]
    assert not (run / "student").exists()


def test_how_to_build_an_int8_pick_is_printed(untimed, stillroom, lenient, monkeypatch):
    def int8_is_fast(folders: dict[str, Path], *, opset: int, out: Path, device: str) -> None:
        del device
        last_first = dict(reversed(folders.items()))
        fake_latency(last_first, opset=opset, out=out)

    monkeypatch.setattr("stillroom.sweep.students.run.compare_latency", int8_is_fast)
    run = untimed
    loose = [f"export.parity.int8.{limit}" for limit in LOOSE]
    names = ("--search", "test_efficientnet", "--test-sizes", "32", "--precisions", "int8")
    told = ("student.epochs=1", *TOLD, PROVEN, *loose)
    done = stillroom("compress", run, *told, *names, "--max-latency-ms", "1.5")
    assert done.code == 0, done.err
    assert "test_efficientnet, int8 <- pick" in done.out
    assert "Pick: test_efficientnet, int8 at 32 px" in done.out
    printed = done.out.partition("build the pick:\n")[2].splitlines()
    compress, export = (shlex.split(line) for line in printed)
    assert compress[:3] == ["stillroom", "compress", str(run)]
    recipe = load_recipe(run / "recipe.toml", compress[3:])
    assert (recipe.student.arch, recipe.fixres.test_size_px) == ("test_efficientnet", 32)
    assert (recipe.export.source, recipe.export.precisions) == ("fixres", ("int8",))
    assert export == ["stillroom", "export", str(run), "--precision", "int8"]
    page = html.unescape((run / "sweep" / "students" / "index.html").read_text())
    shown = page.partition("Build the pick")[2].partition("<pre>")[2].partition("</pre>")[0]
    compress_shown, export_shown = shown.replace("\\\n", "").splitlines()
    assert shlex.split(compress_shown) == ["stillroom", "compress", run.name, *compress[3:]]
    assert shlex.split(export_shown) == ["stillroom", "export", run.name, "--precision", "int8"]
    assert "test_efficientnet, int8" in page


@pytest.mark.parametrize("option", [("--max-latency-ms", "5"), ("--precisions", "int8")])
def test_options_of_the_search_need_it(run, stillroom, option):
    done = stillroom("compress", run, *option)
    assert done.code == 2
    assert "belong to --search" in done.err
