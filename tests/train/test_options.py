from __future__ import annotations

import re
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import pytest

import train
from train.options import (
    NEWER,
    AugmentOptions,
    DataOptions,
    LossOptions,
    TrainOptions,
    as_json,
)

SOURCES = "\n".join(
    path.read_text(encoding="utf-8")
    for path in sorted(Path(train.__file__).parent.rglob("*.py"))
    if path.name != "options.py"
)


@pytest.mark.parametrize("section", [AugmentOptions, DataOptions, LossOptions, TrainOptions])
def test_no_option_is_without_effect(section: type[Any]) -> None:
    """At least, each is read somewhere."""
    unread = [f.name for f in fields(section) if not re.search(rf"\.{f.name}\b", SOURCES)]
    by_name = {"brightness", "contrast", "saturation"}  # getattr(options, name)
    elsewhere = {"test_size_px", "cache_mib"}  # by a property of the options; by stillroom
    assert set(unread) <= by_name | elsewhere


@pytest.mark.parametrize(
    ("section", "values", "message"),
    [
        (AugmentOptions, {"min_scale": 0.0}, "min_scale = 0.0: expected more than 0, at most 1"),
        (AugmentOptions, {"max_aspect": 0.5}, "max_aspect = 0.5: expected 1 or more"),
        (AugmentOptions, {"blur": 1.5}, "blur = 1.5: expected 0 to 1"),
        (AugmentOptions, {"multi_scale": 0.7}, "multi_scale = 0.7: expected 0 to 0.5"),
        (AugmentOptions, {"jpeg_quality": 0}, "jpeg_quality = 0: expected 1 to 95"),
        (AugmentOptions, {"mixup": -1.0}, "mixup = -1.0: expected 0 or more"),
        (LossOptions, {"focal_gamma": -1.0}, "focal_gamma = -1.0: expected 0 or more"),
        (LossOptions, {"centre_rate": 2.0}, "centre_rate = 2.0: expected 0 to 1"),
        (TrainOptions, {"epochs": 0}, "epochs = 0: expected 1 or more"),
        (TrainOptions, {"restarts": -1}, "restarts = -1: expected 0 or more"),
        (TrainOptions, {"bilinear_dim": 3}, "bilinear_dim = 3: expected 16 or more"),
        (TrainOptions, {"layer_decay": 0.0}, "layer_decay = 0.0: expected more than 0, at most 1"),
        (TrainOptions, {"drop_path_rate": 1.0}, "drop_path_rate = 1.0: expected 0 to less than 1"),
        (TrainOptions, {"balance_limit": 0.5}, "balance_limit = 0.5: expected 1 or more, or 0"),
        (TrainOptions, {"epochs": 2, "swa_epochs": 3}, "swa_epochs = 3: expected at most epochs"),
        (TrainOptions, {"lr": float("nan")}, "lr = nan"),
        (TrainOptions, {"l1": float("nan")}, "l1 = nan: expected 0 or more"),
    ],
)
def test_values_out_of_range_are_named(
    section: type[Any], values: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        section(**values)


def test_a_key_that_joined_later_makes_nobodys_run_stale() -> None:
    @dataclass(frozen=True)
    class Old:
        rate: float = 0.1

    @dataclass(frozen=True)
    class New:
        rate: float = 0.1
        joined: int = field(default=3, metadata=NEWER)
        names: dict[str, str] = field(default_factory=dict, metadata=NEWER)

    @dataclass(frozen=True)
    class Outer:
        inner: New

    assert as_json(New()) == as_json(Old()) == {"rate": 0.1}
    assert as_json(New(joined=4, names={"a": "b"})) == {
        "rate": 0.1,
        "joined": 4,
        "names": {"a": "b"},
    }
    assert as_json(Outer(New(joined=4))) == {"inner": {"rate": 0.1, "joined": 4}}
    before = {"cache_mib", "near_duplicates", "test_fraction", "unreadable", "val_fraction"}
    assert set(as_json(DataOptions())) == before  # of the key of an audit, before keys joined
