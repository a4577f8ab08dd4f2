"""The audit stage, and the audited dataset that later stages are trained on."""

from __future__ import annotations

from pathlib import Path

from stillroom.report.audit_page import write_audit_page
from stillroom.run.recipe import Recipe
from stillroom.run.stage_graph import Built, Context
from train.data.audit.dataset_audit import audit_images, refuse_unreadable
from train.data.dataset import Dataset
from train.data.folders.notices import severity_of
from train.data.images import read_index
from train.data.source import open_source
from train.data.unlabelled import Unlabelled, open_unlabelled
from train.engine.progress import say

__all__ = ["build_audit", "dataset_of", "unlabelled_of"]


def build_audit(context: Context) -> Built:
    """Audit the images and split them; write the index, audit.json and the page."""
    recipe = context.recipe
    source = context.source or open_source(context.photos, recipe.data)
    for remark in source.remarks:
        say(f"  {remark}")
    if meant := sum(severity_of(notice.reason) == "error" for notice in source.notices):
        page = context.run.stage("data") / "audit.html"
        say(f"  {meant} paths in {source.root} need a look, such as images not read: {page}")
    audit = audit_images(
        source.root,
        recipe.data,
        seed=recipe.seed,
        out=context.out,
        photos=source.listing,
        misnamed=source.misnamed,
    )
    photos = read_index(context.out / "index.csv")
    write_audit_page(source.root, photos, audit, context.out / "audit.html")
    metrics = {key: audit[key] for key in ("photos", "imbalance", "dataset_digest")}
    return Built({**metrics, "classes": len(audit["labels"]), "findings": len(audit["findings"])})


def dataset_of(context: Context) -> Dataset:
    """The images as the audit stage split them."""
    data = context.run.stage("data")
    refuse_unreadable(data, context.recipe.data)
    return Dataset.open(context.photos, data / "index.csv", context.recipe.data.cache_mib)


def unlabelled_of(recipe: Recipe, dataset: Dataset) -> Unlabelled | None:
    """The images without labels that the recipe distils on, too; None without any."""
    if not recipe.distil.unlabelled:
        return None
    return open_unlabelled(Path(recipe.distil.unlabelled), dataset, recipe.data)
