"""Every command and override of README.md and docs/*.md, run as written on 5 classes x 24 images.

The commands run in a folder that has what they name (photos/, runs/mine, photo.jpg, PHOTOS ...),
on one run of a small recipe. A command that is new in a document must run here, or be listed in
ELSEWHERE with the reason.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.documented import ROOT, documented_commands, documented_overrides

COLOURS = ((40, 60, 200), (50, 180, 60), (200, 50, 50), (220, 210, 60), (180, 60, 200))
CLASSES = ("asters", "bells", "daisies", "roses", "tulips")
PER_CLASS = 24
RECIPE = """
data = {val_fraction = 0.2, test_fraction = 0.2}
fixres = {test_size_px = 40, epochs = 1}
loadtest = {duration_s = 1.5, users = 2}

[teacher]
arch = "test_resnet"
weights = "none"
head_epochs = 0
train_size_px = 32
epochs = 6
lr = 5e-3
ema_decay = 0.5
workers = 0
batch_size = 16

[student]
arch = "test_efficientnet"
weights = "none"
train_size_px = 32
epochs = 6
lr = 5e-3
ema_decay = 0.5
workers = 0
batch_size = 16

[export.parity]  # 48 images decide
min_images = 40
int8 = {max_flip_margin = 99.0, min_agreement = 0.0, min_snr_db = 1.0}  # a hurried model
fp16 = {min_agreement = 0.0}
"""
# What cannot run here, by how the command begins, and why.
ELSEWHERE = {
    r"git clone": "this is the clone",
    r"pip install|uv sync": "installs; tests/test_server_environment.py installs a server",
    r"(STILLROOM_SOAK=1 )?pytest": "is a test",
    r"python -m benchmarks\.": "measures for minutes on real images; tests/benchmarks",
    r"docker|kubectl|bentoml containerize": "needs Docker",
    r"srun|torchrun": "needs several machines; "
    "tests/train/extras/distributed/test_process_group.py runs ranks on one",
    r"stillroom train \S+ .*--nproc": "four processes; "
    "tests/stillroom/extras/distributed/test_ranks.py runs two",
    r"stillroom train PHOTOS --choices": "torch.compile takes minutes; "
    "tests/train/extras/test_step_choices.py",
    r"stillroom demo": "takes minutes; .ci/run has it",
    r"stillroom run (flowers|photos)( --recipe flowers-cpu)?$": "real images and a long time, "
    "or a GPU; test_every_recipe_named_in_the_readme_is_shipped loads the recipe",
    r"stillroom audit flowers$": "real images; `stillroom audit photos` is the same",
    r"stillroom export .*--tensorrt": "TensorRT; "
    "tests/stillroom/commands/artifact/test_tensorrt.py",
    r"stillroom build|bentoml import|bentoml serve flowers": "fills BentoML's store; "
    "tests/stillroom/commands/service/test_build.py builds, imports and serves one",
    r"stillroom train 'https://": "a server of shards; "
    "tests/train/data/shards/test_cache.py has one",
    r"stillroom train 'shards/": "ten shards; tests/stillroom/run/test_shard_input.py packs some",
    r"stillroom loadtest (runs/mine --slo p99=50ms|RUN)$": "searches for minutes; "
    "tests/loadtest/max_rate/test_command.py",
    r"stillroom loadtest http://host:8000": "another's server; "
    "tests/loadtest/plan/test_other_classifiers.py has some",
    r"python -m loadtest(\.worker)? (https|10\.|http://classifier)": "needs several machines; "
    "tests/loadtest/extras/distributed/test_master.py runs workers on one",
    r"python -m loadtest --service-pid PID": "an option alone; "
    "tests/loadtest/generator/test_affinity.py",
    r"python -m train\.nonfinite": "a bundle of a NaN; "
    "tests/train/extras/nan_doctor/test_diagnosis.py makes one",
    r"STILLROOM_TRACING=1": "a collector of traces; tests/serve/telemetry/test_tracing.py has one",
}
# Names in capitals, and hosts, that stand for what a reader has.
NAMES = {
    "RUN --unlabelled": "runs/spare --unlabelled",  # which makes the rest of that run stale
    "PHOTOS": "photos",
    "RUN": "runs/mine",
    "ARTIFACT": "runs/mine/artifact",
    "DIR": "more",
    "FOLDER": "results",
    "http://host": "http://127.0.0.1",
    "resnet18,mobilenetv3_small_100": "test_resnet,test_efficientnet",
    "mobilenetv3_small_100:none": "test_efficientnet:none",
    "tf_efficientnet_lite0:package": "test_resnet:none",
    "--test-sizes 96,112": "--test-sizes 32",
    "--train-sizes 96,128 --test-sizes 96,128,160": "--train-sizes 24,32 --test-sizes 32,40",
}
SMALL = ("--recipe", "small.toml")
# Added to a command: a small recipe where it would take the default one, and less time.
ADDED: dict[str, tuple[str, ...]] = {
    "stillroom train photos --sanity": SMALL,
    "stillroom train PHOTOS --profile": SMALL,
    "stillroom run PHOTOS": (*SMALL, "--until", "teacher"),
    "stillroom sweep search": (*SMALL, "--trials", "2", "teacher.epochs=1"),
    "stillroom sweep backbones": (*SMALL, "teacher.epochs=1"),
    "stillroom sweep learning-curve": (*SMALL, "--seeds", "1", "teacher.epochs=1"),
    "stillroom sweep resolution": (*SMALL, "teacher.epochs=1"),
    "stillroom ablate": ("--seeds", "1"),
    "stillroom loadtest runs/mine --slo p99=50ms --rate 50": ("--duration-s", "2"),
    "stillroom loadtest compare": ("--force",),  # a load that a busy machine made invalid
    "stillroom loadtest http://host:3000": ("--rate", "20", "--duration-s", "2"),
    "stillroom export --checkpoint": ("--size", "64"),
    "python -m loadtest http://127.0.0.1:3000": ("--duration-s", "2", "--workers", "2"),
}
MEASURED = (0, 1, 3)  # the figures of a busy machine may miss an objective, or be no measurement
CODES: dict[str, tuple[int, ...]] = {
    "stillroom loadtest": MEASURED,
    "python -m loadtest http": MEASURED,
    "stillroom train": (0, 1),  # --sanity may say no
    "stillroom export": (0, 4),  # no faster here
    "stillroom compress RUN --search": (0, 1, 4),  # none within 5 ms
}
SERVERS = re.compile(r"((STILLROOM|BENTOML)_\w+=\S+ )*(stillroom|bentoml) serve ")
ASKS = re.compile(r"curl|stillroom admin|stillroom loadtest http|python -m loadtest http://127")

COMMANDS = documented_commands()


def elsewhere(command: str) -> str:
    return next((why for begin, why in ELSEWHERE.items() if re.match(begin, command)), "")


def longest(table: dict[str, tuple[Any, ...]], command: str, default: tuple[Any, ...]) -> Any:
    begins = [begin for begin in table if command.startswith(begin)]
    return table[max(begins, key=len)] if begins else default


def words_of(command: str, port: int) -> list[str]:
    """A command as typed, but for placeholders, the port and what ADDED adds."""
    line = re.sub(r"^(?:[A-Z_]+=\S+ )+", "", command)
    for name, place in NAMES.items():
        line = re.sub(rf"(?<![\w/]){name}(?!\w)", place, line)
    line = re.sub(r"(?<=[: ])3000\b", str(port), line)
    return [*shlex.split(line), *longest(ADDED, command, ())]


# Of two that differ in a placeholder alone, the first.
FIRST: dict[tuple[str, ...], str] = {}
for command in COMMANDS:
    if not elsewhere(command):
        FIRST.setdefault(tuple(words_of(command, 0)), command)
HERE = [*FIRST.values()]
ASKED = [command for command in HERE if ASKS.match(command)]
SERVED = [command for command in HERE if SERVERS.match(command)]
PLAIN = [command for command in HERE if command not in (*ASKED, *SERVED)]


# ---- the documents, in no time


def test_commands_are_found() -> None:
    assert len(HERE) > 40
    for command in ("stillroom export runs/mine --precision int8", "stillroom run PHOTOS"):
        assert command in PLAIN
    assert not elsewhere("stillroom prune RUN")  # a new one is run, unless a reason is given
    assert len(SERVED) >= 4
    assert len(ASKED) >= 7


def test_every_reason_is_still_needed() -> None:
    for begin in ELSEWHERE:
        assert any(re.match(begin, command) for command in COMMANDS), begin


def test_every_added_argument_is_still_needed() -> None:
    for begin in (*ADDED, *CODES):
        assert any(command.startswith(begin) for command in HERE), begin


@pytest.mark.parametrize("override", documented_overrides())
def test_a_documented_override_is_taken(override: str) -> None:
    from stillroom.run.recipe import load_recipe, recipe_text

    key = override.partition("=")[0].rpartition(".")[2]
    text = recipe_text(load_recipe("default", [override]))
    assert f"{key} = " in text or f"{key}]" in text  # a value, or a table


def test_overrides_are_found() -> None:
    assert "export.precisions=int8,fp16" in documented_overrides()
    assert len(documented_overrides()) >= 8


# ---- the commands, in minutes


@dataclass(frozen=True)
class Outcome:
    """What a command did."""

    code: int
    said: str


def draw(folder: Path, count: int, first: int = 0) -> None:
    """JPEGs of a coloured blob on noise, each of its own."""
    for kind, label in enumerate(CLASSES):
        (folder / label).mkdir(parents=True, exist_ok=True)
        for number in range(first, first + count):
            random = np.random.default_rng((kind, number))
            pixels = random.integers(0, 120, (40, 48, 3), dtype=np.uint8)
            top, left = random.integers(0, 20, 2)
            pixels[top : top + 18, left : left + 24] = np.array(COLOURS[kind])
            Image.fromarray(pixels).save(folder / label / f"{number:03d}.jpg", quality=90)


def typed(words: list[str], capfd: pytest.CaptureFixture[str] | None = None) -> Outcome:
    """Run `stillroom ...` in this process, in the folder that it is in."""
    from stillroom import cli

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", words)
        patch.setattr(signal, "signal", lambda *_: None)
        with pytest.raises(SystemExit) as caught:
            cli.main()
    said = capfd.readouterr() if capfd else None
    return Outcome(int(caught.value.code or 0), said.out + said.err if said else "")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder in which commands are typed: images, a whole run of them, and files."""
    import torch
    from safetensors.torch import save_file

    from train.models.classifier import build_model

    folder = tmp_path_factory.mktemp("documented")
    draw(folder / "photos", PER_CLASS)
    draw(folder / "more", 2, first=900)
    shutil.copytree(folder / "photos", folder / "more" / "photos")
    shutil.copy(folder / "photos" / "bells" / "001.jpg", folder / "photo.jpg")
    (folder / "small.toml").write_text(RECIPE)
    (folder / "labels.txt").write_text("\n".join(CLASSES))
    torch.manual_seed(0)
    torch.set_num_threads(1)  # tests share their cores; spinning OpenMP threads would stall
    state = build_model("resnet18", len(CLASSES), size_px=64).backbone.state_dict()
    save_file({name: t.contiguous() for name, t in state.items()}, folder / "w.safetensors")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        made = typed(["stillroom", "run", "photos", "--run", "runs/mine", "--recipe", "small.toml"])
        assert made.code == 0
        mine = Path("runs/mine")
        for name in ("a.onnx", "b.onnx"):
            shutil.copy(mine / "artifact" / "model.onnx", name)
        for name in ("before", "after", "results"):
            shutil.copytree(mine / "loadtest" / "open", name)
        for name in ("new", "spare", "default"):
            shutil.copytree(mine, f"runs/{name}")
        newer = ["stillroom", "export", "runs/new", "export.golden_images=8"]
        assert typed(newer).code == 0  # another artifact, which a service can be given
        yield folder


@pytest.mark.ci
@pytest.mark.timeout(1800)  # the first one builds the run
@pytest.mark.parametrize("command", PLAIN)
def test_a_documented_command_runs(
    place: Path, command: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    words = words_of(command, 0)
    done = typed(words, capfd) if words[0] == "stillroom" else started(words, place)
    assert done.code in longest(CODES, command, (0,)), done.said
    assert "Traceback" not in done.said
    assert done.said.strip()


@pytest.mark.ci
@pytest.mark.timeout(1800)
def test_the_list_of_precisions_is_built_as_documented(
    place: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    run = ["stillroom", "run", "photos", "--run", "runs/mine"]
    done = typed([*run, "export.precisions=int8,fp16"], capfd)
    assert done.code == 0, done.said
    for name in ("artifact-int8", "artifact-fp16"):
        assert (place / "runs/mine" / name / "manifest.json").exists()
    manifest = json.loads((place / "runs/mine/artifact-int8/manifest.json").read_bytes())
    assert manifest["calibration_images"] == 55
    assert manifest["calibration_images_asked"] == 128


@pytest.mark.ci
@pytest.mark.timeout(1800)
@pytest.mark.usefixtures("exact_int8")
def test_with_the_default_limit_int8_is_refused_in_one_line_that_says_the_next_step(
    place: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    limit = "export.parity.min_images=300"
    done = typed(["stillroom", "export", "runs/default", limit, "--precision", "int8"], capfd)
    assert done.code == 1
    assert "PARITY INCONCLUSIVE int8 test_efficientnet: 79 images < 300" in done.said
    assert "export.parity.min_images=79" in done.said
    assert "Traceback" not in done.said


def started(words: list[str], place: Path) -> Outcome:
    """Run another program, or a module that must not meet what this process has loaded."""
    words = [sys.executable, *words[1:]] if words[0] == "python" else words
    done = subprocess.run(
        words, cwd=place, env=environment(), capture_output=True, text=True, check=False
    )
    return Outcome(done.returncode, done.stdout + done.stderr)


def environment() -> dict[str, str]:
    """With this checkout's packages and programs."""
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PYTHONPATH": str(ROOT), "PATH": programs}


@contextmanager
def served(command: str, place: Path) -> Iterator[int]:
    """A documented server on a port of its own, ready."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    given = dict(pair.split("=", 1) for pair in re.findall(r"[A-Z_]+=\S+(?= )", command))
    words = [*words_of(command, port), *(() if "--port" in command else ("--port", str(port)))]
    with (place / "server.log").open("w") as log:
        process = subprocess.Popen(
            words, cwd=place, env={**environment(), **given}, stdout=log, stderr=log
        )
    try:
        for _ in range(400):
            assert process.poll() is None, (place / "server.log").read_text()
            try:
                if httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == 200:
                    break
            except httpx.TransportError:
                pass
            time.sleep(0.25)
        else:
            pytest.fail((place / "server.log").read_text())
        yield port
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


@pytest.mark.ci
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("command", SERVED)
def test_a_documented_server_answers(place: Path, command: str) -> None:
    with served(command, place) as port:
        url = f"http://127.0.0.1:{port}/v1/classify"
        data = (place / "photo.jpg").read_bytes()
        answer = httpx.post(url, content=data, headers={"content-type": "image/jpeg"})
    assert answer.json()["predictions"][0]["label"] in CLASSES


@pytest.fixture(scope="module")
def port(place: Path) -> Iterator[int]:
    with served("stillroom serve runs/mine", place) as found:
        yield found


@pytest.mark.ci
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("command", ASKED)
def test_a_documented_request_is_answered(place: Path, port: int, command: str) -> None:
    if command.startswith("curl"):
        if shutil.which("curl") is None:
            pytest.skip("curl is not installed")
        name = httpx.get(f"http://127.0.0.1:{port}/v1/model").json()["name"]
        shell = command.replace("3000", str(port)).replace("models/flowers", f"models/{name}")
        done = started(["bash", "-c", f"{shell} --fail-with-body -sS"], place)
        assert any(word in done.said for word in (*CLASSES, '"logits"')), done.said
    else:
        done = started(words_of(command, port), place)
    assert done.code in longest(CODES, command, (0,)), done.said
    assert "Traceback" not in done.said
