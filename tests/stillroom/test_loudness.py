"""What is logged, and when it is seen: by commands, by -v and -q, and not by a library call."""

from __future__ import annotations

import subprocess
import sys

import pytest


def in_a_process(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True)


def test_progress_is_on_standard_error_unless_quiet(stillroom, few_photos, tmp_path):
    usual = stillroom("audit", few_photos, "--run", tmp_path / "a")
    assert "audit: not built yet; building" in usual.err
    quiet = stillroom("-q", "audit", few_photos, "--run", tmp_path / "b")
    assert (quiet.code, quiet.err) == (0, "")
    assert quiet.out == usual.out.replace(str(tmp_path / "a"), str(tmp_path / "b"))
    verbose = stillroom("-v", "audit", few_photos, "--run", tmp_path / "c")
    assert "audit: key " in verbose.err
    assert "audit: key " not in usual.err
    assert stillroom("audit", few_photos, "--run", tmp_path / "a").err == "audit: done\n"


def test_an_error_is_said_however_quiet(stillroom, tmp_path):
    outcome = stillroom("-q", "status", tmp_path)
    assert outcome.code == 2
    assert outcome.err.startswith("error: ")


@pytest.mark.parametrize("words", [(), ("import stillroom.cli",)])
def test_a_library_call_is_silent(unpacked_old_run, words):
    code = (
        "import sys, stillroom\n"
        "from train.engine.progress import say, steps\n"
        f"{'; '.join(words)}\n"
        "say('progress')\n"
        "with steps('work', 2) as counter: counter.advance(); counter.write('a line')\n"
        "stillroom.load(sys.argv[1]).predict(sys.argv[2])\n"
    )
    image = unpacked_old_run / "photos" / "0" / "01.jpg"
    done = in_a_process(code, unpacked_old_run / "run", image)
    assert (done.stdout, done.stderr) == ("", "")


def test_a_caller_may_take_the_messages(unpacked_old_run):
    code = (
        "import logging; from train.engine.progress import say\n"
        "logging.basicConfig(level=logging.INFO, format='%(name)s|%(message)s')\n"
        "say('progress')"
    )
    assert in_a_process(code).stderr == "train.engine.progress|progress\n"
