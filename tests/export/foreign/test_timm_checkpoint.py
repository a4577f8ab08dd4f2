from __future__ import annotations

import argparse
import pickle
import sys
import types
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from export.foreign.preprocess_choice import PreprocessChoice, build_spec, parse_triple
from export.foreign.timm_checkpoint import load_imported, timm_preprocess
from serve.contract.errors import CheckpointError, UsageError
from tests.train.toy import FAST, SIZE_PX, lively, toy_model

LABELS = ("aster", "bell", "clover")
SMALL = PreprocessChoice(size_px=SIZE_PX)
State = dict[str, Tensor]


@pytest.fixture(scope="module")
def state() -> State:
    return {name: t.contiguous() for name, t in lively(toy_model(4)).backbone.state_dict().items()}


def _saved(state: Any, path: Path) -> str:
    save_file(state, path) if path.suffix == ".safetensors" else torch.save(state, path)
    return str(path)


def _load(path: str, labels: tuple[str, ...] = LABELS) -> Any:
    return load_imported(path, FAST.arch, labels, SMALL)


def _refusal(path: str, labels: tuple[str, ...] = LABELS, arch: str = FAST.arch) -> Any:
    with pytest.raises((CheckpointError, UsageError)) as caught:
        load_imported(path, arch, labels, SMALL)
    assert caught.value.next_step
    assert caught.value.exit_code == 2
    return caught.value


# ---- what is read


@pytest.mark.parametrize("suffix", ["safetensors", "pth", "pt"])
def test_a_checkpoint_answers_as_the_model_it_was_saved_from(
    state: State, tmp_path: Path, suffix: str
) -> None:
    model, card = _load(_saved(state, tmp_path / f"w.{suffix}"))
    assert (card.arch, card.labels, card.preprocess.size_px) == (FAST.arch, LABELS, SIZE_PX)
    images = torch.randint(0, 256, (3, SIZE_PX, SIZE_PX, 3), dtype=torch.uint8)
    with torch.inference_mode():
        assert torch.equal(model(images), lively(toy_model(4))(images))
    assert not model.training


WRAPPERS = {
    "alone": "{w}",
    "state_dict": "state_dict",
    "state_dict_ema": "state_dict_ema",
    "model": "model",
    "model_ema": "model_ema",
    "model_state_dict": "model_state_dict",
    "net": "net",
    "weights": "weights",
    "params": "params",
    "in turn": "checkpoint.model.state_dict",
    "a name of one's own": "my best",
}


def _equal(model: Any, state: State) -> bool:
    own = model.backbone.state_dict()
    return own.keys() == state.keys() and all(torch.equal(own[n], state[n]) for n in own)


@pytest.mark.parametrize("wrapper", ["", *list(WRAPPERS)[1:]])
@pytest.mark.parametrize("prefix", ["", "module.", "model.", "net.backbone.", "module._orig_mod."])
def test_what_training_scripts_wrap_around_the_weights_is_taken_off(
    state: State,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    wrapper: str,
    prefix: str,
) -> None:
    content: Any = {f"{prefix}{name}": tensor for name, tensor in state.items()}
    path = WRAPPERS.get(wrapper, "")
    for name in reversed(path.split(".") if path else []):
        content = {
            "epoch": 3,
            "best": np.float64(0.9),  # figures and options that scripts save beside the weights
            "args": argparse.Namespace(lr=0.1, model="x"),
            "optimizer": {"state": {0: {"exp_avg": torch.zeros(2)}}, "param_groups": [{"lr": 1}]},
            name: content,
        }
    model, _ = _load(_saved(content, tmp_path / "last.pth"))
    assert _equal(model, state)
    key = ".".join(part for part in (path, prefix.replace("_orig_mod.", "").strip(".")) if part)
    said = capsys.readouterr().err
    assert said == (f"  last.pth: the tensors under {key!r}\n" if key else "")


@pytest.mark.parametrize("name", ["w.ckpt", "w.bin", "w.pth.tar", "w"])
def test_the_suffix_does_not_matter(state: State, tmp_path: Path, name: str) -> None:
    torch.save(state, tmp_path / name)
    assert _equal(_load(str(tmp_path / name))[0], state)


def test_a_safetensors_file_is_read_under_another_suffix(state: State, tmp_path: Path) -> None:
    save_file(state, tmp_path / "w.pt")
    assert _equal(_load(str(tmp_path / "w.pt"))[0], state)


def test_a_pickle_is_not_read_under_the_suffix_of_safetensors(state: State, tmp_path: Path) -> None:
    torch.save(state, tmp_path / "w.safetensors")
    error = _refusal(str(tmp_path / "w.safetensors"))
    assert "not a readable safetensors file, but one of PyTorch" in error.message
    assert ".pth" in error.next_step


def test_tensors_of_a_loss_beside_the_model_are_left_out_and_said(
    state: State, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lightning = {f"model.{name}": tensor for name, tensor in state.items()}
    lightning |= {"criterion.weight": torch.ones(3)}
    model, _ = _load(_saved({"state_dict": lightning}, tmp_path / "last.ckpt"))
    assert _equal(model, state)
    assert "'state_dict.model'; 1 left out (criterion.weight)" in capsys.readouterr().err


def _raw_and_averaged(state: State, layout: str) -> tuple[Any, str, str]:
    """A checkpoint with both, and the keys of raw and averaged."""
    averaged = {name: tensor + 1 for name, tensor in state.items()}
    if layout == "one dict":
        both = {f"model.{n}": t for n, t in state.items()}
        both |= {f"ema_model.module.{n}": t for n, t in averaged.items()}
        return {"state_dict": both}, "state_dict.model", "state_dict.ema_model.module"
    if layout == "root":
        return {**state, **{f"ema.{n}": t for n, t in averaged.items()}}, ".", "ema"
    raw, ema = layout.split()
    return {raw: state, ema: averaged}, raw, ema


@pytest.mark.parametrize(
    "layout",
    [
        "state_dict state_dict_ema",
        "model model_ema",
        "net ema",
        "student teacher",
        "one dict",
        "root",
    ],
)
def test_of_raw_and_averaged_weights_one_must_be_named(
    state: State, tmp_path: Path, layout: str
) -> None:
    content, raw, averaged = _raw_and_averaged(state, layout)
    path = _saved(content, tmp_path / "last.pth")
    with pytest.raises(UsageError) as caught:
        _load(path)
    assert f"2 sets of weights that fit: {raw}, {averaged}" in caught.value.message
    assert "--weights-key" in caught.value.next_step
    name = next(iter(state))
    for key, plus in ((raw, 0), (averaged, 1)):
        model, _ = load_imported(path, FAST.arch, LABELS, SMALL, weights_key=key)
        assert torch.equal(model.backbone.state_dict()[name], state[name] + plus)
    with pytest.raises(CheckpointError, match="no weights under 'emma'") as wrong:
        load_imported(path, FAST.arch, LABELS, SMALL, weights_key="emma")
    assert averaged in wrong.value.next_step


def test_counters_of_batch_norm_may_be_missing(state: State, tmp_path: Path) -> None:
    old = {name: t for name, t in state.items() if not name.endswith("num_batches_tracked")}
    assert len(old) < len(state)
    _load(_saved(old, tmp_path / "w.safetensors"))


def test_half_precision_weights_are_read_as_fp32(state: State, tmp_path: Path) -> None:
    half = {name: t.half() if t.is_floating_point() else t for name, t in state.items()}
    model, _ = _load(_saved(half, tmp_path / "w.safetensors"))
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


# ---- what is refused


def test_no_such_file(tmp_path: Path) -> None:
    assert "no such file" in _refusal(str(tmp_path / "none.pth")).message


def _zip(path: Path, *names: str) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, b"x")


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"


@pytest.mark.parametrize("suffix", ["pt", "safetensors", "onnx"])
@pytest.mark.parametrize(
    ("content", "message", "step"),
    [
        (b"", "is empty", "Download"),
        (POINTER, "is a Git LFS pointer", "git lfs pull"),
        (b"\n<!DOCTYPE html><html>", "is a web page", "Download"),
        (b'{"error": "gated"}', "is JSON text", "Download"),
        (b"\x89HDF\r\n\x1a\n0000", "is an HDF5 file, as Keras", "timm"),
        (b"\x1c\x00\x00\x00TFL3", "is a TensorFlow Lite model", "timm"),
        (b"\x08\x08\x12\x07pytorch", "is an ONNX file", "stillroom parity --reference a.onnx"),
        (b"\x1f\x8b\x08", "is compressed with gzip", "Unpack"),
        (["model.json", "model.weights.h5"], "is a Keras archive", "timm"),
        (["a.npy"], "is a NumPy archive", "timm"),
        (["best/weights.pth", "readme.txt"], "is a zip archive of 2 files", "Unpack"),
        (["MAR-INF/MANIFEST.json", "w.pth"], "is a TorchServe archive", "Unpack"),
    ],
)
def test_files_of_other_kinds_are_named(
    tmp_path: Path, content: bytes | list[str], message: str, step: str, suffix: str
) -> None:
    path = tmp_path / f"w.{suffix}"
    path.write_bytes(content) if isinstance(content, bytes) else _zip(path, *content)
    error = _refusal(str(path))
    assert message in error.message
    assert step in error.next_step


def test_a_folder_is_no_file_of_weights(state: State, tmp_path: Path) -> None:
    save_file(state, tmp_path / "model.safetensors")
    error = _refusal(str(tmp_path))
    assert "is a folder" in error.message
    assert "model.safetensors" in error.next_step
    (tmp_path / "saved_model.pb").touch()
    assert "TensorFlow SavedModel" in _refusal(str(tmp_path)).next_step


def test_a_torchscript_archive_is_named(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)).save(tmp_path / "w.pt")
    error = _refusal(str(tmp_path / "w.pt"))
    assert "is a TorchScript archive" in error.message
    assert "torch.jit.load('w.pt')" in error.next_step


def _pickled(path: Path, name: str, *, legacy: bool) -> str:
    """A checkpoint of a class of another library, which is not installed here."""
    module = types.ModuleType(name.rpartition(".")[0])
    kind = type(name.rpartition(".")[2], (dict,), {"__module__": module.__name__})
    setattr(module, kind.__name__, kind)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, module.__name__.partition(".")[0], module)
        patch.setitem(sys.modules, module.__name__, module)
        torch.save({"model": kind()}, path, _use_new_zipfile_serialization=not legacy)
    return str(path)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize(
    ("name", "message", "step"),
    [
        ("ultralytics.nn.tasks.ClassificationModel", "Ultralytics (YOLO)", "yolo export"),
        ("models.yolo.ClassificationModel", "Ultralytics (YOLO)", "yolo export"),
        ("models.resnet.ResNet", "a whole model (models.resnet.ResNet)", "model.state_dict()"),
        ("fastai.learner.Learner", "a Learner of fastai", "load_learner"),
        ("timm.models.resnet.ResNet", "a whole model (timm.models.resnet.ResNet)", "weights_only"),
        ("omegaconf.dictconfig.DictConfig", "more than tensors (omegaconf", "model.state_dict()"),
    ],
)
def test_pickles_of_other_libraries_are_named_and_not_run(
    tmp_path: Path, name: str, message: str, step: str, legacy: bool
) -> None:
    error = _refusal(_pickled(tmp_path / "w.pt", name, legacy=legacy))
    assert message in error.message
    assert "it is not run" in error.message
    assert step in error.next_step


def test_a_whole_pickled_model_is_named(tmp_path: Path) -> None:
    torch.save(torch.nn.Sequential(torch.nn.Linear(2, 2)), tmp_path / "w.pth")
    error = _refusal(str(tmp_path / "w.pth"))
    assert "a whole model (torch.nn.modules.container.Sequential)" in error.message
    assert "torch.load('w.pth', weights_only=False)" in error.next_step


class _Evil:
    def __reduce__(self) -> Any:
        return (print, ("a pickle was run",))


def test_a_pickle_that_would_run_something_is_not_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"state_dict": {"a": torch.zeros(1)}, "odd": _Evil()}, tmp_path / "w.pth")
    error = _refusal(str(tmp_path / "w.pth"))
    assert "it is not run" in error.message
    assert "torch.save(model.state_dict()" in error.next_step
    assert "a pickle was run" not in capsys.readouterr().out


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
@pytest.mark.parametrize("content", [b"", b"no checkpoint", pickle.dumps({"a": 1})[:9]])
def test_a_damaged_file(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    error = _refusal(str(tmp_path / name))
    assert "cannot be read" in error.message or "is not a checkpoint" in error.message


@pytest.mark.parametrize("content", [{}, {"epoch": 3}, {"state_dict": {}}, [1, 2], torch.zeros(2)])
def test_no_state_dict(tmp_path: Path, content: Any) -> None:
    error = _refusal(_saved(content, tmp_path / "w.pth"))
    assert "is not a state dict" in error.message
    assert "model.state_dict()" in error.next_step


def test_tensors_that_do_not_fit_are_named(state: State, tmp_path: Path) -> None:
    names = [name for name, tensor in state.items() if tensor.ndim]
    bad = {**state, "extra.weight": torch.zeros(2), names[0]: torch.zeros(1, 2)}
    del bad[names[5]]
    error = _refusal(_saved(bad, tmp_path / "w.safetensors"))
    assert f"1 missing ({names[5]})" in error.message
    assert "1 unexpected (extra.weight)" in error.message
    assert f"1 of another shape ({names[0]} (1, 2), not {tuple(state[names[0]].shape)})" in (
        error.message
    )
    assert "--model" in error.next_step


def test_integers_in_the_place_of_weights_do_not_fit(state: State, tmp_path: Path) -> None:
    name = next(iter(state))
    bad = {**state, name: torch.zeros(state[name].shape, dtype=torch.int8)}
    assert f"{name} int8 (" in _refusal(_saved(bad, tmp_path / "w.safetensors")).message


def test_the_weights_of_another_model(state: State, tmp_path: Path) -> None:
    error = _refusal(_saved(state, tmp_path / "w.safetensors"), arch="test_resnet")
    assert "are not those of test_resnet" in error.message
    assert "missing" in error.message
    assert "unexpected" in error.message


def test_the_same_tensors_under_other_names(state: State, tmp_path: Path) -> None:
    renamed = {f"net{i:03d}": tensor for i, tensor in enumerate(state.values())}
    error = _refusal(_saved(renamed, tmp_path / "w.pth"))
    assert "rename the tensors" in error.next_step


def test_labels_of_another_length(state: State, tmp_path: Path) -> None:
    path = _saved(state, tmp_path / "w.safetensors")
    error = _refusal(path, labels=("a", "b", "c", "d", "e"))
    assert "--labels names 5 classes" in error.message
    assert "(classifier.weight) has 3 outputs" in error.message
    assert "one name for each output" in error.next_step


def test_weights_that_are_not_finite_are_named(state: State, tmp_path: Path) -> None:
    name = list(state)[3]
    bad = {**state, name: torch.full_like(state[name], float("nan"))}
    error = _refusal(_saved(bad, tmp_path / "w.safetensors"))
    assert f"NaN or infinity in 1 tensors: {name}" in error.message
    assert "before the training diverged" in error.next_step


@pytest.mark.parametrize(
    ("arch", "message", "step"),
    [
        ("resnet18.nonesuch", "no weights 'nonesuch' of resnet18; it knows a1_in1k", "resnet18"),
        ("resnett18", "no model 'resnett18'", "resnet18"),
        ("", "no model ''", "timm.list_models()"),
    ],
)
def test_a_model_that_timm_does_not_know(arch: str, message: str, step: str) -> None:
    with pytest.raises(UsageError) as caught:
        timm_preprocess(arch, PreprocessChoice())
    assert message in caught.value.message
    assert step in caught.value.next_step


# ---- preprocessing


def test_preprocessing_is_that_of_timm_unless_it_is_said() -> None:
    spec, mean, std = timm_preprocess("tf_efficientnet_lite0", PreprocessChoice())
    assert (spec.size_px, spec.crop_pct, spec.interpolation) == (224, 0.875, "bicubic")
    assert mean == std == (0.5, 0.5, 0.5)
    said = PreprocessChoice(96, 1.0, "bilinear", (0.1, 0.2, 0.3), (1.0, 1.0, 1.0))
    spec, mean, std = timm_preprocess("tf_efficientnet_lite0", said)
    assert (spec.size_px, spec.crop_pct, spec.interpolation) == (96, 1.0, "bilinear")
    assert (mean, std) == ((0.1, 0.2, 0.3), (1.0, 1.0, 1.0))


def test_the_tag_says_the_preprocessing() -> None:
    tagged = [
        timm_preprocess(f"resnet18.{t}", PreprocessChoice())[0] for t in ("a1_in1k", "tv_in1k")
    ]
    assert [(spec.crop_pct, spec.interpolation) for spec in tagged] == [
        (0.95, "bicubic"),
        (0.875, "bilinear"),
    ]


def test_a_squashing_model_needs_a_crop() -> None:
    arch = "convnext_base.fb_in22k_ft_in1k_384"
    with pytest.raises(UsageError, match="crop mode 'squash'") as caught:
        timm_preprocess(arch, PreprocessChoice())
    assert "--crop-pct" in caught.value.next_step
    assert timm_preprocess(arch, PreprocessChoice(crop_pct=1.0))[0].crop_pct == 1.0


def test_values_out_of_range_are_refused() -> None:
    for bad in (
        (0, 0.9, "bicubic"),
        (64, 1.5, "bicubic"),
        (64, 0.0, "bicubic"),
        (64, 0.9, "nearest"),
    ):
        with pytest.raises(UsageError, match="expected"):
            build_spec(PreprocessChoice(*bad))
    with pytest.raises(UsageError, match="Nothing says --size and --crop-pct"):
        build_spec(PreprocessChoice())
    assert parse_triple("--mean", "0.5") == (0.5, 0.5, 0.5)
    assert parse_triple("--mean", "0,0.5,1") == (0.0, 0.5, 1.0)
    assert parse_triple("--mean", None) is None
    for option, text in (("--mean", "1,2"), ("--std", "0"), ("--std", "nan"), ("--mean", "x")):
        with pytest.raises(UsageError, match=option):
            parse_triple(option, text)


@pytest.mark.parametrize("text", ["123.675,116.28,103.53", "58.4,57.1,57.4", "-0.1,0,0", "inf"])
@pytest.mark.parametrize("option", ["--mean", "--std"])
def test_numbers_of_pixels_in_0_to_255_are_refused(option: str, text: str) -> None:
    with pytest.raises(UsageError, match=option) as caught:
        parse_triple(option, text)
    assert "divide those of pixels in 0 to 255 by 255" in caught.value.next_step
