from __future__ import annotations

import json
from pathlib import Path

import pytest

from serve.contract.artifact import open_artifact
from serve.contract.digest import canonical_json, digest_of_json
from serve.contract.errors import ArtifactError
from serve.contract.manifest import read_manifest, write_manifest
from serve.model.golden_check import load_golden


def test_a_valid_artifact_opens(tiny_artifact: Path) -> None:
    artifact = open_artifact(tiny_artifact)
    assert artifact.name == "tiny"
    assert len(artifact.labels) == 4
    assert artifact.preprocess.size_px == 32
    assert len(artifact.digest) == 64
    assert {image.path.name for image in load_golden(artifact)} >= {"cmyk.jpg", "thin.png"}


def test_a_run_folder_opens_its_artifact(tiny_artifact: Path) -> None:
    assert open_artifact(tiny_artifact.parent).root == tiny_artifact


def test_every_changed_byte_is_refused(artifact_copy: Path) -> None:
    for path in sorted(p for p in artifact_copy.rglob("*") if p.is_file()):
        data = path.read_bytes()
        places = range(len(data)) if len(data) < 400 else range(0, len(data), len(data) // 40)
        for place in {*places, len(data) - 1} if data else set():
            path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
            with pytest.raises(ArtifactError):
                open_artifact(artifact_copy)
        path.write_bytes(data + b"\n")
        with pytest.raises(ArtifactError):
            open_artifact(artifact_copy)
        path.write_bytes(data)
    open_artifact(artifact_copy)


def test_a_damaged_file_is_named(artifact_copy: Path) -> None:
    (artifact_copy / "model.onnx").write_bytes(b"x")
    with pytest.raises(ArtifactError, match=r"model\.onnx has sha256 2d711642b726, the manifest"):
        open_artifact(artifact_copy)
    (artifact_copy / "model.onnx").unlink()
    with pytest.raises(ArtifactError, match=r"model\.onnx is missing"):
        open_artifact(artifact_copy)


def test_a_link_out_of_the_folder_is_refused(artifact_copy: Path, tmp_path: Path) -> None:
    outside = tmp_path / "model.onnx"
    (artifact_copy / "model.onnx").rename(outside)
    (artifact_copy / "model.onnx").symlink_to(outside)
    with pytest.raises(ArtifactError, match="points outside"):
        open_artifact(artifact_copy)


def test_an_unknown_major_version_is_named(artifact_copy: Path) -> None:
    path = artifact_copy / "manifest.json"
    manifest = json.loads(path.read_bytes())
    body = {**manifest, "schema_version": "2.0"}
    body.pop("digest")
    path.write_bytes(canonical_json({**body, "digest": digest_of_json(body)}))
    with pytest.raises(ArtifactError, match=r"schema version 2\.0; this stillroom reads 1\.0"):
        open_artifact(artifact_copy)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "teacher"}, "is of kind 'teacher'; expected 'artifact'"),
        ({"preprocess_digest": "0" * 64}, "would compute other pixels"),
        ({"preprocess": {"size_px": 32}}, "preprocess spec"),
    ],
)
def test_an_inconsistent_manifest_is_refused(
    artifact_copy: Path, rewrite_manifest, changes, message
) -> None:
    rewrite_manifest(artifact_copy, **changes)
    with pytest.raises(ArtifactError, match=message):
        open_artifact(artifact_copy)


def test_golden_logits_must_fit_the_labels(artifact_copy: Path, rewrite_manifest) -> None:
    rewrite_manifest(artifact_copy, labels=["a", "b"])
    with pytest.raises(ArtifactError, match="4 logits for 2 labels"):
        load_golden(open_artifact(artifact_copy))


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"null", b"\xff", b'{"schema_version":1}'])
def test_what_is_no_manifest_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "manifest.json").write_bytes(content)
    with pytest.raises(ArtifactError):
        read_manifest(tmp_path)


def test_the_canonical_form_is_pinned(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"a")
    (tmp_path / ".hidden").write_bytes(b"h")
    (tmp_path / "runtime.json").write_bytes(b"{}")
    write_manifest(tmp_path, {"name": "blé", "kind": "x", "number": 0.1})
    assert (tmp_path / "manifest.json").read_bytes() == (
        b'{\n "digest": "620e10341b182e7f5fb8bf18da88eb1c7dfbab44d87bb38ea14ee04c35d980ad",\n'
        b' "files": {\n'
        b'  "a.txt": "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"\n'
        b' },\n "kind": "x",\n "name": "bl\xc3\xa9",\n "number": 0.1,\n'
        b' "schema_version": "1.0"\n}\n'
    )


def test_a_manifest_without_words_for_nan(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_manifest(tmp_path, {"x": float("nan")})
