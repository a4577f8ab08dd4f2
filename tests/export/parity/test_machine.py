from __future__ import annotations

import json

from export.parity.machine import _processor, differences, machine_identity

X86 = """processor\t: 0
model name\t: AMD EPYC 9B45
flags\t\t: fpu avx2 avx512f avx512_vnni sse

processor\t: 1
model name\t: another
flags\t\t: amx_int8
"""
ARM = "processor\t: 0\nBogoMIPS\t: 2000.00\nFeatures\t: fp asimd asimddp i8mm\n"


def test_the_first_processor_is_told_by_its_name_and_instruction_sets() -> None:
    facts = {"cpu": "AMD EPYC 9B45", "cpu_flags": ["avx2", "avx512_vnni", "avx512f"]}
    assert _processor(X86) == facts
    assert _processor(ARM) == {"cpu_flags": ["asimd", "asimddp", "i8mm"]}
    assert _processor("") == {"cpu_flags": []}


def test_the_identity_is_json_and_holds_versions() -> None:
    identity = json.loads(json.dumps(machine_identity()))
    assert {"numpy", "pillow"} <= identity["versions"].keys()
    assert identity["python"].count(".") == 2


def test_only_what_both_know_can_differ() -> None:
    then = {"provider": "A", "library": "1", "gone": 3}
    now = {"provider": "B", "library": "1", "new": 4}
    assert differences(then, now) == ["provider: A then, B now"]
    assert differences({}, now) == []
