"""Machines that lack something: it works, or one line says what to do."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from serve.contract.shortage import shortage_of
from serve.process.environment import settle_home
from tests.machines import ROOT, needs_namespaces, program, read_only

STILLROOM = [sys.executable, "-m", "stillroom"]
ASCII = {
    "a terminal that was told to be ASCII": {"LC_ALL": "C", "PYTHONIOENCODING": "ascii"},
    "a locale without UTF-8": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "the same by its other name": {"LC_ALL": "POSIX", "PYTHONUTF8": "0"},
}


def run(
    command: list[str], *, cwd: Path = ROOT, **environ: str
) -> subprocess.CompletedProcess[str]:
    env = {k: v for k, v in os.environ.items() if not k.startswith(("LC_", "LANG", "PYTHON"))}
    env = {**env, "PYTHONPATH": str(ROOT), **environ}
    return subprocess.run(
        command, env=env, cwd=cwd, capture_output=True, text=True, check=False, timeout=240
    )


@pytest.mark.parametrize("kind", ASCII)
def test_an_ascii_terminal_shows_labels_and_paths_as_escapes(
    build_artifact, tmp_path: Path, kind: str
) -> None:
    labels = ("pâquerette", "薔薇", "tulipe", "œillet")
    artifact = build_artifact(tmp_path / "modèle", labels=labels)
    photo = tmp_path / "été.jpg"
    shutil.copyfile(artifact / "golden" / "photo.jpg", photo)
    command = [*STILLROOM, "predict", str(artifact), str(photo), "--top-k", "4"]
    done = run(command, **ASCII[kind])
    assert done.returncode == 0, done.stderr
    assert "\\xe9t\\xe9.jpg" in done.stdout
    assert "p\\xe2querette" in done.stdout
    assert "\\u8594\\u8587" in done.stdout


def test_a_file_name_that_is_no_text_is_shown_as_escapes(tiny_artifact, tmp_path: Path) -> None:
    photo = os.fsencode(tmp_path) + b"/\xe9t\xe9.jpg"
    shutil.copyfile(tiny_artifact / "golden" / "photo.jpg", photo)
    done = run([*STILLROOM, "predict", str(tiny_artifact), os.fsdecode(photo)], LC_ALL="C.UTF-8")
    assert done.returncode == 2, done.stderr
    assert "\\xe9t\\xe9.jpg is not UTF-8. Rename it: mv -nT -- " in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.ci
@pytest.mark.parametrize("kind", ASCII)
def test_an_audit_on_an_ascii_terminal_writes_what_one_in_utf8_does(
    make_picture, tmp_path: Path, kind: str
) -> None:
    for turn, label in enumerate(("pâquerette", "薔薇")):
        (tmp_path / "fleurs d'été" / label).mkdir(parents=True)
        for number in range(5):
            picture = make_picture(10 * turn + number)
            picture.save(tmp_path / "fleurs d'été" / label / f"é{number}.jpg")
    found = []
    for name, environ in (("a", {"LC_ALL": "C.UTF-8"}), ("b", ASCII[kind])):
        cache = str(tmp_path / f"cache-{name}")
        command = [*STILLROOM, "audit", str(tmp_path / "fleurs d'été"), "--run", name]
        done = run(command, cwd=tmp_path, STILLROOM_CACHE=cache, **environ)
        assert done.returncode == 0, done.stderr
        found.append((tmp_path / name / "data" / "index.csv").read_bytes())
    assert found[0] == found[1]
    assert "pâquerette" in found[0].decode("utf-8")


def test_a_process_without_a_home_is_given_one(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr("pwd.getpwuid", lambda uid: {}[uid])
    environ: dict[str, str] = {}
    settle_home(environ)
    home = tmp_path / f"stillroom-{os.getuid()}" / "home"
    assert environ["HOME"] == str(home)
    assert home.is_dir()
    assert not home.parent.stat().st_mode & 0o077
    assert environ["USER"] == str(os.getuid())


@pytest.mark.parametrize("bad", ["/dev/null", "relative", "/dev/null/x"])
def test_bentoml_gets_a_home_that_it_can_write(tmp_path: Path, monkeypatch, bad: str) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    environ = {"BENTOML_HOME": bad}
    settle_home(environ)
    assert environ["BENTOML_HOME"].startswith(str(tmp_path))


def test_a_home_that_works_stays(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "none"))
    for home in (tmp_path, tmp_path / "new" / "deeper"):
        environ = {"BENTOML_HOME": str(home)}
        settle_home(environ)
        assert environ == {"BENTOML_HOME": str(home)}


def test_what_another_user_put_there_is_not_taken(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / f"stillroom-{os.getuid()}").mkdir()
    (tmp_path / f"stillroom-{os.getuid()}").chmod(0o777)
    environ = {"BENTOML_HOME": "/dev/null/x"}
    settle_home(environ)
    assert environ == {"BENTOML_HOME": "/dev/null/x"}


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "The disk is full"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "quota"),
        (OSError(errno.EMFILE, "Too many open files"), "ulimit -n"),
        (OSError(errno.EROFS, "Read-only file system", "/srv/run"), "/srv/run: "),
        (MemoryError(), "The memory is used up"),
        (FileNotFoundError(errno.ENOENT, "No usable temporary directory found in [...]"), "TMPDIR"),
    ],
)
def test_what_a_machine_lacks_is_one_line(error: Exception, said: str) -> None:
    try:
        raise RuntimeError("a library's own words") from error
    except RuntimeError as wrapped:
        line = shortage_of(wrapped)
    assert line is not None
    assert said in line
    assert "\n" not in line


@pytest.mark.parametrize("error", [KeyError("x"), ValueError("x"), OSError("x"), sqlite3.Error()])
def test_an_error_of_ours_stays_one(error: Exception) -> None:
    assert shortage_of(error) is None


@pytest.fixture
def outside_tmp(tiny_artifact: Path) -> Iterator[Path]:
    """The artifact where the imitated machine sees it."""
    folder = ROOT / ".pytest_cache" / f"machine-{os.getpid()}"
    shutil.copytree(tiny_artifact, folder)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.ci
@pytest.mark.parametrize("how", ["stillroom", "bentoml"])
def test_no_temporary_folder_is_one_line(outside_tmp: Path, how: str) -> None:
    needs_namespaces()
    command = [*STILLROOM, "serve", str(outside_tmp)]
    if how == "bentoml":
        command = [program("bentoml"), "serve", "serve.service:Classifier", "--host", "127.0.0.1"]
    done = run(read_only(command, tmp="ro"), STILLROOM_ARTIFACT=str(outside_tmp), TMPDIR="")
    assert done.returncode != 0
    assert done.stderr.strip().splitlines()[-1].startswith("error: No temporary folder can be")
    assert "Traceback" not in done.stderr


@pytest.mark.ci
def test_commands_that_need_no_temporary_folder_work_without(outside_tmp: Path) -> None:
    needs_namespaces()
    for command in (["predict", str(outside_tmp), str(outside_tmp / "golden" / "photo.jpg")],):
        done = run(read_only([*STILLROOM, *command], tmp="ro"), TMPDIR="")
        assert done.returncode == 0, done.stderr


@pytest.mark.ci
def test_a_full_disk_is_one_line(outside_tmp: Path) -> None:
    needs_namespaces()
    fill = 'head -c 100m /dev/zero > /tmp/full 2>/dev/null; cd /tmp; exec "$@"'
    command = ["sh", "-c", fill, "sh", *STILLROOM, "build", str(outside_tmp)]
    done = run(read_only(command, tmp="size=1m"), BENTOML_HOME="/tmp/b", TMPDIR="/tmp")
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert "space" in done.stderr.lower()


SERVED = """
"$@" & child=$!
for turn in $(seq 200); do
  python3 - <<'CODE' && ready=1 && break
import urllib.request; urllib.request.urlopen("http://127.0.0.1:4117/readyz", timeout=5)
CODE
  kill -0 $child 2>/dev/null || break
  sleep 0.3
done 2>/dev/null
kill $child; wait $child; test "$ready" = 1
"""


@pytest.mark.ci
@pytest.mark.e2e
@pytest.mark.parametrize("home", ["BENTOML_HOME=/home/bentoml", "HOME=/nowhere", "NONE=1"])
@pytest.mark.parametrize("how", ["stillroom", "bentoml"])
def test_the_hardened_settings_start(outside_tmp: Path, home: str, how: str) -> None:
    """As docs/deploy.md has it: a read-only root, another uid, a file system at /tmp alone."""
    needs_namespaces()
    command = [*STILLROOM, "serve", str(outside_tmp), "--port", "4117"]
    if how == "bentoml":
        target = ["serve", "serve.service:Classifier", "--host", "127.0.0.1", "--port", "4117"]
        command = [program("bentoml"), *target]
    settings = [f"PATH={os.environ['PATH']}", f"STILLROOM_ARTIFACT={outside_tmp}", home]
    line = ["env", "-i", *settings, "bash", "-c", SERVED, "bash", *command]
    done = run(read_only(line, uid=1034))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
