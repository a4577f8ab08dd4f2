"""No stale figure beside a fresh one: what each command says of stages that are not today's."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from stillroom.run.execution import Request, run_stages
from tests.stillroom.conftest import write_photos
from tests.stillroom.fake_pipeline import FakePipeline

pytestmark = pytest.mark.e2e


def check_nothing_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    """The checks are of trainings, which do not happen here."""
    for check in ("check_needs", "check_stage"):
        monkeypatch.setattr(f"stillroom.run.execution.{check}", lambda *_: None)


@pytest.fixture
def pipeline(monkeypatch) -> FakePipeline:
    fake = FakePipeline()
    monkeypatch.setattr("stillroom.run.pipeline.PIPELINE", fake.graph)
    check_nothing_ahead(monkeypatch)
    return fake


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("stale") / "photos"
    write_photos(folder, 8)
    return folder


@pytest.fixture(scope="module")
def finished(photos) -> Path:
    """A run with every stage; copied, never changed."""
    options = ("teacher.epochs=40", "student.epochs=30")
    request = Request(photos.parent / "run", photos, None, options)
    with pytest.MonkeyPatch.context() as monkeypatch:
        check_nothing_ahead(monkeypatch)
        return run_stages(FakePipeline().graph, request).path


@pytest.fixture
def command(pipeline, stillroom, photos, tmp_path):
    """Commands on one run: "PHOTOS" and "RUN" stand for its paths; words without line ends."""

    def call(line: str, code: int = 0) -> tuple[str, str]:
        paths = {"PHOTOS": photos, "RUN": tmp_path / "run", "OTHER": tmp_path / "other"}
        outcome = stillroom(*(paths.get(word, word) for word in line.split()))
        assert outcome.code == code, outcome
        return " ".join(outcome.out.split()), outcome.err

    return call


@pytest.fixture
def whole(finished, tmp_path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


def states(out: str) -> dict[str, str]:
    """stage -> its words, out of the one line that the table became."""
    names = "audit teacher student fixres baseline export fp16 int8 int8-tensorrt latency http"
    order = [*names.split(), "loadtest", "ablation", "report"]
    found = re.search(
        " ".join(rf"{re.escape(name)} (?P<s{i}>.*?)" for i, name in enumerate(order))
        + r"(?: another .*| images: .*)?$",
        out,
    )
    assert found, out
    return {name: re.sub(r" ?\b[0-9a-f]{12}\b", "", found[f"s{i}"]) for i, name in enumerate(order)}


# ---- the summary


def test_a_whole_run_shows_all_its_figures(command):
    out, _ = command("run PHOTOS --run RUN student.epochs=30")
    for expected in ("student 30.0 %", "HTTP 9 of 9", "77 requests", "index.html", "serve it"):
        assert expected in out
    assert "stale" not in out


@pytest.mark.parametrize(
    ("line", "shown", "hidden"),
    [
        (
            "run PHOTOS --run RUN student.epochs=1 --until export",
            ["student 1.0 %", "parity passed", "stale baseline, latency, http, loadtest, report"],
            ["HTTP", "77 requests", "baseline 30", "index.html"],
        ),
        (
            "run PHOTOS --run RUN student.epochs=2 --until student",
            ["student 2.0 %"],
            ["fixres 30", "baseline 30", "parity", "HTTP", "serve it"],
        ),
        (
            "train PHOTOS --run RUN teacher.epochs=3",
            ["teacher 3.0 %", "baseline 30.0 %"],
            ["student 30", "parity", "HTTP", "77 requests", "serve it", "index.html"],
        ),
        ("export RUN export.source=student", ["student 30.0 %", "parity"], ["HTTP", "77 requests"]),
        (
            "compress RUN fixres.epochs=2",
            ["fixres 30.0 %", "baseline 30.0 %"],
            ["parity", "77 requests"],
        ),
    ],
)
def test_what_is_stale_is_named_and_not_shown(command, whole, line, shown, hidden):
    out, _ = command(line)
    for expected in shown:
        assert expected in out, out
    for stale in hidden:
        assert stale not in out, out
    assert f"Again: stillroom report {whole}" in out


@pytest.mark.parametrize(
    ("line", "stale"),
    [
        ("run PHOTOS --run RUN student.epochs=1 --until export",
         "baseline, latency, http, loadtest, report"),
        ("export RUN export.source=student", "http, loadtest, report"),
        ("compress RUN student.lr=0.5", "export, latency, http, loadtest, report"),
        ("train PHOTOS --run RUN teacher.lr=0.5",
         "student, fixres, export, latency, http, loadtest, report"),
        ("audit PHOTOS --run RUN data.val_fraction=0.3",
         "teacher, student, fixres, baseline, export, latency, http, loadtest, report"),
    ],
)  # fmt: skip
def test_what_becomes_stale_is_said_before_anything_is_built(command, whole, line, stale):
    _, err = command(line)
    note, built = err.index("note: "), err.index(" building")
    assert note < built
    assert f"makes {stale} of {whole} stale" in err
    assert f"stillroom report {whole}" in err
    assert "note: " not in command("report RUN")[1]
    assert "stale" not in command("status RUN")[0]


def test_a_whole_run_with_an_override_makes_nothing_stale(command, whole):
    assert "note: " not in command("run PHOTOS --run RUN student.epochs=9")[1]


# ---- overrides of the ablation


@pytest.mark.parametrize(
    "line",
    [
        "student.epochs=1",
        "fixres.epochs=2 --seeds 2",
        "distil.temperature=4",
        "student.epochs=1 ablation.seeds=1",
    ],
)
def test_overrides_of_an_ablation_leave_the_run_alone(command, whole, line):
    before = (whole / "recipe.toml").read_bytes()
    command(f"ablate RUN {line}")
    assert (whole / "recipe.toml").read_bytes() == before
    found = states(command("status RUN")[0])
    assert found["ablation"] == "done"
    assert {found[name] for name in ("student", "fixres", "export", "loadtest")} == {"done"}
    assert "ablation: done" in command(f"ablate RUN {line}")[1]
    command("report RUN")
    assert "stale" not in command("status RUN")[0]


def test_an_ablation_uses_its_overrides_and_without_them_the_run_again(command, whole):
    assert command("ablate RUN student.epochs=1")[0].startswith("1 epochs")
    assert command("ablate RUN")[0].startswith("30 epochs")
    assert not (whole / "ablation" / "overrides.json").exists()


@pytest.mark.parametrize("override", ["teacher.epochs=1", "seed=5", "data.val_fraction=0.3"])
def test_an_ablation_refuses_what_it_is_built_on(command, whole, override):
    before = (whole / "recipe.toml").read_bytes()
    _, err = command(f"ablate RUN {override}", code=2)
    assert f"stillroom run PHOTOS --run NEW {override}" in err
    assert (whole / "recipe.toml").read_bytes() == before


# ---- status


def test_status_tells_apart_what_nobody_asked_for(command, whole):
    found = states(command("status RUN")[0])
    assert found["report"] == "done"
    assert {found[n] for n in ("fp16", "int8", "int8-tensorrt", "ablation")} == {"not asked for"}


def test_status_of_a_run_that_was_begun(command, tmp_path):
    command("audit PHOTOS --run RUN")
    found = states(command("status RUN")[0])
    assert (found["audit"], found["teacher"], found["int8"]) == (
        "done", "not built yet", "not asked for",
    )  # fmt: skip


def test_a_precision_that_the_recipe_asks_for_is_not_built_yet(command):
    command('run PHOTOS --run RUN export.precisions=["int8"] --until student')
    found = states(command("status RUN")[0])
    assert (found["int8"], found["fp16"]) == ("not built yet", "not asked for")


def test_status_says_where_an_interrupted_training_goes_on(command, pipeline):
    pipeline.stop_in = "student"
    command("run PHOTOS --run RUN", code=75)
    assert states(command("status RUN")[0])["student"] == "half done: goes on at step 10"
    assert "student" not in command("train PHOTOS --run RUN")[0]
    command("train PHOTOS --run RUN student.epochs=7")
    found = states(command("status RUN")[0])["student"]
    assert found == "half done: begins anew, for its inputs or options changed"


def test_status_says_why_a_stage_is_stale_and_that_its_rebuild_was_stopped(
    command, whole, pipeline
):
    pipeline.stop_in = "student"
    command("run PHOTOS --run RUN student.epochs=5", code=75)
    found = states(command("status RUN")[0])
    assert found["student"] == (
        "stale: its inputs or options changed; its rebuild goes on at step 10"
    )
    assert found["fixres"] == "stale: student must be built again"
    assert found["teacher"] == "done"


def test_status_sees_the_stage_that_is_being_built(command, pipeline, tmp_path):
    from stillroom.run.folder import RunFolder
    from stillroom.run.status import read_run_state

    seen = {}

    def watch(stage, context):
        state = read_run_state(pipeline.graph, RunFolder(tmp_path / "run"))
        seen[stage.name] = state.of(stage.name).words, state.of("report").words, state.worker

    pipeline.watch = watch
    command("run PHOTOS --run RUN")
    assert seen["student"][0] == "running now, saved at its beginning"
    assert seen["http"][0] == "running now"
    assert seen["http"][1] == "not built yet"
    assert seen["http"][2] > 0
    assert "running now" not in command("status RUN")[0]


# ---- what uses a run


def test_predict_and_serve_say_that_the_artifact_is_not_todays(command, whole):
    command("run PHOTOS --run RUN student.epochs=1 --until student")
    for line in ("predict RUN x.jpg", "serve RUN", "build RUN"):
        _, err = command(line, code=2)  # no real artifact is there to open
        assert f"note: {whole / 'artifact'} is stale: fixres must be built again" in err, line
        assert f"--run {whole} --until export" in err
    command("export RUN")
    assert "note:" not in command("predict RUN x.jpg", code=2)[1]


def test_evaluate_shows_the_exported_model_and_says_which(command, whole):
    out, err = command("evaluate RUN")
    assert "run · fixres" in out
    assert "fixres: the model of the artifact, which predict and serve use" in err
    out, err = command("evaluate RUN --stage student")
    assert "run · student" in out
    assert err == ""
    command("export RUN export.source=teacher")
    assert "run · teacher" in command("evaluate RUN")[0]


def test_evaluate_marks_a_stale_model(command, whole):
    command("run PHOTOS --run RUN student.epochs=1 --until student")
    assert f"{whole / 'fixres'} is stale" in command("evaluate RUN")[1]
    assert "stale" not in command("evaluate RUN --stage student")[1]


def test_evaluate_without_an_artifact_takes_what_export_would(command):
    command("run PHOTOS --run RUN export.source=student --until fixres")
    out, err = command("evaluate RUN")
    assert "run · student" in out
    assert "nothing is exported yet" in err


def test_compare_marks_a_stale_model(command, whole, tmp_path):
    shutil.copytree(whole, tmp_path / "other")
    assert "is stale" not in command("compare RUN OTHER")[0]
    command("train PHOTOS --run OTHER teacher.epochs=3")
    out, _ = command("compare RUN OTHER")
    assert f"{tmp_path / 'other' / 'student'} is stale" in out
    assert f"{whole / 'student'} is stale" not in out


def test_the_summary_says_that_fixres_was_not_kept(command, pipeline):
    pipeline.fixres_kept = "student"
    out, _ = command("run PHOTOS --run RUN student.epochs=30")
    assert "fixres, not kept 30.0 %" in out
    assert "the row is the student at its size" in out
