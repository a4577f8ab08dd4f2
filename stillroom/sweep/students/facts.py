"""What a search for a student found: every cell, the front, the pick, and all that in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stillroom.page.format import interval, ms, percent
from stillroom.report.paired import Paired
from stillroom.sweep.speed import busy_notice
from stillroom.sweep.students.pareto import Bounds, Offer, front, pick
from stillroom.sweep.students.precision_cells import Refused
from stillroom.sweep.students.student_cells import StudentTrial
from stillroom.sweep.trial import compare_trials

__all__ = ["StudentResult", "Students", "read_students"]

OF_THE_SEARCH = (
    "student.epochs=",
    "student.arch=",
    "student.weights=",
    "fixres.test_size_px=",
    "export.source=",
)


@dataclass(frozen=True)
class StudentResult:
    """A cell, and what it costs.

    Args:
        cell: a student at a test size.
        latency: on the CPU: median_ms, q1_ms and q3_ms.
        gpu: likewise on the GPU; None without one.
        behind: the best cell minus this on the same images; None for the best.
        on_front: whether nothing is as good and faster.
    """

    cell: StudentTrial
    latency: Mapping[str, float]
    gpu: Mapping[str, float] | None
    behind: Paired | None
    on_front: bool

    @property
    def title(self) -> str:
        """For people."""
        return _title(self.cell)

    def row(self) -> dict[str, Any]:
        """For results.csv."""
        cell, options = self.cell, self.cell.student.options
        row: dict[str, Any] = {
            "cell": cell.name,
            "arch": options.arch,
            "weights": options.weights,
            "train_size_px": options.train_size_px,
            "test_size_px": cell.test_size_px,
            "precision": cell.precision,
            **{f"val_{key}": cell.scores[key] for key in ("top1", "top1_low", "top1_high")},
            "n": cell.scores["n"],
            "val_loss": cell.scores["loss"],
            "before_fixres_val_top1": cell.student.outcome.top1,
            "kept": cell.kept,
            "parameters": cell.student.outcome.parameters,
            "flops": cell.flops,
            "latency_ms": self.latency["median_ms"],
            "latency_q1_ms": self.latency["q1_ms"],
            "latency_q3_ms": self.latency["q3_ms"],
            "epochs": cell.student.outcome.epochs,
            "wall_s": cell.student.outcome.wall_s,
            "on_front": self.on_front,
            "behind": self.behind.difference if self.behind else 0.0,
            "behind_p": self.behind.p if self.behind else None,
        }
        if self.gpu is not None:
            row |= {f"gpu_latency_{key}": self.gpu[key] for key in ("median_ms", "q1_ms", "q3_ms")}
        return row


@dataclass(frozen=True)
class Students:
    """All cells of a search.

    Args:
        entries: by student, then size, as they were named.
        best: highest val top-1; of equal ones the fastest.
        picked: by the bounds; None where there are none, or nothing holds them.
        bounds: that were asked for.
        overrides: of the command.
        refused: precisions that a cell has no file in.
    """

    entries: list[StudentResult]
    best: StudentResult
    picked: StudentResult | None
    bounds: Bounds
    overrides: tuple[str, ...]
    refused: tuple[Refused, ...] = ()

    @property
    def front(self) -> list[StudentResult]:
        """Those that nothing dominates, the fastest first."""
        kept = [entry for entry in self.entries if entry.on_front]
        return sorted(kept, key=lambda entry: entry.latency["median_ms"])

    @property
    def fastest_equal(self) -> StudentResult:
        """The fastest that cannot be told from the best; the best itself, maybe."""
        equal = [entry for entry in self.entries if entry.behind is None or not entry.behind.shown]
        return min(equal, key=lambda entry: entry.latency["median_ms"])

    def recipe_overrides(self) -> list[str]:
        """What makes the run's recipe build the pick; empty without one.

        The search may have had fewer epochs; the recipe's own stay.
        """
        if self.picked is None:
            return []
        cell, options = self.picked.cell, self.picked.cell.student.options
        reduced = cell.precision != "fp32"
        replaced = (*OF_THE_SEARCH, *(("export.precisions=",) if reduced else ()))
        kept = [given for given in self.overrides if not given.startswith(replaced)]
        return [
            f"student.arch={options.arch}",
            f"student.weights={options.weights}",
            f"fixres.test_size_px={cell.test_size_px}",
            "export.source=fixres",
            *([f'export.precisions=["{cell.precision}"]'] if reduced else []),
            *kept,
        ]

    @property
    def refusal(self) -> str:
        """Why nothing is picked; what comes nearest."""
        fastest = min(self.entries, key=lambda entry: entry.latency["median_ms"])
        nearest = []
        if self.bounds.max_latency_ms is not None:
            nearest.append(f"the fastest, {_figures(fastest)}")
        if self.bounds.min_top1 is not None:
            nearest.append(f"the best on val, {_figures(self.best)}")
        return f"No student holds {_wish(self.bounds)}: {'; '.join(nearest)}."

    @property
    def next_step(self) -> str:
        """What helps without a pick."""
        return (
            "Loosen the bound, or add students or --test-sizes: what is done is not trained again."
        )

    def sentences(self) -> list[str]:
        """The verdict."""
        sentences = [self._headline()]
        if self.picked is not None and self.picked.behind is not None:
            sentences.append(
                f"The best on val without bounds is {_figures(self.best)}: "
                f"best minus pick {self.picked.behind.describe()}."
            )
        fast = self.fastest_equal
        if fast.behind is not None:
            sentences.append(
                f"The fastest that cannot be told from the best is {_figures(fast)}: "
                f"best minus this {fast.behind.describe()}."
            )
        sentences.append(
            f"{len(self.front)} of {len(self.entries)} are on the front: nothing that is faster is "
            "as good on val."
        )
        fp32 = [entry.cell for entry in self.entries if entry.cell.precision == "fp32"]
        unfixed = sum(cell.kept == "student" for cell in fp32)
        if unfixed:
            sentences.append(
                f"In {unfixed} cells FixRes is not better on val, and the student is "
                "merely tested at that size."
            )
        if self.refused:
            first = self.refused[0]
            sentences.append(
                f"Left out are {len(self.refused)} of the files of reduced precision, for export "
                f"would refuse them; first that of {_title(first.cell)}: {first.why}"
            )
        again = "remove sweep/students/latency and repeat the command"
        sentences += busy_notice((entry.latency for entry in self.entries), again)
        sentences.append(
            f"The best of {len(self.entries)} figures flatters itself on the images it was "
            "chosen on, and each student was trained once: another seed may order close ones "
            "otherwise."
        )
        return sentences

    def _headline(self) -> str:
        if self.picked is not None:
            return f"Pick: {_figures(self.picked)}. It holds {_wish(self.bounds)}."
        if self.bounds:
            return self.refusal
        return f"Best on val: {_figures(self.best)}. No bound was given, so nothing was picked."


def read_students(
    cells: Sequence[StudentTrial],
    latencies: Mapping[str, Mapping[str, Mapping[str, float]]],
    bounds: Bounds,
    overrides: Sequence[str],
    refused: Sequence[Refused] = (),
) -> Students:
    """Compare all cells.

    Args:
        cells: of the search.
        latencies: by device (cpu, and cuda where there is one) and name of the cell.
        bounds: that the pick must hold.
        overrides: of the command.
        refused: precisions that a cell has no file in.
    """
    cpu = latencies["cpu"]
    offers = [Offer(c.name, c.scores["top1"], cpu[c.name]["median_ms"]) for c in cells]
    on_front = {offer.key for offer in front(offers)}
    best = min(cells, key=lambda c: (-c.scores["top1"], cpu[c.name]["median_ms"], c.scores["loss"]))
    entries = [
        StudentResult(
            cell,
            cpu[cell.name],
            latencies["cuda"][cell.name] if "cuda" in latencies else None,
            None if cell is best else compare_trials(best.folder, cell.folder),
            cell.name in on_front,
        )
        for cell in cells
    ]
    by_name = {entry.cell.name: entry for entry in entries}
    chosen = pick(offers, bounds) if bounds else None
    picked = by_name[chosen.key] if chosen else None
    given = tuple(overrides)
    return Students(entries, by_name[best.name], picked, bounds, given, tuple(refused))


def _title(cell: StudentTrial) -> str:
    return f"{cell.network} at {cell.test_size_px} px"


def _figures(entry: StudentResult) -> str:
    scores = entry.cell.scores
    spread = interval(scores["top1_low"], scores["top1_high"])
    return (
        f"{entry.title}: {percent(scores['top1'])} ({spread}, n = {scores['n']}) in "
        f"{ms(entry.latency['median_ms'])} an image"
    )


def _wish(bounds: Bounds) -> str:
    wishes = []
    if bounds.max_latency_ms is not None:
        wishes.append(f"{ms(bounds.max_latency_ms)} an image at most")
    if bounds.min_top1 is not None:
        wishes.append(f"{percent(bounds.min_top1)} on val at least")
    return " and ".join(wishes)
