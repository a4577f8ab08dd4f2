"""What the report shows as proof: parity image by image, and where every file comes from."""

from __future__ import annotations

from typing import Any

from stillroom.command_text import command_text
from stillroom.page.thumbnails import Thumbnails
from stillroom.report.facts import Facts

__all__ = ["parity_section", "provenance_section"]

MAX_FLIPS = 24


def parity_section(facts: Facts, thumbnails: Thumbnails) -> dict[str, Any]:
    """Numbers of both parity checks, and the images whose prediction changed."""
    by_path = {photo.path: photo for photo in facts.photos}
    export = [
        (flip["path"], flip["reference"], flip["candidate"], float(flip["margin"]))
        for flip in facts.flips
    ]
    over_http = [
        (flip["path"], flip["offline"], flip["http"], float(flip["margin"]))
        for flip in facts.http["flips"]
    ]
    flips = [
        {
            "path": path,
            "before": before,
            "after": after,
            "margin": margin,
            "uri": thumbnails.of(by_path[path]) if path in by_path else None,
        }
        for path, before, after, margin in (export + over_http)[:MAX_FLIPS]
    ]
    parity = facts.manifest["options"]["parity"]
    return {
        "export": facts.parity,
        "limits": {**parity[facts.manifest["precision"]], "min_images": parity["min_images"]},
        "http": facts.http,
        "flips": flips,
        "hidden": max(0, len(export) + len(over_http) - MAX_FLIPS),
    }


def provenance_section(facts: Facts) -> dict[str, Any]:
    """The chain, what it was made of, and how to serve and check it."""
    run = facts.run_name
    commands = [
        ("Serve it", command_text("serve", run, "--port", 3000)),
        (
            "Ask it",
            "curl -H 'Content-Type: image/jpeg' --data-binary @photo.jpg "
            "localhost:3000/v1/classify",
        ),
        ("Verify the chain and replay the golden images", command_text("verify", run)),
        (
            "Repeat parity on other images",
            command_text("parity", run, "--photos", "more-photos/"),
        ),
    ]
    return {
        "stages": facts.stages,
        "wall_s": sum(stage.wall_s or 0.0 for stage in facts.stages),
        "versions": sorted(facts.manifest["versions"].items()),
        "manifest": facts.manifest,
        "commands": commands,
    }
