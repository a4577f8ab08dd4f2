"""What a failed call leaves in recipe.toml."""

from __future__ import annotations

import json

import pytest

from serve.contract.digest import digest_of_json
from serve.contract.errors import CheckpointError, RecipeError
from stillroom.run.recipe import load_recipe
from tests.stillroom.toy_graph import run_toy


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "run"


def saved(folder):
    return load_recipe(folder / "recipe.toml")


def test_the_override_that_failed_is_not_kept(folder, few_photos, capsys):
    with pytest.raises(CheckpointError):
        run_toy(folder, few_photos, "student.arch=bad")
    assert "nothing was built with it: student.arch=bad" in capsys.readouterr().err
    assert run_toy(folder, few_photos).problem("c") is None


def test_an_override_that_a_stage_was_built_with_is_kept(folder, few_photos):
    with pytest.raises(CheckpointError):
        run_toy(folder, few_photos, "teacher.epochs=3", "student.arch=bad", "loadtest.users=5")
    assert saved(folder).teacher.epochs == 3
    assert saved(folder).student.arch == load_recipe("default").student.arch
    run = run_toy(folder, few_photos)
    assert (run.stage("a") / "file.txt").read_text() == "epochs 3"


def test_a_run_that_was_whole_keeps_its_recipe(folder, few_photos):
    run_toy(folder, few_photos, "student.arch=good")
    before = (folder / "recipe.toml").read_bytes()
    with pytest.raises(CheckpointError):
        run_toy(folder, few_photos, "student.arch=bad", recipe="digits")
    assert saved(folder).student.arch == "test_resnet"  # its first stage was built by `digits`
    with pytest.raises(CheckpointError):
        run_toy(folder, few_photos, "student.arch=bad")
    run_toy(folder, few_photos, "student.arch=good", recipe="default")
    assert (folder / "recipe.toml").read_bytes() == before


def test_the_recipe_that_failed_first_is_not_kept(folder, few_photos, tmp_path):
    run_toy(folder, few_photos, "teacher.epochs=3")
    other = tmp_path / "other.toml"
    other.write_text('[teacher]\nepochs = 3\n[student]\narch = "bad"\n')
    before = (folder / "recipe.toml").read_bytes()
    with pytest.raises(CheckpointError):
        run_toy(folder, few_photos, recipe=str(other))
    assert (folder / "recipe.toml").read_bytes() == before


def test_the_record_names_the_recipe_that_is_saved(folder, few_photos):
    with pytest.raises(CheckpointError):
        run_toy(folder, few_photos, "student.arch=bad")
    record = json.loads((folder / "run.json").read_text())
    assert record["recipe_digest"] == digest_of_json((folder / "recipe.toml").read_text())
    assert [link["stage"] for link in record["chain"]] == ["first"]


def test_a_bad_key_in_the_saved_recipe_is_named_with_its_file(folder, few_photos):
    run_toy(folder, few_photos)
    path = folder / "recipe.toml"
    path.write_text(path.read_text().replace("batch_size = 64", "batch_size = 0", 1))
    with pytest.raises(RecipeError, match=r"recipe\.toml: teacher\.batch_size = 0: expected 1"):
        run_toy(folder, few_photos)
    with pytest.raises(RecipeError, match=r"^student\.lr = 'fast': expected a number"):
        load_recipe(path, ["teacher.batch_size=64", "student.lr=fast"])
