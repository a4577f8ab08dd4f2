"""What is suggested: seeded, unbroken by a kill, the whole grid."""

from __future__ import annotations

import pytest

from stillroom.run.recipe import Recipe, load_recipe
from stillroom.sweep.search.space import read_space
from stillroom.sweep.search.study import Study

SPACE = read_space(
    None, ["teacher.lr=1e-4..1e-2:log", "teacher.drop_rate=0,0.2", "teacher.epochs=2..9"]
)
GRID = read_space(None, ["teacher.lr=1e-4,1e-3,1e-2", "teacher.drop_rate=0,0.2"])


def goodness(values) -> float:
    return 1 - abs(values["teacher.lr"] - 3e-3) * 100 - values["teacher.drop_rate"]


def opened(folder, sampler="tpe", *, recipe=None, space=SPACE):
    return Study(folder, space, recipe or Recipe(), sampler, 4)


def suggestions(study, count, *, kill_at=()):
    for _ in range(count):
        trial = study.ask()
        if trial.number in kill_at:
            return
        study.tell(trial.number, goodness(trial.params))


def values_of(study):
    return [(dict(trial.params), trial.value) for trial in study.trials]


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_equal_seeds_suggest_the_same(tmp_path, sampler):
    found = []
    for name, seed, count in (("a", 0, 10), ("b", 0, 10), ("c", 1, 2)):
        (tmp_path / name).mkdir()
        study = opened(tmp_path / name, sampler, recipe=load_recipe("default", [f"seed={seed}"]))
        suggestions(study, count)
        found.append(values_of(study))
        study.close()
    assert found[0] == found[1]
    assert found[0][:2] != found[2]
    assert len({str(values) for values, _ in found[0]}) == 10


def test_tpe_searches_where_it_was_good(tmp_path):
    study = opened(tmp_path)
    suggestions(study, 20)
    values = [values["teacher.lr"] for values, _ in values_of(study)]
    away = [abs(value - 3e-3) for value in values]
    assert sum(away[12:]) < 0.7 * sum(away[:8])
    study.close()


@pytest.mark.parametrize("sampler", ["tpe", "random", "grid"])
def test_a_kill_changes_no_suggestion(tmp_path, sampler):
    space = GRID if sampler == "grid" else SPACE
    (tmp_path / "whole").mkdir()
    (tmp_path / "killed").mkdir()
    whole = opened(tmp_path / "whole", sampler, space=space)
    suggestions(whole, 6)
    killed = opened(tmp_path / "killed", sampler, space=space)
    suggestions(killed, 6, kill_at={3})
    killed.close()
    resumed = opened(tmp_path / "killed", sampler, space=space)
    ((old, new),) = resumed.mark_killed()
    assert (old, new.number) == (3, 4)
    resumed.tell(new.number, goodness(new.params))
    suggestions(resumed, 2)
    assert values_of(resumed) == values_of(whole)
    whole.close()
    resumed.close()


def test_a_kill_before_the_question_asks_it_again(tmp_path):
    study = opened(tmp_path, "grid", space=GRID)
    study._study.enqueue_trial(study._grid[0])  # what `ask` does first
    study.close()
    study = opened(tmp_path, "grid", space=GRID)
    suggestions(study, 6)
    assert len({str(values) for values, _ in values_of(study)}) == 6
    study.close()


def test_the_grid_is_covered_in_order(tmp_path):
    study = opened(tmp_path, "grid", space=GRID)
    assert study.size == 6
    suggestions(study, 6)
    assert [tuple(values.values()) for values, _ in values_of(study)] == [
        (lr, rate) for lr in (1e-4, 1e-3, 1e-2) for rate in (0, 0.2)
    ]
    study.close()


def test_the_recipes_own_values_come_first(tmp_path):
    recipe = load_recipe(
        "default", ["teacher.lr=2e-3", "teacher.drop_rate=0.2", "teacher.epochs=5"]
    )
    study = opened(tmp_path, recipe=recipe)
    suggestions(study, 2)
    first, second = values_of(study)
    assert first[0] == {"teacher.lr": 2e-3, "teacher.drop_rate": 0.2, "teacher.epochs": 5}
    assert second[0] != first[0]
    assert [trial.user_attrs for trial in study.trials] == [{"own": True}, {}]
    study.close()


def test_importances_name_what_matters(tmp_path):
    study = opened(tmp_path, "random")
    suggestions(study, 9)
    assert study.importances() == {}
    suggestions(study, 8)
    found = study.importances()
    assert set(found) == set(SPACE.dimensions)
    assert found["teacher.lr"] > found["teacher.epochs"]
    assert sum(found.values()) == pytest.approx(1)
    study.close()


def test_equal_trials_have_no_importances(tmp_path):
    study = opened(tmp_path, "random")
    for _ in range(12):
        study.tell(study.ask().number, 1.0)
    assert study.importances() == {}
    study.close()
