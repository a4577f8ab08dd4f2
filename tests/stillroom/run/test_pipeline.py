"""The whole path on tiny images: one run, looked at from every side."""

from __future__ import annotations

import json
import re
import shutil
import time
from pathlib import Path

import jsonschema
import pytest
from safetensors.torch import load_file, save_file

from serve.contract.manifest import damaged_files, read_manifest, write_manifest
from tests.stillroom.conftest import TINY

ROOT = Path(__file__).parents[3]
pytestmark = pytest.mark.e2e
STAGES = (
    *("data", "teacher", "student", "fixres", "baseline"),
    *("artifact", "latency", "http", "loadtest", "report"),
)


@pytest.fixture
def run_copy(tiny_run, tmp_path) -> Path:
    copy = tmp_path / "run"
    shutil.copytree(tiny_run, copy)
    return copy


def test_a_load_test_names_what_is_damaged_or_gone(stillroom, run_copy):
    record = run_copy / "run.json"
    told = json.loads(record.read_text())
    record.write_text(json.dumps(told | {"photos": "/gone"}))
    outcome = stillroom("loadtest", run_copy, "--rate", 5)
    assert outcome.code == 2
    assert "/gone, the images of this run, is not there. Give others" in outcome.err
    record.write_text(json.dumps(told))
    for folder in run_copy.iterdir():
        if (folder / "predictions.csv").exists():
            (folder / "predictions.csv").write_text("damaged")
    outcome = stillroom("loadtest", run_copy, "--rate", 5)
    assert outcome.code == 2
    assert "has no answers to check by: damaged: predictions.csv" in outcome.err
    record.write_text("[1]")
    outcome = stillroom("loadtest", run_copy, "--rate", 5)
    assert outcome.code == 2
    assert "run.json is damaged" in outcome.err


def test_every_stage_is_published_and_verifies(tiny_run):
    for name in STAGES:
        manifest = read_manifest(tiny_run / name, kind=name)
        assert damaged_files(tiny_run / name, manifest) == []
    assert not list(tiny_run.glob(".*.work"))


def test_every_manifest_fits_the_published_schema(tiny_run):
    schema = json.loads((ROOT / "serve" / "contract" / "manifest.schema.json").read_text())
    validator = jsonschema.Draft202012Validator(schema)
    for name in STAGES:
        manifest = json.loads((tiny_run / name / "manifest.json").read_text())
        assert [error.message for error in validator.iter_errors(manifest)] == []
    del manifest["digest"]
    assert not validator.is_valid(manifest)


def test_the_chain_links_every_stage_to_its_parents(tiny_run):
    chain = json.loads((tiny_run / "run.json").read_text())["chain"]
    digests = {link["stage"]: link["digest"] for link in chain}
    assert len(digests) == len(STAGES)
    for link in chain:
        assert all(digests[name] == digest for name, digest in link["parents"].items())


def test_parity_passed_on_val_and_was_reported_on_the_whole_test_split(tiny_run):
    parity = json.loads((tiny_run / "artifact" / "parity.json").read_text())
    assert parity["status"] == "passed"
    assert parity["images"] == 300
    assert parity["flips"] == 0
    assert "test" not in parity["images_of"]
    assert parity["test"]["images"] == 315
    assert parity["test"]["flips"] == 0


def test_every_answer_over_http_is_the_offline_answer(tiny_run):
    http = json.loads((tiny_run / "http" / "http_parity.json").read_text())
    assert http["images"] == http["agree"] == 315
    assert http["digests"] == [read_manifest(tiny_run / "artifact")["digest"]]


def test_answers_under_load_were_checked(tiny_run):
    load = json.loads((tiny_run / "loadtest" / "summary.json").read_text())
    for mode in ("closed", "open"):
        assert load[mode]["answers"]["checked"] > 0
        assert load[mode]["answers"]["wrong"] == 0


def test_fixres_proves_in_its_manifest_what_it_left_alone(tiny_run):
    made = read_manifest(tiny_run / "fixres")["fixres"]
    proof = made["proof"]
    assert made["last_norms"] == ["bn2"]
    assert proof["frozen_tensors"] > 50
    assert proof["frozen_digest_before"] == proof["frozen_digest_after"]
    assert set(proof["changed"]) <= set(proof["free"])
    assert {name.split(".")[0] for name in proof["free"]} == {"classifier", "bn2"}
    assert json.loads((tiny_run / "fixres" / "fixres.json").read_text())["proof"] == proof


def test_no_path_of_this_machine_is_published(tiny_run, tiny_photos):
    private = str(tiny_photos.parent).encode()
    for name in STAGES:
        for path in (tiny_run / name).rglob("*"):
            if path.is_file():
                assert private not in path.read_bytes(), path


def test_a_second_run_does_nothing_and_is_quick(stillroom, run_copy, tiny_photos):
    start = time.monotonic()
    outcome = stillroom("run", tiny_photos, "--run", run_copy)
    assert outcome.code == 0
    assert outcome.err.count(": done") == len(STAGES)
    assert time.monotonic() - start < 15


def test_status_and_verify_agree_that_all_is_well(stillroom, run_copy):
    status = stillroom("status", run_copy)
    assert status.out.count(" done ") == len(STAGES)
    verify = stillroom("verify", run_copy)
    assert verify.code == 0, verify.err
    assert "golden" in verify.out
    assert re.search(r"ok +frozen +[0-9a-f]{12} [0-9]+ tensors as in student", verify.out)


def test_verify_repeats_the_proof_that_the_rest_is_frozen(stillroom, run_copy):
    """Even of a stage whose files and manifest agree: a leak that was published as if proven."""
    fixres = run_copy / "fixres"
    tensors = load_file(fixres / "checkpoint.safetensors")
    tensors["conv_stem.weight"][0, 0, 0, 0] += 1
    save_file(tensors, fixres / "checkpoint.safetensors")
    manifest = read_manifest(fixres)
    write_manifest(fixres, {k: v for k, v in manifest.items() if k not in ("digest", "files")})
    outcome = stillroom("verify", run_copy)
    assert outcome.code == 1
    assert re.search(r"FAIL +frozen", outcome.out)
    assert "fixres: FixRes changed 1 tensors that are frozen, first conv_stem.weight" in outcome.err


@pytest.mark.parametrize("name", ["teacher/checkpoint.safetensors", "data/index.csv"])
def test_verify_names_the_stage_and_file_of_one_changed_byte(stillroom, run_copy, name):
    path = run_copy / name
    data = bytearray(path.read_bytes())
    data[-2] ^= 1
    path.write_bytes(data)
    outcome = stillroom("verify", run_copy)
    assert outcome.code == 1
    assert Path(name).name in outcome.err
    assert "FAIL" in outcome.out


def test_a_changed_option_is_stale_from_its_stage_on(stillroom, run_copy, tiny_photos):
    outcome = stillroom(
        *("run", tiny_photos, "--run", run_copy, "--until", "fixres"),
        *("fixres.lr=2e-3", "fixres.epochs=2"),
    )
    assert outcome.code == 0
    assert "student: done" in outcome.err
    assert "fixres: its inputs or options changed; building" in outcome.err
    status = stillroom("status", run_copy)
    assert "stale: fixres changed since" in " ".join(status.out.split())


def test_predict_gives_the_stored_answer(stillroom, tiny_run, tiny_photos):
    rows = (tiny_run / "fixres" / "predictions.csv").read_text().splitlines()[1:6]
    for row in rows:
        path, _, _, _, predicted, *_ = row.split(",")
        outcome = stillroom("predict", tiny_run, tiny_photos / path)
        assert outcome.out.split()[1] == predicted


def test_parity_here_repeats_the_reference_answers(stillroom, tiny_run, tiny_photos):
    golden = stillroom("parity", tiny_run)
    assert golden.code == 0
    assert "parity inconclusive" in golden.out  # 16 images
    whole = stillroom("parity", tiny_run, "--photos", tiny_photos)
    assert "parity passed" in whole.out
    assert "615 of 615 predictions" in whole.out  # those of val and of test


def test_the_resolved_recipe_is_kept(tiny_run):
    text = (tiny_run / "recipe.toml").read_text()
    for override in TINY:
        key, value = override.split("=")
        value = f'"{value}"' if value.isalpha() or "_" in value else value
        assert f"{key.rsplit('.', 1)[-1]} = {value}" in text
