"""`stillroom build`: a Bento with the artifact inside, for a container or another machine.

The Bento holds the package `serve` and the files that the artifact's manifest names: no engines, no
times, nothing of this machine. Its requirements are those of a server, pinned to what is installed
here, where the golden images were answered.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import typer

from serve.contract.artifact import Artifact, open_artifact
from serve.contract.errors import UsageError
from serve.contract.manifest import MANIFEST
from serve.process.environment import SWITCHES
from serve.settings import PACKED
from stillroom.commands.arguments import Served
from stillroom.commands.stale import say_if_stale
from stillroom.console import show

__all__ = ["build", "build_bento"]

SERVICE = "serve.service:Classifier"
PACKAGES = (
    "bentoml",
    "httptools",
    "httpx",
    "numpy",
    "pillow",
    "prometheus-client",
    "python-multipart",
    "starlette",
    "uvicorn",
    "uvloop",
)
# In the image: nothing is reported, and BentoML's home is where docs/deploy.md mounts a tmpfs.
ENVIRONMENT = {**SWITCHES, "BENTOML_HOME": "/tmp/bentoml"}
RUNTIMES = {False: ("onnxruntime",), True: ("onnxruntime-gpu", "nvidia-cublas")}


def build(
    target: Served,
    gpu: Annotated[bool, typer.Option("--gpu", help="With ONNX Runtime's CUDA build.")] = False,
    out: Annotated[Path | None, typer.Option(help="Also into one file, .bento.")] = None,
) -> None:
    """Build a Bento with the artifact inside: for a container, or for another machine.

    Example: stillroom build runs/mine --out flowers.bento
    """
    say_if_stale(target)
    build_bento(target, gpu=gpu, out=out)


def build_bento(target: Path, *, gpu: bool = False, out: Path | None = None) -> None:
    """Build a Bento in BentoML's store (BENTOML_HOME); print its tag and what to do with it.

    Args:
        target: an artifact, or a run folder with one.
        gpu: with ONNX Runtime's CUDA build; else the CPU build.
        out: gets the Bento as one file, too; its name must end in .bento.

    Raises:
        ArtifactError: the artifact is damaged.
        UsageError: `out` has another suffix, or BentoML refuses; says what BentoML said.
    """
    if out is not None and out.suffix != ".bento":
        raise UsageError(f"{out}: expected a file name that ends in .bento.")
    artifact = open_artifact(target)
    tag = f"{_name_of(artifact)}:{artifact.digest[:12]}{'-gpu' if gpu else ''}"
    if not _stored(tag):
        with tempfile.TemporaryDirectory(prefix="stillroom-") as folder:
            context = Path(folder)
            _copy_sources(context)
            _copy_artifact(artifact, context / PACKED)
            options = _options(artifact, tag, gpu)
            # YAML holds JSON, so no YAML writer is needed.
            (context / "bentofile.yaml").write_text(json.dumps(options), encoding="utf-8")
            _bentoml("build", "--version", tag.partition(":")[2], ".", folder=context)
    show(f"{tag}: {artifact.name} {artifact.version}, {artifact.precision}")
    if out is not None:
        out.unlink(missing_ok=True)
        _bentoml("export", tag, str(out.resolve()))
        show(f"{out}: {out.stat().st_size / 1e6:.1f} MB; bentoml import {out} there")
    show(f"bentoml serve {tag} --host 127.0.0.1")
    show(f"bentoml containerize {tag}  # needs Docker; docs/deploy.md")


def _copy_sources(context: Path) -> None:
    ignored = shutil.ignore_patterns("__pycache__", "*.pyc")
    shutil.copytree(Path(__file__).parents[3] / "serve", context / "serve", ignore=ignored)


def _copy_artifact(artifact: Artifact, folder: Path) -> None:
    """Only what the manifest names: engines, times and caches stay here."""
    for name in (*artifact.manifest["files"], MANIFEST):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(artifact.root / name, path)


def _options(artifact: Artifact, tag: str, gpu: bool) -> dict[str, Any]:
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    return {
        "service": SERVICE,
        "name": tag.partition(":")[0],
        "description": f"{artifact.name} {artifact.version}: {len(artifact.labels)} classes.",
        "labels": {"digest": artifact.digest[:63], "precision": artifact.precision},
        "include": ["serve/", f"{PACKED}/"],
        "python": {"packages": _requirements(gpu), "lock_packages": False},
        "docker": {"python_version": version},
        "envs": [{"name": name, "value": value} for name, value in ENVIRONMENT.items()],
    }


def _requirements(gpu: bool) -> list[str]:
    """Pinned where the package is here; else with the bounds of our own metadata."""
    bounds = {}
    for line in metadata.requires("stillroom") or ():
        requirement = line.partition(";")[0].strip()
        found = re.match(r"[A-Za-z0-9._-]+", requirement)
        if found:
            bounds[found[0].lower()] = requirement
    pinned = []
    for name in (*PACKAGES, *RUNTIMES[gpu]):
        try:
            pinned.append(f"{name}=={metadata.version(name)}")
        except metadata.PackageNotFoundError:
            pinned.append(bounds.get(name, name))
    return pinned


def _name_of(artifact: Artifact) -> str:
    """A name that BentoML takes: lower-case letters, digits and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", artifact.name.lower()).strip("-")[:63] or "stillroom"


def _stored(tag: str) -> bool:
    done = subprocess.run(
        [sys.executable, "-m", "bentoml", "get", tag],
        capture_output=True,
        check=False,
    )
    return done.returncode == 0


def _bentoml(*arguments: str, folder: Path | None = None) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bentoml", *arguments],
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        cwd=folder,
        check=False,
    )
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise UsageError(
            f"bentoml {arguments[0]} failed: {said[-1] if said else 'it did not say why'}",
            "Check BENTOML_HOME and the space there.",
        )
