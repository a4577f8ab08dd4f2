from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from compress.distil import Distillation
from serve.contract.errors import CheckpointError, StillroomError
from tests.train.toy import SIZE_PX, same_tensors, state_of, toy_model
from train.extras.center_loss import CenterLoss
from train.extras.nan_doctor.bundle import load_bundle, save_bundle
from train.extras.nan_doctor.diagnosis import diagnose, diagnose_weights, explain, main
from train.extras.nan_doctor.replay import Step, replay
from train.losses.label_loss import LabelLoss
from train.losses.objective import CrossEntropy, StepOutput, Supervised, Term
from train.models.classifier import ImageClassifier, build_model

ARCHS = ("test_efficientnet", "test_resnet", "test_vit", "test_convnext")
CONV = "backbone.blocks.3.0.conv_pw"


class Explode(torch.autograd.Function):
    """The identity, whose gradient is infinite."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        return values.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0] * math.inf


class NaNTerm(nn.Module):
    """A term of the loss that is NaN."""

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        return logits.sum() * math.nan


class ExplodingLoss:
    """Cross-entropy with an infinite gradient."""

    def __call__(self, model: nn.Module, images: Tensor, labels: Tensor) -> StepOutput:
        output = CrossEntropy()(model, images, labels)
        return replace(output, loss=Explode.apply(output.loss))


def a_step(arch: str = ARCHS[0], **changes: Any) -> Step:
    random = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (6, SIZE_PX, SIZE_PX, 3), generator=random)
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    model = toy_model(arch=arch).train()
    step = Step(model, CrossEntropy(), images.to(torch.uint8), labels, seed=3)
    return replace(step, **changes)


def classifier_in(step: Step) -> ImageClassifier:
    assert isinstance(step.model, ImageClassifier)
    return step.model


def leaves(step: Step) -> list[str]:
    """Names of the layers without parts that the forward calls."""
    calls = replay(step, "fp32").calls
    return sorted({call.name for call in calls if not list(call.module.children())})


@contextmanager
def planted(module: nn.Module, change: Any) -> Iterator[None]:
    """A layer whose output is changed."""
    handle = module.register_forward_hook(lambda _m, _i, output: change(output))
    try:
        yield
    finally:
        handle.remove()


def overflowing(step: Step) -> Step:
    """A convolution with finite weights so large that its output is not finite."""
    with torch.no_grad():
        layer: Any = step.model.get_submodule(CONV)
        layer.weight.fill_(3e38)
    return step


@pytest.mark.parametrize("arch", ARCHS)
def test_nan_planted_in_any_layer_is_named(arch: str) -> None:
    step = a_step(arch)
    names = leaves(step)
    assert len(names) > 50
    for name in names:
        with planted(step.model.get_submodule(name), lambda output: output * math.nan):
            found = diagnose(step)
        assert (found.origin, found.where) == ("forward", name)
        assert "NaN" in found.words


@pytest.mark.ci
@pytest.mark.parametrize("arch", ARCHS)
def test_an_infinite_gradient_planted_in_any_layer_is_named(arch: str) -> None:
    step = a_step(arch)
    for name in leaves(step):
        with planted(step.model.get_submodule(name), Explode.apply):
            found = diagnose(step)
        assert (found.origin, found.where) == ("backward", name)


def test_one_image_of_the_batch_is_named() -> None:
    def spoil(output: Tensor) -> Tensor:
        return output.index_fill(0, torch.tensor([4]), math.inf)

    step = a_step("test_vit")
    with planted(step.model.get_submodule("backbone.blocks.1.mlp.fc1"), spoil):
        found = diagnose(step)
    assert found.where == "backbone.blocks.1.mlp.fc1"
    assert "infinity for image 4 of the batch" in found.words


def test_what_a_layer_does_between_its_parts_is_its_own() -> None:
    step = a_step("test_vit")
    block: Any = step.model.get_submodule("backbone.blocks.3")
    whole = block.forward
    block.forward = lambda *values, **named: whole(*values, **named) * math.nan
    assert diagnose(step).where == "backbone.blocks.3"
    block.forward = lambda values, **named: block.norm1(whole(values, **named) / 0.0)
    assert diagnose(step).where == "backbone.blocks.3"


def test_a_batch_that_is_not_finite_is_named_by_position() -> None:
    step = a_step()
    images = step.images.float()
    images[2, 3, 3, 0] = math.nan
    images[5] = math.inf
    found = diagnose(replace(step, images=images))
    assert (found.origin, found.where) == ("input", "image 2, 5 of the batch")
    labels = torch.eye(3)[step.labels]
    labels[1] = math.nan
    assert diagnose(replace(step, labels=labels)).where == "label 1 of the batch"


@pytest.mark.parametrize("name", ["conv_stem.weight", "bn2.bias", "classifier.weight"])
def test_a_weight_that_was_bad_before_the_step_is_named(name: str) -> None:
    step = a_step()
    dict(step.model.named_parameters())[f"backbone.{name}"].data.view(-1)[0] = math.inf
    found = diagnose(step)
    assert (found.origin, found.where) == ("weights", f"backbone.{name}")
    assert diagnose_weights(step.model) is not None


def test_a_bad_running_variance_counts_where_it_is_read() -> None:
    step = a_step()
    name = "backbone.bn1.running_var"
    dict(step.model.named_buffers())[name].fill_(math.nan)
    found = diagnose(step)  # in training mode batch norm takes the batch's statistics
    assert (found.origin, found.where) == ("weights", name)
    assert found.words.endswith("of the model not finite.")
    step.model.eval()
    assert diagnose(step).words == f"{name} is not finite before the step."
    step.model.train()
    with planted(step.model.get_submodule(CONV), lambda output: output / 0):
        assert diagnose(step).where == CONV


def test_a_weight_of_a_part_that_is_used_without_a_call() -> None:
    class Borrower(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(3, 3)

        def forward(self, values: Tensor) -> Tensor:
            return values @ self.inner.weight

    step = a_step()
    borrower = Borrower()
    borrower.inner.weight.data[0, 0] = math.nan
    classifier_in(step).backbone = nn.Sequential(step.model.backbone, borrower)
    assert diagnose(step).where == "backbone.1.inner.weight"


def test_a_term_of_the_loss_is_named() -> None:
    objective = Supervised({"ce": Term(nn.CrossEntropyLoss()), "odd": Term(NaNTerm(), 0.1)})
    found = diagnose(a_step(objective=objective))
    assert (found.origin, found.where) == ("loss", "the term odd")
    assert "from finite logits" in found.words


def test_spoiled_class_centres_are_named() -> None:
    objective = Supervised({"ce": Term(nn.CrossEntropyLoss())})
    objective.register_buffer("centres", torch.tensor([math.nan]))
    objective.losses["ce"].register_buffer("weight", torch.tensor([1.0, math.inf, 1.0]))
    assert "objective.centres is not finite" in diagnose(a_step(objective=objective)).words


def test_the_gradient_of_the_loss_itself() -> None:
    found = diagnose(a_step(objective=ExplodingLoss()))
    assert (found.origin, found.where) == ("backward", "the loss")


def test_gradients_that_are_finite_while_their_norm_is_not() -> None:
    step = a_step()
    with planted(step.model.get_submodule("backbone.classifier"), lambda output: output * 1e19):
        found = diagnose(step)
    assert found.origin == "norm"
    assert "their norm is not" in found.words


def test_a_teacher_is_named() -> None:
    teacher = toy_model(7)
    step = a_step(objective=Distillation(teacher, kd_weight=0.5, temperature=2.0))
    assert diagnose(step).origin == "nowhere"
    with planted(teacher.get_submodule("backbone.blocks.1"), lambda output: output * math.nan):
        found = diagnose(step)
    assert (found.origin, found.where) == ("teacher", "teachers.0.backbone.blocks.1")
    dict(teacher.named_buffers())["backbone.bn1.running_var"].fill_(math.nan)
    found = diagnose(step)
    assert "teachers.0.backbone.bn1.running_var is not finite" in found.words


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_what_is_finite_in_fp32_is_the_fault_of_the_precision(precision: str) -> None:
    limit = {"fp16": 1e5, "bf16": 3.4e38}[precision]  # finite in fp32 only
    step = a_step(precision=precision)

    def reach(output: Tensor) -> Tensor:
        large = torch.tensor(limit).to(output.dtype)
        return output + (large - large)  # zero, or infinity less infinity

    with planted(step.model.get_submodule("backbone.conv_head"), reach):
        found = diagnose(step)
        assert (found.origin, found.where) == ("precision", "backbone.conv_head")
        assert found.advice == "Set precision=fp32."
        assert diagnose(replace(step, precision="fp32")).origin == "nowhere"


def test_a_fault_of_all_precisions_is_not_blamed_on_one() -> None:
    assert diagnose(overflowing(a_step(precision="bf16"))).origin == "forward"


def test_a_finite_step_is_not_reproduced() -> None:
    found = diagnose(a_step())
    assert found.origin == "nowhere"
    assert "Not reproduced" in found.words


@pytest.mark.parametrize("arch", ARCHS)
def test_a_diagnosis_leaves_no_trace(arch: str) -> None:
    step = a_step(arch)
    before, random = state_of(step.model), torch.get_rng_state()
    in_place = [getattr(module, "inplace", None) for module in step.model.modules()]
    diagnose(step)
    assert same_tensors(before, state_of(step.model))
    assert torch.equal(random, torch.get_rng_state())
    assert all(parameter.grad is None for parameter in step.model.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in step.model.modules())
    assert in_place == [getattr(module, "inplace", None) for module in step.model.modules()]


def test_a_replay_draws_the_same_dropout() -> None:
    step = a_step()
    classifier_in(step).backbone.drop_rate = 0.5
    with torch.random.fork_rng():
        torch.manual_seed(step.seed)
        expected = float(step.objective(step.model, step.images, step.labels).loss.detach())
    assert replay(step, "fp32").loss == expected
    assert replay(replace(step, seed=4), "fp32").loss != expected


def test_weights_after_a_step_are_named() -> None:
    model = toy_model()
    assert diagnose_weights(model) is None
    dict(model.named_parameters())["backbone.bn2.weight"].data.fill_(math.nan)
    dict(model.named_buffers())["backbone.bn2.running_var"].fill_(math.inf)
    found = diagnose_weights(model)
    assert found is not None
    assert found.where == "backbone.bn2.weight"
    assert "and 1 tensors more" in found.words


def explained(step: Step, folder: Path) -> StillroomError:
    return explain(
        classifier_in(step),
        step.objective,
        step.images,
        step.labels,
        seed=step.seed,
        precision=step.precision,
        folder=folder,
        step=16,
        phase="all",
    )


def test_the_error_says_what_where_and_what_next(tmp_path: Path) -> None:
    error = explained(overflowing(a_step()), tmp_path / "bundle")
    assert error.message.startswith("Not finite at step 17 of all. It arises in the forward of")
    assert f"{CONV}: infinity from finite input and weights up to 3.0e+38." in error.message
    assert "lr" in error.next_step
    assert f"python -m train.nonfinite {tmp_path / 'bundle'}" in error.next_step
    assert "\n" not in str(error)


def test_a_bundle_is_tensors_and_json(tmp_path: Path) -> None:
    explained(overflowing(a_step()), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"bundle.json", "bundle.safetensors"}
    record = json.loads((tmp_path / "bundle.json").read_bytes())
    assert record["versions"].keys() >= {"python", "torch", "timm"}
    assert (record["phase"], record["step"], record["seed"]) == ("all", 16, 3)


def test_a_bundle_of_a_bilinear_head_and_a_centre_loss(tmp_path: Path) -> None:
    model = build_model(ARCHS[0], 3, size_px=SIZE_PX, head="bilinear", bilinear_dim=64).train()
    centre = CenterLoss(3, 64)
    objective = Supervised(
        {"ce": Term(LabelLoss()), "centre": Term(centre, 1e-3, reads="features")}
    ).train()
    step = a_step(model=model, objective=objective)
    before = state_of(objective)
    assert diagnose(step).origin == "nowhere"
    assert same_tensors(before, state_of(objective))  # the centres did not follow the replay
    save_bundle(tmp_path, step, {})
    back, _ = load_bundle(tmp_path)
    assert replay(back, "fp32").loss == replay(step, "fp32").loss
    centre.centres[1] = math.inf
    found = diagnose(step)
    assert (found.origin, found.where.split(" (")[0]) == ("loss", "the term centre")
    assert "losses.centre.centres is not finite" in found.where


def test_a_bundle_of_before_packages_had_folders_is_read(tmp_path: Path) -> None:
    """Classes are named in it, by the modules and the names of commit 404c1f5."""
    objective = Supervised(
        {"ce": Term(LabelLoss()), "centre": Term(CenterLoss(3, 64), 1e-3, reads="features")}
    ).train()
    model = build_model(ARCHS[0], 3, size_px=SIZE_PX, head="bilinear", bilinear_dim=64).train()
    step = a_step(model=model, objective=objective)
    save_bundle(tmp_path, step, {})
    record = (tmp_path / "bundle.json").read_text()
    for now, before in (
        ("train.losses.objective:", "train.objective:"),
        ("train.losses.label_loss:", "train.label_loss:"),
        ("train.extras.center_loss:CenterLoss", "train.centre_loss:CentreLoss"),
    ):
        assert now in record
        record = record.replace(now, before)
    assert "train.losses" not in record
    assert "train.extras" not in record
    (tmp_path / "bundle.json").write_text(record)
    back, _ = load_bundle(tmp_path)
    assert replay(back, "fp32").loss == replay(step, "fp32").loss


@pytest.mark.parametrize("arch", ARCHS)
def test_a_bundle_gives_the_step_back(arch: str, tmp_path: Path) -> None:
    step = a_step(arch)
    step.model.get_submodule("backbone").requires_grad_(False)
    classifier_in(step).backbone.drop_rate = 0.3
    teacher = toy_model(7, arch=ARCHS[1])
    step = replace(step, objective=Distillation(teacher, kd_weight=0.5, temperature=2.0))
    save_bundle(tmp_path, step, {})
    back, _ = load_bundle(tmp_path)
    assert same_tensors(state_of(step.model), state_of(back.model))
    assert [m.training for m in step.model.modules()] == [m.training for m in back.model.modules()]
    assert not any(parameter.requires_grad for parameter in back.model.parameters())
    assert replay(back, "fp32").loss == replay(step, "fp32").loss


def test_a_bundle_keeps_the_state_of_the_objective(tmp_path: Path) -> None:
    objective = Supervised({"ce": Term(nn.CrossEntropyLoss(), 0.25)})
    objective.register_buffer("centres", torch.arange(3.0))
    step = a_step(objective=objective)
    save_bundle(tmp_path, step, {})
    back, _ = load_bundle(tmp_path)
    assert isinstance(back.objective, Supervised)
    assert same_tensors(state_of(objective), state_of(back.objective))
    assert replay(back, "fp32").loss == replay(step, "fp32").loss


def test_a_spoiled_normalisation_comes_back(tmp_path: Path) -> None:
    step = a_step()
    classifier_in(step).scale.fill_(math.inf)
    found = diagnose(step)
    assert (found.origin, found.where) == ("weights", "scale")
    save_bundle(tmp_path, step, {})
    assert diagnose(load_bundle(tmp_path)[0]) == found


def test_stochastic_depth_comes_back(tmp_path: Path) -> None:
    from timm.layers.drop import DropPath

    step = a_step("test_vit")
    block: Any = step.model.get_submodule("backbone.blocks.2")
    block.drop_path1 = DropPath(0.4)
    save_bundle(tmp_path, step, {})
    back, _ = load_bundle(tmp_path)
    assert replay(back, "fp32").loss == replay(step, "fp32").loss


@pytest.mark.ci
def test_the_command_replays_a_bundle_elsewhere(tmp_path: Path) -> None:
    explained(overflowing(a_step()), tmp_path / "bundle")
    command = [sys.executable, "-m", "train.nonfinite", str(tmp_path / "bundle")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0] == "step      17 of all, 6 images"
    assert f"replayed  on cpu: It arises in the forward of {CONV}" in done.stdout
    recorded, replayed = (line.split(": ", 1)[1] for line in lines[1:3])
    assert recorded == replayed


def test_a_replay_that_is_finite_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_bundle(tmp_path, a_step(), {"phase": "all", "step": 0, "words": "NaN on the other card."})
    assert main([str(tmp_path)]) == 0
    assert "Not reproduced" in capsys.readouterr().out


def test_bad_bundles_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert main([str(tmp_path)]) == 2
    assert "bundle.json and bundle.safetensors" in capsys.readouterr().err
    save_bundle(tmp_path, a_step(objective=ExplodingLoss()), {})  # no class of ours
    with pytest.raises(CheckpointError, match="ExplodingLoss cannot be made again"):
        load_bundle(tmp_path)
    record = json.loads((tmp_path / "bundle.json").read_bytes())
    for foreign in (
        "os:system",
        "builtins:eval",
        "train.models.classifier:timm",
        "training_evil:X",
    ):
        record["objective"] = {"class": foreign, "has": {}}
        (tmp_path / "bundle.json").write_text(json.dumps(record))
        with pytest.raises(CheckpointError, match="not a class"):
            load_bundle(tmp_path)


def test_a_place_that_cannot_be_written_does_not_hide_the_diagnosis(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    error = explained(overflowing(a_step()), tmp_path / "file" / "bundle")
    assert CONV in error.message
    assert "No bundle: Not a directory" in error.next_step
