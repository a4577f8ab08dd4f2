from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save

from compress.fixres import digests_of_model
from compress.proof import prove_frozen, tensor_digests
from serve.contract.errors import GateError
from tests.train.toy import PATIENT, toy_model
from train.models.checkpoint import WEIGHTS, ModelCard, save_checkpoint

HEAD = {"classifier.weight", "classifier.bias"}
NAMES = st.text("abcdef.", min_size=1, max_size=6)
DIGESTS = st.dictionaries(NAMES, st.sampled_from(["1" * 64, "2" * 64]), min_size=1)


def test_the_digests_of_a_model_are_those_of_its_file(tmp_path: Path, card: ModelCard) -> None:
    model = toy_model()
    save_checkpoint(tmp_path, model, card)
    assert tensor_digests((tmp_path / WEIGHTS).read_bytes()) == digests_of_model(model)
    assert digests_of_model(model).keys() == model.backbone.state_dict().keys()


def test_a_digest_covers_bytes_shape_and_type() -> None:
    zeros = torch.zeros(6)
    variants = [zeros, zeros.view(2, 3), zeros.int(), -zeros]  # minus zero is another number
    assert len({tensor_digests(save({"x": one}))["x"] for one in variants}) == 4
    metadata = tensor_digests(save({"x": zeros}, {"by": "hand"}))
    assert metadata == tensor_digests(save({"x": zeros.clone()}))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff" * 40,
        save({"x": torch.zeros(3)})[:-1],
        (2).to_bytes(8, "little") + b"[]",
        (7).to_bytes(8, "little") + b'{"x":1}',
        (14).to_bytes(8, "little") + b'{"x":{"a":1}} ',
    ],
)
def test_what_is_no_file_of_tensors_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"safetensors|outside of the file"):
        tensor_digests(data)


def test_the_proof_names_what_changed_and_sums_up_what_did_not() -> None:
    model = toy_model()
    before = digests_of_model(model)
    with torch.no_grad():
        model.backbone.classifier.bias += 1
    proof = prove_frozen(before, digests_of_model(model), free=HEAD)
    assert proof["changed"] == ["classifier.bias"]
    assert proof["free"] == sorted(HEAD)
    assert proof["frozen_tensors"] == len(before) - 2
    assert proof["frozen_digest_before"] == proof["frozen_digest_after"]
    assert prove_frozen(before, before, free=HEAD) == {**proof, "changed": []}


def test_a_change_of_one_bit_fails_the_proof() -> None:
    model = toy_model()
    before = digests_of_model(model)
    with torch.no_grad():
        weight = model.backbone.conv_stem.weight
        weight[0, 0, 0, 0] = torch.nextafter(weight[0, 0, 0, 0], torch.tensor(9.0))
    with pytest.raises(GateError, match=r"1 tensors that are frozen, first conv_stem\.weight") as e:
        prove_frozen(before, digests_of_model(model), free=HEAD)
    assert "bug in stillroom" in e.value.next_step


@PATIENT
@given(DIGESTS, st.data())
def test_whatever_is_not_free_must_stay(before: dict[str, str], data: st.DataObject) -> None:
    names = sorted(before)
    free = data.draw(st.sets(st.sampled_from(names)))
    changed = data.draw(st.sets(st.sampled_from(names)))
    after = {name: "3" * 64 if name in changed else digest for name, digest in before.items()}
    if changed <= free:
        proof = prove_frozen(before, after, free=free)
        assert set(proof["changed"]) == changed
        assert proof["frozen_tensors"] == len(set(names) - free)
        assert proof["frozen_digest_before"] == proof["frozen_digest_after"]
    else:
        with pytest.raises(GateError, match=f"first {re.escape(min(changed - free))}\\."):
            prove_frozen(before, after, free=free)


def test_tensors_may_neither_come_nor_go() -> None:
    for one, two in (({"a": "1"}, {}), ({}, {"a": "1"})):
        with pytest.raises(GateError, match="1 tensors are in one of the two checkpoints only"):
            prove_frozen(one, two, free={"a"})
