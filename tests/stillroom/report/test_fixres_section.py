"""The FixRes section: three rows, paired differences, the proof."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from serve.contract.digest import canonical_json
from stillroom.report.facts import read_facts
from stillroom.report.fixres_section import fixres_section
from stillroom.report.page import write_report

pytestmark = pytest.mark.e2e


def _section(page: str) -> str:
    found = re.search(r'<section id="fixres">.*?</section>', page, re.S)
    assert found
    text = re.sub(r"</t[dh]>", " ", found[0])
    return " ".join(re.sub(r"<[^>]*>", "", text).split())


def _change(run: Path, **changes: Any) -> None:
    path = run / "fixres" / "fixres.json"
    path.write_bytes(canonical_json({**json.loads(path.read_bytes()), **changes}))


def test_fixres_stands_beside_no_change_and_beside_only_testing_larger(toy_run, toy_page):
    section = fixres_section(toy_run.run, read_facts(toy_run))
    titles = [title for _, title, _ in section["rows"]]
    assert titles == ["No change", "Only tested at the new size", "FixRes"]
    assert [(title, split) for title, split, _ in section["paired"]] == [
        ("FixRes − only tested at the new size", "val"),
        ("FixRes − only tested at the new size", "test"),
        ("FixRes − no change", "val"),
        ("FixRes − no change", "test"),
    ]
    fixres, student = (read_facts(toy_run).model(key) for key in ("fixres", "student"))
    for _, split, paired in section["paired"]:
        scores = [getattr(model, split) for model in (fixres, student)]
        assert paired.n == scores[0].n
        assert paired.difference == pytest.approx(scores[0].top1 - scores[1].top1)
        assert paired.low <= paired.difference <= paired.high
    text = _section(toy_page)
    assert "240" in text
    assert text.count("f" * 16) == 2
    assert "could change classifier, bn2" in text
    assert text.count("0.50 ms") == 3


def test_a_student_that_was_kept_is_said_to_be_one(make_run):
    context = make_run()
    _change(context.run.path, kept="student", note="toy has no batch norm: so it is.")
    write_report(context)
    text = _section((context.out / "index.html").read_text())
    assert "so the student was kept as it was" in text
    assert "toy has no batch norm" in text


def test_statistics_alone_are_named(make_run):
    context = make_run()
    _change(context.run.path, norm="statistics")
    write_report(context)
    assert "(its statistics)" in _section((context.out / "index.html").read_text())


def _text(page: str) -> str:
    text = re.sub(r"</t[dh]>", " ", re.sub(r"<(script|style).*?</\1>", "", page, flags=re.S))
    return " ".join(re.sub(r"<[^>]*>", "", text).split())


def test_no_sentence_credits_fixres_with_what_was_not_kept(make_run):
    context = make_run()
    _change(context.run.path, kept="student")
    write_report(context)
    text = _text((context.out / "index.html").read_text())
    assert (
        "The student, tested at 24 px (FixRes was not better on val and was not kept), answers"
        in text
    )
    assert "fine-tuned with FixRes" not in text
    assert "Student at 24 px; FixRes was not kept exported" in text
    assert "Student at the FixRes size (FixRes was not kept) − teacher" in text
    assert "FixRes − " not in text
    assert "further training alone" not in text


def test_what_fixres_did_is_credited_to_it(toy_page):
    text = _text(toy_page)
    assert "The student, fine-tuned with FixRes, answers" in text
    assert "FixRes − distilled student" in text
    assert "not kept" not in text


@pytest.mark.parametrize(("weight", "distilled"), [(0.0, False), (0.9, True)])
def test_a_student_that_learnt_from_labels_alone_is_not_called_distilled(
    make_run, weight, distilled
):
    from serve.contract.manifest import write_manifest

    context = make_run()
    options = {"distil": {"kd_weight": weight}}
    common = {"kind": "student", "parents": {}, "lineage": [], "metrics": {}, "seed": 0}
    write_manifest(context.run.path / "student", {**common, "options": options, "versions": {}})
    write_report(context)
    text = _text((context.out / "index.html").read_text())
    assert ("Distilled student − student without teacher" in text) == distilled
    assert ("Student (kd_weight 0) − student without teacher" in text) == (not distilled)
    assert ("Student, not distilled: kd_weight 0" in text) == (not distilled)
