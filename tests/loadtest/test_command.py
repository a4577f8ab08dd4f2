from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from loadtest.__main__ import build_parser, main
from tests.loadtest.stub_server import (
    ROOT,
    Behaviour,
    png,
    run_command,
    run_script,
    served,
    write_corpus,
)

URL = "http://127.0.0.1:9"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rate", "0"], "error: --rate 0 is not above 0; try --rate 10"),
        (["--slo", "p99=50"], "error: --slo 'p99=50' has no unit; write p99=50ms or p99=50s"),
        (["--users", "3"], "error: --users 3 needs a closed loop; add --mode closed"),
        (["--mode", "closed", "--rate", "3"], "error: --rate 3 needs an open loop; use --mode"),
        (["--mode", "closed", "--users", "0"], "error: --users 0 is not from 1 to 900"),
        (["--duration-s", "-1"], "error: --duration-s -1 is not above 0"),
        (
            ["--doubling", "--bind", "127.0.0.1:5557"],
            "error: --doubling starts its workers itself; leave --bind out",
        ),
        (
            ["--doubling", "--scenario", "singlestream"],
            "error: --doubling: 1 clients cannot be split among 2 processes; lower --workers",
        ),
        (["--doubling", "--scenario", "saturation"], "error: --doubling repeats one load, and"),
        (["--junit", "."], "error: --junit '.' cannot be written; name another file"),
        (["--bind", "5557"], "error: '5557' is not HOST:PORT"),
        (["--corpus", "absent.csv"], "error: --corpus 'absent.csv' does not exist; give a folder"),
    ],
)
def test_wrong_use_is_one_line_and_writes_nothing(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus = write_corpus(tmp_path)
    out = tmp_path / "out"
    assert main([URL, "--corpus", str(corpus), "--out", str(out), *arguments]) == 2
    shown = capsys.readouterr()
    assert shown.err.startswith(message)
    assert shown.err.count("\n") == 1
    assert shown.out == ""
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "error: the following arguments are required: URL, --corpus, --out; see"),
        ([URL, "--rate", "fast"], "error: argument --rate: invalid float value: 'fast'; see"),
        ([URL, "--mode", "ajar"], "error: argument --mode: invalid choice: 'ajar'"),
    ],
)
def test_argument_errors(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith(message)


def test_help_fits_80_columns_and_has_an_example(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    text = build_parser().format_help()
    assert max(map(len, text.splitlines())) <= 80
    assert "--slo p99=50ms" in text


@pytest.mark.e2e
def test_addresses_without_such_a_service(tmp_path: Path) -> None:
    out = tmp_path / "out"
    flags = ["--corpus", str(write_corpus(tmp_path)), "--out", str(out)]
    with served(Behaviour(body=b"<html>")) as url:
        script = f"""
            from loadtest.__main__ import main
            for url in ({URL!r}, {url + "/nowhere"!r}, {url!r}):
                print(main([url, *{flags!r}]))
        """
        done = run_script(script)
    unreachable, no_route, no_service = done.stderr.splitlines()
    assert done.stdout.split() == ["2", "2", "2"]
    assert unreachable == (
        f"error: no service at {URL} (Connection refused); start one with: stillroom serve RUN"
    )
    assert no_route.startswith(f"error: {url}/nowhere/v1/classify answers 404; give the base")
    assert no_service.startswith(f"error: {url}/v1/classify answers 200 with b'<html>', not with")
    assert not out.exists()


@pytest.mark.e2e
def test_a_schedule_without_requests_is_an_invalid_measurement(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(1))
    flags = ("--rate", 0.001, "--duration-s", 0.3, "--warmup-s", 0)
    with served(Behaviour()) as url:
        done = run_command(url, "--corpus", tmp_path, "--out", tmp_path / "out", *flags)
    assert done.returncode == 3
    assert done.stderr.splitlines()[-1] == (
        "error: no request was sent in 0.3 s; raise --rate or --duration-s"
    )
    assert not (tmp_path / "out").exists()


def test_only_the_senders_import_locust() -> None:
    senders = ("user", "generator", "runner", "fleet", "calibration", "session", "locustfile")
    modules = sorted(
        f"loadtest.{file.stem}"
        for file in (ROOT / "loadtest").glob("*.py")
        if file.stem not in ("__init__", "compare", "difference", *senders)
    )
    script = f"""
        import importlib, sys
        for module in {modules!r}:
            importlib.import_module(module)
        print(sorted({{"locust", "gevent", "torch", "numpy"}} & set(sys.modules)))
    """
    assert run_script(script).stdout == "[]\n"


def test_it_imports_nothing_else_of_ours() -> None:
    script = """
        import sys
        import loadtest.generator.runner, loadtest.__main__
        ours = {"serve", "train", "compress", "export", "stillroom", "torch", "bentoml"}
        print(sorted(ours & set(sys.modules)))
    """
    assert run_script(script).stdout == "[]\n"


def test_help_needs_no_locust() -> None:
    script = "import sys; sys.modules['locust'] = None; from loadtest.__main__ import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", script, "--help"], cwd=ROOT, capture_output=True, check=False
    )
    assert done.returncode == 0
