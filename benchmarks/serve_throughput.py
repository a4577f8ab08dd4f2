"""CPU time, latency, start and memory of the service beside its in-process bound and four others.

    uv run --with litserve --with fastapi python -m benchmarks.serve_throughput PHOTOS \
        --out serve_throughput --table T.md

All services run in this environment, with the same preprocess function, session options and
softmax, one CPU thread for inference, on artifacts with random weights that the product exports.
Each trial starts a service, asks wrk for load (eight connections for CPU time and rate, then one
for latency) and measures bytes -> top-5 without a server right before and after. In each round all
services and models come in a new random order. A service whose packages are missing is left out,
and the table says so. Every trial is a line of trials.jsonl; what is there is not measured again.

    python -m benchmarks.serve_throughput PHOTOS --against CHECKOUT --rounds 8 --seconds 3

compares with another checkout of this project instead (`git worktree add --detach CHECKOUT COMMIT`)
that runs in its own environment, one side after the other within each round: A B B A.

The figures mean something on a machine that does nothing else: `foreign` says what else it did.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from statistics import median

from benchmarks.against.checkout import open_checkout, this_checkout
from benchmarks.against.pairs import report as report_of_pairs
from benchmarks.against.serving import FIGURES, compare_serving
from benchmarks.serving.answering import Answering
from benchmarks.serving.bound import photos_in
from benchmarks.serving.contestants import CONTESTANTS, OURS, Contestant, missing_of
from benchmarks.serving.load import find_wrk, write_bodies
from benchmarks.serving.trial import CONNECTIONS, Trial, measure
from benchmarks.setting import cpu_name
from serve.contract.artifact import MODEL
from serve.contract.errors import StillroomError

MODELS = {"resnet18": 224, "mobilenetv3_small_100": 160}
LEAST_RATIO = {"resnet18": 0.90, "mobilenetv3_small_100": 0.85}
LEAST_OVER = {"BentoML as documented": 2.5, "LitServe": 1.3, "FastAPI, inline": 1.0}
MOST_ADDED_MS, MOST_READY_S, MOST_PSS_MIB = 1.5, 4.0, 250.0
BUSY = 0.1  # cores that others use: above, figures are marked
TRIALS = "trials.jsonl"


@dataclass(frozen=True)
class Bench:
    """What is measured.

    Args:
        models: timm name -> size in px.
        contestants: services that can run here.
        rounds: of all of them.
        seconds: of one load.
        out: folder with artifacts, bodies and trials.
    """

    models: dict[str, int]
    contestants: Sequence[Contestant]
    rounds: int
    seconds: float
    out: Path


def prepare(bench: Bench, photos: Path, bodies: int) -> None:
    """Write bodies and artifacts that are not there yet."""
    folder = bench.out / "bodies"
    if not photos_in(folder):
        folder.mkdir(parents=True)
        write_bodies(photos, folder, bodies)
    for arch, size_px in bench.models.items():
        if not (_artifact(bench, arch) / MODEL).exists():
            from benchmarks.serving.random_artifact import write_random_artifact

            write_random_artifact(arch, size_px, photos, _artifact(bench, arch))


def run_trials(bench: Bench) -> list[Trial]:
    """Measure what trials.jsonl does not hold yet, in random order within each round."""
    path = bench.out / TRIALS
    trials = read_trials(path)
    done = {(trial.round, trial.model, trial.service) for trial in trials}
    bodies = bench.out / "bodies"
    first = photos_in(bodies)[0].read_bytes()
    expected = {arch: Answering(_artifact(bench, arch)).answer(first) for arch in bench.models}
    for number in range(bench.rounds):
        pairs = [(arch, one) for arch in bench.models for one in bench.contestants]
        random.Random(number).shuffle(pairs)
        for arch, contestant in pairs:
            model = f"{arch} @{bench.models[arch]}"
            if (number, model, contestant.name) in done:
                continue
            trial = measure(
                contestant, _artifact(bench, arch), bodies, expected[arch],
                model=model, seconds=bench.seconds, number=number,
            )  # fmt: skip
            trials.append(trial)
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(trial.to_dict()) + "\n")
            print(f"{number + 1}/{bench.rounds} {model}, {contestant.name}: {_line(trial)}")
            sys.stdout.flush()
    return trials


def read_trials(path: Path) -> list[Trial]:
    """Trials of an earlier call."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines()
    return [Trial(**json.loads(line)) for line in lines]


def table_of(trials: Sequence[Trial], model: str) -> str:
    """Markdown: medians of a model's trials, lowest and highest in brackets."""
    lines = [
        f"**{model}**",
        "",
        f"| service | in-process over service CPU | CPU ms/request | requests/s, {CONNECTIONS} "
        "connections | p50 of one client, ms over in-process | ready, s | PSS, MiB |",
        f"|{'---|' * 7}",
    ]
    for name in dict.fromkeys(one.name for one in CONTESTANTS):
        mine = [trial for trial in trials if (trial.model, trial.service) == (model, name)]
        if mine:
            cells = (
                _span(mine, lambda t: t.ratio, 2), _span(mine, lambda t: t.cpu_ms, 2),
                _span(mine, lambda t: t.rate, 0), _span(mine, lambda t: t.added_ms, 2),
                _span(mine, lambda t: t.ready_s, 1), _span(mine, lambda t: t.pss_mib, 0),
            )  # fmt: skip
            lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def targets_of(trials: Sequence[Trial], model: str) -> list[str]:
    """One line for each target: the figure, and whether it holds."""
    ours = {trial.round: trial for trial in trials if _is(trial, model, OURS.name)}
    if not ours:
        return []
    arch = model.partition(" ")[0]
    mine = list(ours.values())
    lines = [
        _at_least("in-process over service CPU", [t.ratio for t in mine], LEAST_RATIO.get(arch)),
        _at_most(
            "ms that it adds to the p50 of one client", [t.added_ms for t in mine], MOST_ADDED_MS
        ),
        _at_most("s until it is ready", [t.ready_s for t in mine], MOST_READY_S),
        _at_most("MiB of PSS", [t.pss_mib for t in mine], MOST_PSS_MIB),
    ]
    for name, least in LEAST_OVER.items():
        theirs = [t for t in trials if _is(t, model, name) and t.round in ours]
        if theirs:
            # Each trial over its own bound, so that a machine that slows down harms none alone.
            times = [ours[trial.round].ratio / trial.ratio for trial in theirs]
            lines.append(_at_least(f"times {name}, by CPU time", times, least))
            times = [_paced(ours[trial.round]) / _paced(trial) for trial in theirs]
            lines.append(_at_least(f"times {name}, by answers a second", times, least))
    return [line for line in lines if line]


def conditions_of(bench: Bench, trials: Sequence[Trial]) -> str:
    """What the figures depend on, in a paragraph."""
    names = ("bentoml", "litserve", "fastapi", "uvicorn", "uvloop", "httptools", "onnxruntime")
    versions = ", ".join(f"{n} {metadata.version(n)}" for n in (*names, "pillow") if _is_here(n))
    foreign = [trial.foreign_cores for trial in trials]
    loud = sum(one > BUSY for one in foreign)
    drifts = [abs(trial.drift - 1) for trial in trials]
    return (
        f"{len(photos_in(bench.out / 'bodies'))} images, {bench.rounds} rounds of "
        f"{bench.seconds:g} s a load, median and range. "
        f"{os.cpu_count()} CPU cores, {cpu_name()}, Python {platform.python_version()}, "
        f"{versions}. "
        f"Others used {median(foreign):.2f} cores (at most {max(foreign):.2f}; above {BUSY} in "
        f"{loud} of {len(trials)} trials); the bound moved by {median(drifts):.1%} within a trial "
        f"(at most {max(drifts):.1%})."
    )


def report(bench: Bench, trials: Sequence[Trial], left_out: Sequence[str]) -> str:
    """The whole text."""
    parts = []
    for arch, size_px in bench.models.items():
        model = f"{arch} @{size_px}"
        parts += [table_of(trials, model), "\n".join(targets_of(trials, model))]
    parts += [conditions_of(bench, trials), *left_out]
    return "\n\n".join(part for part in parts if part)


def _artifact(bench: Bench, arch: str) -> Path:
    return bench.out / arch


def _is(trial: Trial, model: str, service: str) -> bool:
    return (trial.model, trial.service) == (model, service)


def _paced(trial: Trial) -> float:
    """Answers in the time of one in-process."""
    return trial.rate * trial.bound_ms


def _is_here(package: str) -> bool:
    return package == "pillow" or find_spec(package) is not None


def _line(trial: Trial) -> str:
    return (
        f"{trial.cpu_ms:.2f} ms CPU, ratio {trial.ratio:.2f}, {trial.rate:.0f}/s, "
        f"ready {trial.ready_s:.1f} s, {trial.pss_mib:.0f} MiB, foreign {trial.foreign_cores:.2f}"
    )


def _span(trials: Sequence[Trial], value: Callable[[Trial], float], digits: int) -> str:
    found = [value(trial) for trial in trials]
    low, high = min(found), max(found)
    return f"{median(found):.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def _at_least(what: str, found: Sequence[float], least: float | None) -> str:
    if least is None:
        return ""
    held = "holds" if median(found) >= least else "MISSED"
    return f"- {what}: {median(found):.2f}, at least {least:g} is asked: {held}"


def _at_most(what: str, found: Sequence[float], most: float) -> str:
    held = "holds" if median(found) <= most else "MISSED"
    return f"- {what}: {median(found):.2f}, at most {most:g} is asked: {held}"


def compare_checkouts(bench: Bench, args: argparse.Namespace) -> str:
    """Measure another checkout beside this one; the report."""
    sides = {
        "ours": this_checkout(), "theirs": open_checkout(args.against, args.against_python)
    }  # fmt: skip
    pairs = compare_serving(
        sides, bench.models, args.photos, bench.out,
        rounds=bench.rounds, seconds=bench.seconds, bodies=args.bodies,
    )  # fmt: skip
    return report_of_pairs(sides["ours"], sides["theirs"], FIGURES, pairs)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", type=Path, help="folder of JPEG images")
    parser.add_argument("--out", type=Path, help="for artifacts and trials [a temporary folder]")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=10.0, help="of a load")
    parser.add_argument("--bodies", type=int, default=48, help="images that are sent")
    parser.add_argument("--only", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--table", type=Path, help="file for the report, too")
    parser.add_argument("--against", type=Path, metavar="CHECKOUT", help="another commit's folder")
    parser.add_argument(
        "--against-python", type=Path, help="its interpreter [that of its .venv, made if missing]"
    )
    args = parser.parse_args()
    missing = {one.name: missing_of(one) for one in CONTESTANTS}
    left_out = [
        f"Left out: {name}, for want of {', '.join(names)}."
        for name, names in missing.items()
        if names
    ]
    with tempfile.TemporaryDirectory(prefix="stillroom-") as scratch:
        bench = Bench(
            {arch: MODELS[arch] for arch in args.only},
            [one for one in CONTESTANTS if not missing[one.name]],
            args.rounds,
            args.seconds,
            (args.out or Path(scratch)).resolve(),  # services run in folders of their own
        )
        try:
            find_wrk()
            if args.against:
                text = compare_checkouts(bench, args)
            else:
                prepare(bench, args.photos, args.bodies)
                text = report(bench, run_trials(bench), left_out)
        except StillroomError as error:
            raise SystemExit(str(error)) from None
    print(f"\n{text}")
    if args.table:
        args.table.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
