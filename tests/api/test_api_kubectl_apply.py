"""A real kubectl that applies, server-side and client-side, in turns with others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.real

CLUSTER = """
apiVersion: {version}
kind: AgentCluster
metadata:
  name: support
  labels: {{team: a}}
spec:
  agents:
  - name: chat
    replicas: {replicas}
    capabilities: [nlp]
    resources: {{memory: 1024Mi, cpu: 1}}
    runtime: {{python: "m:C"}}
  - {{name: search, runtime: {{python: "m:D"}}}}
"""


def manifest(replicas: int = 1, version: str = "choregos.dev/v1") -> str:
    return CLUSTER.format(replicas=replicas, version=version)


async def apply(kubectl: Any, text: str, *options: str) -> str:
    applied: str = await kubectl("apply", "--server-side", "-f", "-", *options, stdin=text)
    return applied


async def support(kubectl: Any) -> Any:
    return json.loads(await kubectl("get", "ac", "support", "-o", "json", "--show-managed-fields"))


async def managers(kubectl: Any) -> list[tuple[str, str, str]]:
    entries = (await support(kubectl))["metadata"]["managedFields"]
    return sorted((entry["manager"], entry["operation"], entry.get("subresource", "")) for entry in entries)


@pytest.mark.parametrize("version", ["v1", "choregos.dev/v1"])
async def test_applying_again_changes_nothing_and_diff_is_empty(kubectl: Any, version: str) -> None:
    assert "serverside-applied" in await apply(kubectl, manifest(version=version))
    first = await support(kubectl)
    assert await managers(kubectl) == [("kubectl", "Apply", "")]
    await apply(kubectl, manifest(version=version))
    assert await support(kubectl) == first
    assert await kubectl("diff", "--server-side", "-f", "-", stdin=manifest(version=version)) == ""
    differing = await kubectl.run("diff", "--server-side", "-f", "-", stdin=manifest(2, version))
    assert (differing.code, "+    replicas: 2" in differing.out) == (1, True)


async def test_two_managers_conflict_until_one_forces(kubectl: Any) -> None:
    await apply(kubectl, manifest(1), "--field-manager", "alice")
    refused = await kubectl.run("apply", "--server-side", "-f", "-", "--field-manager", "bob", stdin=manifest(2))
    assert refused.code != 0
    path = '.spec.agents[name="chat"].replicas'
    assert f'Apply failed with 1 conflict: conflict with "alice": {path}' in refused.error
    assert "--force-conflicts" in refused.error
    await apply(kubectl, manifest(2), "--field-manager", "bob", "--force-conflicts")
    assert (await support(kubectl))["spec"]["agents"][0]["replicas"] == 2
    # What both say goes only when neither says it any more.
    less = manifest(2).replace("  labels: {team: a}\n", "")
    await apply(kubectl, less, "--field-manager", "bob")
    assert (await support(kubectl))["metadata"]["labels"] == {"team": "a"}
    await apply(kubectl, less.replace("    replicas: 2\n", ""), "--field-manager", "alice")
    assert "labels" not in (await support(kubectl))["metadata"]


async def test_an_element_that_is_no_longer_applied_goes(kubectl: Any) -> None:
    await apply(kubectl, manifest())
    await apply(kubectl, manifest().rsplit("  - ", 1)[0])
    assert [agent["name"] for agent in (await support(kubectl))["spec"]["agents"]] == ["chat"]


async def test_what_was_applied_by_the_client_is_taken_over(kubectl: Any) -> None:
    await kubectl("apply", "-f", "-", stdin=manifest(1))
    assert await managers(kubectl) == [("kubectl-client-side-apply", "Update", "")]
    moved = await kubectl.run("apply", "--server-side", "-f", "-", stdin=manifest(2))
    assert (moved.code, moved.error) == (0, "")
    assert await managers(kubectl) == [("kubectl", "Apply", ""), ("kubectl-last-applied", "Apply", "")]
    # The annotation is kept true, and what is dropped now goes, though the client had applied it.
    last = json.loads(await kubectl("apply", "view-last-applied", "ac/support", "-o", "json"))
    assert last["spec"]["agents"][0]["replicas"] == 2
    await apply(kubectl, manifest(2).rsplit("  - ", 1)[0])
    assert len((await support(kubectl))["spec"]["agents"]) == 1
    # And back again.
    assert "configured" in await kubectl("apply", "-f", "-", stdin=manifest(3).rsplit("  - ", 1)[0])
    assert (await support(kubectl))["spec"]["agents"][0]["replicas"] == 3


async def test_last_applied_is_viewed_set_and_edited(kubectl: Any, tmp_path: Path) -> None:
    await kubectl("apply", "-f", "-", stdin=manifest(1))
    assert "replicas: 1" in await kubectl("apply", "view-last-applied", "ac/support")
    file = tmp_path / "manifest.yaml"
    file.write_text(manifest(4))
    assert "configured" in await kubectl("apply", "set-last-applied", "-f", str(file))
    assert "replicas: 4" in await kubectl("apply", "view-last-applied", "ac/support")
    editor = tmp_path / "editor"
    editor.write_text("#!/bin/sh\nsed -i 's/replicas: 4/replicas: 5/' \"$1\"\n")
    editor.chmod(0o755)
    kubectl.environment["KUBE_EDITOR"] = str(editor)
    assert "edited" in await kubectl("apply", "edit-last-applied", "ac/support")
    assert "replicas: 5" in await kubectl("apply", "view-last-applied", "ac/support")
    assert (await support(kubectl))["spec"]["agents"][0]["replicas"] == 1


async def test_every_way_to_write_names_its_manager(kubectl: Any) -> None:
    agent_set = {"name": "t", "runtime": {"python": "m:C"}}
    lone = {"apiVersion": "choregos.dev/v1", "kind": "AgentSet", "metadata": {"name": "lone"}, "spec": {}}
    lone["spec"] = {"replicas": 1, "template": agent_set}
    await kubectl("create", "-f", "-", stdin=json.dumps(lone))
    await kubectl("label", "as", "lone", "a=b")
    await kubectl("annotate", "as", "lone", "a/b=c")
    await kubectl("scale", "as", "lone", "--replicas", "2")
    status = '{"status":{"readyReplicas":1}}'
    await kubectl("patch", "as", "lone", "--subresource", "status", "--type", "merge", "-p", status)
    shown = json.loads(await kubectl("get", "as", "lone", "-o", "json", "--show-managed-fields"))
    entries = {(entry["manager"], entry.get("subresource", "")): entry for entry in shown["metadata"]["managedFields"]}
    assert set(entries) == {
        ("kubectl-create", ""),
        ("kubectl-label", ""),
        ("kubectl-annotate", ""),
        ("kubectl", "scale"),
        ("kubectl-patch", "status"),
    }
    assert entries["kubectl", "scale"]["fieldsV1"] == {"f:spec": {"f:replicas": {}}}
    assert entries["kubectl-patch", "status"]["fieldsV1"] == {"f:status": {"f:readyReplicas": {}}}
    assert "f:replicas" not in entries["kubectl-create", ""]["fieldsV1"]["f:spec"]
    assert "managedFields" not in await kubectl("get", "as", "lone", "-o", "yaml")


async def test_what_no_author_wrote_is_owned_by_nobody_until_somebody_applies(kubectl: Any, world: Any) -> None:
    spec = {"replicas": 1, "region": "local", "template": {"name": "t", "runtime": {"python": "m:C"}}}
    made = {"apiVersion": "choregos.dev/v1", "kind": "AgentSet", "spec": spec}
    metadata = {"name": "made", "namespace": "default", "uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z"}
    await world.context.resources.create("agentsets", {**made, "metadata": metadata})
    config = json.dumps({**made, "metadata": {"name": "made"}, "spec": {"replicas": 2}})
    refused = await kubectl.run("apply", "--server-side", "-f", "-", stdin=config)
    assert 'conflict with "before-first-apply" using choregos.dev/v1: .spec.replicas' in refused.error
    await apply(kubectl, config, "--force-conflicts")
    assert await kubectl("get", "as", "made", "-o", "jsonpath={.spec.replicas}") == "2"


async def test_a_status_is_applied_through_its_subresource(kubectl: Any) -> None:
    await apply(kubectl, manifest())
    config = {"apiVersion": "choregos.dev/v1", "kind": "AgentCluster", "metadata": {"name": "support"}}
    ready = {"type": "Ready", "status": "True"}
    status = json.dumps({**config, "spec": {"agents": []}, "status": {"conditions": [ready]}})
    await apply(kubectl, status, "--subresource", "status", "--field-manager", "judge")
    shown = await support(kubectl)
    assert shown["status"]["conditions"][0]["status"] == "True"
    assert len(shown["spec"]["agents"]) == 2
    entry = next(entry for entry in shown["metadata"]["managedFields"] if entry["manager"] == "judge")
    assert list(entry["fieldsV1"]) == ["f:status"]
    # The main resource does not write the status.
    await apply(kubectl, status.replace('"spec": {"agents": []}, ', ""), "--field-manager", "other")
    assert all(entry["manager"] != "other" for entry in (await support(kubectl))["metadata"]["managedFields"])


async def test_strategic_patches_merge_lists_by_their_names(kubectl: Any) -> None:
    await apply(kubectl, manifest())
    patch = {"spec": {"agents": [{"name": "search", "replicas": 7}, {"name": "chat", "$patch": "delete"}]}}
    assert "patched" in await kubectl("patch", "ac", "support", "-p", json.dumps(patch))
    agents = (await support(kubectl))["spec"]["agents"]
    assert agents == [{"name": "search", "replicas": 7, "runtime": {"python": "m:D"}}]


@pytest.mark.parametrize("server_side", [True, False])
async def test_files_of_many_documents_and_lists_are_applied(kubectl: Any, server_side: bool) -> None:
    mode = ["--server-side"] if server_side else []
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team"}}
    many = f"---\n# a comment\n{json.dumps(namespace)}\n---\n\n---\n{manifest()}\n---\n"
    assert len((await kubectl("apply", *mode, "-f", "-", stdin=many)).splitlines()) == 2
    other = {**namespace, "metadata": {"name": "team", "labels": {"a": "b"}}}
    listed = {"apiVersion": "v1", "kind": "List", "items": [other]}
    await kubectl("apply", *mode, "-f", "-", stdin=json.dumps(listed))
    assert await kubectl("get", "ns", "team", "-o", "jsonpath={.metadata.labels.a}") == "b"


CORE = """
apiVersion: v1
kind: ConfigMap
metadata: {name: settings, labels: {team: a}}
data: {x: "1", y: "2"}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: reader}
rules: [{apiGroups: [""], resources: [pods], verbs: [get, list]}]
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: robot}
"""


@pytest.mark.parametrize("server_side", [True, False])
async def test_core_kinds_are_applied_both_ways(kubectl: Any, server_side: bool) -> None:
    mode = ["--server-side"] if server_side else []
    await kubectl("apply", *mode, "-f", "-", stdin=CORE)
    before = await kubectl("get", "cm,role,sa", "-o", "jsonpath={.items[*].metadata.resourceVersion}")
    again = await kubectl("apply", *mode, "-f", "-", stdin=CORE)
    assert again.count("serverside-applied" if server_side else "unchanged") == 3
    assert await kubectl("get", "cm,role,sa", "-o", "jsonpath={.items[*].metadata.resourceVersion}") == before
    assert await kubectl("diff", *mode, "-f", "-", stdin=CORE) == ""
    # Client-side, kubectl makes strategic merge patches of kinds that it knows itself.
    changed = CORE.replace('y: "2"', 'z: "3"').replace("[get, list]", "[get]").replace(", labels: {team: a}", "")
    await kubectl("apply", *mode, "-f", "-", stdin=changed)
    settings = json.loads(await kubectl("get", "cm", "settings", "-o", "json"))
    assert (settings["data"], "labels" in settings["metadata"]) == ({"x": "1", "z": "3"}, False)
    assert await kubectl("get", "role", "reader", "-o", "jsonpath={.rules[*].verbs}") == '["get"]'


async def test_a_misspelt_field_is_refused_and_ignored_as_asked(kubectl: Any) -> None:
    wrong = manifest().replace("capabilities", "skills")
    refused = await kubectl.run("apply", "--server-side", "-f", "-", stdin=wrong)
    assert 'unknown field "spec.agents[0].skills"' in refused.error
    warned = await kubectl.run("apply", "--server-side", "--validate=warn", "-f", "-", stdin=wrong)
    assert (warned.code, 'unknown field "spec.agents[0].skills"' in warned.error) == (0, True)
    fields = json.dumps((await support(kubectl))["metadata"]["managedFields"])
    assert "skills" not in fields
