"""Services of two checkouts on the same artifact and requests."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from benchmarks.against.checkout import Checkout
from benchmarks.against.pairs import Figure, Pair, run_pairs
from benchmarks.serving.answering import Answering
from benchmarks.serving.bound import photos_in
from benchmarks.serving.contestants import LAUNCHED, Contestant
from benchmarks.serving.contestants import OURS as BY_BENTOML
from benchmarks.serving.load import write_bodies
from benchmarks.serving.trial import CONNECTIONS, measure
from serve.contract.artifact import MODEL

__all__ = ["FIGURES", "compare_serving"]

SERVICES = {one.name: one for one in (BY_BENTOML, LAUNCHED)}
FIGURES = (
    Figure("rate", f"requests/s, {CONNECTIONS} connections", 0, more_is_better=True),
    Figure("ratio", "in-process over service CPU", 3, more_is_better=True),
    Figure("cpu_ms", "CPU ms/request", 3),
    Figure("p50_ms", "p50 of one client, ms", 2),
    Figure("ready_s", "ready, s", 2),
    Figure("pss_mib", "PSS, MiB", 0),
)
WRITE_ARTIFACT = (
    "import sys; from pathlib import Path; "
    "from benchmarks.serving.random_artifact import write_random_artifact; "
    "write_random_artifact(sys.argv[1], int(sys.argv[2]), *map(Path, sys.argv[3:]))"
)


def compare_serving(
    sides: dict[str, Checkout], models: dict[str, int], photos: Path, out: Path, *,
    rounds: int, seconds: float, bodies: int,
) -> list[Pair]:  # fmt: skip
    """Measure both services of both checkouts; the other one makes the artifacts, as the older.

    Args:
        sides: by `ours` and `theirs`.
        models: timm name -> size in px.
        photos: folder of JPEG images.
        out: folder for artifacts and bodies, which are kept, and for the log.
        rounds: of all models and services.
        seconds: of one load.
        bodies: images that are sent.
    """
    folder = out / "bodies"
    if not photos_in(folder):
        folder.mkdir(parents=True, exist_ok=True)
        write_bodies(photos, folder, bodies)
    for arch, size_px in models.items():
        if not (out / arch / MODEL).exists():
            words = (arch, str(size_px), str(photos.resolve()), str(out / arch))
            sides["theirs"].run("-c", WRITE_ARTIFACT, *words)
    first = photos_in(folder)[0].read_bytes()
    expected = {arch: Answering(out / arch).answer(first) for arch in models}
    subjects = {f"{a} @{px}, {name}": (a, name) for a, px in models.items() for name in SERVICES}

    def measure_one(subject: str, side: str, number: int) -> dict[str, float]:
        arch, name = subjects[subject]
        trial = measure(
            contestant_of(SERVICES[name], sides[side]), out / arch, folder, expected[arch],
            model=subject, seconds=seconds, number=number,
        )  # fmt: skip
        return {figure.key: getattr(trial, figure.key) for figure in FIGURES}

    return run_pairs(list(subjects), rounds, out / "pairs.jsonl", measure_one)


def contestant_of(service: Contestant, checkout: Checkout) -> Contestant:
    """The service as a checkout has it."""
    return replace(service, python=str(checkout.python), folder=checkout.folder)
