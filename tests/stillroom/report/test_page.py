from __future__ import annotations

import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from stillroom.report.page import write_report

HOSTILE = ("<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "a & b {{ 7 * 7 }}")
VOID = {"meta", "link", "img", "br"}


class Checker(HTMLParser):
    """Collects ids and tags, and fails on tags that do not nest."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.tags: set[str] = set()
        self.links: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.ids += [value for name, value in attrs if name == "id"]
        self.links += [v for name, v in attrs if name in ("src", "href", "xlink:href", "action")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def build(context) -> str:
    write_report(context)
    return (context.out / "index.html").read_text(encoding="utf-8")


def check(page: str) -> Checker:
    checker = Checker()
    checker.feed(page)
    checker.close()
    assert checker.open == []
    return checker


def test_the_page_needs_nothing_else(toy_page, toy_run):
    assert [path.name for path in toy_run.out.iterdir()] == ["index.html"]
    assert "http://" not in toy_page
    assert "https://" not in toy_page
    assert not re.search(r"@import|url\((?!#)", toy_page)
    found = check(toy_page)
    assert "script" not in found.tags
    assert all(link.startswith(("#", "data:")) for link in found.links)


def test_ids_are_unique_and_every_reference_has_its_target(toy_page):
    ids = check(toy_page).ids
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:url\(#|href="#)([\w-]+)', toy_page)) <= set(ids)


def test_charts_take_their_colours_from_the_page(toy_page):
    charts = re.findall(r'<svg class="plot".*?</svg>', toy_page, flags=re.DOTALL)
    assert len(charts) == 9  # four trainings, the reliability diagram, two of each load
    for chart in charts:
        assert set(re.findall(r"#[0-9a-f]{6}\b", chart)) <= {"#000000"}
        assert "<style" not in chart


def test_equal_runs_give_equal_bytes(toy_run, toy_page, tmp_path):
    metrics = write_report(replace(toy_run, out=tmp_path))
    assert (tmp_path / "index.html").read_text(encoding="utf-8") == toy_page
    assert metrics == {"bytes": len(toy_page.encode()), "verdict": "passed"}


def test_the_page_names_no_folder_of_this_machine(make_run, make_load, tmp_path):
    warning = f"Wrong predictions: 1; the first: {tmp_path}/photos/0/2.png gave 'weed'."
    page = build(make_run(open=make_load("open", warnings=[warning])))
    assert str(tmp_path) not in page
    assert "the first: 0/2.png gave" in page


def test_hostile_names_stay_text(make_run):
    page = build(make_run(HOSTILE))
    found = check(page)
    assert "script" not in found.tags
    assert "<script" not in page
    assert "<img src=x" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "{{ 7 * 7 }}" in page


@pytest.mark.parametrize("classes", [2, 60])
def test_any_number_of_classes(make_run, classes):
    labels = tuple(f"a rather long class name, number {k:03d}" for k in range(classes))
    page = build(make_run(labels))
    check(page)
    assert ("too many for a matrix" in page) == (classes > 30)
    assert ('aria-label="Confusion matrix"' in page) == (classes <= 30)
    assert all(label in page for label in labels)


def test_a_photo_that_is_gone_or_changed_leaves_an_empty_place_and_a_note(make_run):
    context = make_run()
    (context.photos / "0/0.png").unlink()
    shutil.copy(context.photos / "1/1.png", context.photos / "1/0.png")
    page = build(context)
    assert page.count('class="gone"') == 2
    assert "2 of 12 images" in page


def test_without_the_photos_the_page_still_stands(make_run):
    context = make_run()
    shutil.rmtree(context.photos)
    page = build(context)
    assert "data:image" not in page
    assert "12 of 12 images" in page


def test_warnings_and_failures_are_shown(make_run, make_load):
    slo = {"percentile": 99.0, "target_ms": 10.0, "observed_ms": None, "met": False}
    counts = {"ok": 190, "wrong_answer": 0, "http_error": 10, "timeout": 0}
    counts |= {"connection_error": 0, "missed": 0}
    load = make_load("open", slo=slo, counts=counts, warnings=["The generator sent late."])
    context = make_run(open=load)
    assert write_report(context)["verdict"] == "failed"
    page = (context.out / "index.html").read_text(encoding="utf-8")
    assert "failed: a promise is broken" in page
    assert "The generator sent late." in page
    assert "10 of 400 requests failed" in page


def test_flips_are_listed_with_their_photo(make_run, make_parity):
    flip = "gate,0/2.png,x,rose,rose,weed,0.0004,lost\n"
    context = make_run(parity=make_parity(flips=1, agreement=0.99), flips=flip)
    page = build(context)
    assert "margin 0.0004 logits" in page
    assert "every image got the same answer" not in page
