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

RunKubectl = Callable[..., "subprocess.CompletedProcess[str]"]
Kubectl = Callable[..., str]


@pytest.fixture
def run_kubectl(background: Any, tmp_path: Path) -> RunKubectl:
    program = Path(sys.executable).with_name("kubectl")
    environment = {"HOME": str(tmp_path), "KUBECACHEDIR": str(tmp_path / "cache"), "PATH": "/usr/bin:/bin"}

    def call(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [program, "--kubeconfig", background.api.kubeconfig, *words],
            capture_output=True,
            text=True,
            env=environment,
            timeout=60,
            check=False,
        )

    return call


@pytest.fixture
def kubectl(run_kubectl: RunKubectl) -> Kubectl:
    """What a command that succeeds prints."""

    def call(*words: str) -> str:
        result = run_kubectl(*words)
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


def test_both_tell_every_fault_and_how_many_more_there_are(
    choregos: Callable[..., Any], background: Any, tmp_path: Path, run_kubectl: RunKubectl
) -> None:
    faulty = "{name: a%d, isolation: none, replicas: -1, resources: {cpu: much}, bogus: 1}"
    templates = "".join(f"  - {faulty % n}\n" for n in range(300))
    path = tmp_path / "faults.yaml"
    path.write_text(
        f"apiVersion: choregos.dev/v1\nkind: AgentCluster\nmetadata: {{name: x}}\nspec:\n  agents:\n{templates}"
    )
    ours = choregos("apply", "-f", str(path)).err.splitlines()
    theirs = run_kubectl("apply", "-f", str(path)).stderr.splitlines()
    assert ours[-1] == f"  {path}:1: …: and 200 more faults"
    assert theirs[-1] == "* …: and 200 more faults"
    for lines in (ours, theirs):
        assert sum("unknown field" in line for line in lines) == 300
        assert len(lines) == 1002


def test_the_word_means_our_group_and_manifests_of_the_core_group_are_served(
    choregos: Callable[..., Any], kubectl: Kubectl, manifest: Callable[..., str]
) -> None:
    path = Path(manifest())
    path.write_text(path.read_text().replace("choregos.dev/v1", "v1"))
    assert kubectl("apply", "-f", str(path)) == "agentcluster/support created\n"
    assert kubectl("apply", "-f", str(path)) == "agentcluster/support unchanged\n"
    for word in ("agentclusters", "agentcluster", "AgentCluster", "ac"):
        assert kubectl("get", word, "-o", "name") == "agentcluster.choregos.dev/support\n"
        assert choregos("get", word, "-o", "name").out == "agentcluster.choregos.dev/support\n"
    assert kubectl("get", "agentclusters/support", "-o", "jsonpath={.apiVersion}") == "choregos.dev/v1"
    assert kubectl("get", "-f", str(path), "-o", "name") == "agentcluster/support\n"
    assert choregos("apply", "-f", str(path)).out == "agentcluster/support unchanged\n"
    assert kubectl("replace", "-f", str(path)) == "agentcluster/support replaced\n"
    assert kubectl("delete", "--wait=false", "-f", str(path)).startswith('agentcluster "support" deleted')
