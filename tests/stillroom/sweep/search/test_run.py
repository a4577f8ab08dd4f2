from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from serve.contract.errors import Interrupted, RecipeError, RunError, StillroomError, UsageError
from stillroom.run.recipe import load_recipe
from stillroom.sweep.folder import SweepFolder
from stillroom.sweep.search import run as search_module
from stillroom.sweep.search.run import SearchRequest, epochs_before, search
from tests.stillroom.sweeps import OPTIONS, copy_run, make_run, rows_of
from tests.train.toy import fast

pytestmark = pytest.mark.e2e

SPACE = ("teacher.lr=1e-3,5e-3", "teacher.drop_rate=0,0.3")


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    return make_run(tmp_path_factory.mktemp("search"))


@pytest.fixture
def run(made, tmp_path) -> Path:
    return copy_run(made, tmp_path)


@pytest.fixture(scope="module")
def unbroken(made, tmp_path_factory) -> Path:
    """A finished search of two trials. Read only."""
    run = copy_run(made, tmp_path_factory.mktemp("unbroken"))
    search(request_of(run, trials=2))
    return run


def request_of(run: Path, *entries: str, **changes: object) -> SearchRequest:
    given = {"sampler": "random", "trials": 2, **changes}
    return SearchRequest(run, (*OPTIONS, *(entries or SPACE)), **given)  # type: ignore[arg-type]


def test_a_search_leaves_a_recipe_a_table_and_a_page(unbroken):
    folder = unbroken / "sweep" / "search"
    rows = rows_of(unbroken, "search")
    assert [row["state"] for row in rows] == ["complete", "complete"]
    best = max(rows, key=lambda row: (float(row["val_top1"]), -float(row["val_loss"])))
    recipe = load_recipe(folder / "best.toml")
    assert recipe.teacher.lr == float(best["teacher.lr"])
    assert recipe.teacher.drop_rate == float(best["teacher.drop_rate"])
    assert recipe.teacher.epochs == 2
    page = (folder / "index.html").read_text()
    assert "The 12 test images were taken out" in page
    assert "<svg" in page
    assert "http" not in page.replace("http-equiv", "")
    kept = sorted(path.parent.name for path in folder.glob("trials/*/checkpoint.json"))
    assert kept == [best["trial"]]
    assert not list(folder.glob("trials/*/state"))


def test_the_runs_own_recipe_is_left_alone(made, unbroken):
    assert (unbroken / "recipe.toml").read_bytes() == (made / "recipe.toml").read_bytes()


def test_the_same_command_goes_on_and_a_finished_one_trains_nothing(run, monkeypatch):
    search(request_of(run, trials=1))
    one = rows_of(run, "search")
    monkeypatch.setattr(search_module, "train_trial", None)
    search(request_of(run, trials=1))
    assert rows_of(run, "search") == one


def test_a_stopped_search_resumes_to_the_same_results(run, unbroken, monkeypatch):
    real = search_module.train_trial

    def stopped(folder, dataset, options, *, seed, listen):
        def stop_after(record):
            listen(record)
            os.kill(os.getpid(), signal.SIGTERM)

        return real(folder, dataset, options, seed=seed, listen=stop_after)

    monkeypatch.setattr(search_module, "train_trial", stopped)
    with pytest.raises(Interrupted, match="Run the same command again"):
        search(request_of(run))
    assert (run / "sweep" / "search" / "trials" / "0" / "state").is_dir()
    assert [row["state"] for row in rows_of(run, "search")] == ["running"]
    monkeypatch.setattr(search_module, "train_trial", real)
    search(request_of(run))
    numbers = [row.pop("trial") for row in rows_of(run, "search")]
    assert numbers == ["1", "2"]  # 0 was stopped and is trial 1
    results = [{k: v for k, v in row.items() if k != "trial"} for row in rows_of(run, "search")]
    assert results == [
        {k: v for k, v in row.items() if k != "trial"} for row in rows_of(unbroken, "search")
    ]


def test_a_killed_trial_without_a_state_is_trained_again(run, unbroken, monkeypatch):
    real = search_module.train_trial

    def kill(*_, **__):
        raise RuntimeError("as if killed: nothing is told to the study")

    monkeypatch.setattr(search_module, "train_trial", kill)
    with pytest.raises(RuntimeError, match="as if killed"):
        search(request_of(run))
    monkeypatch.setattr(search_module, "train_trial", real)
    search(request_of(run))
    top1 = [row["val_top1"] for row in rows_of(run, "search")]
    assert top1 == [row["val_top1"] for row in rows_of(unbroken, "search")]


def test_a_pruned_trial_is_recorded_and_keeps_its_log(run, monkeypatch):
    class Always:
        def prune(self, study, trial):
            return trial.number == 1

    monkeypatch.setattr("stillroom.sweep.search.study._pruner", lambda name, epochs: Always())
    search(request_of(run))
    first, second = rows_of(run, "search")
    assert (first["state"], second["state"]) == ("complete", "pruned")
    assert (first["epochs"], second["epochs"]) == ("2", "1")
    assert 0 <= float(second["val_top1"]) <= 1
    trial = run / "sweep" / "search" / "trials" / "1"
    assert len((trial / "metrics.jsonl").read_text().splitlines()) == 1
    assert sorted(path.name for path in trial.iterdir()) == ["metrics.jsonl"]
    assert "pruned" in (run / "sweep" / "search" / "index.html").read_text()


def test_a_trial_that_fails_is_recorded_and_the_others_go_on(run):
    entries = ("teacher.swa_epochs=0,2", "teacher.epochs=1,2")  # 2 of 1 epochs cannot be
    search(request_of(run, *entries, trials=6))
    rows = rows_of(run, "search")
    for row in rows:
        cannot = (row["teacher.swa_epochs"], row["teacher.epochs"]) == ("2", "1")
        assert row["state"] == ("failed" if cannot else "complete")
        assert ("expected at most epochs" in row["why"]) == cannot
    assert {row["state"] for row in rows} == {"failed", "complete"}
    with pytest.raises(RecipeError, match="expected at most epochs"):  # a grid is known beforehand
        search(request_of(run, *entries, sampler="grid", name="grid"))


def test_a_grid_is_trained_once_each(run):
    entries = ("teacher.lr=1e-3,5e-3", "teacher.epochs=1,2")
    search(request_of(run, *entries, sampler="grid", trials=0))
    rows = rows_of(run, "search")
    assert [(row["teacher.lr"], row["teacher.epochs"]) for row in rows] == [
        ("0.001", "1"),
        ("0.001", "2"),
        ("0.005", "1"),
        ("0.005", "2"),
    ]


def test_no_trial_that_trains_is_an_error(run, monkeypatch):
    def fail(*_, **__):
        raise StillroomError("The loss is not finite.")

    monkeypatch.setattr(search_module, "train_trial", fail)
    with pytest.raises(StillroomError, match=r"No trial could be trained\. The first: The loss is"):
        search(request_of(run))
    assert [row["why"] for row in rows_of(run, "search")] == ["The loss is not finite."] * 2


def test_another_space_in_the_same_folder_is_refused(unbroken):
    with pytest.raises(UsageError, match=r"holds another sweep: space.*--name"):
        search(request_of(unbroken, "teacher.lr=1e-3,6e-3"))
    with pytest.raises(UsageError, match=r"teacher.batch_size differs"):
        search(request_of(unbroken, *SPACE, "teacher.batch_size=10"))


@pytest.mark.parametrize("entry", ["data.val_fraction=0.3", "data.test_fraction=0.1"])
def test_another_split_of_the_same_run_is_refused(run, entry):
    with pytest.raises(RecipeError, match=r"The data section differs.*stillroom audit"):
        search(request_of(run, *SPACE, entry))


def test_wrong_requests_are_refused_before_anything_is_written(run):
    for request, message in (
        (request_of(run, sampler="bayes"), "No sampler 'bayes'"),
        (request_of(run, trials=0), "has no end"),
        (request_of(run, name="../other"), "plain folder name"),
        (request_of(run, "teacher.lrr=1,2"), "Did you mean 'teacher.lr'"),
        (request_of(run, "teacher.lr=1e-4..1e-2", sampler="grid"), "a grid needs choices"),
    ):
        with pytest.raises(UsageError, match=message):
            search(request)
    assert not (run / "sweep").exists()


def test_a_sweep_that_is_under_way_is_not_disturbed(run):
    folder = SweepFolder.of(run, "search")
    with folder.opened({"kind": "x"}), pytest.raises(RunError, match="Another stillroom"):
        search(request_of(run))


def test_time_that_is_over_begins_no_trial(run):
    search(request_of(run, timeout_s=1e-9))
    assert rows_of(run, "search") == []
    assert "No trial is complete yet" in (run / "sweep" / "search" / "index.html").read_text()


def test_photographs_alone_are_audited_with_the_data_overrides(made, tmp_path, monkeypatch):
    photos = made.parent / "photos"
    monkeypatch.chdir(tmp_path)
    request = request_of(photos, *SPACE, "data.val_fraction=0.25", trials=1)
    page = search(request)
    assert page == Path("runs/photos/sweep/search/index.html")
    recipe = load_recipe(tmp_path / "runs" / "photos" / "recipe.toml")
    assert recipe.data.val_fraction == 0.25
    assert recipe.teacher.batch_size != 12  # what a sweep tries does not become the run's


def test_epochs_count_over_all_phases():
    options = fast(epochs=3, head_epochs=2, restarts=2)
    phases = ("head", "all", "again-1", "again-2")
    assert [epochs_before(phase, options) for phase in phases] == [0, 2, 5, 8]


def test_the_command_prints_the_verdict(run, stillroom):
    done = stillroom("sweep", "search", run, *OPTIONS, "teacher.lr=2e-3,5e-3", "--trials", 1)
    assert done.code == 0, done.err
    assert "is best" in done.out
    assert done.out.endswith("sweep/search/index.html\n")
    assert stillroom("sweep", "search", run, "teacher.lrr=1,2").code == 2
