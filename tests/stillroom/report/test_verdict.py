from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from stillroom.page.format import SPACE
from stillroom.report.comparison import compare, compare_all
from stillroom.report.facts import read_facts
from stillroom.report.models import Latency
from stillroom.report.verdict import badges_of, headline, judge_run, load_sentence
from train.data.images import LabelledImage
from train.evaluation import Predictions


def plain(text: str) -> str:
    return text.replace(SPACE, " ")


def slo(**changes):
    return {"percentile": 99.0, "target_ms": 100.0, "observed_ms": 90.0, "met": True} | changes


def states(parity, http, opened, closed):
    badges = badges_of(parity, http, {"open": opened, "closed": closed})
    return {badge.title: (badge.state, badge.word) for badge in badges}


@pytest.fixture
def judged(make_load, make_parity, make_http):
    """States by title, with some parts replaced."""

    def judge(*, parity=None, http=None, **opened):
        return states(
            make_parity(**(parity or {})),
            make_http(**(http or {})),
            make_load("open", **opened),
            make_load("closed"),
        )

    return judge


def test_all_kept(judged):
    assert {state for state, _ in judged().values()} == {"passed"}


def test_a_missed_objective_is_missed(judged):
    assert judged(slo=slo(met=False, observed_ms=243.0))["Load objective"] == ("failed", "failed")


def test_too_few_requests_prove_no_percentile(judged, make_load):
    badge = judged(slo=slo(met=None))["Load objective"]
    assert badge == ("inconclusive", "inconclusive")
    assert "Objective p99 ≤ 100 ms inconclusive" in plain(
        load_sentence(make_load("open", slo=slo(met=None)))
    )


def test_a_run_without_objective_is_inconclusive(judged, make_load, make_parity, make_http):
    load = make_load("open")
    del load["slo"]
    found = states(make_parity(), make_http(), load, make_load("closed"))
    assert found["Load objective"] == ("inconclusive", "inconclusive")
    assert "no objective was set" in load_sentence(load)


def test_parity_over_few_images_is_inconclusive(judged):
    found = judged(parity={"status": "inconclusive", "reasons": ["40 images < 300"]})
    assert found["Parity of the export"] == ("inconclusive", "inconclusive")


def test_one_different_answer_over_http_fails(judged):
    assert judged(http={"agree": 358})["Parity over HTTP"][0] == "failed"
    assert judged(http={"agree": 0, "images": 0})["Parity over HTTP"][0] == "failed"


def test_answers_under_load(judged):
    wrong = {"checked": 200, "wrong": 1, "examples": []}
    assert judged(answers=wrong)["Predictions under load"] == ("failed", "failed")


def test_failed_requests_are_a_warning(judged, make_load):
    counts = make_load("open")["counts"] | {"ok": 199, "http_error": 1}
    assert judged(counts=counts)["Requests under load"] == ("warning", "failures")


def test_load_sentences(make_load):
    met = load_sentence(make_load("open"))
    assert plain(met) == (
        "Under load 100 requests/s at p99 12.0 ms. Objective p99 ≤ 100 ms passed: 12.0 ms over all "
        "planned requests, a failed one counted as infinite."
    )
    missed = load_sentence(make_load("open", good_rps=90.0, slo=slo(met=False, observed_ms=None)))
    assert "100 requests/s (90 of them answered right)" in missed
    assert "failed: unbounded" in missed


def test_the_verdict_is_as_bad_as_its_worst_badge(toy_run, make_load):
    facts = read_facts(toy_run)
    comparisons = compare_all(facts.predictions)
    assert judge_run(facts, comparisons).state == "passed"
    doubtful = replace(facts, parity=facts.parity | {"status": "inconclusive"})
    assert judge_run(doubtful, comparisons).state == "inconclusive"
    missed = make_load("open", slo=slo(met=False))
    failed = replace(doubtful, loads=facts.loads | {"open": missed})
    assert judge_run(failed, comparisons).state == "failed"


def test_headline(toy_run):
    facts = read_facts(toy_run)  # 20 test images a class; fixres has 3 of 60 wrong
    teacher, fixres = facts.model("teacher"), facts.model("fixres")
    text = plain(headline(fixres, teacher))
    assert text == (
        "The student, fine-tuned with FixRes, answers 95.0 % (86.3 to 98.3 %) of 60 test images "
        "right with 0.37 M parameters: 5.0 points below its 11.2 M parameter teacher, at 10 × "
        "lower CPU latency (0.50 ms against 5.00 ms an image on one thread)."
    )
    slow = replace(fixres, test=teacher.test, latency=Latency(10.0, 9.0, 11.0, 120))
    text = plain(headline(slow, teacher))
    assert "level with its 11.2 M parameter teacher, at 2.0 × HIGHER CPU latency" in text
    assert "below" not in plain(headline(teacher, teacher))


def photos_of(count):
    return [LabelledImage(f"{i}", "a", "test", f"{i}") for i in range(count)]


def answers(right):
    logits = np.array([[1.0, 0.0] if hit else [0.0, 1.0] for hit in right], dtype=np.float32)
    return Predictions(photos_of(len(right)), ("a", "b"), logits)


def test_a_difference_that_chance_explains_is_none():
    few = compare("x", answers([True] * 9 + [False]), answers([True] * 8 + [False] * 2))
    assert (few.gained, few.lost, few.p, few.reading) == (1, 0, 1.0, "no difference shown")
    many = compare("x", answers([True] * 20), answers([False] * 20))
    assert (many.reading, many.difference) == ("better", 1.0)
    assert compare("x", answers([False] * 20), answers([True] * 20)).reading == "worse"


def test_different_images_are_not_compared():
    with pytest.raises(ValueError, match="not of the same images"):
        compare("x", answers([True]), answers([True, True]))
