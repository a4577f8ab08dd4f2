"""One training step, run again under watch: where the first value that is not finite appears.

Hooks on every layer see what goes in, what comes out, and the gradients of both. A step is replayed
without a trace: weights, buffers, gradients and the random state are afterwards what they were.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from train.losses.objective import Objective, StepOutput

__all__ = ["Call", "Step", "Trace", "bad_tensor", "is_finite", "modules_in", "replay", "watched"]

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Step:
    """All that a training step depends on.

    Args:
        model: with the weights of before the step, in the mode it trains in.
        objective: forward and loss.
        images: (N, H, W, 3), as the objective got them.
        labels: (N,) class numbers or (N, K) probabilities.
        seed: of `torch.manual_seed` right before the objective is called.
        precision: fp32, bf16 or fp16: of the forward.
    """

    model: nn.Module
    objective: Objective
    images: Tensor
    labels: Tensor
    seed: int
    precision: str = "fp32"


@dataclass(eq=False)
class Call:
    """One call of one layer.

    Args:
        name: dotted, of the layer; that of a teacher begins with the objective's name for it.
        module: the layer.
        parent: the call that it was made by.
        input_gradient: whether all gradients that left the layer were finite; None unknown.
        output_gradient: likewise those that reached it.
    """

    name: str
    module: nn.Module
    parent: Call | None
    input_gradient: bool | None = None
    output_gradient: bool | None = None


@dataclass
class Trace:
    """What a replay saw.

    Args:
        loss: value of the loss.
        output: of the objective.
        origin: the call in which the first value appeared that is not finite.
        value: that value.
        calls: all, in the order in which they began.
        gradients: of the parameters that learn, by name; empty where the loss is not finite.
    """

    loss: float = 0.0
    output: StepOutput | None = None
    origin: Call | None = None
    value: Tensor | None = None
    calls: list[Call] = field(default_factory=list)
    gradients: dict[str, Tensor] = field(default_factory=dict)

    @property
    def loss_is_finite(self) -> bool:
        """Whether the backward was run."""
        return math.isfinite(self.loss)

    @property
    def swallowed_nan(self) -> bool:
        """Whether a layer made NaN that did not reach the loss, as fused attention may hide it."""
        return self.value is not None and bool(torch.isnan(self.value).any())


def replay(step: Step, precision: str) -> Trace:
    """Run forward, loss and backward again.

    Args:
        step: what to run; left as it was.
        precision: of this run, which need not be that of the step.
    """
    device = next(step.model.parameters()).device
    modules = watched(step)
    trace = Trace()
    with _untouched(device, modules), _hooks(trace, modules):
        torch.manual_seed(step.seed)
        dtype = DTYPES.get(precision, torch.bfloat16)
        with torch.autocast(device.type, dtype, enabled=precision in DTYPES):
            output = step.objective(step.model, step.images.to(device), step.labels.to(device))
        trace.output, trace.loss = output, float(output.loss.detach())
        if trace.loss_is_finite and output.loss.requires_grad:
            trace.gradients = _gradients(step.model, output.loss)
    return trace


def watched(step: Step) -> dict[nn.Module, str]:
    """Every layer that a step runs, by its name: the model's, and those inside the objective."""
    names = {module: name for name, module in step.model.named_modules()}
    for label, root in modules_in(step.objective).items():
        for name, module in root.named_modules():
            names.setdefault(module, f"{label}.{name}".rstrip("."))
    return names


def modules_in(value: Any, name: str = "objective") -> dict[str, nn.Module]:
    """The modules that an objective holds, by the name of the attribute: a teacher, a loss."""
    if isinstance(value, nn.Module):
        return {name: value}
    if isinstance(value, list | tuple):
        items = {f"{name}.{i}": item for i, item in enumerate(value)}
    elif isinstance(value, dict):
        items = {f"{name}.{key}": item for key, item in value.items()}
    elif type(value).__module__.split(".")[0] in ("builtins", "torch", "numpy"):
        return {}
    else:
        items = {key.strip("_"): item for key, item in getattr(value, "__dict__", {}).items()}
    found: dict[str, nn.Module] = {}
    for key, item in items.items():
        found |= modules_in(item, key)
    return found


def is_finite(value: Any) -> bool:
    """Whether all numbers in a tensor, or in tensors within lists and dictionaries, are finite."""
    if isinstance(value, Tensor):
        return not value.is_floating_point() or bool(torch.isfinite(value).all())
    if isinstance(value, dict):
        value = list(value.values())
    return all(is_finite(item) for item in value) if isinstance(value, list | tuple) else True


def bad_tensor(module: nn.Module, called: Collection[nn.Module]) -> str | None:
    """Name of the first weight or buffer that is not finite and that a layer's own forward reads.

    Its own, and those of parts that it uses without calling them. The running statistics of a batch
    norm in training mode do not count: nothing reads them, and the failed step may have spoiled
    them.

    Args:
        module: the layer.
        called: layers that were called, which answer for themselves.
    """
    for prefix, part in module.named_modules():
        if part is not module and part in called:
            continue
        names = [*part._parameters, *part._buffers]
        if isinstance(part, _BatchNorm) and part.training:
            names = [name for name in names if not name.startswith("running_")]
        for name in names:
            tensor = getattr(part, name)
            if tensor is not None and not is_finite(tensor):
                return f"{prefix}.{name}".lstrip(".")
    return None


@contextmanager
def _hooks(trace: Trace, modules: dict[nn.Module, str]) -> Iterator[None]:
    """Note every call, and where the first value appears that is not finite."""
    stack: list[Call] = []

    def enter(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        parent = stack[-1] if stack else None
        _note(trace, inputs, parent)  # its maker is the layer that calls this one
        call = Call(modules[module], module, parent)
        trace.calls.append(call)
        stack.append(call)
        # Views: a tensor that several layers read has the sum of their gradients.
        views = tuple(item.view_as(item) if _learns(item) else item for item in inputs)
        _watch(call, "input_gradient", views)
        return views

    def leave(module: nn.Module, inputs: Any, outputs: Any) -> None:
        del module, inputs
        call = stack.pop()
        _note(trace, outputs, call)
        _watch(call, "output_gradient", outputs)

    handles = [module.register_forward_pre_hook(enter) for module in modules]
    handles += [module.register_forward_hook(leave) for module in modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _note(trace: Trace, values: Any, call: Call | None) -> None:
    if trace.origin is not None or call is None or is_finite(values):
        return
    trace.origin = call
    trace.value = next(tensor for tensor in _tensors(values) if not is_finite(tensor)).detach()


def _watch(call: Call, name: str, values: Any) -> None:
    """Note in a call whether the gradients of these tensors are finite, once they are known."""

    def flag(gradient: Tensor) -> None:
        setattr(call, name, getattr(call, name) is not False and is_finite(gradient))

    for tensor in filter(_learns, _tensors(values)):
        tensor.register_hook(flag)  # type: ignore[no-untyped-call]


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple | dict):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _tensors(item)


def _learns(value: Any) -> bool:
    return isinstance(value, Tensor) and value.requires_grad


def _gradients(model: nn.Module, loss: Tensor) -> dict[str, Tensor]:
    learning = {name: p for name, p in model.named_parameters() if p.requires_grad}
    found = torch.autograd.grad(loss, list(learning.values()), allow_unused=True)
    return {n: g for n, g in zip(learning, found, strict=True) if g is not None}


@contextmanager
def _untouched(device: torch.device, modules: dict[nn.Module, str]) -> Iterator[None]:
    """Put buffers (running statistics, class centres) and the random state back afterwards.

    Activations work on copies meanwhile: gradients of what is overwritten in place are not seen.
    """
    kept = [
        (module, name, buffer, buffer.clone())
        for module in modules
        for name, buffer in module._buffers.items()
        if buffer is not None
    ]
    in_place = [module for module in modules if getattr(module, "inplace", False) is True]
    for module in in_place:
        vars(module)["inplace"] = False
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        try:
            yield
        finally:
            for module in in_place:
                vars(module)["inplace"] = True
            with torch.no_grad():
                for module, name, buffer, values in kept:
                    module._buffers[name] = buffer.copy_(values)
