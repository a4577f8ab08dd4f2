"""CONTRIBUTING adds a loss, a source, a runner, a route, a stage: each diff applies and works."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[1]
PACKAGES = ("train", "compress", "export", "serve", "loadtest", "stillroom")
DIFF = re.compile(r"^\*\*A (\w+)\*\*.*?```diff\n(.*?)^```", re.MULTILINE | re.DOTALL)
DIFFS = dict(DIFF.findall((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")))
FEW_LINES = 40

WORKS = {
    "loss": """
        import torch
        from train.losses.objective import build_objective
        from train.options import LossOptions, TrainOptions, deciding

        assert deciding(TrainOptions()) == deciding(TrainOptions(loss=LossOptions()))
        assert "penalty_weight" not in deciding(TrainOptions())["loss"]  # nobody's run is stale
        options = TrainOptions(loss=LossOptions(penalty_weight=0.1))
        objective = build_objective(options, counts=[4, 4], num_features=8)
        even = objective(lambda images: torch.zeros(3, 2), None, torch.tensor([0, 1, 0]))
        assert set(even.terms) == {"ce", "penalty"}
        torch.testing.assert_close(even.terms["penalty"], -torch.tensor(2.0).log())
        torch.testing.assert_close(even.loss, even.terms["ce"] + 0.1 * even.terms["penalty"])
    """,
    "source": """
        from pathlib import Path
        from PIL import Image
        from train.data.source import open_source, origin_of, source_of

        for name in ("b/2.jpg", "a/1.jpg", "1.jpg"):
            Path("in", name).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 8)).save(Path("in", name))
        rows = [("b/2.jpg", "rose"), ("a/1.jpg", "daisy"), ("1.jpg", "rose")]
        lines = ['{"path": "%s", "label": "%s"}' % row for row in rows]
        Path("in/mine.jsonl").write_text("\\n".join(lines))
        origin = origin_of("in/mine.jsonl")
        found = open_source(origin)
        assert [(p.path, p.label) for p in found.photos] == sorted(rows)
        assert found.root == Path("in").resolve() and source_of(origin).name == "mine"
    """,
    "runner": """
        import sys
        from pathlib import Path
        import numpy as np
        from serve.contract.artifact import open_artifact
        from serve.runners.open import open_runner

        artifact = open_artifact(Path(sys.argv[1]))
        side = artifact.preprocess.size_px
        images = np.random.default_rng(0).integers(0, 256, (3, side, side, 3), np.uint8)
        logits = []
        for backend in ("onnx-reference", "onnxruntime-cpu"):
            with open_runner(artifact, backend=backend) as runner:
                assert runner.backend == backend
                logits.append(runner.infer(images))
        np.testing.assert_allclose(*logits, rtol=1e-4, atol=1e-4)
    """,
    "route": """
        import asyncio, sys
        from pathlib import Path
        import httpx
        from prometheus_client import CollectorRegistry
        from serve.http.app import build_app
        from serve.http.guard import Guard
        from serve.http.openapi import openapi_document
        from serve.http.routes import route_table
        from serve.model.served_model import open_served_model
        from serve.settings import Settings
        from serve.telemetry.metrics import Metrics

        async def ask(app):
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
                return await client.get("/v1/labels")

        settings = Settings(artifact=Path(sys.argv[1]))
        metrics = Metrics(CollectorRegistry())
        with open_served_model(settings, metrics) as served:
            app = Guard(build_app(served, metrics), metrics=metrics, admit=served.admit)
            answer = asyncio.run(ask(app))
            assert answer.json() == list(served.artifact.labels), answer.text
        assert "/v1/labels" in openapi_document(route_table())["paths"]
        assert route_table().find("/v1/labels").needs_token
    """,
    "stage": """
        import json
        from dataclasses import replace
        from pathlib import Path
        from stillroom.run.folder import RunFolder
        from stillroom.run.pipeline import PIPELINE
        from stillroom.run.recipe import load_recipe
        from stillroom.run.stage_graph import Context

        stage = PIPELINE["size"]
        assert [one.name for one in PIPELINE.up_to("size", load_recipe("digits"))][-1] == "size"
        Path("run/artifact").mkdir(parents=True)
        Path("run/artifact/model.onnx").write_bytes(bytes(4000))
        Path("out").mkdir()
        context = Context(Path("photos"), RunFolder(Path("run")), load_recipe("digits"), "x")
        built = stage.builder(replace(context, out=Path("out")))
        assert json.loads(Path("out/size.json").read_text()) == built.metrics
        assert built.metrics["bytes"] == 4000 > built.metrics["zipped_bytes"]
    """,
}


def test_there_is_a_diff_for_each() -> None:
    assert set(DIFFS) == set(WORKS)


@pytest.mark.parametrize("what", sorted(DIFFS))
def test_the_diff_applies_and_works(what: str, tmp_path: Path, tiny_artifact: Path) -> None:
    if shutil.which("git") is None:
        pytest.skip("git is not on the PATH; it applies the diff")
    assert len(DIFFS[what].splitlines()) <= FEW_LINES
    for package in PACKAGES:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / package, tmp_path / package, ignore=ignored)
    apply = ["git", "apply", "-"]
    subprocess.run(apply, input=DIFFS[what], text=True, check=True, cwd=tmp_path)
    lines = WORKS[what].splitlines()
    code = "\n".join(line[8:] for line in lines)
    command = [sys.executable, "-c", code, str(tiny_artifact)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
