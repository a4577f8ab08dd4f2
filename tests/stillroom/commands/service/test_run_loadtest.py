"""What `stillroom loadtest` asks `python -m loadtest` to do."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from loadtest.plan.arguments import build_parser
from stillroom.commands.service import run_loadtest as loadtest_command
from stillroom.commands.service.loadtest import loadtest_app
from stillroom.run.stages.load import run_loadtest
from tests.loadtest.stub_server import Behaviour, served, write_corpus

pytestmark = pytest.mark.e2e

URL = "http://127.0.0.1:9"
FORM = ("--route", "/predict", "--field", "file", "--answer", "", "--header", "X-Key: a b")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    found: list[list[str]] = []

    def run(command: list[str], **_: Any) -> int:
        found.append(command)
        return 0

    monkeypatch.setattr(loadtest_command, "run_child", run)
    return found


def test_another_classifier_is_asked_its_own_way(asked: list[list[str]], tmp_path: Path) -> None:
    flags = ["--photos", str(tmp_path), "--rate", "5", "--slo", "p90=1s"]
    done = CliRunner().invoke(loadtest_app, [URL, *flags, "--", *FORM, "--workers", "2"])
    assert done.exit_code == 0, done.output
    (command,) = asked
    assert command[1:3] == ["-m", "loadtest"]
    options = build_parser().parse_args(command[3:])
    assert (options.url, options.rate, options.slo) == (URL, 5, "p90=1s")
    assert (options.route, options.field, options.answer) == ("/predict", "file", "")
    assert (options.header, options.workers) == (["X-Key: a b"], 2)


def test_so_is_it_in_a_search(asked: list[list[str]], tmp_path: Path) -> None:
    done = CliRunner().invoke(loadtest_app, [URL, "--photos", str(tmp_path), "--", *FORM])
    assert done.exit_code == 0, done.output
    (command,) = asked
    assert command[1:3] == ["-m", "loadtest.promise"]
    assert set(FORM) < set(command)


def test_paths_are_those_of_the_folder_that_the_user_is_in(tmp_path: Path, jpeg: bytes) -> None:
    """Also where it has a folder of the module's name: results of an earlier load, perhaps."""
    (tmp_path / "loadtest").mkdir()
    (tmp_path / "loadtest" / "__init__.py").write_text("raise SystemExit('not ours')")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "1.jpg").write_bytes(jpeg)
    words = ("loadtest", URL, "--photos", "photos", "--rate", "5", "--out", "out")
    done = subprocess.run(
        [sys.executable, "-P", "-m", "stillroom", *words],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "127.0.0.1:9" in done.stderr
    assert "not ours" not in done.stderr


def writes(monkeypatch: pytest.MonkeyPatch, code: int = 0) -> list[Path]:
    """Where a load would write, instead of one."""
    found: list[Path] = []

    def run(command: list[str], **_: Any) -> int:
        found.append(Path(command[command.index("--out") + 1]))
        if code != 2:
            (found[-1] / "summary.json").write_text("{}")
        return code

    monkeypatch.setattr(loadtest_command, "run_child", run)
    return found


@pytest.mark.parametrize("code", [0, 1, 3, 75])
@pytest.mark.parametrize("rate", [(), ("--rate", "5")])
def test_each_load_writes_into_a_new_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, rate: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    folders = writes(monkeypatch, code)
    (tmp_path / "loadtest-results" / "127.0.0.1-9-7").mkdir(parents=True)
    (tmp_path / "loadtest-results" / "other-9").mkdir()
    for _ in range(2):
        done = CliRunner().invoke(loadtest_app, [URL, "--photos", str(tmp_path), *rate])
        assert done.exit_code == code
    assert folders == [Path("loadtest-results") / f"127.0.0.1-9-{n}" for n in (8, 9)]
    assert all((folder / "summary.json").is_file() for folder in folders)


def test_a_load_that_is_refused_leaves_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    writes(monkeypatch, 2)
    assert CliRunner().invoke(loadtest_app, [URL, "--photos", str(tmp_path)]).exit_code == 2
    assert list(tmp_path.iterdir()) == []


def test_the_load_of_a_run_prints_whole_warnings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Lines that go on in the next one are not cut."""
    flags = ["--rate", "10", "--duration-s", "0.5", "--warmup-s", "0"]
    with served(Behaviour()) as url:
        summary = run_loadtest(
            [url, "--corpus", str(write_corpus(tmp_path)), *flags], out=tmp_path / "out"
        )
    said = capsys.readouterr().err
    [few] = [text for text in summary["warnings"] if "too few" in text]
    assert len(few) > 80
    assert few in " ".join(said.split())
    assert summary["verdict"].upper() in said
    assert "written" not in said
