"""`stillroom evaluate`: the page and its facts, the folder of samples, and wrong input."""

from __future__ import annotations

import csv
import json
import re
import shutil
import time
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from serve.contract.digest import sha256_of_file
from serve.contract.errors import UsageError
from stillroom.evaluation.advice import advise
from stillroom.evaluation.by_prediction import file_name, folder_names, sample_by_prediction
from stillroom.evaluation.findings import gather
from stillroom.evaluation.page import confused_classes, render_page
from stillroom.evaluation.reading import read_checked
from stillroom.evaluation.source import EvaluationSource, open_source
from stillroom.report.mistakes import ConfusedPair
from tests.train.toy import CLASSES, lively, open_dataset, toy_model, write_checkpoint, write_photos
from train.data.images import LabelledImage
from train.evaluation import Predictions, predict_logits, read_predictions, write_predictions
from train.loader.views import pixels_of


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A run folder with a student: images, checkpoint and predictions, without a pipeline."""
    root = tmp_path_factory.mktemp("evaluate")
    dataset = open_dataset(write_photos(root / "photos", count=20), root / "run" / "data")
    model = lively(toy_model())
    folder = root / "run" / "student"
    card = write_checkpoint(folder, dataset, model)
    photos = dataset.of_split("val") + dataset.of_split("test")
    logits = predict_logits(model, pixels_of(dataset.root, photos, card.preprocess))
    write_predictions(folder / "predictions.csv", Predictions(photos, card.labels, logits))
    record = {"photos": str(dataset.root.resolve()), "inputs": "", "chain": []}
    (root / "run" / "run.json").write_text(json.dumps(record))
    return root / "run"


@pytest.fixture
def run(finished, tmp_path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


def synthetic(classes: int, n: int, wrong: float = 0.2) -> Predictions:
    rng = np.random.default_rng(0)
    labels = tuple(f"class {k:04d} with a rather long name" for k in range(classes))
    targets = rng.integers(0, classes, n)
    answers = np.where(rng.random(n) < wrong, (targets + 1) % classes, targets)
    logits = rng.normal(0, 1, (n, classes)).astype(np.float32)
    logits[np.arange(n), answers] += 12
    photos = [
        LabelledImage(f"{i}.jpg", labels[t], "val" if i % 3 == 0 else "test", f"{i:064x}")
        for i, t in enumerate(targets)
    ]
    return Predictions(photos, labels, logits)


def alone(predictions: Predictions) -> EvaluationSource:
    return EvaluationSource("toy", predictions, "0" * 64, None, None, Path("unused"))


class _Hosts(HTMLParser):
    """Everything that a browser would load, and whether tags are closed."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.images = 0

    def handle_starttag(self, tag, attrs):
        self.images += tag == "img"
        self.loads += [value for name, value in attrs if name in ("src", "href") and value]


def test_a_run_becomes_a_page_with_all_its_facts(stillroom, run):
    outcome = stillroom("evaluate", run, "--per-class", 3)
    assert outcome.code == 0, outcome.err
    out = run / "evaluation" / "student"
    page = (out / "index.html").read_text()
    metrics = json.loads((out / "metrics.json").read_bytes())
    predictions = read_predictions(run / "student" / "predictions.csv").of_split("test")
    right = int((predictions.predicted == predictions.targets).sum())
    assert metrics["n"] == len(predictions.photos)
    assert metrics["wrong"] == metrics["n"] - right
    assert f"{right} of {metrics['n']}" in page
    assert "run · student" in page
    first = next(iter(gather(open_source(run, None, None), "test").pairs))
    assert f"{first.label} are taken for {first.answer}: {first.count} of {first.n}" in page
    assert first.label in outcome.out
    assert str(out / "index.html") in outcome.out
    assert "Grad-CAM" in page
    parser = _Hosts()
    parser.feed(page)
    assert parser.images > 0
    assert all(load.startswith(("data:", "#")) for load in parser.loads)
    assert not re.search(r"https?:|url\((?!#)", page)
    assert str(run.parent) not in page


def test_every_gallery_photograph_has_its_heat_map(run):
    source = open_source(run, "student", None)
    page = render_page(gather(source, "test"), source)
    assert page.count('alt="Image labelled') == page.count('alt="Evidence for')
    assert "No heat maps" not in page


def test_equal_input_gives_an_equal_page(run):
    source = open_source(run, "student", None)
    assert render_page(gather(source, "test"), source) == render_page(
        gather(source, "test"), source
    )


def test_the_folder_of_samples_has_the_original_bytes_and_says_what_is_wrong(stillroom, run):
    stillroom("evaluate", run, "--per-class", 3, "--split", "val")
    predictions = read_predictions(run / "student" / "predictions.csv").of_split("val")
    folder = run / "evaluation" / "student" / "by_prediction"
    assert sorted(path.name for path in folder.iterdir()) == sorted(CLASSES)
    by_digest = {photo.sha256: i for i, photo in enumerate(predictions.photos)}
    for k, label in enumerate(CLASSES):
        files = sorted((folder / label).iterdir())
        assert len(files) == min(3, int((predictions.predicted == k).sum()))
        for file in files:
            i = by_digest[sha256_of_file(file)]
            photo = predictions.photos[i]
            assert predictions.labels[predictions.predicted[i]] == label
            assert ("WRONG-" in file.name) == (photo.label != label)
            assert photo.label in file.name


def test_without_photographs_the_page_says_so(stillroom, run, tmp_path):
    lonely = tmp_path / "elsewhere" / "predictions.csv"
    lonely.parent.mkdir()
    shutil.copy(run / "student" / "predictions.csv", lonely)
    outcome = stillroom("evaluate", lonely)
    assert outcome.code == 0, outcome.err
    page = (lonely.parent / "predictions-evaluation" / "index.html").read_text()
    assert "The images are not shown" in page
    assert "<img" not in page
    assert 'class="pictures"' not in page
    refused = stillroom("evaluate", lonely, "--per-class", 2)
    assert refused.code == 2
    assert "--photos FOLDER" in refused.err


def test_photographs_that_are_gone_are_counted(run, finished, tmp_path):
    photos = Path(shutil.copytree(finished.parent / "photos", tmp_path / "photos"))
    source = open_source(run, "student", photos)
    worst = gather(source, "test").pairs[0].label
    shutil.rmtree(photos / worst)
    page = render_page(gather(source, "test"), source)
    assert re.search(r"\d+ of \d+ images to be shown are gone", page)
    assert "not shown</span>" in page


def test_a_model_without_maps_says_why(run):
    (run / "student" / "checkpoint.safetensors").write_bytes(b"not a checkpoint")
    source = open_source(run, "student", None)
    page = render_page(gather(source, "test"), source)
    assert "No heat maps: The checkpoint" in page
    assert 'alt="Image labelled' in page


def test_the_file_of_label_errors_ranks_as_the_page(stillroom, run):
    stillroom("evaluate", run)
    out = run / "evaluation" / "student"
    with (out / "label_issues.csv").open() as file:
        rows = list(csv.DictReader(file))
    metrics = json.loads((out / "metrics.json").read_bytes())
    assert [row["path"] for row in rows] == [one["path"] for one in metrics["label_issues"]]


def test_a_second_evaluation_replaces_the_first_and_nothing_else(stillroom, run):
    out = run / "evaluation" / "student"
    stillroom("evaluate", run, "--per-class", 2)
    (out / "notes.txt").write_text("mine")
    assert stillroom("evaluate", run).code == 0
    assert not (out / "by_prediction").exists()
    assert (out / "notes.txt").read_text() == "mine"
    assert not list(out.parent.glob(".*"))


def test_no_foreign_folder_is_written_into(stillroom, run, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "by_prediction").mkdir()
    outcome = stillroom("evaluate", run, "--out", tmp_path / "mine")
    assert outcome.code == 2
    assert "holds no earlier evaluation" in outcome.err
    assert list((tmp_path / "mine").iterdir()) == [tmp_path / "mine" / "by_prediction"]


def test_a_thousand_classes_stay_readable():
    source = alone(synthetic(1000, 10_000))
    start = time.perf_counter()
    page = render_page(gather(source, "test"), source)
    assert time.perf_counter() - start < 60
    assert len(page) < 300_000
    assert "most confused of 1\u202f000 classes" in page
    assert "classes between these are in metrics.json" in page


def test_no_mistakes_at_all():
    source = alone(synthetic(3, 90, wrong=0))
    findings = gather(source, "test")
    assert "Not one mistake on 60 images" in advise(findings)[0]
    page = render_page(findings, source)
    assert "No label of the 90 validation and test images stands out" in page


def test_one_image_of_one_class():
    predictions = Predictions(
        [LabelledImage("a.jpg", "a", "test", "0")], ("a", "b"), np.array([[0.0, 1.0]], np.float32)
    )
    page = render_page(gather(alone(predictions), "test"), alone(predictions))
    assert "a are taken for b: 1 of 1" in page


def test_names_are_escaped():
    labels = ("<script>alert(1)</script>", "b & c")
    photos = [LabelledImage(f'"><img src=x>{i}', labels[i % 2], "test", "") for i in range(4)]
    predictions = Predictions(photos, labels, np.array([[0.0, 1.0]] * 4, np.float32))
    page = render_page(gather(alone(predictions), "test"), alone(predictions))
    assert "<script" not in page
    assert "<img" not in page


def test_advice_names_what_is_confused_in_both_directions():
    labels = ("roses", "tulips")
    photos = [LabelledImage(f"{i}", labels[i % 2], "test", "") for i in range(80)]
    logits = np.array([[1.0, 0.0] if i % 2 == 0 else [0.0, 1.0] for i in range(80)], np.float32)
    logits[0:8:2] = [0.0, 1.0]
    logits[1] = [1.0, 0.0]
    first = advise(gather(alone(Predictions(photos, labels, logits)), "test"))[0]
    assert first.startswith("roses are taken for tulips: 4 of 40, and tulips for roses: 1 of 40.")
    assert "100\u202f% of the 5 mistakes" in first


def test_advice_makes_nothing_of_scattered_mistakes():
    findings = gather(alone(synthetic(200, 3000)), "test")
    assert "kinds, none of them frequent" in advise(findings)[0]
    assert "look there first" not in " ".join(advise(findings))


def test_the_weakest_class_is_not_the_one_with_three_images():
    labels = ("few", "many", "rest")
    rows = ["few"] * 3 + ["many"] * 100 + ["rest"] * 100
    answers = [1, 1, 0] + [1] * 60 + [2] * 40 + [2] * 100
    logits = np.eye(3, dtype=np.float32)[answers]
    photos = [LabelledImage(f"{i}", label, "test", "") for i, label in enumerate(rows)]
    sentences = advise(gather(alone(Predictions(photos, labels, logits)), "test"))
    assert any(one.startswith("The weakest class is many") for one in sentences)
    (told,) = [one for one in sentences if one.startswith("The weakest")]
    assert "missed 40 times, named wrongly 2 times: more, and more varied" in told
    assert "few (3)" in sentences[-1]


def test_the_matrix_shows_confused_classes_side_by_side():
    pairs = [
        ConfusedPair("x", "b", 5, 9),
        ConfusedPair("b", "z", 3, 9),
        ConfusedPair("q", "r", 1, 9),
    ]
    labels = tuple("abqrxz")
    assert confused_classes(pairs, labels, 6) == list(labels)
    assert confused_classes(pairs, labels, 4) == ["x", "b", "z"]
    assert confused_classes(pairs, labels, 5) == ["x", "b", "z", "q", "r"]


def test_samples_are_seeded_and_fair():
    predictions = synthetic(4, 400)
    sample = sample_by_prediction(predictions, 10)
    assert sample == sample_by_prediction(predictions, 10)
    assert sample != sample_by_prediction(predictions, 10, seed=1)
    for label, chosen in sample.items():
        assert len(set(chosen)) == len(chosen) == 10
        assert {predictions.labels[predictions.predicted[i]] for i in chosen} == {label}


def test_names_of_files_are_safe():
    photo = LabelledImage("a/b/..\x00evil:name?.JPG", "../../etc", "test", "")
    name = file_name(photo, "roses", 0.51234)
    assert name.startswith("0.512_WRONG-")
    assert not set("/\\:?\x00") & set(name)
    assert name.endswith(".jpg")
    names = folder_names(("a/b", "a:b", "A_B", "..", ""))
    assert len({one.lower() for one in names.values()}) == 5
    assert not any("/" in one or one in ("", ".", "..") for one in names.values())


@pytest.mark.parametrize(
    ("pattern", "new", "line", "expected"),
    [
        (r"^path,", "file,", 1, "no column path"),
        (r"logit:bell", "logit:aster", 1, "the column 'logit:aster' occurs twice"),
        (r"(?m)^(aster/\d+\.jpg,\w+,)aster,val", r"\1weed,val", 2, "label 'weed' has no column"),
        (r"(?m)^(aster/\d+\.jpg,\w+,aster,)val", r"\1holdout", 2, "split 'holdout', expected"),
        (r"(?m)^(aster/.*),[^,]+$", r"\1,nan", 2, "a logit is nan"),
        (r"(?m)^(aster/.*),[^,]+$", r"\1,much", 2, "a logit is not a number"),
        (r"(?m)^(aster/.*),[^,]+$", r"\1", 2, "7 values, the header has 8"),
        (r"(?m)^(aster/.*)$", r"\1\n\1", 3, "repeats 'aster/"),
    ],
)
def test_a_damaged_file_is_refused_with_its_line(stillroom, run, pattern, new, line, expected):
    path = run / "student" / "predictions.csv"
    text = path.read_text()
    changed = re.sub(pattern, new, text, count=1)
    assert changed != text
    path.write_text(changed)
    outcome = stillroom("evaluate", run)
    assert outcome.code == 2
    (only,) = outcome.err.strip().splitlines()
    assert f"predictions.csv, line {line}: {expected}" in only
    assert not (run / "evaluation").exists()


def test_an_answer_that_contradicts_its_logits_is_refused(run):
    path = run / "student" / "predictions.csv"
    first = read_predictions(path)
    answer = first.labels[first.predicted[0]]
    other = next(label for label in first.labels if label != answer)
    lines = path.read_text().splitlines(keepends=True)
    fields = lines[1].split(",")
    fields[4] = other
    path.write_text("".join([lines[0], ",".join(fields), *lines[2:]]))
    with pytest.raises(UsageError, match=f"line 2: predicted '{other}', but the largest logit"):
        read_checked(path)


HEAD = b"path,sha256,label,split,predicted,logit:a,logit:b\n"
ROWS = b"".join(b"%d,0,a,test,a,1,0\n" % i for i in range(4999))


@pytest.mark.parametrize("data", [b"", HEAD])
def test_a_file_without_predictions_is_refused(tmp_path, data):
    (tmp_path / "p.csv").write_bytes(data)
    with pytest.raises(UsageError, match=r"p\.csv, line [12]: no "):
        read_checked(tmp_path / "p.csv")


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"\xff\xfe\x00junk", "line 1: bytes that are not UTF-8"),
        (b'path,"unclosed\n', "line 1: no CSV"),
        (HEAD + ROWS + b"\xff", "line 5001: bytes that are not UTF-8"),
    ],
)
def test_a_file_that_is_no_csv_is_refused(tmp_path, data, expected):
    (tmp_path / "p.csv").write_bytes(data)
    with pytest.raises(UsageError, match=expected):
        read_checked(tmp_path / "p.csv")


def test_a_picture_given_for_predictions_is_refused(stillroom, tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    outcome = stillroom("evaluate", tmp_path / "a.png")
    assert outcome.code == 2
    assert "a.png, line" in outcome.err


def test_reading_is_bit_exact(run):
    path = run / "student" / "predictions.csv"
    expected, read = read_predictions(path), read_checked(path)
    assert read.logits.tobytes() == expected.logits.tobytes()
    assert (read.photos, read.labels) == (expected.photos, expected.labels)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--stage", "nurse"], "No stage 'nurse'"),
        (["--stage", "teacher"], "holds no teacher. It has student: --stage student"),
        (["--split", "train"], "No split 'train'"),
        (["--photos", "nowhere"], "No such folder: nowhere"),
    ],
)
def test_wrong_options_are_refused(stillroom, run, arguments, expected):
    outcome = stillroom("evaluate", run, *arguments)
    assert outcome.code == 2
    assert expected in outcome.err


def test_no_run_and_no_file(stillroom, tmp_path):
    assert "No such run or file" in stillroom("evaluate", tmp_path / "none").err
    assert "holds no trained model" in stillroom("evaluate", tmp_path).err


def test_the_csv_of_a_run_is_evaluated_as_the_run(run):
    source = open_source(run / "student" / "predictions.csv", None, None)
    assert source.title == "run · student"
    assert source.out == run / "evaluation" / "student"


def test_a_split_without_predictions_is_refused():
    source = alone(synthetic(3, 30).of_split("val"))
    with pytest.raises(UsageError, match="no predictions on test, only on val"):
        gather(source, "test")
