from __future__ import annotations

import math

import numpy as np

from stillroom.report.charts.history import read_history
from stillroom.report.charts.samples import read_samples
from stillroom.report.facts import read_facts
from stillroom.report.load_section import stage_split
from stillroom.report.mistakes import confident_mistakes, confused_pairs, reliability_bins


def test_models_in_the_order_of_the_table(toy_run):
    facts = read_facts(toy_run)
    keys = [model.key for model in facts.models]
    assert keys == ["teacher", "baseline", "student", "resized", "fixres"]
    assert [model.key for model in facts.models if model.exported] == ["fixres"]
    assert facts.exported.test.hits == facts.exported.test.n - 3


def test_latency_that_was_not_measured_says_whose_it_is(toy_run):
    facts = read_facts(toy_run)
    assert facts.model("baseline").latency_as == "the student"
    assert facts.model("resized").latency_as == "FixRes"
    assert facts.model("teacher").latency_as == ""


def test_the_chain_leaves_out_an_earlier_report(toy_run):
    stages = read_facts(toy_run).stages
    assert [stage.name for stage in stages][-1] == "loadtest"
    assert stages[0].wall_s == 1.5
    assert stages[-1].wall_s is None  # its runtime.json is not there


def test_mistakes_come_with_the_most_confident_first(toy_run):
    facts = read_facts(toy_run)
    mistakes = confident_mistakes(facts.predictions["fixres"], 10)
    assert len(mistakes) == 3
    shares = [mistake.probability for mistake in mistakes]
    assert shares == sorted(shares, reverse=True)
    assert all(mistake.answer != mistake.photo.label for mistake in mistakes)


def test_bins_give_the_calibration_error(toy_run):
    facts = read_facts(toy_run)
    bins = reliability_bins(facts.predictions["fixres"])
    n = sum(b.n for b in bins)
    assert n == facts.scores["n"]
    ece = sum(b.n * abs(b.confidence - b.right) for b in bins) / n
    assert math.isclose(ece, facts.scores["ece"], rel_tol=1e-9)
    assert all(b.low <= b.right <= b.high for b in bins)


def test_confused_pairs():
    pairs = confused_pairs([[5, 2, 0], [0, 7, 0], [3, 0, 1]], ["a", "b", "c"], 5)
    assert [(p.label, p.answer, p.count, p.n) for p in pairs] == [
        ("c", "a", 3, 4),
        ("a", "b", 2, 7),
    ]


def test_history_of_two_phases_with_a_gap(make_run):
    context = make_run()
    path = context.run.stage("teacher") / "metrics.jsonl"
    path.write_text(path.read_text().replace('"val_loss": 1.0', '"val_loss": NaN', 1))
    history = read_history(path, "Teacher")
    assert history.phases == (("head", 1), ("all", 3))
    assert np.isnan(history.val_loss[0])
    assert history.epochs == 4


def test_samples_without_a_reply_have_no_latency(tmp_path):
    path = tmp_path / "samples.csv"
    path.write_text(
        "planned_s,intended_ms,service_ms,outcome\n0.1,5,4,ok\n0.2,7,6,http_error\n"
        "0.3,9,9,connection_error\n0.4,,,missed\n"
    )
    samples = read_samples(path)
    assert samples.intended_ms.tolist() == [5.0, 7.0]
    assert samples.right.tolist() == [True, False]


def test_the_split_of_the_servers_time_adds_up():
    parts = stage_split({"decode_ms": 1.0, "queue_ms": None, "infer_ms": 2.0, "total_ms": 4.0})
    assert [name for name, *_ in parts] == ["decode", "queue", "infer", "other"]
    assert math.isclose(sum(share for *_, share in parts), 100)
    assert stage_split({"total_ms": None}) == []
