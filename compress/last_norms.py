"""Which batch norms are the last before the classifier: found in the graph of one forward pass.

The paper frees "the last batch norm", and its networks have one. In general a network computes its
norms in a partial order, and the last are those whose output no other norm depends on. In a
ResNet whose last stage has several blocks that is the one norm at the end of the last block; the
earlier ones reach the classifier through shortcuts, but feed that one as well. Where the last
block's shortcut has a norm of its own (a last stage of one block), and in the parallel branches of
RepVGG or Inception, several stand side by side, are added or joined, and are read by the classifier
on equal terms: all of them are the last. Order of execution or of declaration says nothing of this.

A LayerNorm or another norm without statistics may come after the last batch norm. It makes what the
classifier reads the same at every size, and to free a batch norm deep beneath it would be another
method; such a network has no last batch norm.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from timm.layers import RmsNorm, RmsNorm2d, SimpleNorm, SimpleNorm2d
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from train.models.classifier import ImageClassifier

__all__ = ["LastNorms", "find_last_norms"]

PER_IMAGE = (nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, _InstanceNorm)
PER_IMAGE_TIMM = (RmsNorm, RmsNorm2d, SimpleNorm, SimpleNorm2d)
Node = Any  # torch.autograd.graph.Node; compared by identity


@dataclass(frozen=True)
class LastNorms:
    """The norms that no other norm depends on.

    Args:
        names: dotted, within the backbone, of those that are batch norms, as they are declared.
        others: types of those that are not, such as LayerNorm; in alphabetical order.
        batch_norms: number of batch norms that ran at all.
    """

    names: tuple[str, ...]
    others: tuple[str, ...]
    batch_norms: int

    def why_none(self, arch: str) -> str:
        """Why no last batch norm exists, as a sentence; empty where there is one."""
        if self.names:
            return ""
        if not self.batch_norms:
            return f"{arch} has no batch norm: FixRes fine-tunes the classifier alone."
        return (
            f"{arch} has {' and '.join(self.others)} after its last batch norm: FixRes fine-tunes "
            "the classifier alone."
        )


def find_last_norms(model: ImageClassifier, size_px: int) -> LastNorms:
    """Run one blank image and look at what the logits were computed from.

    Args:
        model: its mode is restored; nothing in it changes.
        size_px: side of the image.
    """
    ran: dict[Node, str] = {}
    with _noting_norms(model, ran), torch.enable_grad():
        blank = torch.zeros(1, size_px, size_px, 3, device=model.device, requires_grad=True)
        logits = model(blank)
    last = {ran[node] for node in _not_depended_on(logits.grad_fn, ran)}
    modules = dict(model.backbone.named_modules())
    batch = {name for name in ran.values() if isinstance(modules[name], _BatchNorm)}
    others = {type(modules[name]).__name__ for name in last - batch}
    names = tuple(name for name in modules if name in last & batch)
    return LastNorms(names, tuple(sorted(others)), len(batch))


@contextmanager
def _noting_norms(model: ImageClassifier, ran: dict[Node, str]) -> Iterator[None]:
    """Note the graph's node of each norm's output; in evaluation mode meanwhile."""

    def watch(name: str, module: nn.Module) -> Any:
        def note(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
            ran[output.grad_fn] = name

        return module.register_forward_hook(note)

    modes = [(module, module.training) for module in model.modules()]
    handles = [
        watch(name, module)
        for name, module in model.backbone.named_modules()
        if isinstance(module, (_BatchNorm, *PER_IMAGE, *PER_IMAGE_TIMM))
    ]
    model.eval()
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        for module, training in modes:
            module.training = training


def _not_depended_on(root: Node, norms: Mapping[Node, str]) -> set[Node]:
    """Norms that the root depends on, and no other norm does.

    Each node is visited at most twice: with a norm between it and the root, and without.
    """
    seen: set[tuple[Node, bool]] = set()
    reached: dict[bool, set[Node]] = {False: set(), True: set()}
    left = [(root, False)]
    while left:
        node, behind_a_norm = left.pop()
        if node is None or (node, behind_a_norm) in seen:
            continue
        seen.add((node, behind_a_norm))
        if node in norms:
            reached[behind_a_norm].add(node)
        below = behind_a_norm or node in norms
        left += [(earlier, below) for earlier, _ in node.next_functions]
    return reached[False] - reached[True]
