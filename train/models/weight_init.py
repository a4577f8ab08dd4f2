"""How weights start that no pretrained file fills."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

__all__ = ["initialise"]

INITIALISERS: dict[str, Callable[[Tensor], Tensor]] = {
    "kaiming": lambda weight: nn.init.kaiming_normal_(weight, mode="fan_out", nonlinearity="relu"),
    "xavier": nn.init.xavier_uniform_,
    "orthogonal": nn.init.orthogonal_,
}


def initialise(model: nn.Module, kind: str) -> None:
    """Draw the weights of convolutions and linear layers anew; biases become 0.

    A grouped convolution is drawn as so many small ones: its fans are those of one group, where
    torch would count the outputs of all.

    Args:
        model: changed in place; norms and everything else stay as timm made them.
        kind: timm (nothing is changed), kaiming (arXiv:1502.01852), xavier (Glorot and Bengio
            2010) or orthogonal (arXiv:1312.6120).

    Raises:
        ValueError: an unknown kind.
    """
    if kind == "timm":
        return
    if kind not in INITIALISERS:
        raise ValueError(f"init = {kind!r}: expected timm, {', '.join(INITIALISERS)}.")
    for module in model.modules():
        if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Linear)):
            with torch.no_grad():
                for part in module.weight.chunk(getattr(module, "groups", 1)):
                    INITIALISERS[kind](part)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
