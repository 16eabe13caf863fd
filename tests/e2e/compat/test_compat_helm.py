"""helm against a real machine, and what `helm template` prints applied from a file, by two kubectls and choregos."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from e2e_machine import Result, UpProcess
from real_programs import helm

pytestmark = pytest.mark.real

CHART = Path(__file__).parent / "chart"

ODD = """\
---
# Source: shop/templates/nothing.yaml

---
---

# Source: shop/templates/settings.yaml
apiVersion: v1
kind: ConfigMap
metadata:
  name: {name}-settings
  labels:
    app.kubernetes.io/managed-by: Helm
data:
  text: |
    two
    lines
--- # a comment
# Source: shop/templates/list.yaml
apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: ServiceAccount
  metadata: {{name: {name}-robot, annotations: {{helm.sh/hook: "pre-install", helm.sh/hook-weight: "-5"}}}}
---
apiVersion: v1
kind: ConfigMapList
items:
- {{apiVersion: v1, kind: ConfigMap, metadata: {{name: {name}-within}}, data: {{a: b}}}}
---
null
---
# Source: shop/templates/secret.yaml
{{"apiVersion": "v1", "kind": "Secret", "metadata": {{"name": "{name}-key"}}, "data": {{"key": "c2VjcmV0"}}}}
...
---
"""


Helm = Callable[..., str]


@pytest.fixture
def run_helm(machine: UpProcess, tmp_path: Path) -> Helm:
    program = helm()
    template = machine.template("worker", "Worker")
    del template["replicas"]
    values = tmp_path / "values.json"
    values.write_text(json.dumps({"template": template}))

    def run(command: str, *argv: str) -> str:
        given = ("--values", str(values)) if command in ("template", "install", "upgrade") else ()
        done = machine.run(str(program), command, *argv, *given)
        assert done.code == 0, done.err
        return done.out

    return run


def outcomes(text: str) -> list[str]:
    return [line.rpartition(" ")[2] for line in text.splitlines()]


def test_a_template_is_applied_again_and_deleted(
    machine: UpProcess, run_helm: Helm, kubectl: Any, tmp_path: Path
) -> None:
    file = tmp_path / "shop.yaml"
    file.write_text(run_helm("template", "printed", str(CHART)))
    assert "# Source: shop/templates/hook.yaml" in file.read_text()
    made = kubectl("apply", "-f", str(file))
    assert outcomes(made) == ["created"] * 7
    kubectl("wait", "--for=condition=Ready", "ac/printed", "--timeout=60s")
    assert outcomes(kubectl("apply", "-f", str(file))) == ["unchanged"] * 7
    assert outcomes(machine.choregos("apply", "-f", str(file)).out) == ["unchanged"] * 7
    assert kubectl.run("diff", "-f", str(file)).code == 0
    managed = kubectl("get", "cm,sa,ac", "-l", "app.kubernetes.io/instance=printed", "-o", "name").split()
    assert managed == ["configmap/printed-settings", "serviceaccount/printed", "agentcluster.choregos.dev/printed"]
    assert kubectl("auth", "can-i", "list", "agents", "--as=system:serviceaccount:default:printed") == "yes\n"
    file.write_text(run_helm("template", "printed", str(CHART), "--set", "greeting=bye"))
    assert sorted(set(outcomes(kubectl("apply", "--server-side", "--force-conflicts", "-f", str(file))))) == [
        "serverside-applied"
    ]
    assert kubectl("get", "cm", "printed-settings", "-o", "jsonpath={.data.greeting}") == "bye"
    assert len(kubectl("delete", "-f", str(file), "--timeout=60s").splitlines()) == 7


@pytest.mark.parametrize("line_end", ["\n", "\r\n"], ids=["lf", "crlf"])
def test_odd_documents_are_understood_alike(machine: UpProcess, kubectl: Any, tmp_path: Path, line_end: str) -> None:
    file = tmp_path / "odd.yaml"
    file.write_bytes(ODD.format(name="odd").replace("\n", line_end).encode())
    names = ["cm/odd-settings", "sa/odd-robot", "cm/odd-within", "secret/odd-key"]

    def applied(result: Result) -> list[str]:
        assert result.code == 0, result.err
        return outcomes(result.out)

    assert applied(kubectl.run("apply", "-f", str(file))) == ["created"] * 4
    assert applied(kubectl.run("apply", "-f", str(file))) == ["unchanged"] * 4
    assert applied(machine.choregos("apply", "-f", str(file))) == ["unchanged"] * 4
    assert kubectl("get", "cm", "odd-settings", "-o", "jsonpath={.data.text}") == "two\nlines\n"
    kubectl("delete", *names)
    assert applied(machine.choregos("apply", "-f", str(file))) == ["created"] * 4
    assert applied(kubectl.run("apply", "--server-side", "-f", str(file))) == ["serverside-applied"] * 4
    kubectl("delete", "-f", str(file))


def test_helm_installs_upgrades_goes_back_and_uninstalls(machine: UpProcess, run_helm: Helm) -> None:
    def shown(path: str, *which: str) -> str:
        return machine.kubectl("get", *which, "-o", f"jsonpath={path}")

    assert "STATUS: deployed" in run_helm("install", "live", str(CHART), "--wait", "--timeout=60s")
    machine.kubectl("wait", "--for=condition=Ready", "ac/live", "--timeout=60s")
    [release] = json.loads(run_helm("list", "-o", "json"))
    assert (release["name"], release["revision"], release["status"]) == ("live", "1", "deployed")
    planned = run_helm("upgrade", "live", str(CHART), "--dry-run=server", "--set", "replicas=2")
    # The server was asked what it has.
    assert "For another server" not in planned
    run_helm("upgrade", "live", str(CHART), "--set", "replicas=2,reader=false", "--wait", "--timeout=60s")
    assert shown("{.spec.agents[0].replicas}", "ac", "live") == "2"
    assert shown("{.data.revision}", "cm", "live-before") == "2"
    assert machine.kubectl("get", "sa", "live", "--ignore-not-found") == ""
    machine.kubectl("wait", "--for=jsonpath={.status.readyAgents}=2", "ac/live", "--timeout=60s")
    run_helm("rollback", "live", "1", "--wait", "--timeout=60s")
    assert shown("{.spec.agents[0].replicas}", "ac", "live") == "1"
    assert machine.kubectl("get", "sa", "live", "-o", "name") == "serviceaccount/live\n"
    assert [entry["revision"] for entry in json.loads(run_helm("history", "live", "-o", "json"))] == [1, 2, 3]
    assert "kind: AgentCluster" in run_helm("get", "manifest", "live")
    run_helm("uninstall", "live", "--wait", "--timeout=60s")
    machine.kubectl("wait", "--for=delete", "ac/live", "--timeout=60s")
    assert json.loads(run_helm("list", "-a", "-o", "json")) == []
