"""CONTRIBUTING adds a loss, a source, a runner, a route, a stage: each diff applies and works."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

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
        assert source_of(origin).read("1.jpg") == Path("in/1.jpg").read_bytes()
    """,
}


def test_there_is_a_diff_for_each() -> None:
    assert set(DIFFS) == set(WORKS)


@pytest.mark.parametrize("what", sorted(DIFFS))
def test_the_diff_applies_and_works(what: str, tmp_path: Path) -> None:
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
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode == 0, done.stderr
