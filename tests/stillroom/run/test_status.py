"""What `status` and `verify` see: files, parents, the saved recipe, the images."""

from __future__ import annotations

import json
import shutil

import pytest
from PIL import Image

from serve.contract.errors import RecipeError
from serve.contract.manifest import read_manifest, write_manifest
from stillroom.run.status import read_run_state
from tests.stillroom.toy_graph import TOY, run_toy


@pytest.fixture
def run(tmp_path, few_photos):
    return run_toy(tmp_path / "run", few_photos)


def problems(run) -> list[str | None]:
    return [state.problem for state in read_run_state(TOY, run).stages]


def edit_recipe(run, old: str, new: str) -> None:
    text = run.recipe_path.read_text()
    assert old in text
    run.recipe_path.write_text(text.replace(old, new, 1))


def test_a_finished_run_has_no_problem(run):
    state = read_run_state(TOY, run)
    assert problems(run) == [None, None, None]
    assert (state.photos_changed, state.photos_here) == ("", True)


def test_a_changed_photograph_is_seen(run, few_photos):
    Image.new("RGB", (9, 9)).save(few_photos / "red" / "new.jpg")
    assert problems(run) == [
        "its inputs or options changed",
        "stale: first must be built again",
        "stale: second must be built again",
    ]
    assert "not those of the run any more" in read_run_state(TOY, run).photos_changed


def test_photographs_that_cannot_be_read_any_more_are_seen(run, few_photos):
    shutil.rmtree(few_photos / "red")
    (few_photos / "red").mkdir()
    assert "holds no images" in read_run_state(TOY, run).photos_changed
    assert problems(run)[0] == "its inputs or options changed"


def test_without_the_photographs_the_rest_is_still_compared(run, few_photos):
    few_photos.rename(few_photos.parent / "moved")
    assert read_run_state(TOY, run).photos_here is False
    assert problems(run) == [None, None, None]
    edit_recipe(run, "epochs = 20", "epochs = 21")
    assert problems(run)[0] == "its inputs or options changed"


def test_an_option_edited_by_hand_is_seen_from_its_stage_on(run):
    edit_recipe(run, 'arch = "mobilenetv3_small_100"', 'arch = "other"')
    assert problems(run) == [
        None,
        "its inputs or options changed",
        "stale: second must be built again",
    ]


def test_a_recipe_broken_by_hand_is_named(run):
    edit_recipe(run, "epochs = 20", 'epochs = "many"')
    with pytest.raises(RecipeError, match=r"recipe\.toml: teacher\.epochs = 'many'"):
        read_run_state(TOY, run)


def test_a_rebuilt_parent_makes_its_children_stale(run):
    manifest = read_manifest(run.stage("a"))
    kept = {k: v for k, v in manifest.items() if k not in ("digest", "files", "schema_version")}
    (run.stage("a") / "file.txt").write_text("others")
    write_manifest(run.stage("a"), kept)
    assert problems(run) == [
        None,
        "stale: first changed since",
        "stale: second must be built again",
    ]


def test_a_damaged_stage_condemns_all_after_it(run):
    (run.stage("a") / "file.txt").write_text("others")
    first, *others = problems(run)
    assert first is not None
    assert first.startswith("damaged: file.txt has sha256")
    assert others == ["stale: first must be built again", "stale: second must be built again"]


@pytest.fixture
def audited(stillroom, few_photos, tmp_path):
    assert stillroom("audit", few_photos, "--run", tmp_path / "run").code == 0
    return tmp_path / "run"


def test_verify_says_that_the_recipe_was_edited(stillroom, audited):
    assert stillroom("verify", audited).code == 0
    with (audited / "recipe.toml").open("a") as file:
        file.write("# a remark\n")
    outcome = stillroom("verify", audited)
    assert outcome.code == 1
    assert "recipe.toml is not the one that run.json names" in outcome.err
    (audited / "recipe.toml").unlink()
    assert "recipe.toml is gone" in stillroom("verify", audited).err


def test_verify_says_that_a_manifest_was_replaced(stillroom, audited):
    manifest = read_manifest(audited / "data")
    kept = {k: v for k, v in manifest.items() if k not in ("digest", "files", "schema_version")}
    write_manifest(audited / "data", kept | {"metrics": {"photos": 10**6}})
    assert "done" in stillroom("status", audited).out
    outcome = stillroom("verify", audited)
    assert outcome.code == 1
    assert "audit: its manifest is not the one that run.json names" in outcome.err


def test_status_and_verify_see_changed_photographs(stillroom, audited, few_photos):
    (few_photos / "red" / "000.jpg").unlink()
    status = stillroom("status", audited)
    assert status.code == 0
    assert "not those of the run any more" in " ".join(status.out.split())
    verify = stillroom("verify", audited)
    assert verify.code == 1
    assert "not those of the run any more" in verify.err


def test_status_and_verify_without_the_photographs_say_so(stillroom, audited, few_photos):
    shutil.rmtree(few_photos)
    for command in ("status", "verify"):
        outcome = stillroom(command, audited)
        assert outcome.code == 0, outcome
        assert f"{few_photos} is not here" in outcome.out.replace("\n", "")


@pytest.mark.parametrize(
    "change",
    [
        lambda record: [],
        lambda record: {"schema_version": "1.0"},
        lambda record: record | {"photos": 3},
        lambda record: record | {"chain": [{}]},
        lambda record: record | {"chain": None},
    ],
)
def test_a_record_of_another_shape_is_damaged(stillroom, audited, few_photos, change):
    path = audited / "run.json"
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    for command in (
        ("status", audited),
        ("verify", audited),
        ("compress", audited),
        ("run", few_photos, "--run", audited),
    ):
        outcome = stillroom(*command)
        assert outcome.code == 2
        assert "run.json is damaged" in outcome.err
