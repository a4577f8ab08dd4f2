"""What a later stage would refuse is said before the first training, by every kind of reason."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

SMALL = (
    *("teacher.arch=test_resnet", "teacher.weights=none", "teacher.train_size_px=32"),
    *("student.arch=test_resnet", "student.weights=none", "student.train_size_px=32"),
    *("teacher.batch_size=4", "student.batch_size=4", "fixres.batch_size=4"),
    *("teacher.workers=0", "student.workers=0", "fixres.test_size_px=40"),
    *("teacher.epochs=1", "student.epochs=1", "fixres.epochs=1"),
)


@pytest.mark.parametrize(
    ("overrides", "until", "said"),
    [
        (["fixres.batch_size=9999"], "fixres", "fixres.batch_size = 9999: "),
        (["student.batch_size=500"], "student", "student.batch_size = 500: "),
        (["student.batch_size=500"], "baseline", "Lower it: student.batch_size="),
        (["student.arch=resnett18"], "student", "student.arch = 'resnett18'"),
        (["student.arch=vit_tiny_patch16_224"], "fixres", "cannot take 40 px"),
        (["student.head=bilinear", "student.arch=vit_tiny_patch16_224"], "student", "no feature"),
        (["student.weights=package"], "student", "No package of weights"),
        (["distil.teacher_logits=cached", "student.augment.mixup=0.5"], "student", "not mixtures"),
        (["export.strict=true"], "export", "300 images prove it"),
        (['export.precisions=["fp16"]'], "report", "fp16 is published only where 300 images"),
        (['export.precisions=["int8"]', "export.parity.min_images=18"], "report", "is calibrated"),
    ],
)
def test_the_audit_suffices_to_refuse_it(
    stillroom, few_photos: Path, tmp_path: Path, overrides: list[str], until: str, said: str
) -> None:
    run = tmp_path / "run"
    done = stillroom("run", few_photos, "--run", run, "--until", until, *SMALL, *overrides)
    assert done.code == 2, done.err
    assert said in done.err
    assert "Traceback" not in done.err
    assert "teacher: " not in done.err.replace("error: teacher: ", "")  # nothing was begun
    assert not (run / "teacher").exists()


@pytest.mark.parametrize(
    ("override", "until", "said"),
    [
        ("student.weights=/none.safetensors", "student", "student.weights='/none.safetensors'"),
        ('distil.more_teachers=["/none"]', "student", "distil.more_teachers: /none has no"),
        ("distil.unlabelled=/none", "student", "distil.unlabelled = '/none': no such folder"),
        ("loadtest.slo=p99:50", "loadtest", "loadtest.slo 'p99:50' is not"),
        ("loadtest.users=901", "loadtest", "loadtest.users 901 is not"),
        ("loadtest.duration_s=0", "loadtest", "loadtest.duration_s = 0.0: expected"),
        ("loadtest.rate_share=0.0", "loadtest", "loadtest.rate_share = 0.0"),
        ("serve.backend=cuda", "http", "serve.backend = 'cuda'"),
        ("serve.threads=0", "http", "expected 1"),
    ],
)
def test_the_recipe_suffices_to_refuse_it(
    stillroom, few_photos: Path, tmp_path: Path, override: str, until: str, said: str
) -> None:
    run = tmp_path / "run"
    done = stillroom("run", few_photos, "--run", run, "--until", until, *SMALL, override)
    assert done.code == 2, done.err
    assert said in done.err
    assert not run.exists()  # not even the audit was made


@pytest.mark.parametrize(
    ("module", "until"), [("locust", "loadtest"), ("onnxscript", "export"), ("jinja2", "report")]
)
def test_what_a_stage_imports_is_missed_before_the_first(
    stillroom, few_photos: Path, tmp_path: Path, monkeypatch, module: str, until: str
) -> None:
    from importlib.util import find_spec

    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name, *_: None if name == module else find_spec(name)
    )
    done = stillroom("run", few_photos, "--run", tmp_path / "run", "--until", until, *SMALL)
    assert done.code == 2
    assert f"needs {module}, which is not installed" in done.err


def test_a_stage_that_is_not_asked_for_is_no_obstacle(
    stillroom, few_photos: Path, tmp_path: Path
) -> None:
    overrides = ("fixres.batch_size=9999", "loadtest.slo=never", "student.arch=none")
    done = stillroom("audit", few_photos, "--run", tmp_path / "run", *SMALL, *overrides)
    assert done.code == 0, done.err


@pytest.mark.parametrize("where", ["file", "file/below", "/proc/run"])
def test_a_run_that_cannot_be_written_is_one_line(
    stillroom, few_photos: Path, tmp_path: Path, where: str
) -> None:
    (tmp_path / "file").write_text("")
    done = stillroom("run", few_photos, "--run", tmp_path / where, *SMALL)
    assert done.code == 2
    assert "--run" in done.err
    assert done.err.count("\n") == 1


def test_a_full_disk_is_said_before_the_training(
    stillroom, few_photos: Path, tmp_path: Path, monkeypatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage._replace(free=1000))
    arguments = ("run", few_photos, "--run", tmp_path / "run", "--until", "teacher", *SMALL)
    done = stillroom(*arguments)
    assert done.code == 2
    assert "0 are free" in done.err
