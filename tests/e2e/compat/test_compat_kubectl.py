"""Two versions of kubectl, five minors apart, on a real machine: what `tests/api` cannot try without one."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from e2e_machine import UpProcess, as_yaml, cluster, wait_for
from real_programs import KUBECTL_VERSIONS

pytestmark = [pytest.mark.real, pytest.mark.usefixtures("shop")]


def words(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


def test_it_is_the_version_it_should_be(kubectl: Any, kubectl_program: Path) -> None:
    said = json.loads(kubectl("version", "-o", "json"))
    assert ".".join((said["clientVersion"]["major"], said["clientVersion"]["minor"])) in KUBECTL_VERSIONS
    assert said["serverVersion"]["platform"].startswith(f"{sys.platform}/")
    first, *_, last = (int(version.partition(".")[2]) for version in KUBECTL_VERSIONS)
    assert last - first >= 2


def test_discovery_finds_all_kinds_and_the_control_plane(kubectl: Any) -> None:
    assert "Kubernetes control plane is running at https://127.0.0.1" in re.sub(
        "\x1b[^m]*m", "", kubectl("cluster-info")
    )
    assert "No resources found" in kubectl.run("get", "services").err
    assert "choregos.dev/v1" in kubectl("api-versions").split()
    fresh = kubectl("api-resources", "-o", "name")
    assert {"agentclusters.choregos.dev", "pods", "nodes.metrics.k8s.io"} <= set(fresh.split())
    assert kubectl("api-resources", "--cached", "-o", "name") == fresh
    listed = words(kubectl("api-resources", "--categories=all", "--no-headers"))
    assert {row[-1] for row in listed} == {"AgentCluster", "AgentSet", "Agent"}
    assert kubectl("__complete", "get", "agentclusters.choregos.dev", "").splitlines()[0] == "shop"


def test_get_shows_the_same_in_all_forms(kubectl: Any) -> None:
    agents = [f"shop-worker-{number}" for number in range(2)]
    for kind in ("pods", "agents", "ag", "agents.choregos.dev", "agents.v1.choregos.dev", "po", "pods.v1."):
        assert [row[0] for row in words(kubectl("get", kind, "-l", "tier=gold", "--no-headers"))] == agents
    assert kubectl("get", "pods", "-l", "tier in (gold)", "-o", "name").split() == [f"pod/{name}" for name in agents]
    bound = kubectl("get", "pods", "--field-selector", "status.phase=Running", "--chunk-size=1", "-o", "name")
    assert bound.split() == [f"pod/{name}" for name in agents]
    assert kubectl("get", "ac", "shop", "-o", "go-template={{.metadata.name}}") == "shop"
    columns = "custom-columns=N:.metadata.name,S:.status.phase"
    assert words(kubectl("get", "pods", "-l", "tier=gold", "-o", columns, "--no-headers"))[1] == [agents[1], "Running"]
    assert kubectl("get", "pods", "-L", "tier", "--no-headers").count(" gold") == 2
    assert "choregos.dev/cluster=shop" in kubectl("get", "pods", "--show-labels")
    assert "pod/shop-worker-0" in kubectl("get", "pods,nodes", "--show-kind")
    scale = json.loads(kubectl("get", "as", "shop-worker", "--subresource=scale", "-o", "json"))
    assert (scale["kind"], scale["spec"], scale["status"]["replicas"]) == ("Scale", {"replicas": 2}, 2)
    [shown] = words(kubectl("get", "ac", "shop", "--subresource=status", "--no-headers"))
    assert shown[:2] == ["shop", "2/2"]


def test_pods_are_looked_into(kubectl: Any, machine: UpProcess, tmp_path: Path) -> None:
    pod = "shop-worker-0"
    described = kubectl("describe", "pod", pod)
    for part in ("Controlled By:  AgentSet/shop-worker", "ContainersReady   True", "python: witness:Worker"):
        assert part in described
    assert machine.choregos("call", pod, "say", '{"text": "hello"}').code == 0
    assert wait_for(lambda: kubectl("logs", pod, "--tail=1"), "the line is in the log") == "INFO said: hello\n"
    assert "[pod/shop-worker-0/agent] INFO said: hello" in kubectl("logs", "-l", "tier=gold", "--prefix")
    assert kubectl("exec", pod, "-c", "agent", "-i", "--", "cat", given="typed") == "typed"
    assert kubectl.run("exec", pod, "--", "sh", "-c", "exit 3").code == 3
    sent, there, back = (tmp_path / name for name in ("sent", "there", "back"))
    sent.write_text("content")
    kubectl("cp", str(sent), f"{pod}:{there}")
    kubectl("cp", f"{pod}:{there}", str(back))
    assert back.read_text() == "content"
    *_, total = words(kubectl("top", "pods", "-l", "tier=gold", "--sum", "--no-headers"))
    assert re.fullmatch(r"\d+m \d+Mi", " ".join(total))
    assert "created agent set shop-worker" in kubectl("events", "--for", "ac/shop")
    kubectl("wait", "--for=jsonpath={.status.phase}=Running", f"pod/{pod}", "--timeout=30s")


def test_what_agents_have_not_is_refused_without_a_crash(kubectl: Any) -> None:
    owned = "change or scale the AgentCluster or AgentSet that owns it"
    for argv, said in (
        (("label", "pod", "shop-worker-0", "a=b"), owned),
        (("run", "x", "--image=y"), owned),
        (("debug", "node/{node}", "--image=y", "--attach=false"), owned),
        (("debug", "shop-worker-0", "--image=y", "--attach=false"), "could not find the requested resource"),
        (("attach", "shop-worker-0"), "could not find the requested resource"),
        (("create", "service", "clusterip", "x", "--tcp=80"), "they are called by name, capability or labels"),
        (("create", "job", "x", "--image=y"), "could not find the requested resource"),
    ):
        node = kubectl("get", "nodes", "-o", "jsonpath={.items[0].metadata.name}")
        refused = kubectl.run(*(word.format(node=node) for word in argv))
        assert (refused.code, said in refused.err) == (1, True), refused.err


def test_nodes_are_described_measured_and_emptied(kubectl: Any, machine: UpProcess) -> None:
    kubectl("apply", "-f", "-", given=as_yaml(cluster("moved", machine.template("worker", "Worker", 2))))
    kubectl("wait", "--for=condition=Ready", "ac/moved", "--timeout=60s")
    node = kubectl("get", "nodes", "-o", "jsonpath={.items[0].metadata.name}")
    assert "moved-worker-1" in kubectl("describe", "node", node)
    assert re.fullmatch(r"\d+m \d+% \d+Mi \d+%", " ".join(words(kubectl("top", "nodes", "--no-headers"))[0][1:]))
    kubectl("taint", "node", node, "team=a:NoSchedule")
    assert "cordoned" in kubectl("cordon", node)
    assert words(kubectl("get", "node", node, "--no-headers"))[0][1] == "Ready,SchedulingDisabled"
    drained = kubectl("drain", node, "--pod-selector=choregos.dev/cluster=moved", "--timeout=60s")
    assert drained.count("evicted") == 2
    kubectl("wait", "--for=condition=PodScheduled=False", "pod", "-l", "choregos.dev/cluster=moved", "--timeout=60s")
    assert "uncordoned" in kubectl("uncordon", node)
    kubectl("taint", "node", node, "team:NoSchedule-")
    kubectl("wait", "--for=condition=Ready", "ac/moved", "--timeout=60s")
    assert kubectl("delete", "ac", "moved", "--cascade=foreground", "--timeout=60s").startswith("agentcluster")
    assert kubectl("get", "agents", "-l", "choregos.dev/cluster=moved", "-o", "name") == ""


def test_a_life_from_kustomization_to_replacement(kubectl: Any, machine: UpProcess, tmp_path: Path) -> None:
    (tmp_path / "cluster.yaml").write_text(as_yaml(cluster("life", machine.template("worker", "Worker"))))
    kustomization = {"resources": ["cluster.yaml"], "namePrefix": "one-", "labels": [{"pairs": {"made-by": "us"}}]}
    (tmp_path / "kustomization.yaml").write_text(json.dumps(kustomization))
    place = str(tmp_path)
    assert kubectl.run("diff", "-k", place).code == 1
    assert kubectl("apply", "-k", place) == "agentcluster.choregos.dev/one-life created\n"
    kubectl("wait", "--for=create", "as/one-life-worker", "--timeout=30s")
    kubectl("wait", "--for=condition=Ready", "ac", "-l", "made-by=us", "--timeout=60s")
    assert kubectl("apply", "-k", place) == "agentcluster.choregos.dev/one-life unchanged\n"
    assert kubectl.run("diff", "-k", place).code == 0
    before = kubectl("get", "-k", place, "-o", "jsonpath={.metadata.uid}")
    replaced = kubectl("replace", "--force", "-f", "-", given=kubectl("kustomize", place))
    assert "agentcluster.choregos.dev/one-life replaced" in replaced
    assert kubectl("get", "-k", place, "-o", "jsonpath={.metadata.uid}") != before
    kubectl("wait", "--for=condition=Ready", "ac/one-life", "--timeout=60s")
    patch = '{"spec":{"replicas":2}}'
    kubectl("patch", "as", "one-life-worker", "--subresource=scale", "--type=merge", "-p", patch)
    kubectl("wait", "--for=jsonpath={.status.readyReplicas}=2", "as/one-life-worker", "--timeout=60s")
    assert "deleted" in kubectl("delete", "-k", place, "--timeout=60s")


def test_what_left_a_set_of_manifests_is_pruned(
    kubectl: Any, machine: UpProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "left"}, "data": {"a": "b"}}
    kept = cluster("kept", machine.template("worker", "Worker"))
    monkeypatch.setitem(machine.environment, "KUBECTL_APPLYSET", "true")
    apply = ("apply", "--prune", "--applyset=manifests", "-n", "default", "-f", "-")
    assert "configmap/left created" in kubectl(*apply, given=as_yaml(kept, settings))
    assert "configmap/left pruned" in kubectl(*apply, given=as_yaml(kept))
    kubectl("delete", "ac/kept", "secret/manifests", "--timeout=60s")


@pytest.mark.parametrize(
    "features", [("ClientsAllowCBOR", "ClientsPreferCBOR"), ("WatchListClient",)], ids=lambda f: f[0]
)
def test_what_kubectl_would_rather_speak_is_not_needed(
    kubectl: Any, machine: UpProcess, monkeypatch: pytest.MonkeyPatch, features: tuple[str, ...]
) -> None:
    for feature in features:
        monkeypatch.setitem(machine.environment, f"KUBE_FEATURE_{feature}", "true")
    made = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "spoken-"}, "data": {"a": "b"}}
    [name] = re.findall(r"configmap/(spoken-\w+) created", kubectl("create", "-f", "-", given=json.dumps(made)))
    assert "labeled" in kubectl("label", "cm", name, "x=y")
    assert kubectl("get", "cm", "-l", "x=y", "-o", "name") == f"configmap/{name}\n"
    assert kubectl("auth", "can-i", "list", "pods") == "yes\n"
    kubectl("wait", "--for=condition=Ready", "ac/shop", "--timeout=30s")
    assert "deleted" in kubectl("delete", "cm", name)
