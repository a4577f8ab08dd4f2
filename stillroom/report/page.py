"""The report stage: a finished run becomes one HTML file that opens anywhere, without a network."""

from __future__ import annotations

from typing import Any

from serve.contract.preprocess import PreprocessSpec
from stillroom.page import format as wording
from stillroom.page.environment import page_environment
from stillroom.page.thumbnails import Thumbnails
from stillroom.report.ablation_section import ablation_section
from stillroom.report.comparison import compare_all
from stillroom.report.data_section import data_section
from stillroom.report.facts import Facts, read_facts
from stillroom.report.fixres_section import fixres_section
from stillroom.report.load_section import load_section
from stillroom.report.model_sections import mistakes_section, models_section, training_section
from stillroom.report.precision_section import precision_section
from stillroom.report.proof_sections import parity_section, provenance_section
from stillroom.report.verdict import judge_run
from stillroom.run.stage_graph import Context

__all__ = ["write_report"]

THUMBNAIL_PX = 72


def write_report(context: Context) -> dict[str, Any]:
    """Write index.html into `context.out`.

    Returns:
        Headline metrics: `bytes` of the page, and `verdict`: one of `loadtest.result.verdict`.
    """
    facts = read_facts(context)
    comparisons = compare_all(
        facts.predictions,
        kept=not facts.model("fixres").as_student,
        distilled=facts.model("student").is_distilled,
    )
    verdict = judge_run(facts, comparisons)
    spec = PreprocessSpec.from_dict(facts.manifest["preprocess"])
    thumbnails = Thumbnails(context.photos, spec, THUMBNAIL_PX)
    page = page_environment().get_template("page.html.j2")
    text = page.render(
        facts=facts,
        verdict=verdict,
        models=models_section(facts, comparisons),
        fixres=fixres_section(context.run, facts),
        data=data_section(facts, thumbnails),
        training=training_section(context.run, facts),
        ablation=ablation_section(context.run),
        mistakes=mistakes_section(facts, thumbnails),
        parity=parity_section(facts, thumbnails),
        precisions=precision_section(context.run, facts.photos, thumbnails),
        load=load_section(context.run, facts),
        provenance=provenance_section(facts),
        thumbnails=thumbnails,  # after all sections: it counts what they could not show
        tiles=_tiles(facts),
    )
    data = text.encode("utf-8")
    (context.out / "index.html").write_bytes(data)
    return {"bytes": len(data), "verdict": verdict.state.value}


def _tiles(facts: Facts) -> list[tuple[str, str, str]]:
    """The five figures that a reader remembers: label, figure, small print."""
    model, load = facts.exported, facts.loads["open"]
    test, latency = model.test, model.latency
    interval = f"{wording.interval(test.low, test.high)}, n = {test.n}"
    quartiles = "not measured"
    if latency is not None:
        quartiles = f"quartiles {latency.q1_ms:.2f} to {latency.q3_ms:.2f}, 1 CPU thread"
    macs = f"{wording.millions(model.macs)} multiply-adds"
    return [
        ("test top-1", wording.percent(test.top1), interval),
        ("parameters", wording.millions(model.parameters), macs),
        ("inference", wording.ms(latency.median_ms if latency else None), quartiles),
        ("p99 under load", wording.ms(load["intended"]["p99_ms"]), "replies in the open loop"),
        (
            "requests/s",
            wording.number(load["achieved_rps"], 0),
            f"open loop; {wording.number(facts.loads['closed']['achieved_rps'], 0)} closed loop",
        ),
    ]
