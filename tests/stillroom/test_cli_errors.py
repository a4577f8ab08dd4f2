"""Bad input to every command: one line, the next step, exit 2, nothing written over."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import socket
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from PIL import Image

from stillroom.run.recipe import load_recipe


def assert_refused(outcome, *expected: str) -> None:
    assert outcome.code == 2, outcome
    last = outcome.err.strip().splitlines()[-1]
    assert last.startswith("error: "), outcome.err
    assert ". ." not in last
    assert ".." not in last
    assert "Traceback" not in outcome.err
    for text in expected:
        assert text in last


def test_no_such_folder(stillroom, tmp_path):
    outcome = stillroom("run", tmp_path / "none", "--run", tmp_path / "r")
    assert_refused(outcome, "No such folder", "one folder of images per class")
    assert not (tmp_path / "r").exists()


def test_no_images(stillroom, tmp_path):
    (tmp_path / "photos").mkdir()
    outcome = stillroom("audit", tmp_path / "photos", "--run", tmp_path / "r")
    assert_refused(outcome, "holds no class folders")


def test_loose_images(stillroom, tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    Image.new("RGB", (8, 8)).save(photos / "a.jpg")
    outcome = stillroom("audit", photos, "--run", tmp_path / "r")
    assert_refused(outcome, "1 loose images", "a folder named after it")


def test_one_class_only(stillroom, few_photos, tmp_path):
    shutil.rmtree(few_photos / "red")
    shutil.rmtree(few_photos / "green")
    outcome = stillroom("run", few_photos, "--run", tmp_path / "r")
    assert_refused(outcome, "one class only ('blue')", "two or more")


def test_an_empty_class(stillroom, few_photos, tmp_path):
    (few_photos / "empty").mkdir()
    outcome = stillroom("run", few_photos, "--run", tmp_path / "r")
    assert_refused(outcome, "holds no images", "remove the folder")


def test_unreadable_images_are_named(stillroom, few_photos, tmp_path):
    (few_photos / "red" / "bad.jpg").write_bytes(b"not an image")
    (few_photos / "red" / "cut.jpg").write_bytes(
        (few_photos / "red" / "001.jpg").read_bytes()[:300]
    )
    outcome = stillroom("audit", few_photos, "--run", tmp_path / "r")
    assert outcome.code == 0, outcome.err
    assert "2 images do not decode" in outcome.out
    assert (tmp_path / "r" / "data" / "audit.html").is_file()
    assert stillroom("audit", few_photos, "--run", tmp_path / "r", "--strict").code == 1
    for command in (("train",), ("run", "--until", "teacher"), ("train", "--sanity")):
        refused = stillroom(*command, few_photos, "--run", tmp_path / "r")
        page = str(tmp_path / "r" / "data" / "audit.html")
        assert_refused(refused, "red/bad.jpg", "red/cut.jpg", "data.unreadable=skip", page)
    skipped = stillroom("audit", few_photos, "data.unreadable=skip", "--run", tmp_path / "r")
    assert skipped.code == 0
    assert "2 images do not decode and were left out" in skipped.out


def test_an_unknown_recipe_key(stillroom, few_photos, tmp_path):
    outcome = stillroom("run", few_photos, "teacher.epoch=1", "--run", tmp_path / "r")
    assert_refused(outcome, "Unknown recipe key 'teacher.epoch'", "Did you mean 'teacher.epochs'?")
    assert not (tmp_path / "r").exists()


def test_an_unknown_stage(stillroom, few_photos, tmp_path):
    outcome = stillroom("run", few_photos, "--run", tmp_path / "r", "--until", "paint")
    assert_refused(outcome, "No stage 'paint'", "Stages: audit, teacher")


def test_an_unknown_option(stillroom, few_photos):
    assert_refused(
        stillroom("run", few_photos, "--speed", "9"), "No such option: --speed", "--help"
    )


@pytest.mark.parametrize(
    ("command", "key"),
    [
        (["run", "PHOTOS", "--epochs", "3"], "teacher.epochs=3"),
        (["run", "PHOTOS", "--epochs=3"], "teacher.epochs=3"),
        (["train", "PHOTOS", "--learning-rate", "0.01"], "teacher.lr=0.01"),
        (["audit", "PHOTOS", "--val-split", "0.1"], "data.val_fraction=0.1"),
        (["run", "PHOTOS", "--teacher-epochs", "3"], "teacher.epochs=3"),
        (["run", "PHOTOS", "--student.lr", "0.1"], "student.lr=0.1"),
        (["run", "PHOTOS", "--pretrained"], "teacher.weights=hub"),
        (["run", "PHOTOS", "--model", "resnet34"], "teacher.arch=resnet34"),
        (["compress", "RUN", "--batch-size", "32"], "student.batch_size=32"),
        (["export", "RUN", "--quantize", "int8"], "export.precisions=int8"),
        (["sweep", "backbones", "PHOTOS", "--epochs", "3"], "teacher.epochs=3"),
        (["demo", "--name", "two words"], "'name=two words'"),
        (["serve", "RUN", "--epochs", "3"], "stillroom run PHOTOS teacher.epochs=3"),
        (["predict", "RUN", "--image-size", "96"], "stillroom run PHOTOS teacher.train_size_px=96"),
        (["loadtest", "RUN", "--users", "4"], "stillroom run PHOTOS loadtest.users=4"),
        (["admin", "reload", "--lr", "x"], "stillroom run PHOTOS teacher.lr=0.0003"),
    ],
)
def test_an_option_that_is_a_recipe_key_is_told_as_one(stillroom, command, key):
    outcome = stillroom(*command)
    assert_refused(outcome, "No such option: --", "a key of the recipe")
    assert outcome.err.rstrip().endswith(f": {key}")
    override = shlex.split(key)[-1]  # what is printed is taken
    load_recipe("default", [override])


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["run", "PHOTOS", "--unti", "export"], "--until"),
        (["run", "PHOTOS", "--qqq", "9"], "See stillroom run --help."),
        (["trian", "PHOTOS"], "Did you mean 'train'? See stillroom --help."),
        (["sweep", "serch"], "Did you mean 'search'? See stillroom sweep --help."),
    ],
)
def test_other_mistypings_name_what_is_near_or_the_help(stillroom, command, words):
    assert_refused(stillroom(*command), words)


@pytest.mark.parametrize(
    ("name", "near"),
    [("fixress", "fixres"), ("FixRes", "fixres"), ("traim", "train"), ("load-test", "loadtest")],
)
def test_a_mistyped_stage_names_the_nearest(stillroom, few_photos, tmp_path, name, near):
    for option in ("--until", "--from"):
        outcome = stillroom("run", few_photos, "--run", tmp_path / "r", option, name)
        assert_refused(outcome, f"No stage {name!r}. Did you mean {near!r}? Stages: audit, ")
    assert not (tmp_path / "r" / "run.json").exists()


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("weights=package", "teacher.weights"),
        ("teacher.learning_rate=1", "teacher.lr"),
        ("fixres.learning_rate=1", "fixres.lr"),
        ("learn_rate=1", "teacher.lr"),
        ("studnet.epoch=3", "student.epochs"),
        ("augment.flip=0", "teacher.augment.flip"),
        ("student.flip=0", "student.augment.flip"),
        ("export.precision=int8", "export.precisions"),
        ("data.test_split=0.1", "data.test_fraction"),
        ("fixres.image_size=96", "fixres.test_size_px"),
        ("batch_size=3", "teacher.batch_size"),
    ],
)
def test_an_unknown_key_names_the_nearest_by_its_last_word(stillroom, tmp_path, override, key):
    outcome = stillroom("run", tmp_path / "photos", override, "--run", tmp_path / "r")
    assert_refused(outcome, f"Unknown recipe key {override.partition('=')[0]!r}.", f"mean {key!r}?")


def test_a_mistyped_recipe_names_the_nearest(stillroom, few_photos):
    outcome = stillroom("run", few_photos, "--recipe", "flower-cpu")
    assert_refused(outcome, "Did you mean --recipe flowers-cpu?")


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("teacher.arch=resnet19", "teacher.arch = 'resnet19': timm"),
        ("teacher.arch=resnet19", "Near it: teacher.arch=resnet"),
        ("student.arch=mobilenet_v3", "Near it: student.arch=mobilenetv"),
        ("student.arch=qqqqqqqq", "See timm.list_models()."),
        ("teacher.weights=none.safetensors", "teacher.weights='none.safetensors': no such file"),
        ("student.weights=w.pth", "student.weights='w.pth': no such file"),
        (
            "teacher.weights=package",
            "teacher.weights=hub or teacher.weights=none, or teacher.arch=",
        ),
    ],
)
def test_a_model_that_nobody_has_is_found_before_the_audit(
    stillroom, few_photos, tmp_path, override, words
):
    outcome = stillroom("run", few_photos, override, "--run", tmp_path / "r")
    assert_refused(outcome, words)
    assert "audit" not in outcome.err
    assert not (tmp_path / "r").exists()


def test_a_bad_name_of_a_model_is_found_without_torch(few_photos, tmp_path):
    """In a process of its own, which would take seconds to import it."""
    code = (
        "import sys; from stillroom.cli import main\n"
        "try: main()\n"
        "finally: print([m for m in ('torch', 'timm', 'sklearn') if m in sys.modules])"
    )
    arguments = ["run", str(few_photos), "teacher.arch=resnet19", "--run", str(tmp_path / "r")]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stdout.strip() == "[]"
    assert "Near it" in done.stderr


def test_a_built_model_is_not_asked_for_again(stillroom, few_photos, tmp_path):
    """Only an audit: it needs no model, whatever the recipe says."""
    outcome = stillroom("audit", few_photos, "teacher.weights=gone", "--run", tmp_path / "r")
    assert outcome.code == 0, outcome.err


def test_a_class_that_val_and_test_lack(stillroom, few_photos, tmp_path):
    photos = tmp_path / "split"
    parts = {"train": slice(4), "Val": slice(4, 6), "test": slice(6, 8)}
    for split, labels in (("train", "abc"), ("Val", "ac"), ("test", "ac")):
        for number, label in enumerate(labels):
            source = few_photos / ("red", "green", "blue")[number]
            files = sorted(source.iterdir())[parts[split]]
            (photos / split / label).mkdir(parents=True)
            for file in files:
                shutil.copy(file, photos / split / label)
    outcome = stillroom("audit", photos, "--run", tmp_path / "r")
    assert_refused(outcome, "The class 'b' has", "Val/ and test/ have no folder 'b'")
    for split in ("Val", "test"):  # as the error says
        (photos / split / "b").mkdir()
        file = sorted((photos / "train" / "b").iterdir())[0]
        file.rename(photos / split / "b" / file.name)
    assert stillroom("audit", photos, "--run", tmp_path / "r").code == 0


def test_a_class_of_copies_says_so_and_how_many_more_help(stillroom, few_photos, tmp_path):
    copies, more = few_photos / "z copies", sorted((few_photos / "red").iterdir())[4:7]
    copies.mkdir()
    for file in sorted((few_photos / "blue").iterdir())[:2]:
        shutil.copy(file, copies)
    outcome = stillroom("audit", few_photos, "--run", tmp_path / "r")
    said = "The class 'z copies' has 2 different images, 0 of them no copies of images of blue"
    assert_refused(outcome, said)
    added = int(re.findall(r"Add (\d+) or more", outcome.err)[0])
    for file in more[:added]:
        file.rename(copies / file.name)
    assert stillroom("audit", few_photos, "--run", tmp_path / "r").code == 0


def test_printed_commands_run_as_printed(stillroom, few_photos, tmp_path, monkeypatch):
    """Paths with blanks and quotes: what an error says is split by the shell as it was meant."""
    monkeypatch.chdir(tmp_path)
    run = "it's my run"
    for command in ("status", "report", "compress", "ablate"):
        said = stillroom(command, run).err.rstrip().partition("stillroom ")[2]
        assert shlex.split(said) == ["run", "PHOTOS", "--run", run]
    photos = few_photos.rename(tmp_path / "my photos")
    assert stillroom("audit", "my photos", "--run", run).code == 0
    for command, words in (
        ("loadtest", ["run", str(photos), "--run", run, "--until", "export"]),
        ("evaluate", ["train", str(photos), "--run", run]),
    ):
        said = stillroom(command, run).err.rstrip().partition("stillroom ")[2]
        assert shlex.split(said) == words
    outcome = stillroom("loadtest", "http://127.0.0.1:9/a b")
    assert outcome.err.rstrip().endswith("'http://127.0.0.1:9/a b' --photos FOLDER")


def test_a_run_folder_of_another_dataset(stillroom, few_photos, tmp_path):
    run = tmp_path / "r"
    assert stillroom("audit", few_photos, "--run", run).code == 0
    other = tmp_path / "other"
    shutil.copytree(few_photos, other)
    (other / "red" / "000.jpg").unlink()
    before = (run / "run.json").read_bytes()
    assert_refused(stillroom("audit", other, "--run", run), "is a run of", "--run")
    assert (run / "run.json").read_bytes() == before


def test_a_moved_dataset_is_still_the_same(stillroom, few_photos, tmp_path):
    run = tmp_path / "r"
    assert stillroom("audit", few_photos, "--run", run).code == 0
    few_photos.rename(tmp_path / "moved")
    outcome = stillroom("audit", tmp_path / "moved", "--run", run)
    assert outcome.code == 0
    assert "audit: done" in outcome.err


def test_a_command_on_a_folder_that_is_no_run(stillroom, tmp_path):
    for command in ("compress", "export", "report", "status"):
        assert_refused(
            stillroom(command, tmp_path / "none"), "holds no run", "stillroom run PHOTOS"
        )


def test_commands_on_a_folder_without_an_artifact(stillroom, tmp_path):
    for command in (["serve"], ["parity"], ["verify"], ["loadtest"]):
        assert stillroom(*command, tmp_path / "none").code == 2


def test_a_port_in_use(stillroom, tiny_artifact):
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        port = busy.getsockname()[1]
        outcome = stillroom("serve", tiny_artifact, "--port", port)
    assert_refused(outcome, f"{port} is in use", "--port")


@pytest.mark.parametrize("name", ["model.onnx", "manifest.json", "golden/golden.json"])
def test_an_artifact_with_one_byte_changed(stillroom, tiny_artifact, tmp_path, name):
    copy = tmp_path / "artifact"
    shutil.copytree(tiny_artifact, copy)
    data = bytearray((copy / name).read_bytes())
    data[len(data) // 2] ^= 1
    (copy / name).write_bytes(data)
    for command in (["serve"], ["verify"], ["parity"]):
        assert_refused(stillroom(*command, copy), "damaged")


def test_predict_names_the_file_it_cannot_use(stillroom, tiny_artifact, tmp_path):
    text = tmp_path / "note.txt"
    text.write_text("no image")
    outcome = stillroom("predict", tiny_artifact, text)
    assert outcome.code != 0
    assert "note.txt" in outcome.err
    assert_refused(stillroom("predict", tiny_artifact, tmp_path / "none.jpg"), "none.jpg")


def test_predict_goes_on_after_a_bad_file(stillroom, tiny_artifact, tmp_path):
    text = tmp_path / "note.txt"
    text.write_text("no image")
    good = tiny_artifact / "golden" / "photo.jpg"
    missing = tmp_path / "none.jpg"
    outcome = stillroom("predict", tiny_artifact, text, good, missing, good)
    assert_refused(outcome, "2 of 4 files have no answer", "note.txt", "none.jpg")
    assert outcome.out.count(f"{good}  ") == 2
    assert outcome.err.splitlines()[0].startswith(f"error: {text}: ")
    assert f"error: {missing}: No such file or directory." in outcome.err
    lines = stillroom("predict", "--json", tiny_artifact, text, good, missing).out.splitlines()
    found = [json.loads(line) for line in lines]
    assert [one["file"] for one in found] == [str(text), str(good), str(missing)]
    assert ["predictions" in one for one in found] == [False, True, False]
    assert found[2]["error"] == "No such file or directory."


@pytest.mark.parametrize("command", ["predict", "verify", "parity"])
def test_the_backend_of_the_environment_is_honoured(stillroom, tiny_artifact, monkeypatch, command):
    monkeypatch.setenv("STILLROOM_BACKEND", "tensorrt-fp16")
    files = [tiny_artifact / "golden" / "photo.jpg"] if command == "predict" else []
    assert_refused(stillroom(command, tiny_artifact, *files), "runs as tensorrt-fp32")
    monkeypatch.setenv("STILLROOM_BACKEND", "onnxruntime-cpu")
    assert stillroom(command, tiny_artifact, *files).code == 0


@pytest.mark.parametrize("body", [b"<html>", b"[1]", b'{"name": "other"}'])
def test_a_url_of_another_service(stillroom, tiny_artifact, body):
    class Other(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Other) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        photo = tiny_artifact / "golden" / "photo.jpg"
        for command in (("verify", url), ("predict", url, photo)):
            assert_refused(stillroom(*command), "answered 200, and not as stillroom's service does")
        server.shutdown()


def test_a_url_without_a_service(stillroom, tiny_artifact):
    for command in (("verify",), ("predict",)):
        files = [tiny_artifact / "golden" / "photo.jpg"] if command == ("predict",) else []
        assert_refused(
            stillroom(*command, "http://127.0.0.1:9", *files), "No response from http://127.0.0.1:9"
        )


def test_parity_on_a_folder_that_is_not_there(stillroom, tiny_artifact, tmp_path):
    outcome = stillroom("parity", tiny_artifact, "--photos", tmp_path / "none")
    assert_refused(outcome, f"No such folder: {tmp_path / 'none'}.")


def test_an_address_that_cannot_be_bound(stillroom, tiny_artifact):
    assert_refused(
        stillroom("serve", tiny_artifact, "--host", "192.0.2.1"),
        "host = '192.0.2.1': no address of this machine.",
    )
    for port in (0, 65536):
        assert_refused(stillroom("serve", tiny_artifact, "--port", port), "--port")


def test_a_rate_of_nothing(stillroom, tmp_path):
    outcome = stillroom("loadtest", "http://127.0.0.1:9", "--photos", tmp_path, "--rate", 0)
    assert_refused(outcome, "--rate")


def test_a_url_needs_a_corpus(stillroom):
    assert_refused(stillroom("loadtest", "http://127.0.0.1:9"), "--photos")


def test_load_tests_that_cannot_be_compared(stillroom, tmp_path):
    assert_refused(stillroom("loadtest", "compare", tmp_path), "Missing argument 'second'")


def test_a_file_in_place_of_a_run_folder(stillroom, few_photos, tmp_path):
    path = tmp_path / "file"
    path.write_text("not a folder")
    assert_refused(stillroom("status", path), "is a file, not a run folder")
    assert_refused(stillroom("run", few_photos, "--run", path), "is a file, not a run folder")
    assert path.read_text() == "not a folder"


def test_a_place_that_cannot_be_written(stillroom, few_photos, tmp_path):
    path = tmp_path / "file"
    path.write_text("not a folder")
    outcome = stillroom("demo", "--run", path / "demo")
    assert outcome.code == 2
    assert outcome.err.startswith("error: ")
    assert "Traceback" not in outcome.err


def test_verify_misses_a_stage_that_was_deleted(stillroom, few_photos, tmp_path):
    run = tmp_path / "r"
    assert stillroom("audit", few_photos, "--run", run).code == 0
    assert stillroom("verify", run).code == 0
    shutil.rmtree(run / "data")
    outcome = stillroom("verify", run)
    assert outcome.code == 1
    assert "its folder is gone" in outcome.err


def test_compress_resolves_teachers_and_photographs(stillroom, few_photos, tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr(
        "stillroom.commands.training.compress.build_stages", lambda *a, **_: told.append(a[3])
    )
    monkeypatch.setattr(
        "stillroom.commands.training.compress.build_and_show", lambda *a, **_: told.append(a[3])
    )
    monkeypatch.chdir(tmp_path)
    done = stillroom(
        *("compress", "run", "distil.temperature=4", "--teacher", "a/teacher"),
        *("--teacher", "b", "--unlabelled", "photos"),
    )
    assert done.code == 0
    expected = [
        "distil.temperature=4",
        f'distil.more_teachers=["{tmp_path}/a/teacher", "{tmp_path}/b"]',
        f'distil.unlabelled="{tmp_path}/photos"',
    ]
    assert told == [expected, expected]
