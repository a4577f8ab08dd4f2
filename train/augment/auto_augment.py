"""Torchvision's augmentation policies, drawn from a NumPy generator like all else of a view."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import torch
from PIL import Image
from torchvision.transforms import InterpolationMode, v2

from train.augment.degrade import GREY
from train.options import AugmentOptions

__all__ = ["apply_policy"]

Policy = Callable[[Image.Image], Image.Image]


def apply_policy(
    view: Image.Image, options: AugmentOptions, rng: np.random.Generator
) -> Image.Image:
    """Apply RandAugment or TrivialAugment; what moves out of the view leaves grey.

    Torchvision draws from torch's global generator. It is seeded from `rng` for the call and then
    put back: a view stays a pure function of `rng`, and training draws as if none had been made.

    Args:
        view: RGB.
        options: `policy`, and for RandAugment `policy_ops` and `policy_magnitude`.
        rng: all randomness.

    Source: Cubuk et al. 2019, arXiv:1909.13719; Müller and Hutter 2021, arXiv:2103.10158.
    """
    policy = _build(options.policy, options.policy_ops, options.policy_magnitude)
    with torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed, which would seed the GPUs too.
        torch.default_generator.manual_seed(int(rng.integers(2**63)))
        return policy(view)


@cache
def _build(name: str, ops: int, magnitude: int) -> Policy:
    filling = {"interpolation": InterpolationMode.BILINEAR, "fill": [GREY] * 3}
    policy: Policy = {
        "none": v2.Identity,
        "randaugment": lambda: v2.RandAugment(ops, magnitude, **filling),
        "trivialaugment": lambda: v2.TrivialAugmentWide(**filling),
    }[name]()
    return policy
