"""What can fail after a long load is found before it, and what was measured is kept."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree

import pytest

from loadtest.__main__ import main
from loadtest.extras.junit import Case, check_junit_file, write_junit
from loadtest.max_rate.command import main as search
from loadtest.result.files import check_out_folder
from tests.loadtest.stub_server import ROOT, Behaviour, command, served, write_corpus

SHORT = ("--rate", 20, "--duration-s", 0.5, "--warmup-s", 0)


def asked(tmp_path: Path, out: Path, *more: object) -> list[str]:
    corpus = write_corpus(tmp_path)
    return [*map(str, ("http://127.0.0.1:9", "--corpus", corpus, "--out", out, *more))]


@pytest.mark.parametrize("name", ["summary.json", "promise.json", "probes", "closed"])
def test_a_folder_with_a_result_is_refused_with_the_next_command(
    tmp_path: Path, capsys, name: str
) -> None:
    out = tmp_path / "out"
    (out / name).mkdir(parents=True)
    (tmp_path / "out-2").mkdir()
    assert main(asked(tmp_path, out)) == 2
    assert f"name another --out, such as {tmp_path / 'out-3'}" in capsys.readouterr().err
    assert search(asked(tmp_path, out, "--slo", "p99=50ms")) == 2
    assert "holds a result already" in capsys.readouterr().err


@pytest.mark.parametrize("where", ["file", "file/deeper", "link", "/proc/out"])
def test_a_place_that_cannot_be_written_is_found_before_the_load(
    tmp_path: Path, capsys, where: str
) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    for run, more in ((main, ()), (search, ("--slo", "p99=50ms"))):
        assert run(asked(tmp_path, tmp_path / where, *more)) == 2
        said = capsys.readouterr().err
        assert said.startswith("error: --out ")
        assert said.count("\n") == 1


@pytest.mark.parametrize(
    "junit", ["out", ".", "out/summary.json", "file/j.xml", "/proc/j.xml", "corpus.csv/j.xml"]
)
def test_a_junit_file_that_cannot_be_written_is_found_before_the_load(
    tmp_path: Path, capsys, junit: str
) -> None:
    (tmp_path / "file").write_text("")
    for run, more in ((main, ()), (search, ("--slo", "p99=50ms"))):
        options = asked(tmp_path, tmp_path / "out", "--junit", tmp_path / junit, *more)
        assert run(options) == 2
        assert "error: --junit " in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_full_disk_is_found_before_the_load(tmp_path: Path, capsys) -> None:
    free_bytes = os.statvfs(tmp_path).f_bavail * os.statvfs(tmp_path).f_frsize
    with pytest.raises(Exception, match="MiB are free and the results may take"):
        check_out_folder(tmp_path / "out", bytes_needed=2 * free_bytes)
    assert not (tmp_path / "out").exists()
    check_junit_file(tmp_path / "new" / "j.xml", tmp_path / "out")
    assert not (tmp_path / "new").exists()


def test_descriptors_that_cannot_suffice_are_refused(tmp_path: Path) -> None:
    script = f"""
        import resource, sys
        resource.setrlimit(resource.RLIMIT_NOFILE, (150, 150))
        from loadtest.__main__ import main
        sys.exit(main({asked(tmp_path, tmp_path / "out", "--rate", "100")!r}))
    """
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(line.strip() for line in script.splitlines())],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "150 are allowed; raise the limit (ulimit -Hn 964" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.e2e
def test_the_soft_limit_is_raised(tmp_path: Path) -> None:
    """Sixty clients at once under a soft limit of 40."""
    out = tmp_path / "out"
    flags = ("--mode", "closed", "--users", 60, "--duration-s", 1, "--warmup-s", 0)
    with served(Behaviour(delay_s=0.3)) as url:
        words = command(url, "--corpus", write_corpus(tmp_path), "--out", out, *flags)
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        done = subprocess.run(
            ["bash", "-c", 'ulimit -Sn 40; exec "$@"', "-", *words],
            cwd=ROOT, capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
    if hard < 200:
        pytest.skip("the hard limit of this machine is low itself")
    counts = json.loads((out / "summary.json").read_text())["counts"]
    assert counts["ok"] > 60, done.stderr
    assert counts["missed"] == counts["connection_error"] == 0


@pytest.mark.e2e
@pytest.mark.parametrize("flags", [("--rate", 60), ("--scenario", "constant", "--rate", 60)])
def test_descriptors_that_run_out_are_the_generators_fault(
    tmp_path: Path, flags: tuple[object, ...]
) -> None:
    out = tmp_path / "out"
    with served(Behaviour(delay_s=1.0)) as url:
        where = (url, "--corpus", write_corpus(tmp_path), "--out", out, "--slo", "p99=5s")
        words = command(*where, "--duration-s", 3, "--warmup-s", 0, *flags)
        child = subprocess.Popen(words, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.PIPE)
        assert child.stderr is not None
        while (line := child.stderr.readline()) and b" loop, " not in line:
            pass
        time.sleep(1)  # the load has begun
        resource.prlimit(child.pid, resource.RLIMIT_NOFILE, (30, 30))
        said, _ = child.communicate(timeout=60)
    assert child.returncode == 3, said
    summary = json.loads((out / "summary.json").read_text())
    assert summary["verdict"] == "invalid"
    assert sum(one["faults"].get("EMFILE", 0) for one in summary["generators"]) > 0
    assert summary["counts"]["connection_error"] == 0
    assert sorted(one.name for one in out.iterdir()) == [
        "report.html", "samples.csv", "summary.json",
    ]  # fmt: skip
    assert b"\nINVALID " in said


@pytest.mark.e2e
@pytest.mark.parametrize(
    "label", ["p\u00e2querette", "\ud800 half of a pair", "\x1b[31m red", "\x00", "]]>"]
)
def test_any_label_of_a_service_can_be_written(tmp_path: Path, label: str) -> None:
    """As JSON may hold it; in an ASCII terminal; in the page, JUnit's XML and the summary."""
    out, junit = tmp_path / "out", tmp_path / "j.xml"
    with served(Behaviour(label_of=lambda number: label)) as url:
        words = command(url, "--corpus", write_corpus(tmp_path), "--out", out, *SHORT)
        done = subprocess.run(
            [*words, "--junit", str(junit)],
            cwd=ROOT, capture_output=True, timeout=60, check=False,
            env={**os.environ, "LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"},
        )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert b"Traceback" not in done.stderr
    assert b"wrong predictions" in done.stdout
    assert json.loads((out / "summary.json").read_text())["answers"]["examples"][0]["answer"]
    assert (out / "report.html").read_text(encoding="utf-8")
    ElementTree.parse(junit)


@pytest.mark.e2e
def test_a_folder_that_became_unwritable_loses_nothing(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with served(Behaviour(delay_s=0.1)) as url:
        words = command(url, "--corpus", write_corpus(tmp_path), "--out", out, *SHORT)
        child = subprocess.Popen(
            words, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "TMPDIR": str(tmp_path)},
        )  # fmt: skip
        assert child.stderr is not None
        child.stderr.readline()  # it answers
        out.write_text("in the way")
        said, errors = child.communicate(timeout=60)
    assert child.returncode == 1
    assert "latency, ms" in said
    spare = Path(errors.rpartition("they are in ")[2].strip())
    assert (spare / "summary.json").is_file()
    assert (spare / "samples.csv").is_file()


def test_what_the_page_needs_is_missed_before_the_load(tmp_path: Path) -> None:
    with served(Behaviour()) as url:
        words = asked(tmp_path, tmp_path / "out")[1:]
        script = (
            "import sys; sys.modules['jinja2'] = None\n"
            f"from loadtest.__main__ import main; sys.exit(main({[url, *words]!r}))"
        )
        done = subprocess.run(
            [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
        )
    assert done.returncode == 2, done.stderr
    assert "jinja2 is not installed" in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_text_that_xml_cannot_hold(tmp_path: Path) -> None:
    write_junit(tmp_path / "j.xml", [Case("a", "failure", "\x00\x1b\ud800\ufffe < & \n fine")])
    message = str(next(ElementTree.parse(tmp_path / "j.xml").iter("failure")).get("message"))
    assert "fine" in message


@pytest.mark.e2e
def test_memory_is_that_of_the_generator_and_not_of_who_started_it(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with served(Behaviour()) as url:
        words = command(url, "--corpus", write_corpus(tmp_path), "--out", out, *SHORT)
        script = f"x = bytearray(b'x') * (400 << 20); import subprocess as s; s.run({words!r})"
        subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True, timeout=60)
    (generator,) = json.loads((out / "summary.json").read_text())["generators"]
    assert 10 < generator["memory_mib"] < 300
    assert generator["memory_mib"] >= max(generator["rss_mib"], default=0.0) - 1
