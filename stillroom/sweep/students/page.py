"""The page of a search for a student."""

from __future__ import annotations

import shlex

from markupsafe import Markup

from stillroom.page.charts.drawing import INK, SOFT, drawing, inline_svg, plain
from stillroom.page.format import interval, millions, ms, percent
from stillroom.sweep.page import Tile, render, top1_cell, whisker_start
from stillroom.sweep.resolution.charts import STYLES
from stillroom.sweep.search.charts import legend_above, percent_axis
from stillroom.sweep.speed import cost_axis
from stillroom.sweep.students.facts import StudentResult, Students
from stillroom.sweep.subject import StudyData

__all__ = ["draw_front", "render_students"]

OFFSETS = [(5, -13), (-18, 7), (7, 4)]  # of a student's labels from its points, in points


def render_students(found: Students, subject: StudyData, name: str) -> str:
    """The page's text."""
    start = whisker_start([entry.cell.scores["top1_low"] for entry in found.entries])
    rows = []
    for entry in sorted(found.entries, key=lambda e: e.latency["median_ms"]):
        scores = entry.cell.scores
        whisker = top1_cell(scores["top1"], scores["top1_low"], scores["top1_high"], start)
        rows.append((entry, whisker))
    has_gpu = found.best.gpu is not None
    return render(
        "sweep_students.html.j2",
        subject,
        title=name,
        kind="students",
        command="stillroom compress --search",
        sentences=found.sentences(),
        tiles=_tiles(found),
        found=found,
        rows=rows,
        start=start,
        has_gpu=has_gpu,
        overrides=[shlex.quote(override) for override in found.recipe_overrides()],
        run=shlex.quote(subject.run.path.name),
        by_cpu=draw_front(found, gpu=False),
        by_gpu=draw_front(found, gpu=True) if has_gpu else None,
    )


def draw_front(found: Students, *, gpu: bool) -> Markup:
    """Val top-1 over the latency of one image; a line: a student and precision, by test size.

    The front is grey behind them, and only of the CPU, which the pick goes by; a ring is the pick,
    dotted lines are its bounds.
    """
    device = "GPU" if gpu else "CPU"
    with drawing(760, 440) as figure:
        axes = figure.subplots()
        if not gpu:
            steps = [(_ms(e, gpu=gpu), e.cell.scores["top1"]) for e in found.front]
            axes.step(*zip(*steps, strict=True), where="post", color=SOFT, linewidth=5, alpha=0.25)
            if found.bounds.max_latency_ms is not None:
                axes.axvline(found.bounds.max_latency_ms, color=INK, linestyle=":", linewidth=1.2)
            if found.bounds.min_top1 is not None:
                axes.axhline(found.bounds.min_top1, color=INK, linestyle=":", linewidth=1.2)
        lines: dict[tuple[str, str], list[StudentResult]] = {}
        for entry in found.entries:
            key = entry.cell.student.folder.name, entry.cell.precision
            lines.setdefault(key, []).append(entry)
        for members, style, offset in zip(lines.values(), STYLES * 9, OFFSETS * 27, strict=False):
            x = [_ms(entry, gpu=gpu) for entry in members]
            y = [entry.cell.scores["top1"] for entry in members]
            axes.plot(x, y, label=members[0].cell.network, markersize=5, **style)
            for entry, place in zip(members, zip(x, y, strict=True), strict=True):
                axes.annotate(
                    f"{entry.cell.test_size_px}",
                    place,
                    xytext=offset,
                    textcoords="offset points",
                    color=style["color"],
                )
        if found.picked is not None:
            point = (_ms(found.picked, gpu=gpu), found.picked.cell.scores["top1"])
            axes.plot(*point, marker="o", markersize=14, fillstyle="none", color=INK)
        costs = [_ms(entry, gpu=gpu) for entry in found.entries]
        cost_axis(axes, [*costs, *([found.bounds.max_latency_ms or costs[0]] if not gpu else [])])
        axes.margins(x=0.1, y=0.12)
        percent_axis(axes)
        plain(axes, x=f"{device} latency of one image, ms", title="val top-1")
        legend_above(axes)
        label = f"Val top-1 over the {device} latency"
        return inline_svg(figure, name=f"by-{device.lower()}", label=label)


def _ms(entry: StudentResult, *, gpu: bool) -> float:
    latency = entry.gpu if gpu else entry.latency
    assert latency is not None  # the page asks for a GPU's drawing only where it was measured
    return latency["median_ms"]


def _tiles(found: Students) -> list[Tile]:
    entry = found.picked or found.best
    cell, latency = entry.cell, entry.latency
    scores, outcome = cell.scores, cell.student.outcome
    spread = f"{interval(scores['top1_low'], scores['top1_high'])}, n = {scores['n']}"
    quartiles = f"quartiles {latency['q1_ms']:.2f} to {latency['q3_ms']:.2f}, 1 CPU thread"
    macs = f"{millions(cell.flops)} multiply-adds"
    return [
        (
            "pick: train → test" if found.picked else "best on val: train → test",
            f"{cell.student.options.train_size_px} → {cell.test_size_px} px",
            cell.network,
        ),
        ("its val top-1", percent(scores["top1"]), spread),
        ("its latency", ms(latency["median_ms"]), quartiles),
        ("its parameters", millions(outcome.parameters), macs),
    ]
