"""The HTTP interface in one process: app and guard, without BentoML and sockets."""

from __future__ import annotations

import asyncio
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from serve.http.app import build_app
from serve.http.guard import Guard
from serve.model.golden_check import load_golden
from serve.model.predictions import probabilities_from_logits

JPEG = {"content-type": "image/jpeg"}


def test_the_answer_is_exactly_this(ask, served, jpeg: bytes) -> None:
    response = ask("POST", "/v1/classify?top_k=2", content=jpeg, headers=JPEG)
    assert response.status_code == 200
    body = response.json()
    assert list(body) == ["predictions", "model"]
    assert [list(one) for one in body["predictions"]] == [["label", "probability"]] * 2
    assert body["model"] == {
        "name": "tiny",
        "version": served.artifact.version,
        "digest": served.artifact.digest,
        "backend": "onnxruntime-cpu",
    }
    timing = response.headers["server-timing"]
    stages = re.findall(r"(\w+);dur=(\d+\.\d{3})", timing)
    assert [name for name, _ in stages] == ["decode", "queue", "infer", "total"]
    values = [float(value) for _, value in stages]
    assert sum(values[:3]) <= values[3]
    assert "server" not in response.headers


def test_the_answers_are_those_of_the_artifact(ask, served) -> None:
    for image in load_golden(served.artifact):
        response = ask("POST", "/v1/classify", content=image.path.read_bytes(), headers=JPEG)
        answer = {p["label"]: p["probability"] for p in response.json()["predictions"]}
        expected = probabilities_from_logits(image.logits)
        for label, probability in zip(served.artifact.labels, expected, strict=True):
            assert answer[label] == pytest.approx(probability, abs=1e-5), image.path.name
        assert list(answer) == [served.artifact.labels[i] for i in np.argsort(-expected)]


@pytest.mark.parametrize("content_type", ["image/png", "IMAGE/JPEG; q=1", "image/svg+xml",
                                          "application/octet-stream", None])  # fmt: skip
def test_the_label_of_the_content_is_ignored(ask, jpeg: bytes, content_type) -> None:
    headers = {"content-type": content_type} if content_type else {}
    assert ask("POST", "/v1/classify", content=jpeg, headers=headers).status_code == 200


def test_multipart_gives_the_same_answer(ask, jpeg: bytes) -> None:
    raw = ask("POST", "/v1/classify", content=jpeg, headers=JPEG)
    form = ask("POST", "/v1/classify", files={"image": ("../../etc/passwd", jpeg, "text/html")})
    assert form.json() == raw.json()


@pytest.mark.parametrize(
    ("query", "count"),
    [("", 4), ("?top_k=1", 1), ("?top_k=002", 2), ("?top_k=4", 4), ("?other=1", 4)]
    + [(f"?top_k={more}", 4) for more in ("5", "1000", "9" * 5000)],
)
def test_top_k_is_at_most_the_number_of_labels(ask, jpeg: bytes, query: str, count: int) -> None:
    response = ask("POST", f"/v1/classify{query}", content=jpeg, headers=JPEG)
    assert len(response.json()["predictions"]) == count


@pytest.mark.parametrize("value", ["0", "000", "-1", "1.5", "+1", "1e2", "x", "", "٣"])
def test_a_wrong_top_k_is_refused(ask, is_problem, jpeg: bytes, value: str) -> None:
    response = ask("POST", "/v1/classify", params={"top_k": value}, content=jpeg, headers=JPEG)
    assert "1 or more; 4 gives" in is_problem(response, 400, "invalid-top-k")["detail"]


@pytest.mark.parametrize(
    ("sent", "kept"),
    [("abc-123_X.y", True), ("", False), ("a b", False), ("x" * 65, False), ("é", False)],
)
def test_a_sane_request_id_is_kept(ask, jpeg: bytes, sent: str, kept: bool) -> None:
    headers = [(b"content-type", b"image/jpeg"), (b"x-request-id", sent.encode())]
    answered = ask("POST", "/v1/classify", content=jpeg, headers=headers).headers["x-request-id"]
    assert (answered == sent) == kept
    assert re.fullmatch(r"[A-Za-z0-9._-]{1,64}", answered)


def gif() -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (4, 4)).save(buffer, "GIF")
    return buffer.getvalue()


def multipart(*parts: tuple[str, bytes], boundary: str = "b", end: bool = True) -> bytes:
    text = b""
    for disposition, data in parts:
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="{disposition}\r\n\r\n'
        text += head.encode() + data + b"\r\n"
    return text + (f"--{boundary}--\r\n".encode() if end else b"")


FORM = "multipart/form-data; boundary=b"
ABUSE = [  # (case, content type, body, status, slug)
    ("random bytes", "image/jpeg", bytes(range(256)) * 9, 415, "unsupported-image"),
    ("empty body", "image/jpeg", b"", 400, "empty-body"),
    ("empty file", FORM, multipart(('image"; filename="x"', b"")), 400, "empty-body"),
    ("text", "image/jpeg", b"hello", 415, "unsupported-image"),
    ("text media type", "text/plain", b"hello", 415, "unsupported-media-type"),
    (
        "SVG",
        "image/svg+xml",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        415,
        "unsupported-image",
    ),
    ("HTML", "image/png", b"<!doctype html><html></html>", 415, "unsupported-image"),
    ("EPS", "image/eps", b"%!PS-Adobe-3.0 EPSF-3.0\n", 415, "unsupported-image"),
    ("GIF", "image/gif", gif(), 415, "unsupported-image"),
    ("URL as body", "image/jpeg", b"http://127.0.0.1:1/x.jpg", 415, "unsupported-image"),
    ("URL as field", FORM, multipart(('image"', b"http://127.0.0.1:1/")), 400, "missing-image"),
    ("file URL", FORM, multipart(('image"', b"file:///etc/passwd")), 400, "missing-image"),
    ("wrong field", FORM, multipart(('photo"; filename="x"', b"1")), 400, "missing-image"),
    ("no field", FORM, multipart(), 400, "missing-image"),
    ("two images", FORM, multipart(*[('image"; filename="x"', b"1")] * 2), 400, "missing-image"),
    ("no boundary", "multipart/form-data", b"x", 400, "malformed-multipart"),
    ("broken multipart", FORM, b"--b\r\nnonsense\r\n--b", 400, "malformed-multipart"),
    ("1001 parts", FORM, multipart(*[('a"', b"")] * 1001), 400, "malformed-multipart"),
    (
        "1001 files",
        FORM,
        multipart(*[('a"; filename="f"', b"")] * 1001),
        400,
        "too-many-images",
    ),
    ("long part header", FORM, b"--b\r\n" + b"A" * 10_000, 400, "malformed-multipart"),
    ("pickle", "application/vnd.bentoml+pickle", b"\x80\x04N.", 415, "unsupported-media-type"),
    ("Pickle", "Application/VND.BentoML+Pickle", b"\x80\x04N.", 415, "unsupported-media-type"),
    ("nested JSON", "application/json", b"[" * 100_000, 415, "unsupported-media-type"),
    ("bad UTF-8", "application/json", b'{"image": "\xff"}', 415, "unsupported-media-type"),
    ("form", "application/x-www-form-urlencoded", b"a=b", 415, "unsupported-media-type"),
    ("no media type", "", b"hello", 415, "unsupported-media-type"),
    ("200 kB and more", "image/jpeg", b"\xff\xd8\xff" + b"x" * 200_000, 413, "too-many-bytes"),
]


@pytest.mark.parametrize(
    ("content_type", "body", "status", "slug"),
    [case[1:] for case in ABUSE],
    ids=[case[0] for case in ABUSE],
)
def test_abuse(ask, is_problem, log_lines, content_type, body, status, slug) -> None:
    response = ask("POST", "/v1/classify", content=body, headers={"content-type": content_type})
    problem = is_problem(response, status, slug)
    assert problem["detail"]
    assert [(line["status"], line["error"]) for line in log_lines()] == [(status, slug)]
    assert "fault" not in log_lines()[0]


@pytest.mark.parametrize("percent", [1, 10, 50, 99])
def test_a_truncated_photo(ask, is_problem, make_picture, encode, percent: int) -> None:
    data = encode(make_picture(1, 300, 200), "JPEG", quality=95)
    response = ask("POST", "/v1/classify", content=data[: len(data) * percent // 100], headers=JPEG)
    is_problem(response, 422, "truncated-image")


def test_a_client_that_leaves_gets_no_inference(guarded: Guard, served, log_lines, jpeg) -> None:
    async def leave() -> None:
        messages = [
            {"type": "http.request", "body": jpeg, "more_body": False},
            {"type": "http.disconnect"},
        ]

        async def receive() -> dict:
            return messages.pop(0) if messages else await asyncio.Event().wait()

        async def send(message: dict) -> None: ...

        scope = {
            "type": "http", "method": "POST", "path": "/v1/classify", "raw_path": b"/v1/classify",
            "query_string": b"", "headers": [(b"content-type", b"image/jpeg")],
        }  # fmt: skip
        for _ in range(50):
            await guarded(scope, receive, send)
            messages[:] = [
                {"type": "http.request", "body": jpeg, "more_body": False},
                {"type": "http.disconnect"},
            ]
        while served.batcher.open_requests:
            await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(leave(), 20))
    assert {(line["status"], line["error"]) for line in log_lines()} == {(499, "client-gone")}


def test_overload_is_503_with_retry_after(ask, served, is_problem, jpeg) -> None:
    served.batcher._max_queue = 0
    response = ask("POST", "/v1/classify", content=jpeg, headers=JPEG)
    is_problem(response, 503, "overloaded")
    assert response.headers["retry-after"] == "1"


def test_a_model_that_emits_nan(ask, served, is_problem, registry, monkeypatch, jpeg) -> None:
    broken = np.full((1, 4), np.nan, np.float32)
    monkeypatch.setattr(served.runner, "infer", lambda images: broken)
    response = ask("POST", "/v1/classify", content=jpeg, headers=JPEG)
    is_problem(response, 500, "invalid-model-output")
    assert registry.get_sample_value(
        "stillroom_problems_total", {"reason": "invalid-model-output"}
    ) == 1  # fmt: skip


def test_a_failing_runner_is_one_line_in_the_log(
    ask, served, is_problem, log_lines, monkeypatch, jpeg
) -> None:
    def fail(images: np.ndarray) -> np.ndarray:
        raise RuntimeError("secret /path")

    monkeypatch.setattr(served.runner, "infer", fail)
    is_problem(ask("POST", "/v1/classify", content=jpeg, headers=JPEG), 500, "internal-error")
    assert len(log_lines()) == 1
    assert log_lines()[0]["fault"].startswith("RuntimeError: secret /path at test_app.py:")


def test_the_model_resource_says_what_is_served_and_why(ask, served) -> None:
    body = ask("GET", "/v1/model").json()
    assert body["digest"] == served.artifact.digest
    assert body["labels"] == list(served.artifact.labels)
    assert body["runner"]["reason"] == served.runner.reason
    assert body["golden"]["images"] == 6
    assert body["lineage"]
    assert str(Path.cwd()) not in json.dumps(body)


def test_the_page_names_no_other_host_and_runs_only_itself(ask) -> None:
    response = ask("GET", "/")
    assert response.headers["content-type"].startswith("text/html")
    assert not re.search(r"https?://|//[a-z]+\.|@import|url\(", response.text)
    policy = response.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert policy.count("'sha256-") == 2
    assert "unsafe" not in policy
    assert response.text.count("<script>") == response.text.count("<style>") == 1
    assert not re.search(r"\sstyle=|\son\w+=", response.text)


def test_before_the_model_is_there_answers_are_503(open_client, is_problem, jpeg) -> None:
    async def all_of_it() -> None:
        async with open_client(Guard(build_app())) as client:
            is_problem(await client.get("/v1/model"), 503, "not-ready")
            late = await client.post("/v1/classify", content=jpeg, headers=JPEG)
            is_problem(late, 503, "not-ready")
            assert late.headers["retry-after"] == "1"
            assert (await client.get("/")).status_code == 200

    asyncio.run(all_of_it())


def test_metrics_count_answers_stages_and_batches(ask, registry, jpeg) -> None:
    for _ in range(3):
        ask("POST", "/v1/classify", content=jpeg, headers=JPEG)
    ask("GET", "/random-1")
    ask("GET", "/random-2")
    value = registry.get_sample_value
    ok = {"path": "/v1/classify", "status": "200"}
    assert value("stillroom_requests_total", ok) == 3
    assert value("stillroom_requests_total", {"path": "other", "status": "404"}) == 2
    assert value("stillroom_stage_seconds_count", {"stage": "infer"}) == 3
