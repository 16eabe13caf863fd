"""A real kubectl against the real server: TLS, client certificates, every command of the daily round."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.real

MANIFEST = """
apiVersion: {version}
kind: AgentCluster
metadata: {{name: support}}
spec:
  agents:
  - {{name: chat, replicas: 3, capabilities: [nlp], runtime: {{python: "m:C"}}}}
---
apiVersion: choregos.dev/v1
kind: AgentSet
metadata: {{name: lone, labels: {{tier: gold}}}}
spec:
  replicas: {replicas}
  region: local
  template: {{name: t, runtime: {{python: "m:C"}}}}
"""


async def apply(kubectl: Any, version: str = "v1", replicas: int = 2) -> str:
    return await kubectl("apply", "-f", "-", stdin=MANIFEST.format(version=version, replicas=replicas))


@pytest.mark.parametrize("version", ["v1", "choregos.dev/v1"])
async def test_apply_creates_then_changes_then_leaves_alone(kubectl: Any, version: str) -> None:
    assert "agentset.choregos.dev/lone created" in await apply(kubectl, version)
    again = (await apply(kubectl, version)).splitlines()
    assert [line.rpartition(" ")[2] for line in again] == ["unchanged", "unchanged"]
    assert "agentset.choregos.dev/lone configured" in await apply(kubectl, version, replicas=5)
    assert await kubectl("get", "as", "lone", "-o", "jsonpath={.spec.replicas}/{.metadata.generation}") == "5/2"
    assert await kubectl("get", "ac", "support", "-o", "jsonpath={.metadata.generation}") == "1"
    # A misspelt field is refused by the server, with its path.
    refused = await kubectl.run(
        "apply", "-f", "-", stdin=MANIFEST.replace("capabilities", "skills").format(version=version, replicas=1)
    )
    assert refused.code != 0
    assert 'unknown field "spec.agents[0].skills"' in refused.error


async def test_get_prints_tables_names_paths_and_documents(kubectl: Any, world: Any) -> None:
    await world.start_agents(3)
    await apply(kubectl)
    assert "CAPABILITIES" not in await kubectl("get", "agents")
    assert "CAPABILITIES" in await kubectl("get", "agents", "-o", "wide")
    assert (await kubectl("get", "agents", "-o", "name")).split() == [f"agent.choregos.dev/web-{n}" for n in range(3)]
    assert json.loads(await kubectl("get", "agentset", "lone", "-o", "json"))["kind"] == "AgentSet"
    assert "kind: AgentCluster" in await kubectl("get", "ac", "support", "-o", "yaml")
    assert "lone" in await kubectl("get", "as", "-A", "-l", "tier=gold")
    assert (await kubectl("get", "as", "-l", "tier=iron", "-o", "name")) == ""
    assert (await kubectl("get", "agents", "--field-selector", "metadata.name=web-1", "-o", "name")).split() == [
        "agent.choregos.dev/web-1"
    ]
    ordered = await kubectl("get", "agents", "--sort-by", "{.metadata.name}", "--no-headers")
    assert [line.split()[0] for line in ordered.splitlines()] == ["web-0", "web-1", "web-2"]
    everything = await kubectl("get", "all")
    assert "agentset.choregos.dev/lone" in everything
    assert "agent.choregos.dev/web-0" in everything


async def test_1200_objects_come_in_chunks(kubectl: Any, world: Any) -> None:
    await world.start_agents(1200)
    listed = await kubectl.run("get", "agents", "-v", "8", "--no-headers")
    assert len(listed.out.splitlines()) == 1200
    assert listed.error.count("continue=") >= 2


async def test_describe_shows_the_object_and_its_events(kubectl: Any, world: Any) -> None:
    from choregos.resources.events import new_event, reference_to

    await apply(kubectl)
    support = world.context.resources.get("agentclusters", "default", "support")
    clock = world.context.clock
    event = new_event(reference_to(support), "Scaled", "three agents", now_ms=clock.wall_ms(), component="test")
    await world.context.events.create("events", event)
    described = await kubectl("describe", "ac", "support")
    assert "Capabilities" in described
    assert "three agents" in described
    assert "three agents" in await kubectl("events", "--for", "agentcluster.choregos.dev/support")
    assert "three agents" in await kubectl("get", "events")
    assert "Events:" in await kubectl("describe", "as", "lone")


async def test_scale_label_annotate_patch_and_replace(kubectl: Any) -> None:
    await apply(kubectl)
    assert "scaled" in await kubectl("scale", "as", "lone", "--replicas", "7", "--current-replicas", "2")
    assert "labeled" in await kubectl("label", "as", "lone", "team=a")
    assert "annotated" in await kubectl("annotate", "as", "lone", "example.org/note=b")
    await kubectl("patch", "as", "lone", "--type", "merge", "-p", '{"spec":{"replicas":4}}')
    await kubectl("patch", "as", "lone", "--type", "json", "-p", '[{"op":"remove","path":"/metadata/labels/team"}]')
    status = '{"status":{"readyReplicas":1}}'
    await kubectl("patch", "as", "lone", "--subresource", "status", "--type", "merge", "-p", status)
    lone = json.loads(await kubectl("get", "as", "lone", "-o", "json"))
    assert (lone["spec"]["replicas"], lone["status"]["readyReplicas"]) == (4, 1)
    assert lone["metadata"]["labels"] == {"tier": "gold"}
    assert "(no change)" in await kubectl("patch", "as", "lone", "-p", "{}")
    lone["spec"]["replicas"] = 6
    assert "replaced" in await kubectl("replace", "-f", "-", stdin=json.dumps(lone))
    stale = await kubectl.run("replace", "-f", "-", stdin=json.dumps(lone))
    assert "please apply your changes to the latest version" in stale.error


async def test_edit_changes_an_object_through_an_editor(kubectl: Any, tmp_path: Path) -> None:
    await apply(kubectl)
    editor = tmp_path / "editor"
    editor.write_text("#!/bin/sh\nsed -i 's/replicas: 2/replicas: 8/' \"$1\"\n")
    editor.chmod(0o755)
    kubectl.environment["KUBE_EDITOR"] = str(editor)
    assert "edited" in await kubectl("edit", "as", "lone")
    assert await kubectl("get", "as", "lone", "-o", "jsonpath={.spec.replicas}") == "8"


async def test_diff_shows_what_apply_would_change(kubectl: Any) -> None:
    await apply(kubectl)
    diff = await kubectl.run("diff", "-f", "-", stdin=MANIFEST.format(version="v1", replicas=9))
    assert diff.code == 1
    assert "-  replicas: 2" in diff.out
    assert "+  replicas: 9" in diff.out
    dry = await kubectl("apply", "--dry-run=server", "-f", "-", stdin=MANIFEST.format(version="v1", replicas=9))
    assert "configured (server dry run)" in dry
    assert await kubectl("get", "as", "lone", "-o", "jsonpath={.spec.replicas}") == "2"


async def test_watch_prints_changes_as_they_happen(kubectl: Any) -> None:
    await apply(kubectl)
    watching = await kubectl.start("get", "as", "-w", "--output-watch-events", "--no-headers")
    assert watching.stdout is not None
    async with asyncio.timeout(30):
        assert (await watching.stdout.readline()).split()[:3] == [b"ADDED", b"lone", b"2"]
        await kubectl("scale", "as", "lone", "--replicas", "3")
        assert (await watching.stdout.readline()).split()[:3] == [b"MODIFIED", b"lone", b"3"]
    watching.terminate()
    await watching.communicate()


async def test_wait_sees_a_condition_and_a_deletion(kubectl: Any, world: Any) -> None:
    await apply(kubectl)
    # Its output tells nothing before the end, so that it watches is seen at the server.
    waiting = await kubectl.start("wait", "--for=condition=Ready", "ac/support", "--timeout=30s")
    await _watched(world, "agentclusters")
    ready = {"type": "Ready", "status": "True", "reason": "AllReady", "observedGeneration": 1}
    status = json.dumps({"status": {"observedGeneration": 1, "conditions": [ready]}})
    await kubectl("patch", "ac", "support", "--subresource", "status", "--type", "merge", "-p", status)
    async with asyncio.timeout(30):
        assert b"condition met" in (await waiting.communicate())[0]
    gone = await kubectl.start("wait", "--for=delete", "ac/support", "--timeout=30s")
    await _watched(world, "agentclusters")
    await kubectl("delete", "ac", "support", "--wait=false")
    await kubectl("patch", "ac", "support", "--type", "merge", "-p", '{"metadata":{"finalizers":null}}')
    async with asyncio.timeout(30):
        assert b"condition met" in (await gone.communicate())[0]


async def _watched(world: Any, resource: str) -> None:
    async with asyncio.timeout(30):
        while not world.context.resources._ring(resource)._watchers:
            await asyncio.sleep(0.01)


async def test_delete_waits_for_finalizers_and_takes_selectors(kubectl: Any, world: Any) -> None:
    await apply(kubectl)
    deleting = await kubectl.start("delete", "ac", "support")
    await _watched(world, "agentclusters")
    assert await kubectl("get", "ac", "support", "-o", "jsonpath={.metadata.deletionTimestamp}")
    await kubectl("patch", "ac", "support", "--type", "merge", "-p", '{"metadata":{"finalizers":null}}')
    async with asyncio.timeout(30):
        assert b'"support" deleted' in (await deleting.communicate())[0]
    assert '"lone" deleted' in await kubectl("delete", "as", "-l", "tier=gold")
    await world.start_agents(2)
    await kubectl("delete", "agents", "--all", "--wait=false")
    assert all(each.deletion is not None for each in world.context.directory.list())


@pytest.mark.parametrize(("cascade", "finalizer"), [("orphan", "orphan"), ("foreground", "foregroundDeletion")])
async def test_cascade_is_handed_to_the_garbage_collector(kubectl: Any, cascade: str, finalizer: str) -> None:
    await apply(kubectl)
    await kubectl("delete", "ac", "support", f"--cascade={cascade}", "--wait=false")
    held = await kubectl("get", "ac", "support", "-o", "jsonpath={.metadata.finalizers}")
    assert json.loads(held) == ["choregos.dev/agents", finalizer]


async def test_the_agents_of_a_set_cannot_be_orphaned(kubectl: Any) -> None:
    await apply(kubectl)
    refused = await kubectl.run("delete", "as", "lone", "--cascade=orphan")
    assert refused.code != 0
    assert "the agents of an AgentSet cannot be kept without it" in refused.error
    assert await kubectl("get", "as", "lone", "-o", "name")


async def test_explain_api_resources_and_version(kubectl: Any) -> None:
    assert "Object" in await kubectl("explain", "agentcluster.spec.agents")
    assert "maxSurge" in await kubectl("explain", "agentset", "--recursive")
    resources = await kubectl("api-resources", "--api-group", "choregos.dev", "-o", "wide")
    assert "agentclusters" in resources
    assert "deletecollection" in resources
    assert "choregos" in await kubectl("version")
    assert "choregos.dev/v1" in await kubectl("api-versions")


async def test_raw_requests_reach_calls_and_health(kubectl: Any) -> None:
    call = json.dumps({"spec": {"agent": "a-0", "method": "echo", "arguments": {"n": 1}}})
    path = "/apis/choregos.dev/v1/namespaces/default/agentcalls"
    assert json.loads(await kubectl("create", "--raw", path, "-f", "-", stdin=call))["status"]["result"]
    assert await kubectl("get", "--raw", "/readyz") == "ok"


async def test_other_users_are_told_what_they_may_not(cluster: Any) -> None:
    refused = await cluster.user("eve", "team").run("get", "agents")
    assert refused.code != 0
    assert 'User "eve" cannot list resource "agents" in API group "choregos.dev"' in refused.error
