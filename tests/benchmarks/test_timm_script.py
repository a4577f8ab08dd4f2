"""The two commands ask for the same training, as far as it can be computed."""

from __future__ import annotations

import argparse
from dataclasses import replace

import pytest
import torch
from timm.data.transforms_factory import create_transform
from timm.scheduler import create_scheduler_v2

from benchmarks.timm_script import Recipe, our_overrides, read_final_model, timm_flags, top1_by_timm
from stillroom.run.recipe import load_recipe
from train.engine.plan import phase_options
from train.models.classifier import build_model

STEPS = 11


def timm_options(recipe: Recipe) -> argparse.Namespace:
    """The flags as train.py parses those that are read here."""
    parser = argparse.ArgumentParser()
    for name in ("lr", "warmup-lr", "min-lr", "weight-decay", "color-jitter", "hflip"):
        parser.add_argument(f"--{name}", type=float)
    for name in ("epochs", "warmup-epochs", "img-size", "batch-size"):
        parser.add_argument(f"--{name}", type=int)
    for name in ("scale", "ratio"):
        parser.add_argument(f"--{name}", type=float, nargs="+")
    flags = timm_flags(recipe, "start.safetensors", 0, classes=3, steps=STEPS)
    return parser.parse_known_args(flags)[0]


def our_options(recipe: Recipe):
    return load_recipe("default", our_overrides(recipe, "start.safetensors", 0)).teacher


@pytest.mark.parametrize("recipe", [Recipe(), Recipe(epochs=9), Recipe(epochs=2, warmup_epochs=0)])
def test_the_rates_of_all_steps_are_equal(recipe):
    options = timm_options(recipe)
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.AdamW([weight], lr=options.lr)
    scheduler, epochs = create_scheduler_v2(
        optimizer,
        sched="cosine",
        num_epochs=options.epochs,
        warmup_epochs=options.warmup_epochs,
        warmup_lr=options.warmup_lr,
        warmup_prefix=True,
        min_lr=options.min_lr,
        step_on_epochs=False,
        updates_per_epoch=STEPS,
    )
    assert epochs == recipe.epochs
    schedule = phase_options(our_options(recipe), 0).schedule_of(STEPS)
    cosine_steps = STEPS * (recipe.epochs - recipe.warmup_epochs)
    for step in range(STEPS * recipe.epochs):
        theirs = optimizer.param_groups[0]["lr"]
        # Ours reaches the floor with the last step, theirs would with the one after it.
        apart = 0 if step <= STEPS * recipe.warmup_epochs else 2 * recipe.lr / cosine_steps
        assert schedule.rate(step) == pytest.approx(theirs, rel=1e-6, abs=apart)
        scheduler.step_update(step + 1)


def test_sizes_and_views_are_equal():
    recipe = Recipe()
    ours, theirs = our_options(recipe), timm_options(recipe)
    assert (ours.train_size_px, ours.batch_size) == (theirs.img_size, theirs.batch_size)
    assert ours.weight_decay == theirs.weight_decay
    transform = create_transform(
        theirs.img_size,
        is_training=True,
        scale=theirs.scale,
        ratio=theirs.ratio,
        hflip=theirs.hflip,
        color_jitter=theirs.color_jitter,
        interpolation="bicubic",
    )
    crop, flip, jitter, *_ = transform.transforms
    assert tuple(crop.scale) == (ours.augment.min_scale, 1.0)
    limit = ours.augment.max_aspect
    assert tuple(crop.ratio) == pytest.approx((1 / limit, limit))
    assert flip.p == ours.augment.flip
    low_high = (1 - ours.augment.brightness, 1 + ours.augment.brightness)
    assert jitter.brightness == jitter.contrast == jitter.saturation == pytest.approx(low_high)
    assert jitter.hue is None


def test_nothing_comes_from_the_default_recipe(tmp_path):
    empty = tmp_path / "empty.toml"
    empty.write_text("")
    overrides = our_overrides(Recipe(), "start.safetensors", 0)
    assert load_recipe("default", overrides) == replace(
        load_recipe("default"), teacher=load_recipe(empty, overrides).teacher
    )


def test_both_averages_or_none():
    assert "--model-ema" not in timm_flags(Recipe(), "w", 0, classes=3, steps=STEPS)
    flags = timm_flags(Recipe(ema_decay=0.99), "w", 0, classes=3, steps=STEPS)
    assert flags[flags.index("--model-ema-decay") + 1] == "0.99"
    assert our_options(Recipe(ema_decay=0.99)).ema_decay == 0.99


def test_the_last_weights_are_read_without_running_the_pickle(tmp_path):
    recipe = Recipe(arch="test_resnet", size_px=32)
    model = build_model("test_resnet", 3, size_px=32).eval()
    state = model.backbone.state_dict()
    path = tmp_path / "last.pth.tar"
    saved = {"state_dict": state, "args": argparse.Namespace(lr=1.0), "epoch": 3}
    torch.save(saved, path)
    (read,) = read_final_model(path, recipe, 3)
    images = torch.randint(0, 255, (2, 32, 32, 3), dtype=torch.uint8)
    assert torch.equal(read(images), model(images))
    torch.save(saved | {"state_dict_ema": state}, path)
    assert len(read_final_model(path, recipe, 3)) == 2
    torch.save(saved | {"other": print}, path)
    with pytest.raises(Exception, match="Unsupported global"):
        read_final_model(path, recipe, 3)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # timm's reader
def test_top1_by_timm_counts_the_class_map_of_ours(tmp_path):
    from tests.stillroom.conftest import write_photos

    write_photos(tmp_path / "test", 4)
    class_map = tmp_path / "classes.txt"
    class_map.write_text("blue\ngreen\nred\n")
    model = build_model("test_resnet", 3, size_px=32)
    head = model.backbone.get_classifier()
    torch.nn.init.zeros_(head.weight)
    with torch.no_grad():
        head.bias.copy_(torch.tensor([0.0, 1.0, 0.0]))  # always green
    assert top1_by_timm(model, tmp_path, class_map, 32) == pytest.approx(1 / 3)
