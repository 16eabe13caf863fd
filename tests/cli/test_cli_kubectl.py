"""choregos and a real kubectl take turns on the same objects, through the same kubeconfig."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.real

Kubectl = Callable[..., str]


@pytest.fixture
def kubectl(background: Any, tmp_path: Path) -> Kubectl:
    program = Path(sys.executable).with_name("kubectl")
    environment = {"HOME": str(tmp_path), "KUBECACHEDIR": str(tmp_path / "cache"), "PATH": "/usr/bin:/bin"}

    def call(*words: str) -> str:
        result = subprocess.run(
            [program, "--kubeconfig", background.api.kubeconfig, *words],
            capture_output=True,
            text=True,
            env=environment,
            timeout=60,
            check=False,
        )
        assert result.returncode == 0, result.stderr
        return result.stdout

    return call


def test_what_one_has_applied_the_other_changes(
    choregos: Callable[..., Any], kubectl: Kubectl, manifest: Callable[..., str]
) -> None:
    path = manifest(extra="    env: {A: '1'}\n")
    assert choregos("apply", "-f", path).out == "agentcluster.choregos.dev/support created\n"
    assert kubectl("apply", "-f", manifest(replicas=3)).strip() == "agentcluster.choregos.dev/support configured"
    assert kubectl("apply", "-f", manifest(replicas=3)).strip() == "agentcluster.choregos.dev/support unchanged"
    live = choregos("get", "ac", "support", "-o", "json").json
    agent = live["spec"]["agents"][0]
    assert (agent["replicas"], agent.get("env")) == (3, None)
    assert choregos("apply", "-f", manifest(replicas=4)).out == "agentcluster.choregos.dev/support configured\n"
    assert kubectl("get", "ac", "support", "-o", "jsonpath={.spec.agents[0].replicas}") == "4"


def test_what_one_has_applied_the_other_leaves_alone(
    choregos: Callable[..., Any], kubectl: Kubectl, manifest: Callable[..., str]
) -> None:
    path = manifest(extra="    env: {A: 'a < b & c > d, \u2028 für'}\n")
    assert choregos("apply", "-f", path).out == "agentcluster.choregos.dev/support created\n"
    for _ in range(2):
        assert kubectl("apply", "-f", path).strip() == "agentcluster.choregos.dev/support unchanged"
        assert choregos("apply", "-f", path).out == "agentcluster.choregos.dev/support unchanged\n"


def test_both_show_the_same_table(choregos: Callable[..., Any], kubectl: Kubectl, background: Any) -> None:
    background.do(background.api.start_agents("web", 3))

    def cells(table: str) -> list[list[str]]:
        # Ages go on between the two.
        return [[cell for cell in line.split() if not cell[0].isdigit()] for line in table.splitlines()]

    assert cells(choregos("get", "agents").out) == cells(kubectl("get", "agents"))
    assert cells(choregos("get", "agents", "-o", "wide").out) == cells(kubectl("get", "agents", "-o", "wide"))
    assert choregos("get", "agents", "-o", "name").out == kubectl("get", "agents", "-o", "name")
    ours = choregos("get", "agents", "-o", "json").json["items"]
    assert ours == json.loads(kubectl("get", "agents", "-o", "json"))["items"]
