"""Every arXiv number in code and documents is one that was looked up: a mistyped one fails."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
ARXIV = re.compile(r"arXiv:\s?(\d{4}\.\d{4,5})")
LOOKED_UP = {
    "1312.6120": "Saxe et al.: Exact solutions to the nonlinear dynamics of learning",
    "1409.4842": "Szegedy et al.: Going deeper with convolutions",
    "1502.01852": "He et al.: Delving deep into rectifiers",
    "1503.02531": "Hinton et al.: Distilling the knowledge in a neural network",
    "1511.06062": "Gao et al.: Compact bilinear pooling",
    "1608.03983": "Loshchilov and Hutter: SGDR",
    "1610.02391": "Selvaraju et al.: Grad-CAM",
    "1703.09507": "Ranjan et al.: L2-constrained softmax loss",
    "1706.02677": "Goyal et al.: Accurate, large minibatch SGD",
    "1706.04599": "Guo et al.: On calibration of modern neural networks",
    "1708.02002": "Lin et al.: Focal loss for dense object detection",
    "1708.04896": "Zhong et al.: Random erasing data augmentation",
    "1710.09412": "Zhang et al.: mixup",
    "1803.05407": "Izmailov et al.: Averaging weights leads to wider optima",
    "1901.05555": "Cui et al.: Class-balanced loss based on effective number of samples",
    "1905.04899": "Yun et al.: CutMix",
    "1906.06423": "Touvron et al.: Fixing the train-test resolution discrepancy",
    "1909.13719": "Cubuk et al.: RandAugment",
    "1911.00068": "Northcutt et al.: Confident learning",
    "1911.02549": "Reddi et al.: MLPerf inference benchmark",
    "2103.10158": "Müller and Hutter: TrivialAugment",
    "2105.07576": "Wu and Johnson: Rethinking 'batch' in BatchNorm",
    "2106.05237": "Beyer et al.: Knowledge distillation: a good teacher is patient and consistent",
    "2301.12900": "Fang et al.: DepGraph",
    "2309.14621": "Lam et al.: Confidence intervals for the F1 score",
}


def test_every_cited_paper_was_looked_up() -> None:
    files = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]
    for package in ("train", "compress", "export", "serve", "loadtest", "stillroom", "benchmarks"):
        files += [p for kind in ("*.py", "*.md", "*.toml") for p in (ROOT / package).rglob(kind)]
    cited = {
        number: path.relative_to(ROOT)
        for path in files
        for number in ARXIV.findall(path.read_text(encoding="utf-8"))
    }
    assert {n: where for n, where in cited.items() if n not in LOOKED_UP} == {}
    assert set(LOOKED_UP) == set(cited)
