from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.contract.errors import RecipeError, UsageError
from stillroom.run.recipe import Recipe, load_recipe, recipe_text
from stillroom.sweep.lists import names, numbers, sizes_px
from stillroom.sweep.search.points import check_space, grid_points, own_point, recipe_at
from stillroom.sweep.search.space import Choices, Range, read_space
from tests.train.toy import PATIENT


@pytest.fixture
def base(tmp_path) -> Path:
    path = tmp_path / "base.toml"
    path.write_text(recipe_text(Recipe()))
    return path


def test_inline_entries_are_ranges_choices_and_fixed_values():
    space = read_space(
        None,
        [
            "teacher.lr=1e-4..1e-2:log",
            "teacher.epochs=2..6",
            "teacher.augment.mixup=0,0.2",
            "teacher.arch=resnet18,resnet34",
            'teacher.loss.kind=["focal", "cross_entropy"]',
            "teacher.batch_size=16",
        ],
    )
    assert space.dimensions == {
        "teacher.lr": Range(1e-4, 1e-2, True),
        "teacher.epochs": Range(2, 6),
        "teacher.augment.mixup": Choices((0, 0.2)),
        "teacher.arch": Choices(("resnet18", "resnet34")),
        "teacher.loss.kind": Choices(("focal", "cross_entropy")),
    }
    assert space.overrides == ("teacher.batch_size=16",)


def test_a_file_says_the_same_and_inline_wins(tmp_path):
    path = tmp_path / "space.toml"
    path.write_text(
        "seed = 3\n[teacher]\nlr = {low = 1e-4, high = 1e-2, log = true}\nepochs = 4\n"
        'arch = "resnet18"\n[teacher.augment]\nmixup = [0, 0.2]\n[study]\npruner = "none"\n'
    )
    space = read_space(path, ["teacher.augment.mixup=0.1,0.4", "teacher.epochs=5"])
    assert space.dimensions == {
        "teacher.lr": Range(1e-4, 1e-2, True),
        "teacher.augment.mixup": Choices((0.1, 0.4)),
    }
    assert set(space.overrides) == {"seed=3", "teacher.epochs=5", 'teacher.arch="resnet18"'}
    assert (space.study.pruner, space.study.keep) == ("none", "best")
    recipe = load_recipe("default", space.overrides)
    assert (recipe.seed, recipe.teacher.epochs, recipe.teacher.arch) == (3, 5, "resnet18")


def test_a_path_is_no_range():
    assert read_space(None, ["teacher.weights=../weights/a.pth"]).overrides


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("teacher.lr", "neither an override nor a dimension"),
        ("teacher.lr=", "neither an override nor a dimension"),
        ("teacher.lr=1e-2..1e-4", "not a range of numbers"),
        ("teacher.lr=0..1e-2:log", "cannot begin at 0"),
        ("teacher.lr=1e-4..1e-2:cubic", "'cubic' is not a scale"),
        ("teacher.lr=1e-4..much", "not a range of numbers"),
        ("teacher.lr=1e-4,1e-4", "twice"),
        ("study.pruner=sometimes", "expected one of median, hyperband, none"),
        ("study.prune=none", "Unknown key 'study.prune'. There are study.pruner, study.keep."),
    ],
)
def test_what_is_no_space_is_refused(entry, message):
    with pytest.raises(RecipeError, match=message.replace(".", r"\.")):
        read_space(None, [entry])


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        (["teacher.epochs=2"], "nothing to search"),
        (["teacher.mixup=0,0.2"], "Did you mean 'teacher.augment.mixup'"),
        (["teacher.lrr=1e-4..1e-2"], "Did you mean 'teacher.lr'"),
        (["student.lr=1e-4,1e-2"], "student.lr cannot be searched"),
        (["data.val_fraction=0.1,0.2"], "data.val_fraction cannot be searched"),
        (["teacher.epochs=1.5..4"], "expected a whole number"),
        (["teacher.drop_rate=0..1"], "expected 0 to less than 1"),
        (["teacher.optimizer=adamw,adam"], "expected one of adamw, sgd"),
        (["teacher.arch=1..2"], "expected text"),
    ],
)
def test_a_space_that_does_not_fit_the_recipe_is_refused(base, entries, message):
    with pytest.raises(RecipeError, match=message):
        check_space(read_space(None, entries), base)


def test_a_missing_file_and_one_that_is_no_toml(tmp_path):
    with pytest.raises(RecipeError, match="No space file"):
        read_space(tmp_path / "no.toml", [])
    (tmp_path / "bad.toml").write_text("lr = = 2")
    with pytest.raises(RecipeError, match="not readable TOML"):
        read_space(tmp_path / "bad.toml", [])
    (tmp_path / "half.toml").write_text("[teacher]\nlr = {low = 1, hihg = 2}")
    with pytest.raises(RecipeError, match="expected a range"):
        read_space(tmp_path / "half.toml", [])


@PATIENT
@given(st.lists(st.integers(2, 4), min_size=1, max_size=3))
def test_a_grid_has_every_combination_once(sizes):
    keys = ("teacher.lr", "teacher.drop_rate", "teacher.l1")[: len(sizes)]
    entries = [
        f"{key}={','.join(f'0.{i + 1}' for i in range(size))}"
        for key, size in zip(keys, sizes, strict=True)
    ]
    points = grid_points(read_space(None, entries))
    product = 1
    for size in sizes:
        product *= size
    assert len(points) == len({tuple(point.items()) for point in points}) == product


def test_a_grid_has_no_ranges():
    with pytest.raises(RecipeError, match="a grid needs choices"):
        grid_points(read_space(None, ["teacher.lr=1e-4..1e-2"]))


def test_points_become_recipes(base):
    recipe = recipe_at(base, {"teacher.arch": "resnet34", "teacher.augment.mixup": 0})
    assert (recipe.teacher.arch, recipe.teacher.augment.mixup) == ("resnet34", 0.0)


def test_the_recipes_own_point_counts_where_it_lies_in_the_space():
    own = Recipe()
    inside = read_space(None, ["teacher.lr=1e-4..1e-2:log", "teacher.l1=0,1e-5"])
    assert own_point(inside, own) == {"teacher.lr": 1e-3, "teacher.l1": 0}
    assert own_point(read_space(None, ["teacher.lr=2e-3..1e-2"]), own) is None
    assert own_point(read_space(None, ["teacher.l1=1e-5,1e-4"]), own) is None


def test_lists():
    assert sizes_px("128, 96", "--sizes") == (96, 128)
    assert names("a,b:none", "--archs") == ("a", "b:none")
    for text in ("", "96,96", "96,x", "8", "9999"):
        with pytest.raises(UsageError, match="--sizes"):
            sizes_px(text, "--sizes")
    assert numbers("2.5,10", "--percents", float, 0.1, 100.0) == (2.5, 10.0)
