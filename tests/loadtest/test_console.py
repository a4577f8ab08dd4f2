"""What is printed where, by a command and by the library."""

from __future__ import annotations

import json
import logging
import re
from argparse import ArgumentParser
from collections.abc import Iterator

import pytest

from loadtest.console import add_verbosity, open_console, progress_stream
from tests.loadtest.stub_server import (
    ROOT,
    Behaviour,
    run_command,
    run_script,
    served,
    write_corpus,
)

LOAD = ("--rate", "20", "--duration-s", "1", "--warmup-s", "0")


@pytest.fixture(autouse=True)
def loggers() -> Iterator[None]:
    yield
    for name in ("loadtest", "locust"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [], True
        logger.setLevel(logging.NOTSET)


def open_with(*words: str) -> None:
    parser = ArgumentParser()
    add_verbosity(parser)
    open_console(parser.parse_args(words))


def test_nothing_else_prints() -> None:
    printing = re.compile(r"\bprint\(|\bsys\.std(out|err)\.write\(")
    files = sorted((ROOT / "loadtest").rglob("*.py"))
    found = {str(p.relative_to(ROOT)) for p in files if printing.search(p.read_text())}
    assert found == {"loadtest/console.py", "loadtest/generator/null_server.py"}


def test_a_library_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    logging.getLogger("loadtest.session").info("load")
    assert progress_stream() is None
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("words", "said"), [((), "load\n"), (("-q",), ""), (("-v",), "load\nspawned\n")]
)
def test_a_command_says_what_it_does(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...], said: str
) -> None:
    open_with(*words)
    open_with(*words)  # once more says it no more often
    logging.getLogger("loadtest.session").info("load")
    logging.getLogger("locust.runners").info("spawned")
    assert (progress_stream() is None) == (words == ("-q",))
    assert capsys.readouterr() == ("", said)


@pytest.mark.e2e
@pytest.mark.parametrize("flags", [(), ("-q",)])
def test_results_and_what_is_done_stay_apart(tmp_path, flags: tuple[str, ...]) -> None:
    out = tmp_path / "out"
    with served(Behaviour()) as url:
        done = run_command(url, "--corpus", write_corpus(tmp_path), "--out", out, *LOAD, *flags)
    assert done.stdout.startswith("scenario     server\n")
    assert f"\nwritten      {out}/summary.json\n" in done.stdout
    lines = done.stderr.splitlines()
    if flags:
        assert lines == []
    else:
        assert re.fullmatch(rf"{url} answers 200 in \d+\.\d ms", lines[0])
        assert lines[1].startswith("open loop")
        assert re.match(r"(warm-up|\d/1 s)  sent \d+  ok \d+", lines[2])


@pytest.mark.e2e
def test_a_load_from_python_prints_nothing(tmp_path) -> None:
    with served(Behaviour()) as url:
        done = run_script(f"""
            import json
            from pathlib import Path
            from loadtest.__main__ import run
            from loadtest.plan.corpus import load_corpus
            from loadtest.plan.load_plan import LoadPlan
            plan = LoadPlan(url={url!r}, rate=20.0, duration_s=1.0, warmup_s=0.0)
            corpus = load_corpus(Path({str(write_corpus(tmp_path))!r}))
            summary = run(plan, corpus, Path({str(tmp_path / "out")!r}))
            print(json.dumps(summary["planned"]))
        """)
    assert json.loads(done.stdout) > 0
    assert done.stderr == ""
