"""Where a training's time goes: a trace of some steps, and a verdict in three lines."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from serve.contract.errors import DatasetError
from train.data.dataset import Dataset
from train.engine.trainer import Trainer
from train.fitting import phases_of, prepare_model, views_of
from train.loader.dataloader import feed
from train.loader.sampler import BatchSampler
from train.options import TrainOptions

__all__ = ["TrainingProfile", "profile_training"]

WARM_UP = 3  # steps that are not measured
TRACED = 4  # steps of the trace; tracing slows them, so they are not measured either
WAITS = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize")
DATA_BOUND = 0.15  # share of the time
SYNC_BOUND = 0.15
TOP_OPS = 3


@dataclass(frozen=True)
class TrainingProfile:
    """What some steps of a training took.

    Args:
        steps: measured.
        images: of them all.
        wall_s: of them all.
        waited_s: for data.
        synced_s: of the host for the GPU, in the trace, scaled to the measured steps; 0 on a CPU.
        ops: name and share of the own time of the most expensive operators, largest first.
        trace: the file, for chrome://tracing or ui.perfetto.dev.
    """

    steps: int
    images: int
    wall_s: float
    waited_s: float
    synced_s: float
    ops: tuple[tuple[str, float], ...]
    trace: Path

    @property
    def bound(self) -> str:
        """data, sync or compute: what to change first."""
        if self.waited_s > DATA_BOUND * self.wall_s:
            return "data"
        return "sync" if self.synced_s > SYNC_BOUND * self.wall_s else "compute"

    def lines(self) -> list[str]:
        """Three lines for people."""
        step_ms = 1000 * self.wall_s / self.steps
        wait, sync = self.waited_s / self.wall_s, self.synced_s / self.wall_s
        ops = ", ".join(f"{name} {share:.0%}" for name, share in self.ops)
        advice = {
            "data": "raise teacher.workers, let the images fit data.cache_mib, or switch "
            "augmentations off (docs/training.md lists their cost)",
            "sync": "look in the trace for what asks the GPU for a value at every step",
            "compute": "a smaller teacher.arch or teacher.train_size_px, bf16, or a faster device",
        }
        return [
            f"{self.images / self.wall_s:.0f} images/s; a step takes {step_ms:.0f} ms, of which it "
            f"waits {wait:.0%} for data and {sync:.0%} for the GPU.",
            f"Most of the computing: {ops}.",
            f"{self.bound.capitalize()}-bound: {advice[self.bound]}.",
        ]


def profile_training(
    dataset: Dataset, options: TrainOptions, *, seed: int, trace: Path, steps: int = 20
) -> TrainingProfile:
    """Measure some steps of the last phase, then trace a few more; nothing of them is kept.

    Args:
        dataset: its train split is used.
        options: of the training.
        seed: of everything random.
        trace: file to write the trace to.
        steps: to measure.

    Raises:
        DatasetError: fewer images than one batch.
    """
    model = prepare_model(dataset, options, seed)
    phase = phases_of(dataset, model, options, None, seed)[-1]
    plan, views = phase.plan, views_of(dataset, options, seed)
    order = BatchSampler(
        views.targets,
        plan.batch_size,
        WARM_UP + steps + TRACED,  # epochs: each has a step at least
        plan.seed,
        balance_limit=plan.balance_limit,
        sizes_px=plan.sizes_px,
        shards=views.shards,
    )
    if not order.per_epoch:
        raise DatasetError(
            f"{len(views)} training images are fewer than one batch of {plan.batch_size}.",
            "Lower batch_size.",
        )
    training = Trainer(
        phase.name, model, phase.objective, phase.policy, plan, (WARM_UP + steps + TRACED)
    )
    with tempfile.TemporaryDirectory() as folder:
        training.resume(Path(folder) / "profile")
        batches = feed(views, order, workers=plan.workers)
        for _ in range(WARM_UP):
            training.step(next(batches))
        _finish(model.device)
        waited_s, images, begin_s = 0.0, 0, time.perf_counter()
        for _ in range(steps):
            asked_s = time.perf_counter()
            batch = next(batches)
            waited_s += time.perf_counter() - asked_s
            training.step(batch)
            images += len(batch.images)
        _finish(model.device)
        wall_s = time.perf_counter() - begin_s
        on_gpu = [ProfilerActivity.CUDA] if model.device.type == "cuda" else []
        with profile(activities=[ProfilerActivity.CPU, *on_gpu]) as traced:
            for _ in range(TRACED):
                training.step(next(batches))
            _finish(model.device)
        batches.close()
    trace.parent.mkdir(parents=True, exist_ok=True)
    traced.export_chrome_trace(str(trace))
    events = traced.key_averages()
    own = {
        event.key: float(event.self_device_time_total if on_gpu else event.self_cpu_time_total)
        for event in events
    }
    waits_us = sum(float(e.self_cpu_time_total) for e in events if e.key in WAITS)
    total = sum(own.values()) or 1.0
    top = sorted(own.items(), key=lambda item: -item[1])[:TOP_OPS]
    ops = tuple((name.removeprefix("aten::"), value / total) for name, value in top)
    synced_s = waits_us / 1e6 * steps / TRACED if on_gpu else 0.0
    return TrainingProfile(steps, images, wall_s, waited_s, synced_s, ops, trace)


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
