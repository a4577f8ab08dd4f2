"""Parity stage P5: what computes here, so that a verdict can be told from one made elsewhere."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

__all__ = ["differences", "machine_identity"]

LIBRARIES = ("numpy", "onnxruntime", "onnxruntime-gpu", "pillow", "tensorrt-cu13")
# What changes which kernels ONNX Runtime takes on x86 and on ARM.
X86_FLAGS = ("avx2", "fma", "f16c", "avx_vnni", "avx512f", "avx512bw", "avx512_vnni", "avx512_bf16")
AMX_FLAGS = ("amx_int8", "amx_bf16")
ARM_FLAGS = ("asimd", "asimddp", "asimdhp", "i8mm", "bf16", "sve")
CPU_FLAGS = frozenset((*X86_FLAGS, *AMX_FLAGS, *ARM_FLAGS))
CPU_INFO = Path("/proc/cpuinfo")


def machine_identity() -> dict[str, Any]:
    """Versions of the libraries, and name and instruction sets of the processor."""
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "versions": dict(_versions()),
        **_processor(CPU_INFO.read_text(encoding="utf-8") if CPU_INFO.exists() else ""),
    }


def differences(then: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """One sentence for each fact that both know and that is another one now."""
    return [
        f"{name}: {then[name]} then, {now[name]} now"
        for name in sorted(then.keys() & now.keys())
        if then[name] != now[name]
    ]


def _versions() -> Iterable[tuple[str, str]]:
    for name in LIBRARIES:
        try:
            yield name, metadata.version(name)
        except metadata.PackageNotFoundError:
            continue


def _processor(text: str) -> dict[str, Any]:
    """Of the first processor in /proc/cpuinfo; empty where the text says nothing."""
    first = text.split("\n\n")[0]
    lines = dict(line.split(":", 1) for line in first.splitlines() if ":" in line)
    facts = {key.strip(): value.strip() for key, value in lines.items()}
    flags = CPU_FLAGS.intersection(facts.get("flags", facts.get("Features", "")).split())
    name = facts.get("model name")
    return {**({"cpu": name} if name else {}), "cpu_flags": sorted(flags)}
