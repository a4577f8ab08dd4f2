from __future__ import annotations

import dataclasses
import operator
import tomllib
import typing
from collections.abc import Iterator

import pytest

from serve.contract.errors import RecipeError
from stillroom.run.recipe import Recipe, load_recipe, recipe_text, shipped_recipes


def test_every_shipped_recipe_loads():
    recipes = shipped_recipes()
    assert set(recipes) >= {"default", "digits", "flowers-cpu"}
    for name in recipes:
        assert isinstance(load_recipe(name), Recipe)


def test_every_shipped_recipe_says_its_command():
    for name, path in shipped_recipes().items():
        head = path.read_text().split("\n\n[")[0]
        assert head.startswith("#"), name
        assert "uv run" in head, name


def test_a_resolved_recipe_reads_back_equal(tmp_path):
    recipe = load_recipe("digits", ["teacher.lr=0.5", "name=two words"])
    path = tmp_path / "recipe.toml"
    path.write_text(recipe_text(recipe))
    assert load_recipe(path) == recipe
    assert set(tomllib.loads(recipe_text(recipe))) >= {"data", "teacher", "export"}


def test_an_override_wins_and_a_whole_number_is_a_number():
    recipe = load_recipe("default", ["teacher.epochs=3", "teacher.lr=1", "student.augment.flip=0"])
    assert recipe.teacher.epochs == 3
    assert recipe.teacher.lr == 1.0
    assert isinstance(recipe.teacher.lr, float)
    assert recipe.student.augment.flip == 0.0


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("teacher.epoch=3", "Did you mean 'teacher.epochs'?"),
        ("epochs=3", "Did you mean"),
        ("teecher.lr=1", "Did you mean"),
        ("teacher.epochs=many", "teacher.epochs = 'many': expected a whole number."),
        ("teacher.epochs=true", "expected a whole number"),
        ("teacher.lr=-1", "expected 0 or more"),
        ("teacher.head_lr=0", "teacher.head_lr = 0.0: expected more than 0"),
        ("data.val_fraction=2", "data.val_fraction = 2.0: expected 0 to 1"),
        ("export.golden_images=0", "export.golden_images = 0: expected 1 or more"),
        ("export.opset=0", "export.opset = 0: expected 1 or more"),
        ("serve.threads=0", "serve.threads = 0: expected 1 or more"),
        ("serve.concurrency=0", "serve.concurrency = 0: expected 1 or more"),
        ("loadtest.users=0", "loadtest.users = 0: expected 1 or more"),
        ("loadtest.rate_share=0", "loadtest.rate_share = 0.0: expected more than 0"),
        ("teacher.precision=fp8", "expected one of auto, fp32, bf16"),
        ("teacher=5", "expected a section [teacher]"),
        ("teacher.lr.x=5", "is a value, not a section"),
        ("teacher.batch_size=0", "teacher.batch_size = 0: expected 1 or more"),
        ("student.augment.max_aspect=0", "student.augment.max_aspect = 0.0: expected 1 or more"),
        ("distil.kd_weight=1.5", "distil.kd_weight = 1.5: expected 0 to 1"),
        ("distil.temperature=0", "expected more than 0"),
        ("fixres.crop_pct=0", "fixres.crop_pct = 0.0: expected more than 0"),
        ("--fast", "is not an override"),
        ("qqqqqqq=1", "Sections: name, seed, data"),
    ],
)
def test_a_wrong_override_is_refused_with_the_next_step(override, expected):
    with pytest.raises(RecipeError) as caught:
        load_recipe("digits", [override])
    assert expected in str(caught.value)


def test_a_missing_recipe_names_the_shipped_ones():
    with pytest.raises(RecipeError, match="digits"):
        load_recipe("no-such-recipe")


def test_a_file_that_is_no_toml_is_refused(tmp_path):
    path = tmp_path / "broken.toml"
    path.write_text("[teacher\n")
    with pytest.raises(RecipeError, match="not readable TOML"):
        load_recipe(path)


def test_a_list_of_texts_is_read_and_written():
    recipe = load_recipe("default", ['distil.more_teachers=["a/teacher", "b"]'])
    assert recipe.distil.more_teachers == ("a/teacher", "b")
    assert "more_teachers = [" in recipe_text(recipe)


@pytest.mark.parametrize("value", ["[1]", "{}", "3", "true"])
def test_what_is_no_list_of_texts_is_refused(value):
    with pytest.raises(RecipeError, match=r"distil\.more_teachers = .*: expected a list of texts"):
        load_recipe("default", [f"distil.more_teachers={value}"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("int8,fp16", ("int8", "fp16")),
        ("int8, fp16", ("int8", "fp16")),
        ("fp16", ("fp16",)),
        ("int8-tensorrt,", ("int8-tensorrt",)),
        ("[int8,fp16]", ("int8", "fp16")),
        ('["int8","fp16"]', ("int8", "fp16")),
        ("['fp16']", ("fp16",)),
        ("", ()),
        ("[]", ()),
    ],
)
def test_a_list_is_typed_with_commas(text: str, expected: tuple[str, ...]) -> None:
    recipe = load_recipe("default", [f"export.precisions={text}"])
    assert recipe.export.precisions == expected
    assert type(recipe.export.source) is str
    paths = load_recipe("default", ["distil.more_teachers=runs/a/teacher,runs/b/teacher"])
    assert paths.distil.more_teachers == ("runs/a/teacher", "runs/b/teacher")


def test_every_list_key_is_typed_with_commas() -> None:
    def lists(cls: type, prefix: str = "") -> Iterator[str]:
        hints = typing.get_type_hints(cls)
        for entry in dataclasses.fields(cls):
            if dataclasses.is_dataclass(hints[entry.name]):
                yield from lists(hints[entry.name], f"{prefix}{entry.name}.")
            elif typing.get_origin(hints[entry.name]) is tuple:
                yield f"{prefix}{entry.name}"

    keys = list(lists(Recipe))
    assert {"export.precisions", "distil.more_teachers"} <= {*keys}
    for key in keys:
        recipe = load_recipe("default", [f"{key}=int8,fp16"])
        assert operator.attrgetter(key)(recipe) == ("int8", "fp16")


def test_no_calibration_images_are_refused() -> None:
    with pytest.raises(RecipeError, match=r"export\.calibration_images = 0: expected 1 or more"):
        load_recipe("default", ["export.calibration_images=0"])
