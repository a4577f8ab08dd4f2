from __future__ import annotations

import subprocess
import sys
from pkgutil import resolve_name

import pytest

from stillroom.command_table import COMMANDS


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_in_a_file_of_its_name(name):
    module, _, attribute = COMMANDS[name].partition(":")
    assert module.rpartition(".")[2] == name
    assert attribute in (name, f"{name}_app")
    assert resolve_name(f"stillroom.commands.{COMMANDS[name]}")


@pytest.mark.parametrize(
    ("arguments", "unwanted"),
    [
        (["--version"], ["stillroom.commands"]),
        (["--help"], ["torch", "scipy", "sklearn", "bentoml", "onnxruntime"]),
        (["status", "--help"], ["stillroom.commands.run.run", "numpy"]),
    ],
)
def test_a_call_imports_what_it_needs(arguments, unwanted):
    code = (
        "import sys; names = sys.argv.pop().split(','); from stillroom.cli import main\n"
        "try: main()\n"
        "finally: print([name for name in names if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments, ",".join(unwanted)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "[]"
