from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serve.contract.errors import Interrupted, RecipeError
from stillroom.ablation import cells, stage
from stillroom.ablation.cells import ARMS, Trainings, cell_folder
from stillroom.ablation.facts import ArmRow, contrasts_of, sentences_of
from stillroom.ablation.stage import RESULTS, TABLE
from stillroom.page.environment import page_environment
from stillroom.report.ablation_section import ablation_section
from stillroom.run.execution import Request, run_stages
from stillroom.run.folder import RunFolder
from stillroom.run.pipeline import PIPELINE
from tests.stillroom.sweeps import copy_run, fake_latency, make_run
from tests.train.toy import fast
from train.evaluation import read_predictions

pytestmark = pytest.mark.e2e

STUDENTS = {
    "arch": "test_efficientnet",
    "weights": "none",
    "train_size_px": 32,
    "test_size_px": 0,
    "epochs": 2,
    "head_epochs": 0,
    "batch_size": 12,
    "warmup_epochs": 0.5,
    "ema_decay": 0.9,
    "workers": 0,
}
OPTIONS = (
    *(f"{who}.{key}={value}" for who in ("teacher", "student") for key, value in STUDENTS.items()),
    "fixres.epochs=1",
    "fixres.batch_size=12",
    "fixres.test_size_px=40",
    "ablation.seeds=2",
)
LATENCY = {"median_ms": 2.0, "q1_ms": 1.9, "q3_ms": 2.1, "n": 9}


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose teacher is trained. Read only."""
    run = make_run(tmp_path_factory.mktemp("ablation"))
    run_stages(PIPELINE, Request(run, None, None, OPTIONS, "teacher"))
    return run


@pytest.fixture(scope="module")
def ablated(taught: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same after its ablation. Read only."""
    run = copy_run(taught, tmp_path_factory.mktemp("ablated"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage, "compare_latency", fake_latency)
        run_stages(PIPELINE, Request(run, until="ablation"))
    return run


def _results(run: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((run / "ablation" / RESULTS).read_bytes())
    return value


# ---- the stage


def test_all_arms_have_equal_budgets(ablated: Path) -> None:
    rows = {row["key"]: row for row in _results(ablated)["rows"]}
    assert {rows[arm.key]["epochs"] for arm in ARMS} == {3}
    assert {rows[arm.key]["steps"] for arm in ARMS} == {9}  # 45 images in batches of 12
    assert {rows[arm.key]["test_px"] for arm in ARMS if arm.fixes} == {40}
    assert rows["both-resized"]["epochs"] == 2
    assert rows["labels"]["test_px"] == 32
    assert all(len(rows[arm.key]["test_top1_of_seeds"]) == 2 for arm in ARMS)


def test_the_arms_are_what_they_are_called(ablated: Path) -> None:
    for arm in ARMS:
        for number in range(2):
            folder = cell_folder(ablated / "ablation", arm.key, number)
            log = (folder / ("student" if arm.fixes else "") / "metrics.jsonl").read_text()
            assert ('"kd":' in log) == arm.distils
            assert (folder / "fixres.json").exists() == arm.fixes
            assert not list(folder.glob(".*"))
    one, two = (cell_folder(ablated / "ablation", "labels", n) for n in range(2))
    assert (one / "predictions.csv").read_bytes() != (two / "predictions.csv").read_bytes()


def test_figures_are_those_of_the_predictions(ablated: Path) -> None:
    results = _results(ablated)
    for row in results["rows"]:
        key = row["key"]
        if key == "teacher":
            files = [ablated / "teacher" / "predictions.csv"]
        else:
            arm, _, resized = key.partition("-")
            name = "resized.csv" if resized else "predictions.csv"
            files = [cell_folder(ablated / "ablation", arm, n) / name for n in range(2)]
        tests = [read_predictions(file).of_split("test") for file in files]
        each = [float((test.predicted == test.targets).mean()) for test in tests]
        assert row["test_top1_of_seeds"] == each
        assert row["test_top1"] == pytest.approx(np.mean(each))
    assert results["images"] == len(tests[0].photos)
    assert "Two seeds tell little" in results["sentences"][-1]


def test_the_table_and_the_report_show_every_row(ablated: Path) -> None:
    results = _results(ablated)
    table = (ablated / "ablation" / TABLE).read_text()
    section = ablation_section(RunFolder(ablated))
    assert section is not None
    assert section["outdated"] == []
    page = page_environment().get_template("ablation.html.j2").render(ablation=section)
    for text in (table, page):
        assert results["sentences"][0][:40] in text
        assert all(row["title"] in text for row in results["rows"])
        assert all(contrast["title"] in text for contrast in results["contrasts"])
    assert page_environment().get_template("ablation.html.j2").render(ablation=None).strip() == ""


def test_an_ablation_of_an_older_teacher_says_so(ablated: Path, tmp_path: Path) -> None:
    run = copy_run(ablated, tmp_path)
    (run / "teacher" / "manifest.json").unlink()
    section = ablation_section(RunFolder(run))
    assert section is not None
    assert section["outdated"] == ["teacher"]
    page = page_environment().get_template("ablation.html.j2").render(ablation=section)
    assert "Made before teacher changed" in page


def test_a_run_without_an_ablation_shows_none(taught: Path) -> None:
    assert ablation_section(RunFolder(taught)) is None


def test_the_report_is_built_again_when_there_is_an_ablation(taught: Path, ablated: Path) -> None:
    from dataclasses import replace

    report = replace(PIPELINE["report"], parents=())  # its own are not built here
    keys = []
    for path in (taught, ablated, ablated):
        run = RunFolder(path)
        from stillroom.run.recipe import load_recipe

        keys.append(PIPELINE.key(report, load_recipe(run.recipe_path), run, "inputs"))
    assert keys[0] != keys[1] == keys[2]


def test_what_is_trained_is_not_trained_again(
    ablated: Path, taught: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = copy_run(taught, tmp_path)
    monkeypatch.setattr(stage, "compare_latency", fake_latency)
    fix, calls = cells.fine_tune_fixres, []

    def stopping(*args: Any, **kwargs: Any) -> Any:
        calls.append("fixres")
        if len(calls) == 2:
            raise Interrupted("Stopped.", "Go on.")
        return fix(*args, **kwargs)

    def counted(name: str) -> Callable[..., Any]:
        original = getattr(cells, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            calls.append(name)
            return original(*args, **kwargs)

        return call

    with monkeypatch.context() as patch:
        patch.setattr(cells, "fine_tune_fixres", stopping)
        with pytest.raises(Interrupted):
            run_stages(PIPELINE, Request(run, until="ablation"))
    assert not (run / "ablation").exists()
    calls.clear()
    for name in ("train_teacher", "distil_student", "fine_tune_fixres"):
        monkeypatch.setattr(cells, name, counted(name))
    run_stages(PIPELINE, Request(run, until="ablation"))
    # Of the first seed the last FixRes alone was left; the second seed is whole.
    assert calls.count("train_teacher") == 2
    assert calls.count("distil_student") == 2
    assert calls.count("fine_tune_fixres") == 3
    assert (run / "ablation" / RESULTS).read_bytes() == (
        ablated / "ablation" / RESULTS
    ).read_bytes()


def test_restarts_are_refused() -> None:
    arguments: dict[str, Any] = dict.fromkeys(Trainings.__dataclass_fields__)
    with pytest.raises(RecipeError, match=r"student\.restarts = 2: .* equal budgets"):
        Trainings(**{**arguments, "student": fast(restarts=2)})


def test_the_command_prints_the_table(
    ablated: Path, tmp_path: Path, stillroom: Callable[..., Any]
) -> None:
    run = copy_run(ablated, tmp_path)
    done = stillroom("ablate", run)
    assert done.code == 0
    assert "| what it brings |" in done.out
    assert "ablation: done" in done.err
    refused = stillroom("ablate", run, "ablation.seed=2")
    assert refused.code == 2
    assert "Did you mean 'ablation.seeds'?" in refused.err


# ---- the figures


def _row(key: str, hits: list[list[int]]) -> ArmRow:
    return ArmRow(key, key, np.array(hits, dtype=bool), 0.5, 3, 9, 40, LATENCY)


def _rows(**hits: list[list[int]]) -> list[ArmRow]:
    half = [[1, 0] * 50] * 3
    keys = ("labels", "distilled", "fixres", "both", "fixres-resized", "both-resized")
    rows = [_row("teacher", hits.get("teacher", [[1, 0] * 50]))]
    return rows + [_row(key, hits.get(key.replace("-", "_"), half)) for key in keys]


def test_equal_arms_show_no_difference() -> None:
    contrasts = contrasts_of(_rows())
    assert {c.reading for c in contrasts} == {"no difference shown"}
    assert all(c.difference == c.low == c.high == 0 and c.p == 1 for c in contrasts)


def test_a_gain_on_all_seeds_is_shown_and_its_reverse_is_worse() -> None:
    better = [[1, 0] * 35 + [1] * 30] * 3
    contrasts = {(c.first, c.second): c for c in contrasts_of(_rows(both=better))}
    gain = contrasts["both", "labels"]
    assert gain.difference == pytest.approx(0.15)
    assert gain.low > 0
    assert gain.reading == "better"
    assert contrasts["both", "teacher"].difference == pytest.approx(0.15)
    worse = {(c.first, c.second): c for c in contrasts_of(_rows(both=[[0] * 100] * 3))}
    assert worse["both", "labels"].reading == "worse"


def test_seeds_that_disagree_widen_the_interval() -> None:
    steady = contrasts_of(_rows(both=[[1, 0] * 35 + [1] * 30] * 3))[2]
    shaky = contrasts_of(_rows(both=[[1] * 95 + [0] * 5, [1, 0] * 50, [1, 0] * 50]))[2]
    assert shaky.difference == pytest.approx(steady.difference)
    assert shaky.high - shaky.low > steady.high - steady.low
    assert shaky.reading == "no difference shown"


def test_the_sentences_state_gain_distance_and_speed() -> None:
    rows = _rows(both=[[1, 0] * 35 + [1] * 30] * 3)
    first, second = (text.replace("\u202f", " ") for text in sentences_of(rows, contrasts_of(rows)))
    assert "65.0 % of 100 test images against 50.0 % from labels alone" in first
    assert "+15.0 points" in first
    assert first.endswith("better.")
    assert "at 1.0 × its speed" in second
