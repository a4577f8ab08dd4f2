"""`stillroom train --nproc 2` and plain torchrun: one run folder, one voice, one exit code."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from serve.contract.errors import StillroomError
from serve.contract.manifest import damaged_files, read_manifest
from stillroom.extras.distributed.launch_ranks import _code_of
from tests.stillroom.conftest import write_photos
from tests.train.shards import pack

TINY = (
    "teacher.arch=test_efficientnet",
    "teacher.weights=none",
    "teacher.head_epochs=1",
    "teacher.train_size_px=32",
    "teacher.workers=0",
    "teacher.batch_size=12",
)
STILLROOM = [sys.executable, "-m", "stillroom"]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ranks") / "photos"
    write_photos(folder, 20)
    return folder


def start(photos: Path, run: Path, *more: str, by: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    command = [*(by or STILLROOM), "train", str(photos), "--run", str(run), *TINY, *more]
    env = os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env=env, **pipes)  # type: ignore[call-overload,no-any-return]


def read_until(process: subprocess.Popen[str], text: str) -> str:
    assert process.stderr is not None
    read = ""
    while text not in read:
        line = process.stderr.readline()
        assert line, read
        read += line
    return read


def ranks_of(run: Path) -> dict[int, int]:
    """Process numbers of a training's ranks."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            words = (path / "cmdline").read_text().split("\0")
            env = (path / "environ").read_text().split("\0")
        except OSError:
            continue
        ranks = [word for word in env if word.startswith("RANK=")]
        if str(run) in words and ranks:
            found[int(ranks[0].removeprefix("RANK="))] = int(path.name)
    return found


def digest(run: Path) -> str:
    manifest = read_manifest(run / "teacher")
    assert damaged_files(run / "teacher", manifest) == []
    return str(manifest["digest"])


@pytest.mark.ci
@pytest.mark.e2e
@pytest.mark.timeout(300)
def test_two_ranks_stopped_by_a_signal_go_on_and_end_with_the_bytes_of_two_that_were_not(
    photos: Path, tmp_path: Path
) -> None:
    whole = start(photos, tmp_path / "whole", "--nproc=2", "teacher.epochs=3")
    out, said = whole.communicate(timeout=120)
    assert whole.returncode == 0, said
    assert "teacher" in out
    assert said.count("fine-tuning, epoch 3/3") == 1
    cut = start(photos, tmp_path / "cut", "--nproc=2", "teacher.epochs=3")
    said = read_until(cut, "fine-tuning, epoch 1/3")
    cut.send_signal(signal.SIGTERM)
    said += cut.communicate(timeout=60)[1]
    assert cut.returncode == 75, said
    last = said.strip().splitlines()[-1]
    assert last.startswith("error: Stopped at step "), said
    assert last.endswith("everything is saved. Run the same command again to go on.")
    assert "Traceback" not in said
    again = start(photos, tmp_path / "cut", "--nproc=2", "teacher.epochs=3")
    _, said = again.communicate(timeout=120)
    assert again.returncode == 0, said
    assert "fine-tuning, epoch 1/3" not in said
    assert digest(tmp_path / "cut") == digest(tmp_path / "whole")
    evaluation = json.loads((tmp_path / "whole" / "teacher" / "evaluation.json").read_text())
    assert evaluation["training"]["ranks"] == 2


@pytest.mark.ci
@pytest.mark.e2e
def test_two_ranks_train_from_shards_on_the_batches_of_one(photos: Path, tmp_path: Path) -> None:
    shards = Path(pack(photos, tmp_path / "shards"))
    logs = []
    for nproc in (1, 2):
        run = tmp_path / f"run-{nproc}"
        same = ("teacher.arch=test_efficientnet_gn", "teacher.drop_rate=0", "teacher.epochs=1")
        process = start(shards, run, f"--nproc={nproc}", *same)
        _, said = process.communicate(timeout=120)
        assert process.returncode == 0, said
        lines = (run / "teacher" / "metrics.jsonl").read_text().splitlines()
        logs.append([json.loads(line)["loss"] for line in lines])
    assert logs[0] == pytest.approx(logs[1], rel=1e-3)


@pytest.mark.ci
@pytest.mark.e2e
def test_a_killed_rank_ends_all_with_a_message(photos: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = start(photos, run, "--nproc=2", "teacher.epochs=300")
    said = read_until(process, "fine-tuning, epoch 1/")
    ranks = ranks_of(run)
    os.kill(ranks[1], signal.SIGKILL)
    killed = time.monotonic()
    said += process.communicate(timeout=60)[1]
    assert time.monotonic() - killed < 30
    assert process.returncode == 1, said
    last = said.strip().splitlines()[-1]
    assert last.startswith("error: Rank 1 was killed (SIGKILL); all ranks were stopped."), said
    assert "Run the same command again" in last
    assert "Traceback" not in said
    assert not ranks_of(run)


@pytest.mark.ci
@pytest.mark.e2e
def test_what_the_ranks_cannot_do_is_refused_before_the_training(
    photos: Path, tmp_path: Path
) -> None:
    process = start(photos, tmp_path / "run", "--nproc=2", "teacher.batch_size=13")
    _, said = process.communicate(timeout=60)
    assert process.returncode == 2, said
    assert said.strip().splitlines()[-1] == (
        "error: teacher.batch_size = 13 is the batch of all ranks together, and 2 ranks cannot "
        "share it equally. Set teacher.batch_size=12"
    )
    process = start(photos / "none", tmp_path / "run", "--nproc=2")
    _, said = process.communicate(timeout=60)
    assert process.returncode == 2, said
    assert said.count("error: ") == 1
    assert "No such folder" in said


@pytest.mark.ci
@pytest.mark.e2e
def test_plain_torchrun_trains_and_refuses_what_is_one_process(
    photos: Path, tmp_path: Path
) -> None:
    by = (*TORCHRUN, "-m", "--", "stillroom")  # else torchrun takes --run for its own option
    process = start(photos, tmp_path / "run", "teacher.epochs=1", by=by)
    out, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    assert out.count("teacher") == 1
    assert digest(tmp_path / "run")
    command = [*by, "compress", str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1  # torchrun's own
    assert "error: torchrun started stillroom compress, which is one process." in done.stderr


def test_a_rank_that_was_killed_is_named_and_other_codes_pass() -> None:
    with pytest.raises(StillroomError, match=r"Rank 3 was killed \(SIGKILL\)") as caught:
        _code_of({0: 1, 3: -9})
    assert "Run the same command again" in caught.value.next_step
    assert _code_of({0: 2, 1: 2}) == 2
    assert _code_of({1: 75, 0: 75}) == 75
    assert _code_of({}) == 1


def test_nproc_under_torchrun_and_sanity_by_several_are_refused(
    stillroom, few_photos, tmp_path, monkeypatch
):
    outcome = stillroom("train", few_photos, "--run", tmp_path / "r", "--nproc", 2, "--sanity")
    assert outcome.code == 2
    assert "--sanity needs one process. Leave --nproc and torchrun out." in outcome.err
    places = {"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
    for name, value in places.items():
        monkeypatch.setenv(name, value)
    outcome = stillroom("train", few_photos, "--run", tmp_path / "r", "--nproc", 2)
    assert outcome.code == 2
    assert "torchrun started this process" in outcome.err
    outcome = stillroom("status", tmp_path / "r")
    assert outcome.code == 2
    assert "torchrun started stillroom status, which is one process." in outcome.err
    monkeypatch.setenv("WORLD_SIZE", "many")
    outcome = stillroom("train", few_photos, "--run", tmp_path / "r")
    assert outcome.code == 2
    assert "WORLD_SIZE is 'many': expected a whole number." in outcome.err
