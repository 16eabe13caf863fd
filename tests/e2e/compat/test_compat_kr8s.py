"""kr8s against a real machine, blocking and asynchronous: classes made for our kinds, and its own of Kubernetes."""

from __future__ import annotations

from typing import Any

import kr8s
import kr8s.asyncio
import pytest
from e2e_machine import UpProcess, until, wait_for
from kr8s.asyncio.objects import new_class as new_asynchronous_class
from kr8s.objects import ConfigMap, Node, Pod, Secret, new_class

pytestmark = [
    pytest.mark.real,
    pytest.mark.usefixtures("shop", "collected"),
    # It warns of every server newer than itself.
    pytest.mark.filterwarnings("ignore:Kubernetes version"),
    # It closes its connections when the collector of garbage finds them.
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
]

READY = "jsonpath='{.status.readyReplicas}'=2"


def manifest(machine: UpProcess, name: str) -> dict[str, Any]:
    template = machine.template("worker", "Worker")
    del template["replicas"]
    spec = {"replicas": 1, "region": "local", "template": template}
    metadata = {"name": name, "namespace": "default"}
    return {"apiVersion": "choregos.dev/v1", "kind": "AgentSet", "metadata": metadata, "spec": spec}


def test_blocking(machine: UpProcess) -> None:
    api = kr8s.api(kubeconfig=str(machine.root / "kubeconfig"))
    assert api.whoami() == "admin"
    for word in ("agentclusters.choregos.dev", "agentclusters", "agentcluster", "ac", "agentclusters.v1.choregos.dev"):
        assert [found.name for found in api.get(word, namespace="default")] == ["shop"], word
    agent_set_class = new_class(kind="AgentSet", version="choregos.dev/v1", namespaced=True, scalable=True)
    agent_set = agent_set_class(manifest(machine, "blocking"), api=api)
    agent_set.create()
    agent_set.scale(2)
    agent_set.wait([READY], timeout=60)
    agent_set.wait("condition=Ready", timeout=60)
    agent_set.patch({"metadata": {"labels": {"a": "b"}}})
    agent_set.label(c="d")
    agent_set.annotate(note="kept")
    assert (dict(agent_set.labels), agent_set.annotations["note"]) == ({"a": "b", "c": "d"}, "kept")
    agent_set.patch([{"op": "replace", "path": "/spec/replicas", "value": 1}], type="json")
    agent_set.refresh()
    assert (agent_set.replicas, agent_set.exists()) == (1, True)
    # An object of a kind that kr8s was not told of: the class is made from discovery.
    [found] = api.get("agentsets.choregos.dev", label_selector={"c": "d"}, namespace="default")
    assert (found.name, found.kind) == ("blocking", "AgentSet")
    event, seen = next(iter(api.watch("agentsets", namespace="default", field_selector="metadata.name=blocking")))
    assert (event, seen.name) == ("ADDED", "blocking")
    agent_set.delete(propagation_policy="Foreground")
    agent_set.wait("delete", timeout=60)
    assert not agent_set.exists()


def test_its_own_classes(machine: UpProcess) -> None:
    api = kr8s.api(kubeconfig=str(machine.root / "kubeconfig"))
    pods = list(api.get("pods", namespace="default", label_selector="tier=gold", field_selector="status.phase=Running"))
    assert [type(pod) for pod in pods] == [Pod, Pod]
    pod = pods[0]
    pod.wait("condition=Ready", timeout=30)
    assert pod.ready()
    assert machine.choregos("call", pod.name, "say", '{"text": "hello"}').code == 0
    # The answer to the call does not wait for what the agent has logged.
    assert wait_for(lambda: list(pod.logs(tail_lines=1)), "the line is in the log") == ["INFO said: hello"]
    assert pod.exec(["echo", "out"]).stdout == b"out\n"
    node = Node.get(pod.spec.nodeName, api=api)
    node.cordon()
    node.refresh()
    cordoned = node.unschedulable
    node.uncordon()
    assert cordoned
    settings = ConfigMap({"metadata": {"name": "kr8s", "namespace": "default"}, "data": {"a": "b"}}, api=api)
    settings.create()
    settings.patch({"data": {"a": "c"}})
    assert settings.data == {"a": "c"}
    settings.delete()
    key = Secret({"metadata": {"name": "kr8s", "namespace": "default"}, "stringData": {"a": "b"}}, api=api)
    key.create()
    assert key.raw["data"] == {"a": "Yg=="}
    key.delete()


@pytest.fixture
async def api(machine: UpProcess) -> Any:
    return await kr8s.asyncio.api(kubeconfig=str(machine.root / "kubeconfig"))


async def test_asynchronous(machine: UpProcess, api: Any) -> None:
    assert [found.name async for found in api.get("agentclusters.choregos.dev", namespace="default")] == ["shop"]
    agent_set_class = new_asynchronous_class(kind="AgentSet", version="choregos.dev/v1", namespaced=True, scalable=True)
    agent_set = await agent_set_class(manifest(machine, "asynchronous"), api=api)
    await agent_set.create()
    await agent_set.scale(2)
    await agent_set.wait([READY], timeout=60)

    async def pods() -> list[str]:
        selector = {"choregos.dev/set": "asynchronous"}
        return [pod.name async for pod in api.get("pods", namespace="default", label_selector=selector)]

    assert await pods() == ["asynchronous-0", "asynchronous-1"]
    async for event, seen in api.watch("agentsets", namespace="default", field_selector="metadata.name=asynchronous"):
        assert (event, seen.name) == ("ADDED", "asynchronous")
        break
    kinds = {resource["kind"] for resource in await api.api_resources()}
    assert {"AgentCluster", "AgentSet", "Agent", "Pod", "Node"} <= kinds
    await agent_set.delete()
    await agent_set.wait("delete", timeout=60)

    async def none() -> bool:
        return await pods() == []

    await until(none, "its pods are gone")
