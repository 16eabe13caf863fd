"""Objects of the largest size that is accepted: they can go again, and nobody else notices them."""

from __future__ import annotations

import copy
import json
import re

import pytest
from e2e_machine import Object, UpProcess, cluster, wait_for

pytestmark = pytest.mark.real

GONE = {"apiVersion": "v1", "kind": "ConfigMap", "name": "gone", "uid": "00000000-0000-0000-0000-000000000000"}
LARGEST = 1_048_576


@pytest.fixture(autouse=True)
def connections_hold(machine: UpProcess):
    """Nobody's connection to nats-server is lost over such an object."""
    yield
    for log in (machine.root / "logs").iterdir():
        text = log.read_text(errors="replace")
        assert "maximum payload" not in text.lower(), log
        assert "connection to nats-server lost" not in text, log


def config_map(name: str, **metadata: object) -> Object:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, **metadata}, "data": {"x": ""}}


def make_largest(machine: UpProcess, manifest: Object, *path: str | int) -> None:
    """Creates the object with a text at `path` that makes it as large as possible, to the byte."""

    def filled(length: int) -> str:
        filled = place = copy.deepcopy(manifest)
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = "y" * length
        return json.dumps(filled)

    refused = machine.run("kubectl", "create", "-f", "-", given=filled(LARGEST))
    found = re.search(r"an object may have 1,048,576 bytes as stored, this has ([\d,]+)", refused.err)
    assert found, refused
    length = 2 * LARGEST - int(found[1].replace(",", ""))
    refused = machine.run("kubectl", "create", "-f", "-", given=filled(length + 1))
    assert "this has 1,048,577" in refused.err
    machine.kubectl("create", "-f", "-", given=filled(length))


def test_it_can_be_changed_made_smaller_and_deleted(machine: UpProcess) -> None:
    for name in ("deleted", "smaller"):
        make_largest(machine, config_map(name), "data", "x")
    refused = machine.run("kubectl", "label", "configmap", "smaller", "a=b")
    assert "this has 1,048,595" in refused.err
    machine.kubectl("patch", "configmap", "smaller", "--type=merge", "-p", '{"data": {"x": "small"}}')
    machine.kubectl("label", "configmap", "smaller", "a=b")
    machine.kubectl("delete", "configmap", "smaller", "deleted", "--timeout=30s")


def test_what_holds_it_can_be_taken_away(machine: UpProcess) -> None:
    make_largest(machine, config_map("held", finalizers=["example.com/hold"]), "data", "x")
    machine.kubectl("delete", "configmap", "held", "--wait=false")
    assert machine.kubectl("get", "configmap", "held", "-o", "jsonpath={.metadata.deletionTimestamp}")
    machine.kubectl("patch", "configmap", "held", "--type=merge", "-p", '{"metadata": {"finalizers": null}}')
    assert machine.kubectl("get", "configmap", "held", "--ignore-not-found") == ""


def test_it_is_collected_when_its_owner_has_gone(machine: UpProcess) -> None:
    make_largest(machine, config_map("left", ownerReferences=[GONE]), "data", "x")
    wait_for(lambda: not machine.kubectl("get", "configmap", "left", "--ignore-not-found"), "it is collected")


def test_a_cluster_runs_its_agents_and_goes_with_them(machine: UpProcess) -> None:
    manifest = cluster("fat", machine.template("worker", "Worker", 1))
    make_largest(machine, manifest, "spec", "agents", 0, "settings", "filler")
    machine.kubectl("wait", "--for=condition=Ready", "agentcluster/fat", "--timeout=60s")
    machine.kubectl("wait", "--for=condition=Ready", "agentset/fat-worker", "--timeout=60s")
    machine.kubectl("delete", "agentcluster", "fat", "--timeout=60s")
    assert machine.kubectl("get", "agentsets", "--ignore-not-found") == ""
