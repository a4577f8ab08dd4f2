"""`stillroom parity ARTIFACT`: its predictions here against its stored reference, without torch.

What is judged is the runner that would serve here, with the server's options and batches.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import PIL
from numpy.typing import NDArray

from export.parity.compare import ModelOutputs
from export.parity.image_set import ImageSet, read_image_set
from export.parity.machine import differences, machine_identity
from serve.contract.artifact import Artifact, open_artifact
from serve.contract.errors import UsageError
from stillroom.console import show
from stillroom.parity.console import report_verdict
from stillroom.parity.stored_reference import compare_runner, said_at_export, stored_reference
from stillroom.run.artifacts import open_local_runner

__all__ = ["check_local_parity"]


def check_local_parity(
    target: Path, photos: Path | None, *, out: Path | None = None, strict: bool = False
) -> None:
    """Answer every image that has a stored reference prediction; judge and print the verdict.

    Args:
        target: an artifact, or a run folder with one.
        photos: a folder searched for images with a stored reference, or a list of them; None takes
            the golden images.
        out: gets parity.json and flips.csv.
        strict: too few images are a failure.

    Raises:
        UsageError: no such folder, or no image in `photos` has a stored reference.
        GateError: the predictions here are not the stored ones; or, if strict, too few images to
            say.
    """
    artifact = open_artifact(target)
    folder = artifact.root / "golden" if photos is None else photos
    stored = stored_reference(artifact)
    probes = read_image_set(
        folder, artifact.preprocess, artifact.labels, among=stored, limit=len(stored)
    )
    if not probes.photos:
        raise UsageError(
            f"No image in {folder} has a reference prediction in {artifact.root}.",
            "Give the folder of images that the artifact was judged on.",
        )
    with open_local_runner(artifact) as runner:
        verdict = compare_runner(
            artifact, runner, _answers(artifact, probes, stored), probes.pixels
        )
        here = runner.describe()
    said = said_at_export(artifact)
    identity = _identity(artifact, said, here)
    _say_identity(identity)
    report_verdict(
        verdict,
        what=f"{artifact.precision} {artifact.name} on {here['backend']}",
        facts={"artifact": artifact.digest, **identity},
        out=out,
        strict=strict,
        probes=probes,
        next_step="Do not serve it here: try another STILLROOM_BACKEND, or export the artifact on "
        "this machine.",
    )


def _answers(
    artifact: Artifact, probes: ImageSet, stored: dict[str, NDArray[np.float32]]
) -> ModelOutputs:
    logits = np.stack([stored[sha256] for sha256 in probes.sha256])
    return ModelOutputs(probes.names, probes.sha256, artifact.labels, logits, probes.targets)


def _identity(artifact: Artifact, said: dict[str, Any], here: dict[str, Any]) -> dict[str, Any]:
    """Parity stage P5: what computes here, and what is another thing than at export."""
    machine = machine_identity()
    then = {**said.get("runner", {}), "pillow": artifact.manifest.get("pillow")}
    now = {**here, "pillow": PIL.__version__}
    judged = {"provider", "library", "optimisation", "pillow"} & {k for k, v in then.items() if v}
    changed = differences({name: then[name] for name in judged}, now)
    return {"runner": here, "machine": machine, "changed_since_export": changed}


def _say_identity(identity: dict[str, Any]) -> None:
    here, machine = identity["runner"], identity["machine"]
    processor = " ".join([machine.get("cpu", machine["machine"]), *machine["cpu_flags"]])
    show(f"{here.get('provider')} of {here.get('library')}, Pillow {PIL.__version__}, {processor}")
    for change in identity["changed_since_export"]:
        show(f"note: not as at export: {change}")
