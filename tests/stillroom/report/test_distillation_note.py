from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from serve.contract.manifest import write_manifest
from stillroom.report.page import write_report
from stillroom.run.stage_graph import Context

FOUND = {
    "teachers": [{"arch": "resnet50"}, {"arch": "resnet18"}],
    "teacher_logits": "cached: inferior to online",
    "agreement": {
        "val_agreement": 0.9,
        "val_kl": 0.1234,
        "teacher_agreement": 0.87,
        "teacher_kl": 0.2345,
    },
    "unlabelled": {"photos": 1200, "left_out": 3},
}


def _page(context: Context, found: dict[str, Any]) -> str:
    student = context.run.stage("student")
    log = student / "metrics.jsonl"
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    shares = [0.5, 0.6, 0.7, 0.9]
    taught = [line | {"val_agreement": share} for line, share in zip(lines, shares, strict=True)]
    log.write_text("".join(json.dumps(line) + "\n" for line in taught))
    fields = {"kind": "student", "parents": {}, "metrics": {}, "distillation": found}
    write_manifest(student, fields)
    write_report(context)
    return Path(context.out / "index.html").read_text(encoding="utf-8").replace("\u202f", " ")


def test_the_report_says_how_far_the_student_answers_as_its_teachers(
    make_run: Callable[..., Context],
) -> None:
    page = _page(make_run(), FOUND)
    assert "answers as its teachers do on 87.0 % of the test images and 90.0 % of val" in page
    assert "it was 50.0 % of val after the first epoch" in page
    assert "0.234 nats on test, 0.123 on val" in page
    assert "2 teachers, their probabilities averaged: resnet50, resnet18." in page
    assert "1 200 images without labels took part; 3 were left out." in page
    assert "Teacher logits cached: inferior to online." in page


def test_of_one_teacher_online_there_is_less_to_say(make_run: Callable[..., Context]) -> None:
    plain = {key: FOUND[key] for key in ("agreement",)}
    page = _page(make_run(), plain | {"teachers": [{"arch": "a"}], "teacher_logits": "online"})
    assert "answers as its teacher does on 87.0 %" in page
    assert "Teacher logits" not in page
    assert "probabilities averaged" not in page


def test_a_run_from_before_that_has_no_note(toy_page: str) -> None:
    assert "answers as its teacher" not in toy_page
