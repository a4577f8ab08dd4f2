"""The whole path once, among the default tests; its parts have their own in the tier of CI."""

from __future__ import annotations

import json

import pytest


@pytest.mark.smoke
@pytest.mark.timeout(900)  # beside the other tests
def test_images_become_a_model_that_is_served_and_loaded(stillroom, tiny_run):
    assert stillroom("verify", tiny_run).code == 0
    http = json.loads((tiny_run / "http" / "http_parity.json").read_text())
    load = json.loads((tiny_run / "loadtest" / "summary.json").read_text())
    assert http["images"] == http["agree"] == 315
    assert load["open"]["answers"]["checked"] > 0
    assert load["open"]["answers"]["wrong"] == 0
