from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import pytest

from export.parity.tolerances import LIMITS
from serve.contract.errors import RecipeError
from stillroom.run.recipe import load_recipe


def test_a_section_changes_one_limit_of_one_precision() -> None:
    parity = load_recipe("default", ["export.parity.fp16.min_snr_db=40"]).export.parity
    assert parity.fp16 == replace(LIMITS["fp16"], min_snr_db=40.0)
    assert (parity.fp32, parity.int8) == (LIMITS["fp32"], LIMITS["int8"])
    assert parity.min_images == 300


def test_every_limit_is_at_least_as_strict_for_a_finer_precision() -> None:
    fp32, fp16, int8 = (asdict(LIMITS[name]) for name in ("fp32", "fp16", "int8"))
    for name in fp32:
        if name == "min_snr_db":
            assert fp32[name] > fp16[name] > int8[name]
        elif name != "min_agreement":
            assert fp32[name] < fp16[name] < int8[name] or name.startswith("max_batch")
    assert fp16["min_agreement"] > int8["min_agreement"]


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("export.parity.min_snr_db=90", "Did you mean 'export.parity.fp32.min_snr_db'?"),
        ("export.parity.fp8.min_snr_db=90", "Unknown recipe key 'export.parity.fp8.min_snr_db'"),
        ("export.parity.fp32.min_snr=90", "Did you mean 'export.parity.fp32.min_snr_db'?"),
        ("export.parity.fp32=90", "expected a section [export.parity.fp32]"),
        (
            "export.parity.int8.min_agreement=95",
            "export.parity.int8.min_agreement = 95.0: expected a fraction, 0 to 1.",
        ),
        ("export.parity.int8.max_top1_drop=1.5", "max_top1_drop = 1.5: expected a fraction"),
        ("export.parity.fp16.max_diff_sd=-1", "expected 0 or more"),
        ("export.parity.fp16.max_diff_sd=nan", "max_diff_sd = nan: expected a finite number"),
        ("export.parity.fp16.max_flip_margin=inf", "max_flip_margin = inf: expected a finite"),
    ],
)
def test_a_wrong_limit_is_refused(override: str, expected: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe("default", [override])
    assert expected in str(caught.value)


def test_limits_are_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "strict.toml"
    path.write_text("[export.parity]\nmin_images = 500\n[export.parity.fp32]\nmin_snr_db = 90\n")
    parity = load_recipe(path).export.parity
    assert (parity.min_images, parity.fp32.min_snr_db, parity.fp32.max_diff_sd) == (500, 90, 1e-3)
