from __future__ import annotations

import re
from pathlib import Path

import pytest

from serve.contract.errors import UsageError
from serve.settings import Settings, env_from_settings, settings_from_env

BASE = {"STILLROOM_ARTIFACT": "/x"}


def test_defaults_and_every_field() -> None:
    assert settings_from_env(BASE) == Settings(artifact=Path("/x"))
    given = Settings(Path("/x"), "onnxruntime-cpu", 2, 3, 4, 5, 6, 7, 8, 9)
    assert settings_from_env({**env_from_settings(given), "HOME": "/h"}) == given


def test_every_setting_is_in_the_document_with_its_default() -> None:
    text = (Path(__file__).parents[2] / "docs" / "serving.md").read_text()
    rows = dict(re.findall(r"^\| `(STILLROOM_[A-Z_]+)` \|([^|]*)\|", text, re.MULTILINE))
    written = {name: re.sub(r"[` ]", "", default) for name, default in rows.items()}
    defaults = env_from_settings(Settings(artifact=Path("/x")))
    assert written == {**defaults, "STILLROOM_ARTIFACT": ""}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"STILLROOM_ARTIFACT": ""}, "STILLROOM_ARTIFACT is not set"),
        ({"STILLROOM_THREADS": "two"}, "STILLROOM_THREADS='two': expected a whole number"),
        ({"STILLROOM_THREADS": "-1"}, "expected a whole number"),
        ({"STILLROOM_THREADS": ""}, "expected a whole number"),
        ({"STILLROOM_WORKERS": "0"}, "STILLROOM_WORKERS=0: expected 1 to 4096"),
        ({"STILLROOM_MAX_BATCH": "4097"}, "expected 0 to 4096"),
        ({"STILLROOM_THREAD": "2"}, "Did you mean STILLROOM_THREADS"),
    ],
)
def test_a_bad_value_is_a_clear_error(changes: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        settings_from_env({**BASE, **changes})


def test_variables_of_others_are_left_alone() -> None:
    settings_from_env({**BASE, "STILLROOM_HOME_PAGE": "x"})
