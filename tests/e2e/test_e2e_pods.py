"""Agents as Pods, with a real kubectl and other clients of Kubernetes: seen, awaited, read, deleted, measured."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from e2e_machine import BIN, UpProcess, applied, cluster, deleted, until, wait_for

from choregos.client import Client

pytestmark = pytest.mark.real

CLIENTS = Path(__file__).parent / "clients"


def rows(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


async def test_pods_are_seen_described_and_explained(machine: UpProcess, client: Client):
    worker = machine.template("worker", "Worker", 2, labels={"tier": "gold"}, env={"COLOR": "blue"})
    broken = machine.template("broken", "nosuch:Worker")
    await client.apply(cluster("shop", worker, broken))
    wait_for(lambda: machine.kubectl("get", "pod", "-l", "tier=gold", "-o", "name"), "the pods are there")
    machine.kubectl("wait", "--for=condition=Ready", "pod", "-l", "tier=gold", "--timeout=60s")
    await until(lambda: _shown(machine, "shop-broken-0", "ImportFailed"), "the broken one is shown as such")
    found = {row[0]: row[1:] for row in rows(machine.kubectl("get", "pods", "-o", "wide", "--no-headers"))}
    [node] = machine.kubectl("get", "nodes", "-o", "name").split()
    for number in range(2):
        shown = found[f"shop-worker-{number}"]
        assert shown[:3] == ["1/1", "Running", "0"]
        assert node.removeprefix("node/") in shown
    assert found["shop-broken-0"][0] == "0/1"
    described = machine.kubectl("describe", "pod", "shop-worker-0")
    for part in ("AgentSet/shop-worker", "python: witness:Worker", "COLOR:", "PodScheduled      True"):
        assert part in described
    described = machine.kubectl("describe", "pod", "shop-broken-0")
    assert "there is no module 'nosuch'" in described
    assert re.search(r"Warning +ImportFailed", described)
    assert "ImportFailed" in machine.kubectl("events", "--for", "pod/shop-broken-0")
    assert "What the agent is" in machine.kubectl("explain", "pod.spec")
    everything = machine.kubectl("get", "all")
    assert "agent.choregos.dev/shop-worker-0" in everything
    assert "pod/" not in everything
    await deleted(client, "shop")


async def _shown(machine: UpProcess, pod: str, status: str) -> bool:
    return machine.kubectl("get", "pod", pod, "--no-headers").split()[2] == status


async def test_a_pod_cannot_be_written_and_kubectl_says_what_to_do(machine: UpProcess, client: Client):
    await applied(client, cluster("fixed", machine.template("worker", "Worker")))
    for argv in (("run", "x", "--image=y"), ("label", "pod", "fixed-worker-0", "a=b")):
        refused = machine.run("kubectl", *argv)
        assert refused.code == 1
        assert "change or scale the AgentCluster" in refused.err
    await deleted(client, "fixed")


@contextlib.contextmanager
def started(machine: UpProcess, *argv: str) -> Iterator[Path]:
    """A kubectl that goes on; its output, as it grows."""
    path = machine.places / "output"
    with path.open("wb") as output:
        process = subprocess.Popen([str(BIN / "kubectl"), *argv], env=machine.environment, stdout=output, stderr=output)
    try:
        yield path
    finally:
        process.terminate()
        process.wait()


async def test_a_deleted_pod_goes_and_another_comes(machine: UpProcess, client: Client):
    await applied(client, cluster("phoenix", machine.template("witness", "Witness", 2)))
    selector = "choregos.dev/cluster=phoenix"
    with started(machine, "get", "pods", "-l", selector, "-w", "--no-headers") as watched:
        wait_for(lambda: "phoenix-witness-1" in watched.read_text(), "the watch shows what there is")
        for argv in ((), ("--force", "--grace-period=0"), ("--now",)):
            before = set(
                machine.kubectl("get", "pods", "-l", selector, "-o", "jsonpath={.items[*].metadata.uid}").split()
            )
            [first, *_] = machine.kubectl("get", "pods", "-l", selector, "-o", "name").split()
            assert "deleted" in machine.kubectl("delete", first, "--timeout=60s", *argv)

            async def replaced(before: set[str] = before) -> bool:
                found = await client.list("agents", selector=selector)
                ready = {each["metadata"]["uid"] for each in found if each["status"].get("ready")}
                return len(ready) == 2 and len(before & ready) == 1

            await until(replaced, "another has come")
        wait_for(lambda: "Terminating" in watched.read_text(), "the watch shows the end of one")
    assert not (machine.places / "TWINS").exists()
    machine.kubectl("delete", "pods", "-l", selector, "--wait=false")
    await deleted(client, "phoenix")


async def test_logs_of_pods_in_all_ways(machine: UpProcess, client: Client):
    worker = machine.template("worker", "Worker", 2, labels={"tier": "loud"}, isolation="dedicated")
    await applied(client, cluster("talk", worker))
    names = [f"talk-worker-{number}" for number in range(2)]
    for name in names:
        for number in range(3):
            await client.call(agent=name, method="say", text=f"{name} {number}")

    async def logged() -> bool:
        return all(len(machine.kubectl("logs", name).splitlines()) == 3 for name in names)

    await until(logged, "what was said is in the logs")
    first = names[0]
    assert machine.kubectl("logs", first, "--tail=1") == f"INFO said: {first} 2\n"
    assert machine.kubectl("logs", first, "-c", "agent", "--limit-bytes=11") == "INFO said: "
    assert re.match(r"\d{4}-\d\d-\d\dT[\d:.]+Z INFO said", machine.kubectl("logs", first, "--timestamps"))
    assert len(machine.kubectl("logs", first, "--since=1h").splitlines()) == 3
    assert machine.kubectl("logs", first, "--since-time=2100-01-01T00:00:00Z") == ""
    together = machine.kubectl("logs", "-l", "tier=loud", "--prefix", "--tail=1", "--max-log-requests=2").splitlines()
    assert sorted(together) == [f"[pod/{name}/agent] INFO said: {name} 2" for name in names]
    assert "has not been restarted" in machine.run("kubectl", "logs", "--previous", first).err
    with started(machine, "logs", "-f", first, "--tail=1") as followed:
        wait_for(lambda: f"{first} 2" in followed.read_text(), "the last line is shown")
        await client.call(agent=first, method="say", text="more")
        wait_for(lambda: "said: more" in followed.read_text(), "the next line is shown")
    with contextlib.suppress(Exception):
        await client.call(agent=first, method="crash", timeout_s=5.0)

    async def restarted() -> bool:
        agent = await client.get("agent", first)
        return agent["status"]["ready"] and agent["status"]["restarts"] == 1

    await until(restarted, "it is back")
    await client.call(agent=first, method="say", text="again")
    await until(lambda: _says(machine, first, "INFO said: again\n"), "only what it has said since is shown")
    previous = machine.kubectl("logs", "--previous", first).splitlines()
    assert [line for line in previous if "said" in line] == [
        *(f"INFO said: {first} {number}" for number in range(3)),
        "INFO said: more",
    ]
    assert machine.choregos("logs", first, "--previous").out.splitlines() == previous
    await deleted(client, "talk")


async def _says(machine: UpProcess, pod: str, text: str) -> bool:
    return machine.kubectl("logs", pod) == text


async def test_top_measures_agents_and_nodes(machine: UpProcess, client: Client):
    shared = machine.template("shared", "Worker", 3, labels={"tier": "top"})
    alone = machine.template("alone", "Worker", labels={"tier": "top"}, isolation="dedicated")
    await applied(client, cluster("busy", shared, alone))
    shown = rows(machine.kubectl("top", "pods", "-l", "tier=top", "--containers", "--no-headers", "--sort-by=memory"))
    assert {row[0] for row in shown} == {"busy-alone-0", *(f"busy-shared-{number}" for number in range(3))}
    for _, container, cpu, memory in shown:
        assert container == "agent"
        assert re.fullmatch(r"\d+m", cpu)
        assert re.fullmatch(r"[1-9]\d*Mi", memory)
    [node] = rows(machine.kubectl("top", "nodes", "--no-headers"))
    assert re.fullmatch(r"\d+m \d+% \d+Mi \d+%", " ".join(node[1:]))
    annotations = json.loads(machine.kubectl("get", "pods.metrics.k8s.io", "busy-shared-0", "-o", "json"))["metadata"]
    assert "agents share" in str(annotations["annotations"])
    assert "busy-shared-1" in machine.kubectl("top", "pods", "-A")
    await deleted(client, "busy")


@pytest.mark.parametrize("script", ["with_kubernetes.py", "with_kr8s.py"])
async def test_programs_written_for_kubernetes_work(machine: UpProcess, client: Client, script: str):
    await applied(client, cluster("seen", machine.template("worker", "Worker", labels={"tier": "seen"})))
    await client.call(agent="seen-worker-0", method="say", text="hello")
    machine.kubectl("label", "namespace", "default", "choregos.dev/exec=allowed", "--overwrite")
    [node] = machine.kubectl("get", "nodes", "-o", "name").split()
    # In a process of their own: their warnings, event loops and signal handlers are theirs.
    done = subprocess.run(
        [sys.executable, str(CLIENTS / script), "seen-worker-0", node.removeprefix("node/")],
        env=machine.environment,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    if script == "with_kubernetes.py":
        assert found == {
            "pod": True,
            "log": "INFO said: hello\n",
            "said": "out\nerr\n",
            "shell": ["from the shell\n", 5],
            "watched": "Pod",
            "evicted": "Status",
            "node": ["python", True],
            "measured": ["seen-worker-0"],
        }
    else:
        assert found == {
            "ready": True,
            "log": ["INFO said: hello"],
            "exec": ["out\n", 0],
            "cordoned": [True, False],
            "pods": ["seen-worker-0"],
        }
    await deleted(client, "seen")
