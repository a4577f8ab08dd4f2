"""A service with another interface than ours."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.loadtest.stub_server import Behaviour, run_command, served, write_corpus

pytestmark = pytest.mark.e2e

FLAGS = ("--rate", 30, "--duration-s", 1, "--warmup-s", 0, "--slo", "p50=5s")
FORM = ("--route", "/predict", "--field", "file", "--answer", "/0/class")


def test_form_pointer_and_header(tmp_path: Path) -> None:
    behaviour = Behaviour(body=b'[{"class": "roses"}]', route="/predict", key="k9")
    out = tmp_path / "out"
    with served(behaviour) as url:
        where = (url, "--corpus", write_corpus(tmp_path), "--out", out)
        done = run_command(*where, *FLAGS, *FORM, "--header", "X-Key: k9")
    summary = json.loads((out / "summary.json").read_text())
    assert done.returncode == 0, done.stderr
    assert summary["counts"]["ok"] == summary["planned"] == summary["answers"]["checked"] > 10
    assert all(kind.startswith("multipart/form-data") for kind in behaviour.content_types)
    assert summary["target"]["headers"] == ["X-Key"]
    assert summary["models"] == []
    assert "k9" not in json.dumps(summary)


@pytest.mark.parametrize(
    ("behaviour", "flags", "message"),
    [
        (
            Behaviour(route="/predict", key="k9"),
            FORM,
            "/predict answers 401; give its credentials with --header",
        ),
        (
            Behaviour(body=b'{"class": "roses"}', route="/predict"),
            FORM,
            "not with a classification; check --answer",
        ),
        (Behaviour(), FORM, "/predict answers 404; check --route, the path of the POST"),
        (
            Behaviour(status_of=lambda number: 501, body=b"<p>Unsupported method"),
            (),
            "/v1/classify answers 501; give the base address of a stillroom service",
        ),
        (
            Behaviour(status_of=lambda number: 422, body=b'{"detail": "field required"}'),
            (),
            "answers 422 to '0.png': b'{\"detail\": \"field required\"}'; check --field",
        ),
    ],
)
def test_a_wrong_question_fails_at_once(
    behaviour: Behaviour, flags: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with served(behaviour) as url:
        done = run_command(url, "--corpus", write_corpus(tmp_path), "--out", out, *flags)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert not out.exists()
