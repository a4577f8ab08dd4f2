"""`stillroom export --checkpoint`: from a file of weights to an artifact that serves."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import jsonschema
import numpy as np
import onnx
import pytest
import torch
from safetensors.torch import save_file

import export.foreign.stage
from serve.contract import manifest as manifest_module
from serve.contract.artifact import open_artifact
from serve.contract.errors import GateError
from stillroom.commands.artifact.import_checkpoint import ImportRequest, import_checkpoint
from tests.train.toy import CLASSES, SIZE_PX, lively, toy_model, write_photos

ARCH = "test_efficientnet"
SCHEMA = Path(manifest_module.__file__).with_name("manifest.schema.json")


@dataclass(frozen=True)
class Imported:
    """An imported artifact of 312 images and what it was made of. Read only."""

    checkpoint: Path
    labels: Path
    photos: Path
    out: Path

    def arguments(self, **changes: object) -> list[object]:
        options = {
            "checkpoint": self.checkpoint,
            "model": ARCH,
            "labels": self.labels,
            "photos": self.photos,
            "size": SIZE_PX,
            **changes,
        }
        given = {name: value for name, value in options.items() if value is not None}
        return ["export", *(part for name, v in given.items() for part in (f"--{name}", v))]


@pytest.fixture(scope="session")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Imported:
    base = tmp_path_factory.mktemp("imported")
    state = lively(toy_model(4)).backbone.state_dict()
    save_file({name: t.contiguous() for name, t in state.items()}, base / "w.safetensors")
    (base / "labels.txt").write_text("\n".join(CLASSES) + "\n")
    photos = write_photos(base / "photos", count=104)
    made = Imported(base / "w.safetensors", base / "labels.txt", photos, base / "artifact")
    request = _request(made, made.out)
    import_checkpoint(request)
    return made


def _request(made: Imported, out: Path, **changes: object) -> ImportRequest:
    from export.foreign.preprocess_choice import PreprocessChoice

    values = {
        "checkpoint": str(made.checkpoint),
        "arch": ARCH,
        "labels": made.labels,
        "photos": made.photos,
        "choice": PreprocessChoice(size_px=SIZE_PX),
        **changes,
    }
    return ImportRequest(out=out, **values)


@pytest.fixture
def ready(imported: Imported, monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the graph that is there already: writing one takes seconds."""

    def write(_model: object, _card: object, path: Path, *, opset: int) -> None:
        del opset
        shutil.copy(imported.out / "model.onnx", path)

    monkeypatch.setattr(export.foreign.stage, "write_graph", write)


def test_the_artifact_is_whole_and_says_where_it_comes_from(imported: Imported) -> None:
    artifact = open_artifact(imported.out)
    manifest = json.loads((imported.out / "manifest.json").read_bytes())
    jsonschema.validate(manifest, json.loads(SCHEMA.read_bytes()))
    digest = hashlib.sha256(imported.checkpoint.read_bytes()).hexdigest()
    assert manifest["lineage"] == [{"stage": "imported checkpoint", "digest": digest}]
    assert artifact.labels == CLASSES
    assert artifact.preprocess.crop_pct == 0.95  # of timm's data config
    parity = manifest["parity"]
    assert (parity["status"], parity["images"], parity["flips"]) == ("passed", 312, 0)
    assert parity["reference_top1"] is not None  # the folders are named as the classes
    assert parity["limits"]["min_snr_db"] == 80
    assert not [path for path in imported.out.parent.iterdir() if path.name[0] == "."]


def test_the_commands_of_a_run_work_on_it(stillroom, imported: Imported) -> None:
    photo = imported.photos / "bell" / "003.jpg"
    for command in (["verify", imported.out], ["predict", imported.out, photo]):
        outcome = stillroom(*command)
        assert outcome.code == 0, outcome.err
    whole = stillroom("parity", imported.out, "--photos", imported.photos, "--strict")
    assert whole.code == 0, whole.err
    assert "parity passed fp32 test_efficientnet on onnxruntime-cpu: 312 of 312" in whole.out
    files = ("--reference", imported.out / "model.onnx", "--candidate", imported.out / "model.onnx")
    same = stillroom("parity", *files, "--photos", imported.photos, "--strict")
    assert same.code == 0, same.err
    assert "SNR 999 dB" in same.out


@pytest.mark.ci
def test_two_exports_of_one_checkpoint_are_one_file_without_a_path(
    stillroom, imported: Imported, tmp_path: Path
) -> None:
    other = tmp_path / "elsewhere.pth"  # another kind of file, of the same tensors
    state = {f"module.{n}": t for n, t in lively(toy_model(4)).backbone.state_dict().items()}
    torch.save({"state_dict": state, "epoch": 1}, other)
    outcome = stillroom(*imported.arguments(checkpoint=other, out=tmp_path / "out"))
    assert outcome.code == 0, outcome.err
    data = (tmp_path / "out" / "model.onnx").read_bytes()
    assert data == (imported.out / "model.onnx").read_bytes()
    for trace in (tmp_path, Path.cwd(), Path.home(), imported.out.parent):
        assert str(trace).encode() not in data
        assert str(trace) not in (tmp_path / "out" / "manifest.json").read_text()


@pytest.mark.usefixtures("ready")
def test_few_images_are_published_as_inconclusive_and_refused_by_strict(
    stillroom, imported: Imported, tmp_path: Path
) -> None:
    few = write_photos(tmp_path / "few", count=5, first=900)
    out = tmp_path / "out"
    outcome = stillroom(*imported.arguments(photos=few, out=out), "--strict")
    assert outcome.code == 1
    assert "PARITY INCONCLUSIVE" in outcome.err
    assert "15 images < 300" in outcome.err
    assert "--photos" in outcome.err
    assert not out.exists()
    outcome = stillroom(*imported.arguments(photos=few, out=out))
    assert outcome.code == 0
    assert "15 images < 300" in outcome.err
    assert "parity inconclusive" in outcome.err
    assert json.loads((out / "manifest.json").read_bytes())["parity"]["status"] == "inconclusive"
    open_artifact(out)


@pytest.mark.usefixtures("ready")
def test_top1_is_said_where_folders_are_named_as_classes(
    stillroom, imported: Imported, tmp_path: Path
) -> None:
    outcome = stillroom(*imported.arguments(out=tmp_path / "out"))
    top1 = json.loads((tmp_path / "out" / "parity.json").read_bytes())["reference_top1"]
    assert f"top-1 {top1:.1%} of 312 images, by the names of their folders" in outcome.err
    unnamed = shutil.copytree(imported.photos / "bell", tmp_path / "photos" / "some")
    assert unnamed.is_dir()
    outcome = stillroom(*imported.arguments(photos=unnamed.parent, out=tmp_path / "out"))
    assert outcome.code == 0, outcome.err
    assert "top-1" not in outcome.err


@pytest.mark.usefixtures("ready")
@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ("0 aster\n1 bell\n2 clover\n", ("labels.txt is read without numbers", "top-1 ")),
        ('{"aster": 0, "clover": 2, "bell": 1}', ("is read as a JSON or Python list", "top-1 ")),
        ("aster\nbell\nclovers\n", ("warning: accuracy is not compared: 1 of", "'clover'")),
        ("a\nb\nc\n", ("warning: accuracy is not compared: 3 of", "'aster', 'bell', 'clover'")),
    ],
)
def test_labels_of_others_and_folders_that_are_none_of_them(
    stillroom, imported: Imported, tmp_path: Path, labels: str, said: tuple[str, ...]
) -> None:
    (tmp_path / "labels.txt").write_text(labels)
    arguments = imported.arguments(labels=tmp_path / "labels.txt", out=tmp_path / "out")
    outcome = stillroom(*arguments)
    assert outcome.code == 0, outcome.err
    assert all(part in outcome.err for part in said), outcome.err
    assert ("top-1 " in outcome.err) == ("top-1 " in said)


@pytest.mark.usefixtures("ready")
def test_the_weights_that_are_meant_are_named(
    stillroom, imported: Imported, tmp_path: Path
) -> None:
    raw = lively(toy_model(4)).backbone.state_dict()
    both = {"state_dict": {f"model.{n}": t for n, t in raw.items()}, "state_dict_ema": raw}
    torch.save(both, tmp_path / "last.ckpt")
    arguments = imported.arguments(checkpoint=tmp_path / "last.ckpt", out=tmp_path / "out")
    outcome = stillroom(*arguments)
    assert outcome.code == 2
    assert "state_dict.model, state_dict_ema" in outcome.err
    assert "--weights-key" in outcome.err
    assert not (tmp_path / "out").exists()
    for key in ("state_dict.model", "state_dict_ema"):
        outcome = stillroom(*arguments, "--weights-key", key)
        assert outcome.code == 0, outcome.err
        assert f"last.ckpt: the tensors under {key!r}" in outcome.err
        manifest = json.loads((tmp_path / "out" / "manifest.json").read_bytes())
        assert manifest["options"]["weights_key"] == key
    assert "--weights-key" in stillroom("export", "--weights-key", "a").err


@pytest.mark.parametrize(
    ("right", "images", "classes", "warned"),
    [
        (104, 312, 3, True),
        (70, 312, 3, True),
        (125, 312, 3, False),
        (300, 312, 3, False),
        (0, 5, 3, True),
        # So few, or so few classes, that nothing could be shown.
        (3, 3, 3, False),
        (0, 4, 3, False),
        (6, 6, 2, False),
        (7, 7, 2, False),
        (3, 7, 2, True),
        (9, 9, 1, False),
        (312, 312, 1, False),
    ],
)
def test_answers_like_guesses_are_warned_of(
    capsys: pytest.CaptureFixture[str], right: int, images: int, classes: int, warned: bool
) -> None:
    export.foreign.stage._say_accuracy(right / images, images, classes)
    said = capsys.readouterr().err
    assert ("not shown to be better than guessing" in said) == warned
    assert ("the order of --labels" in said) == warned


@pytest.mark.usefixtures("ready")
def test_without_photographs_two_of_scikit_learn_are_taken(
    imported: Imported, tmp_path: Path
) -> None:
    import_checkpoint(_request(imported, tmp_path / "out", photos=None))
    parity = json.loads((tmp_path / "out" / "parity.json").read_bytes())
    assert (parity["status"], parity["images"]) == ("inconclusive", 2)


def test_another_graph_is_not_published(
    imported: Imported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(model: object, card: object, path: Path, *, opset: int) -> None:
        del model, card, opset
        graph = onnx.load(imported.out / "model.onnx")
        tensor = next(t for t in graph.graph.initializer if len(t.dims) == 4)
        values = onnx.numpy_helper.to_array(tensor).copy()
        values[0] += 0.5 * np.abs(values).max()
        tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
        onnx.save(graph, path)

    monkeypatch.setattr(export.foreign.stage, "write_graph", write)
    with pytest.raises(GateError, match="PARITY FAIL fp32 test_efficientnet: ") as caught:
        import_checkpoint(_request(imported, tmp_path / "out"))
    assert "Evidence: " in caught.value.next_step
    assert not (tmp_path / "out").exists()
    assert (tmp_path / "failed-out" / "flips.csv").exists()


@pytest.mark.usefixtures("ready")
def test_only_an_earlier_import_is_replaced(stillroom, imported: Imported, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "diary.txt").write_text("mine")
    outcome = stillroom(*imported.arguments(out=out))
    assert outcome.code == 2
    assert "is not an artifact of an imported checkpoint" in outcome.err
    assert (out / "diary.txt").read_text() == "mine"
    shutil.rmtree(out)
    for _ in range(2):
        assert stillroom(*imported.arguments(out=out)).code == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": None}, "--checkpoint needs --model"),
        ({"labels": None, "model": None}, "--checkpoint needs --model and --labels"),
        ({"checkpoint": None}, "Without --checkpoint nothing is known of --model, --labels"),
        ({"size": 0}, "size_px"),
        ({"mean": "red"}, "--mean 'red'"),
        ({"model": "resnett18"}, "no model 'resnett18'"),
        ({"photos": "none"}, "No such folder"),
    ],
)
def test_wrong_use(
    stillroom, imported: Imported, tmp_path: Path, change: dict[str, object], message: str
) -> None:
    outcome = stillroom(*imported.arguments(out=tmp_path / "out", **change))
    assert outcome.code == 2, outcome
    assert message in outcome.err
    assert "Traceback" not in outcome.err
    assert not list(tmp_path.iterdir())


def test_a_run_and_a_checkpoint_are_not_mixed(stillroom, imported: Imported) -> None:
    outcome = stillroom(*imported.arguments(), "runs/mine")
    assert outcome.code == 2
    assert "a run has its own checkpoint" in outcome.err
    for command in (
        ["export"],
        ["export", "runs/mine", "--model", "resnet18"],
        ["export", imported.checkpoint],
    ):
        outcome = stillroom(*command)
        assert outcome.code == 2
        assert "Either stillroom export RUN, or stillroom export --checkpoint" in outcome.err


def test_labels_of_the_wrong_length(stillroom, imported: Imported, tmp_path: Path) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("a\nb\n")
    outcome = stillroom(*imported.arguments(labels=labels, out=tmp_path / "out"))
    assert outcome.code == 2
    assert "--labels names 2 classes" in outcome.err
    assert "has 3 outputs" in outcome.err
