"""The page on distributed loads: its commands parse, and its manifests fit together."""

from __future__ import annotations

import re
import shlex

import pytest

from loadtest.plan.arguments import build_parser, fleet_from_options, plan_from_options
from tests.loadtest.stub_server import ROOT

TEXT = (ROOT / "docs" / "loadtest-distributed.md").read_text(encoding="utf-8")
COMMAND = re.compile(r"python -m loadtest (http(?:\\\n|\n {14}|[^\n])*)")


def test_its_commands_parse() -> None:
    commands = COMMAND.findall(TEXT)
    assert len(commands) == 3
    for command in commands:
        words = shlex.split(command.replace("\\\n", " ").replace("$POD_IP", "10.0.0.5"))
        options = build_parser().parse_args(words)
        assert plan_from_options(options, images=9).workers > 1
        assert fleet_from_options(options).external == ("--bind" in words)


def test_its_manifests_fit_together() -> None:
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
    (block,) = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
    service, policy, master, workers = yaml.safe_load_all(block)
    labels = master["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"] == labels
    assert policy["spec"]["podSelector"]["matchLabels"] == labels
    (rule,) = policy["spec"]["ingress"]
    assert (
        rule["from"][0]["podSelector"]["matchLabels"]
        == (workers["spec"]["template"]["metadata"]["labels"])
    )
    port = service["spec"]["ports"][0]["port"]
    (container,) = workers["spec"]["template"]["spec"]["containers"]
    assert f"{service['metadata']['name']}:{port}" in container["command"]
    (asked,) = master["spec"]["template"]["spec"]["containers"]
    assert f"--workers {workers['spec']['parallelism']} " in asked["args"][0]
    assert f":{port}" in asked["args"][0]
