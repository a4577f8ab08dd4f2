"""Families of timm through `export.onnx_graph`: nodes, bytes, seconds, and how far answers move.

    python -m benchmarks.onnx_families --photos PHOTOS --table T.md
    python -m benchmarks.onnx_families --only resnet18 vit_tiny_patch16_224

Weights are random (seeded) and batch norm's statistics are estimated on the images, or on
generated pictures: without that, activations of a deep random network vanish or explode, and no
difference would mean anything. Eager PyTorch in fp32 is the reference, ONNX Runtime on one CPU
thread with the server's options the candidate, in mixed batches, under the limits of fp32. The
differences are in standard deviations of the logits. What cannot be exported is listed with its
error.
"""

from __future__ import annotations

import argparse
import platform
import tempfile
import time
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from export.foreign.onnx_file import OnnxClassifier
from export.onnx_graph import check_structure, write_graph
from export.options import ExportOptions
from export.parity.batching import batch_invariance, mixed_batch_logits
from export.parity.compare import ModelOutputs, compare_outputs
from export.parity.image_set import read_image_set
from export.parity.tolerances import LIMITS
from serve.contract.errors import StillroomError
from serve.contract.preprocess import PreprocessSpec
from train.engine.seed import derive_seed, generator
from train.evaluation import predict_logits
from train.models.checkpoint import ModelCard
from train.models.classifier import ImageClassifier, build_model

# Small members, at the smallest size that their shape allows: the operators are those of the large.
FAMILIES = {
    "resnet18": 64,
    "resnet26d": 64,
    "seresnet50": 64,
    "resnext26ts": 64,
    "densenet121": 64,
    "vgg11_bn": 64,
    "mobilenetv2_050": 64,
    "mobilenetv3_small_050": 64,
    "mobilenetv4_conv_small_035": 64,
    "mnasnet_small": 64,
    "efficientnet_b0": 64,
    "tf_efficientnet_lite0": 64,
    "tf_efficientnetv2_b0": 64,
    "ghostnet_050": 64,
    "regnety_002": 64,
    "repvgg_a0": 64,
    "mobileone_s0": 64,
    "fastvit_t8": 64,
    "hgnetv2_b0": 64,
    "convnext_atto": 64,
    "convnextv2_atto": 64,
    "inception_next_atto": 64,
    "poolformer_s12": 64,
    "mobilevitv2_050": 64,
    "edgenext_xx_small": 64,
    "efficientvit_b0": 64,
    "efficientformerv2_s0": 224,
    "levit_128s": 224,
    "vit_tiny_patch16_224": 64,
    "deit_tiny_patch16_224": 64,
    "swin_tiny_patch4_window7_224": 224,
    "mixer_s32_224": 224,
    "maxvit_rmlp_pico_rw_256": 256,
}
CLASSES = 10
IMAGES = 64
OPSET = ExportOptions().opset


@dataclass(frozen=True)
class FamilyResult:
    """What became of one architecture.

    Args:
        arch: timm name.
        size_px: side of the images.
        seconds: of the export; wall time.
        nodes: of the graph.
        size_bytes: of the file.
        difference_sd: largest difference of a logit.
        snr_db: of the logits.
        status: of the verdict; or "not exported".
        why: its reasons; or the error.
    """

    arch: str
    size_px: int
    seconds: float
    nodes: int = 0
    size_bytes: int = 0
    difference_sd: float = 0.0
    snr_db: float = 0.0
    status: str = "not exported"
    why: str = ""


def export_family(arch: str, pixels: NDArray[np.uint8], folder: Path) -> FamilyResult:
    """Build, export and compare one architecture.

    Args:
        arch: timm name.
        pixels: (N, size_px, size_px, 3) uint8.
        folder: for the file, which stays.
    """
    size_px = pixels.shape[1]
    model = random_model(arch, pixels)
    labels = tuple(f"class {number}" for number in range(CLASSES))
    card = ModelCard.of(
        model,
        labels=labels,
        preprocess=PreprocessSpec(size_px, 1.0),
        train_size_px=size_px,
        dataset_digest="",
    )
    path = folder / f"{arch}.onnx"
    start = time.perf_counter()
    try:
        write_graph(model, card, path, opset=OPSET)
        check_structure(path, card, opset=OPSET)
    except StillroomError as error:
        return FamilyResult(arch, size_px, time.perf_counter() - start, why=error.message)
    seconds = time.perf_counter() - start
    reference = predict_logits(model, pixels)
    with OnnxClassifier(path) as file:
        candidate = mixed_batch_logits(file, pixels)
        invariance = batch_invariance(file, pixels, candidate)
    names = tuple(f"image {number}" for number in range(len(pixels)))
    verdict = compare_outputs(
        ModelOutputs(names, names, labels, reference, None),
        candidate,
        LIMITS["fp32"],
        min_images=len(pixels),  # whether answers are equal is asked here, not how many agree
        invariance=invariance,
    )
    return FamilyResult(
        arch=arch,
        size_px=size_px,
        seconds=seconds,
        nodes=len(onnx.load(path).graph.node),
        size_bytes=path.stat().st_size,
        difference_sd=verdict.max_abs_diff / verdict.sd,
        snr_db=verdict.snr_db,
        status=verdict.status,
        why="; ".join(verdict.reasons),
    )


def random_model(arch: str, pixels: NDArray[np.uint8]) -> ImageClassifier:
    """Random weights, equal for equal names, with batch norm's statistics of these pixels."""
    torch.manual_seed(derive_seed("family", arch) % 2**31)
    model = build_model(arch, CLASSES, size_px=pixels.shape[1]).eval()
    for parameter in model.parameters():
        if parameter.ndim > 1 and not parameter.any():  # some heads start at zero
            nn.init.normal_(parameter, std=0.02)
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean over all that it sees
        norm.train()
    with torch.inference_mode():
        for begin in range(0, len(pixels), 16):
            model(torch.from_numpy(pixels[begin : begin + 16]))
    return model.eval()


def generated_pixels(count: int, size_px: int) -> NDArray[np.uint8]:
    """Pictures with the large and small shades of images, which white noise has not.

    Returns:
        (count, size_px, size_px, 3) uint8; equal for equal arguments.
    """
    random = generator("families", size_px)
    pictures = []
    for _ in range(count):
        levels = np.full((size_px, size_px, 3), 127.0)
        for cells, strength in ((2, 60.0), (6, 35.0), (20, 15.0)):
            grid = random.normal(0, strength, (cells, cells, 3)) + 127
            small = Image.fromarray(grid.clip(0, 255).astype(np.uint8))
            large = small.resize((size_px, size_px), Image.Resampling.BICUBIC)
            levels += np.asarray(large, np.float64) - 127
        pictures.append(levels.clip(0, 255).astype(np.uint8))
    return np.stack(pictures)


def pixels_for(photos: Path | None, size_px: int) -> NDArray[np.uint8]:
    """IMAGES images at a size; generated ones where there are none."""
    if photos is None:
        return generated_pixels(IMAGES, size_px)
    return read_image_set(photos, PreprocessSpec(size_px, 1.0), (), limit=IMAGES).pixels


def table_of(results: list[FamilyResult]) -> str:
    """Markdown, one row an architecture."""
    lines = ["| model | px | s | nodes | MB | max diff, sd | SNR, dB | verdict |"]
    lines.append(f"|{'---|' * 8}")
    for r in results:
        figures = "- | - | - | -"
        if r.nodes:
            figures = (
                f"{r.nodes} | {r.size_bytes / 1e6:.1f} | {r.difference_sd:.0e} | {r.snr_db:.0f}"
            )
        verdict = f"{r.status}: {r.why}" if r.why else r.status
        lines.append(f"| {r.arch} | {r.size_px} | {r.seconds:.1f} | {figures} | {verdict} |")
    return "\n".join(lines)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=Path, help="folder of images [generated pictures]")
    parser.add_argument("--only", nargs="+", default=list(FAMILIES), metavar="MODEL")
    parser.add_argument("--table", type=Path, help="file for the table, too")
    args = parser.parse_args()
    torch.set_num_threads(1)
    results = []
    with tempfile.TemporaryDirectory(prefix="stillroom-") as scratch:
        for arch in args.only:
            pixels = pixels_for(args.photos, FAMILIES.get(arch, 224))
            results.append(export_family(arch, pixels, Path(scratch)))
            print(f"{arch}: {results[-1].status}", flush=True)
    names = ("torch", "timm", "onnx", "onnxruntime")
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in names)
    where = f"{IMAGES} {'images' if args.photos else 'generated pictures'}, one CPU thread"
    text = f"{table_of(results)}\n\n{where}, {platform.machine()}, {versions}.\n"
    print(f"\n{text}")
    if args.table:
        args.table.write_text(text)


if __name__ == "__main__":
    main()
