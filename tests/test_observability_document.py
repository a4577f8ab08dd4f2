"""docs/observability.md says what the service really counts."""

from __future__ import annotations

import re
from pathlib import Path

import yaml
from prometheus_client import CollectorRegistry

from serve.telemetry.drift import Drift
from serve.telemetry.metrics import Metrics

TEXT = (Path(__file__).parents[1] / "docs" / "observability.md").read_text(encoding="utf-8")


def families() -> dict[str, tuple[str, list[str]]]:
    """Type and labels by name, as the registry has them."""
    registry = CollectorRegistry()
    metrics = Metrics(registry, Drift)
    collectors = [*vars(metrics).values(), *vars(metrics.drift).values()]
    found = {}
    for collector in collectors:
        if not hasattr(collector, "describe"):
            continue
        [family] = collector.describe()
        name = f"{family.name}_total" if family.type == "counter" else family.name
        found[name] = (family.type, list(collector._labelnames))
    return found


def test_the_table_is_what_is_counted() -> None:
    rows = re.findall(r"^\| `(stillroom_\w+)` \| (\w+) \| ([^|]*)\|", TEXT, re.MULTILINE)
    assert {name: (kind, re.findall(r"`(\w+)`", labels)) for name, kind, labels in rows} == (
        families()
    )


def test_queries_and_alerts_name_what_is_there() -> None:
    [block] = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
    rules = yaml.safe_load(block)["groups"][0]["rules"]
    assert all({"alert", "expr", "annotations"} <= set(rule) for rule in rules)
    used = set(re.findall(r"stillroom_\w+", TEXT))
    known = set(families())
    suffixed = {f"{name}{end}" for name in known for end in ("_bucket", "_sum", "_count")}
    assert used <= known | suffixed
