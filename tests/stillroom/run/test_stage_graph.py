"""The stage graph on toy stages that write one file each."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from serve.contract.errors import GateError, RunError, UsageError
from stillroom.run.folder import RunFolder
from stillroom.run.pipeline import PIPELINE
from stillroom.run.recipe import Recipe, load_recipe
from stillroom.run.stage_graph import Built, Context, Graph, Stage


class Toy:
    """Two stages, `first` -> `second`, that count how often they are built."""

    def __init__(self, tmp_path: Path) -> None:
        self.run = RunFolder(tmp_path / "run")
        self.photos = tmp_path
        self.builds: list[str] = []
        self.fail = False
        self.graph = Graph(
            (
                Stage("first", "a", (), lambda r: r.name, self._build("first"), resumable=True),
                Stage("second", "b", ("first",), lambda r: r.seed, self._build("second")),
            ),
            {"last": "second"},
        )

    def _build(self, name):
        def build(context: Context) -> Built:
            self.builds.append(name)
            (context.out / "file.txt").write_text(f"{name} {context.recipe.name}")
            if self.fail:
                raise GateError("it is not good enough.", "Try again.")
            return Built({"answer": 42}, {"extra": "field"})

        return build

    def go(self, recipe: Recipe, inputs: str = "photos") -> list[str]:
        self.builds.clear()
        for stage in self.graph:
            key = self.graph.key(stage, recipe, self.run, inputs)
            if self.run.problem(stage.folder, key):
                context = Context(self.photos, self.run, recipe, "toy")
                self.graph.build(stage, context, key)
        return list(self.builds)


@pytest.fixture
def toy(tmp_path):
    return Toy(tmp_path)


@pytest.fixture
def recipe():
    return load_recipe("digits")


def test_what_is_done_is_skipped(toy, recipe):
    assert toy.go(recipe) == ["first", "second"]
    assert toy.go(recipe) == []


def test_other_photographs_make_everything_stale(toy, recipe):
    toy.go(recipe)
    assert toy.go(recipe, inputs="other photos") == ["first", "second"]


def test_an_option_rebuilds_its_stage_and_what_depends_on_it(toy):
    toy.go(load_recipe("digits", ["name=one"]))
    assert toy.go(load_recipe("digits", ["name=two"])) == ["first", "second"]
    assert toy.go(load_recipe("digits", ["name=two", "loadtest.users=3"])) == []


def test_one_changed_byte_rebuilds_the_stage(toy, recipe):
    toy.go(recipe)
    path = toy.run.stage("b") / "file.txt"
    path.write_text(path.read_text().replace("second", "sEcond"))
    assert "file.txt has sha256" in (toy.run.problem("b") or "")
    assert toy.go(recipe) == ["second"]


def test_an_equal_rebuild_leaves_its_children_valid(toy, recipe):
    toy.go(recipe)
    (toy.run.stage("a") / "file.txt").unlink()
    assert toy.go(recipe) == ["first"]


def test_a_gate_publishes_nothing_and_keeps_the_evidence(toy, recipe):
    toy.fail = True
    with pytest.raises(GateError, match=r"Evidence: .*failed-a"):
        toy.go(recipe)
    assert not toy.run.stage("a").exists()
    assert (toy.run.path / "failed-a" / "file.txt").exists()
    assert not (toy.run.path / "failed-a" / "manifest.json").exists()


def test_a_failed_rebuild_leaves_what_was_published(toy, recipe):
    toy.go(recipe)
    toy.fail = True
    with pytest.raises(GateError):
        toy.go(recipe, inputs="other photos")
    assert toy.run.problem("a") is None


def test_the_manifest_names_kind_parents_lineage_and_metrics(toy, recipe):
    toy.go(recipe)
    first, second = toy.run.manifest("a"), toy.run.manifest("b")
    assert second["parents"] == {"first": first["digest"]}
    assert second["lineage"] == [{"stage": "first", "digest": first["digest"]}]
    assert second["kind"] == "b"
    assert second["metrics"] == {"answer": 42}
    assert second["extra"] == "field"
    assert second["versions"]["python"]
    assert (toy.run.stage("b") / "runtime.json").exists()


def test_weights_of_a_file_are_keyed_by_their_bytes(tmp_path):
    path = tmp_path / "weights.safetensors"
    recipe = load_recipe("digits", [f"teacher.weights={path}"])
    options = PIPELINE["teacher"].options
    assert options(recipe)["weights"] == str(path)  # missing: the stage says so
    path.write_bytes(b"one")
    one = options(recipe)["weights"]
    path.write_bytes(b"two")
    two = options(recipe)["weights"]
    assert one != two
    moved = path.rename(tmp_path / "moved.safetensors")
    assert options(load_recipe("digits", [f"teacher.weights={moved}"]))["weights"] == two
    assert options(load_recipe("digits", ["teacher.weights=package"]))["weights"] == "package"


def test_work_of_another_key_is_thrown_away(toy):
    work = toy.run.open_work("a", "key one", resumable=True)
    (work / "half").write_text("made")
    assert (toy.run.open_work("a", "key one", resumable=True) / "half").exists()
    assert not (toy.run.open_work("a", "key two", resumable=True) / "half").exists()


def test_work_that_cannot_resume_starts_empty(toy):
    work = toy.run.open_work("a", "key", resumable=False)
    (work / "half").write_text("made")
    assert not (toy.run.open_work("a", "key", resumable=False) / "half").exists()


def test_hidden_work_is_not_published(toy, recipe):
    key = toy.graph.key(toy.graph["first"], recipe, toy.run, "photos")
    work = toy.run.open_work("a", key, resumable=True)
    (work / ".state").mkdir()
    (work / ".state" / "big").write_text("state")
    toy.go(recipe)
    assert toy.run.manifest("a")["files"].keys() == {"file.txt"}
    assert not (toy.run.stage("a") / ".state").exists()


def test_a_finished_build_that_was_not_yet_renamed_counts_for_nothing(toy, recipe):
    toy.run.open_work("a", "key", resumable=True)
    assert toy.run.problem("a") == "not built yet"


def test_only_one_process_works_on_a_run(toy):
    with (
        toy.run.locked(),
        pytest.raises(RunError, match="Another stillroom"),
        RunFolder(toy.run.path).locked(),
    ):
        pass


def test_what_a_recipe_asks_for_is_built_before_the_stage_that_shows_it(recipe):
    def stage(name, parents=(), **extra):
        return Stage(name, name, parents, lambda recipe: {}, lambda context: Built(), **extra)

    graph = Graph(
        (
            stage("base"),
            stage("asked", ("base",), asked=lambda recipe: recipe.seed == 0),
            stage("not asked", ("base",)),
            stage("page", shows=("asked", "not asked")),
        ),
        {},
    )
    assert [found.name for found in graph.up_to("page", recipe)] == ["base", "asked", "page"]
    assert [found.name for found in graph.up_to("base", recipe)] == ["base"]
    other = replace(recipe, seed=1)
    assert [found.name for found in graph.up_to("page", other)] == ["page"]


def test_stages_are_found_by_name_and_alias(toy, recipe):
    assert toy.graph["last"].name == "second"
    assert [stage.name for stage in toy.graph.up_to("last", recipe)] == ["first", "second"]
    assert toy.graph.from_on("first") == {"first", "second"}
    with pytest.raises(UsageError, match="Stages: first, second"):
        toy.graph["third"]


def test_a_stage_without_its_parent_says_what_to_run(toy, recipe):
    with pytest.raises(RunError, match="needs first, which is not built"):
        toy.graph.key(toy.graph["second"], recipe, toy.run, "photos")
