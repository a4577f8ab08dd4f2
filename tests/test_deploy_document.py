"""docs/deploy.md: its manifests parse, and name what the service has."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from serve.http.routes import route_table
from serve.telemetry.metrics import Metrics

yaml = pytest.importorskip("yaml")
TEXT = (Path(__file__).parents[1] / "docs" / "deploy.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def objects() -> dict[str, Any]:
    blocks = re.findall(r"```yaml\n(.*?)```", TEXT, flags=re.DOTALL)
    found = [one for block in blocks for one in yaml.safe_load_all(block)]
    return {one["kind"]: one for one in found}


def test_probes_ask_what_the_service_answers(objects: dict[str, Any]) -> None:
    (container,) = objects["Deployment"]["spec"]["template"]["spec"]["containers"]
    ports = {one["containerPort"] for one in container["ports"]}
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        asked = container[probe]["httpGet"]
        assert route_table().find(asked["path"])
        assert asked["port"] in ports
    assert objects["Service"]["spec"]["ports"][0]["targetPort"] in ports


def test_selectors_fit(objects: dict[str, Any]) -> None:
    labels = objects["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert objects["Deployment"]["spec"]["selector"]["matchLabels"] == labels
    assert objects["Service"]["spec"]["selector"] == labels
    assert objects["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"] == labels
    target = objects["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]
    assert target["name"] == objects["Deployment"]["metadata"]["name"]


def test_the_autoscaler_counts_what_the_service_counts(objects: dict[str, Any]) -> None:
    """BentoML's own figures see probes and scrapes alone."""
    counted = {family.name for family in _registry().collect()}
    (metric,) = objects["HorizontalPodAutoscaler"]["spec"]["metrics"]
    assert metric["pods"]["metric"]["name"] in counted


def _registry() -> CollectorRegistry:
    registry = CollectorRegistry()
    Metrics(registry)
    return registry
