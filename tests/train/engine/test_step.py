from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from serve.contract.errors import StillroomError
from tests.train.fits import PLAN, Poisoned, SignalAt, fit_toy, validate_of
from tests.train.toy import SIZE_PX, lively, same_tensors, state_of, toy_model
from train.data.dataset import Dataset
from train.engine.plan import PhaseOptions
from train.engine.trainer import HITS, LABELLED, Trainer
from train.loader.views import Batch
from train.losses.objective import CrossEntropy, Objective, StepOutput
from train.models.classifier import ImageClassifier
from train.models.freeze import TrainAll

SMOOTH = "test_efficientnet_gn"  # no batch norm: an image's answer is its own
STEPS = replace(PLAN, epochs=1, mixup=0.4, l1=1e-6)


def _batches(count: int) -> list[Batch]:
    batches = []
    for number in range(count):
        random = torch.Generator().manual_seed(number)
        shape = (12, SIZE_PX, SIZE_PX, 3)
        images = torch.randint(0, 256, shape, generator=random, dtype=torch.uint8)
        batches.append(Batch(images, torch.randint(0, 3, (12,), generator=random)))
    return batches


def _train(
    folder: Path,
    *,
    steps: int = 4,
    objective: Objective | None = None,
    arch: str = SMOOTH,
    late: bool | None = None,
    **plan: Any,
) -> tuple[ImageClassifier, Trainer]:
    model = lively(toy_model(arch=arch)).to(memory_format=torch.channels_last)
    training = Trainer(
        "all", model, objective or CrossEntropy(), TrainAll(), _plan(**plan), 9, late=late
    )
    training.resume(folder / "state")
    for batch in _batches(steps):
        training.step(batch)
    training.look_back()
    return model, training


def _plan(**changes: Any) -> PhaseOptions:
    return replace(STEPS, **changes)


# ---- parts of a batch


@pytest.mark.parametrize("parts", [2, 3, 5, 12])
def test_a_batch_in_parts_gives_the_step_of_the_whole_batch(tmp_path: Path, parts: int) -> None:
    (tmp_path / "whole").mkdir()
    (tmp_path / "parts").mkdir()
    whole, one = _train(tmp_path / "whole", optimizer="sgd")
    some, two = _train(tmp_path / "parts", optimizer="sgd", accumulate=parts)
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(some.state_dict()[name], value, rtol=1e-3, atol=1e-5)
    a, b = one._sums.values(), two._sums.values()
    assert a.keys() == b.keys() == {"loss", "data_loss", "ce", "l1", HITS, LABELLED}
    assert b == pytest.approx(a, rel=1e-4)


def test_the_comparison_would_see_a_part_that_is_left_out(tmp_path: Path) -> None:
    class Blind(CrossEntropy):
        def __call__(self, model: nn.Module, images: Tensor, labels: Tensor) -> StepOutput:
            output = super().__call__(model, images, labels)
            return replace(output, loss=output.loss * float(images[0, 0, 0, 0] > 100))

    (tmp_path / "whole").mkdir()
    (tmp_path / "parts").mkdir()
    whole, _ = _train(tmp_path / "whole", optimizer="sgd")
    some, _ = _train(tmp_path / "parts", optimizer="sgd", accumulate=3, objective=Blind())
    name = "backbone.classifier.weight"
    assert not torch.allclose(whole.state_dict()[name], some.state_dict()[name], 1e-3, 1e-5)


def test_parts_draw_dropout_of_their_own() -> None:
    """Each part has a seed: one seed for all would drop the same units of every part."""
    training = Trainer("all", toy_model(), CrossEntropy(), TrainAll(), _plan(accumulate=4), 9)
    batch = _batches(1)[0]
    seeds = [part.seed for part in training._parts(batch.images, batch.labels, ())]
    assert len(set(seeds)) == 4
    assert seeds[0] == training._parts(batch.images, batch.labels, ())[0].seed


def test_a_training_in_parts_that_is_stopped_resumes_bit_for_bit(
    dataset: Dataset, tmp_path: Path
) -> None:
    plan = replace(PLAN, accumulate=3)
    validate = validate_of(dataset)
    whole, _ = fit_toy(dataset, tmp_path / "whole", validate, plan=plan)
    with pytest.raises(StillroomError, match="everything is saved"):
        # The signal comes in the first part of the second step: a step is done whole.
        fit_toy(dataset, tmp_path / "cut", validate, plan=plan, objective=SignalAt(4))
    cut, _ = fit_toy(dataset, tmp_path / "cut", validate, plan=plan)
    assert same_tensors(state_of(whole), state_of(cut))


# ---- steps that are looked at late, as on a GPU


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_to_look_late_changes_nothing(tmp_path: Path, precision: str) -> None:
    (tmp_path / "late").mkdir()
    (tmp_path / "now").mkdir()
    now, _ = _train(tmp_path / "now", precision=precision, late=False)
    late, _ = _train(tmp_path / "late", precision=precision, late=True)
    assert same_tensors(state_of(now), state_of(late))


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize(("at", "done"), [(1, 1), (3, 3), (4, 4)])
def test_a_step_that_fails_changes_no_weight_even_if_it_is_seen_late(
    tmp_path: Path, optimizer: str, at: int, done: int
) -> None:
    (tmp_path / "good").mkdir()
    (tmp_path / "bad").mkdir()
    good, _ = _train(tmp_path / "good", steps=at - 1, optimizer=optimizer, late=True)
    kept: list[ImageClassifier] = []

    class Watched(Poisoned):
        def __call__(self, model: nn.Module, images: Tensor, labels: Tensor) -> StepOutput:
            kept[:] = [model]  # type: ignore[list-item]
            return super().__call__(model, images, labels)

    with pytest.raises(StillroomError, match=f"Not finite at step {done} of all"):
        _train(tmp_path / "bad", objective=Watched(at), optimizer=optimizer, late=True)
    weights = dict(good.named_parameters())
    assert all(torch.equal(p, weights[name]) for name, p in kept[0].named_parameters())


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("parts", [1, 3])
def test_the_part_that_fails_is_the_one_that_is_replayed(
    tmp_path: Path, late: bool, parts: int
) -> None:
    def spoil(_module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        marked = inputs[0].amax((1, 2, 3)) > 1e3
        return torch.where(marked[:, None, None, None], math.nan, output)

    model = lively(toy_model(arch=SMOOTH))
    model.backbone.get_submodule("conv_stem").register_forward_hook(spoil)
    plan = _plan(accumulate=parts, mixup=0.0)
    training = Trainer("all", model, CrossEntropy(), TrainAll(), plan, 9, late=late)
    training.resume(tmp_path / "state")
    good, bad, last = _batches(3)
    images = bad.images.float()
    images[9] *= 1e4  # an image of the last part

    def train() -> None:
        for batch in (good, bad._replace(images=images), last):
            training.step(batch)

    with pytest.raises(StillroomError) as caught:
        train()
    assert "Not finite at step 2 of all" in str(caught.value)
    assert f"NaN for image {9 % (12 // parts)} of the batch" in str(caught.value)


def test_a_save_looks_at_all_steps_first(tmp_path: Path) -> None:
    model = lively(toy_model())
    training = Trainer("all", model, Poisoned(1), TrainAll(), _plan(), 9, late=True)
    training.resume(tmp_path / "state")
    training.step(_batches(1)[0])
    with pytest.raises(StillroomError, match="Not finite at step 1"):
        training.save()
    assert not list((tmp_path / "state").glob(".state-*"))


# ---- half precision with a scaled loss


def test_fp16_trains_and_a_stopped_training_resumes_bit_for_bit(
    dataset: Dataset, tmp_path: Path
) -> None:
    plan = replace(PLAN, precision="fp16")
    validate = validate_of(dataset)
    whole, fitted = fit_toy(dataset, tmp_path / "whole", validate, plan=plan)
    assert math.isfinite(fitted.scores["val_loss"])
    with pytest.raises(StillroomError, match="everything is saved"):
        fit_toy(dataset, tmp_path / "cut", validate, plan=plan, objective=SignalAt(5))
    cut, _ = fit_toy(dataset, tmp_path / "cut", validate, plan=plan)
    assert same_tensors(state_of(whole), state_of(cut))


class Steep(CrossEntropy):
    """A loss whose gradient leaves the range of fp16 unless its scale is below `limit`."""

    def __init__(self, limit: float) -> None:
        super().__init__()
        object.__setattr__(self, "limit", limit)

    def __call__(self, model: nn.Module, images: Tensor, labels: Tensor) -> StepOutput:
        output = super().__call__(model, images, labels)
        output.logits.register_hook(self._overflow)  # type: ignore[no-untyped-call]
        return output

    def _overflow(self, gradient: Tensor) -> Tensor:
        limit: float = self.limit  # type: ignore[attr-defined]
        return torch.where(gradient.abs().max() > limit, math.inf, 1.0) * gradient


def test_a_scale_that_is_too_large_is_lowered_and_that_step_skipped(tmp_path: Path) -> None:
    before = lively(toy_model(arch=SMOOTH))
    model, training = _train(tmp_path, steps=1, precision="fp16", objective=Steep(1e3))
    scale = training._stepper.scaler_state()["scale"]
    assert scale == 2.0**15  # halved once
    weights = dict(before.named_parameters())
    assert all(torch.equal(p, weights[name]) for name, p in model.named_parameters())


def test_a_gradient_that_no_scale_brings_into_range_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StillroomError, match="Not finite at step"):
        _train(tmp_path, steps=40, precision="fp16", objective=Steep(1e-12))


# ---- torch.compile


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> list[nn.Module]:
    """torch.compile that makes no code: what is given to it is what is tested."""
    given: list[nn.Module] = []
    compile_: Callable[..., Any] = torch.compile

    def record(model: nn.Module) -> nn.Module:
        given.append(model)
        compiled: nn.Module = compile_(model, backend="eager")
        return compiled

    monkeypatch.setattr(torch, "compile", record)
    return given


def test_a_compiled_training_has_the_same_weights_under_the_same_names(
    tmp_path: Path, eager: list[nn.Module]
) -> None:
    (tmp_path / "plain").mkdir()
    (tmp_path / "compiled").mkdir()
    plain, _ = _train(tmp_path / "plain")
    assert not eager
    compiled, training = _train(tmp_path / "compiled", compile=True)
    assert eager == [compiled]
    assert same_tensors(state_of(plain), state_of(compiled))
    training.save()
