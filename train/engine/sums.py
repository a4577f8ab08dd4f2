"""Running sums of an epoch's terms, kept where they arise: nobody waits for them."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

__all__ = ["RunningSums"]


class RunningSums:
    """Sums of named scalars in double precision, on the device of what is added.

    Args:
        values: to go on from.
    """

    def __init__(self, values: Mapping[str, float] | None = None) -> None:
        self._start = dict(values or {})
        self._names: tuple[str, ...] = ()
        self._sums: Tensor | None = None

    def add(self, terms: Mapping[str, Tensor]) -> None:
        """Add one step's terms; every step has the same names."""
        if self._sums is None:
            self._names = tuple(terms)
            begin = [self._start.get(name, 0.0) for name in self._names]
            device = next(iter(terms.values())).device
            self._sums = torch.tensor(begin, dtype=torch.float64, device=device)
        self._sums += torch.stack([terms[name].detach().double() for name in self._names])

    def values(self) -> dict[str, float]:
        """The sums so far."""
        if self._sums is None:
            return dict(self._start)
        return dict(zip(self._names, self._sums.tolist(), strict=True))
