"""What the tests of several ranks let each of them do; started once, by torchrun's environment."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from serve.contract.errors import Interrupted, StillroomError
from tests.train.fits import PLAN, Poisoned, SignalAt, fit_toy, validate_of
from tests.train.toy import SIZE_PX, lively, toy_model, toy_views
from train.data.dataset import Dataset
from train.engine.loop import Fitted
from train.engine.weight_averaging import measure_norms
from train.engine.world import current_world, shard_of_rank, world_from_env
from train.evaluation import predict_logits
from train.extras.center_loss import CenterLoss
from train.extras.distributed.process_group import open_process_group
from train.loader.sampler import some_batches
from train.losses.label_loss import LabelLoss
from train.losses.objective import CrossEntropy, StepOutput, Supervised, Term
from train.models.classifier import ImageClassifier

SMOOTH = "test_efficientnet_gn"  # no batch norm, no dropout: nothing in it is of one rank alone
CURVE = replace(
    PLAN, lr=3e-4, swa_epochs=2, balance_limit=1.1, sizes_px=(32, 48), l1=1e-5, layer_decay=0.7
)
NORMS = replace(PLAN, swa_epochs=2, precise_bn_images=20, mixup=0.4, mix_off_epochs=1)
COUNTS = (1, 2, 7, 64, 129)


class Only:
    """One objective on rank 1, cross-entropy on the others."""

    def __init__(self, objective: Any) -> None:
        self._objective = objective if current_world().rank == 1 else CrossEntropy()

    def __call__(self, model: nn.Module, images: Tensor, labels: Tensor) -> StepOutput:
        output: StepOutput = self._objective(model, images, labels)
        return output


def smooth(dataset: Dataset, folder: Path) -> tuple[ImageClassifier, Fitted, nn.Module]:
    """A training whose result must not depend on the number of ranks."""
    width = toy_model(arch=SMOOTH).num_features
    centre = Term(CenterLoss(3, width), 1e-3, reads="features")
    objective = Supervised({"ce": Term(LabelLoss()), "centre": centre})
    validate = validate_of(dataset)
    model, fitted = fit_toy(dataset, folder, validate, plan=CURVE, objective=objective, arch=SMOOTH)
    return model, fitted, objective


def measured(dataset: Dataset, batch_size: int) -> ImageClassifier:
    """A model whose batch norms were measured on 30 images."""
    model = lively(toy_model())
    names = [n for n, m in model.named_modules() if isinstance(m, nn.BatchNorm2d)]
    keys = some_batches(36, 33, batch_size=batch_size, epoch=0, seed=1, size_px=SIZE_PX)
    views = toy_views(dataset)
    batches = [
        torch.from_numpy(np.stack([views[key][0] for key in batch]))
        for batch in shard_of_rank(keys)
    ]
    measure_norms(model, names, lambda: batches)
    return model


def answers(count: int) -> Any:
    """(N, 3) logits as rank 0 gets them."""
    pixels = np.random.default_rng(count).integers(0, 256, (count, SIZE_PX, SIZE_PX, 3), np.uint8)
    mine = np.stack(shard_of_rank(list(pixels))) if shard_of_rank(range(count)) else pixels[:0]
    return current_world().gather_rows(predict_logits(lively(toy_model()), mine), count)


def interrupted(dataset: Dataset, folder: Path, step: int) -> str:
    """Rank 1 alone gets a signal; all stop."""
    try:
        fit_toy(dataset, folder, validate_of(dataset), plan=NORMS, objective=Only(SignalAt(step)))
    except Interrupted as error:
        return str(error)
    return ""


def run(dataset: Dataset, out: Path) -> dict[str, Any]:
    """Everything, in one process group; what is the same on all ranks is returned."""
    said: dict[str, Any] = {}
    model, fitted, objective = smooth(dataset, out / "smooth")
    _save(model, out / f"smooth-{current_world().rank}.safetensors")
    _save(objective, out / f"centres-{current_world().rank}.safetensors")
    said["kept"], said["scores"] = fitted.kept, fitted.scores
    said["weights"] = current_world().all_gather_object([_digest(m) for m in (model, objective)])
    said["smooth"] = list(map(str, sorted((out / "smooth" / ".all").glob(".state-*"))))
    norms = measured(dataset, 6)
    _save(norms, out / f"norms-{current_world().rank}.safetensors")
    for count in COUNTS:
        rows = answers(count)
        if rows is not None:
            np.save(out / f"answers-{count}.npy", rows)
    validate = validate_of(dataset)
    whole, _ = fit_toy(dataset, out / "whole", validate, plan=NORMS, objective=Only(CrossEntropy()))
    said["stopped"] = [
        current_world().all_gather_object(interrupted(dataset, out / "cut", step))
        for step in (2, 3)
    ]
    cut, _ = fit_toy(dataset, out / "cut", validate, plan=NORMS, objective=Only(CrossEntropy()))
    said["resumed"] = current_world().all_gather_object([_digest(whole), _digest(cut)])
    said["uneven"] = _error(dataset, out / "uneven", plan=replace(PLAN, batch_size=13))
    said["poisoned"] = _error(dataset, out / "p" / "q" / "poisoned", objective=Only(Poisoned(2)))
    said["sync_bn"] = _error(dataset, out / "sync", plan=replace(PLAN, sync_bn=True))
    said["other"] = _other_steps()
    return said


def _other_steps() -> list[str]:
    try:
        current_world().check_equal(40 * (1 - current_world().rank), "a state of all at step")
    except StillroomError as error:
        return current_world().all_gather_object(str(error))
    return current_world().all_gather_object("")


def _error(dataset: Dataset, folder: Path, **changes: Any) -> list[str]:
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        fit_toy(dataset, folder, validate_of(dataset), **changes)
    except StillroomError as error:
        return current_world().all_gather_object(f"{type(error).__name__}: {error}")
    return current_world().all_gather_object("")


def _save(module: nn.Module, path: Path) -> None:
    save_file({name: tensor.contiguous() for name, tensor in module.state_dict().items()}, path)


def _digest(module: nn.Module) -> str:
    values = [tensor.double().sum().item() for tensor in module.state_dict().values()]
    return repr(values)


def main() -> None:
    """`python -m tests.train.ranks_worker PHOTOS INDEX OUT`."""
    root, index, out = map(Path, sys.argv[1:])
    place = world_from_env(os.environ)
    with open_process_group(place):
        said = run(Dataset.open(root, index, 64), out)
        if place.is_writer:
            (out / "said.json").write_text(json.dumps(said))


if __name__ == "__main__":
    main()
