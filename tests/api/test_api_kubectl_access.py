"""A real kubectl, old and new: two tenants, roles, tokens, commands in protobuf."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from api_world import Kubectl as OneKubectl
from api_world import Served

from choregos.client import Client
from choregos.foundation.errors import Denied, Unauthenticated
from choregos.security.kubeconfig import ApiAccess, write_kubeconfig

pytestmark = pytest.mark.real


class Kubectl(OneKubectl):
    async def __call__(self, *arguments: str, stdin: str = "") -> str:
        return (await super().__call__(*arguments, stdin=stdin)).strip()


@dataclass
class Cluster:
    world: Any
    access: ApiAccess
    user: Callable[..., Kubectl]

    def refusals(self) -> list[Any]:
        """What was refused, as the audit record has it."""
        return [event for event in self.world.audit.events if event.get("responseStatus", {}).get("code") == 403]


@pytest.fixture
def cluster(world: Any, served: Served, kubectl_program: Path, tmp_path: Path) -> Cluster:
    access = ApiAccess(served.serving.url, served.authority.pem)

    def user(name: str, *groups: str, token: str = "") -> Kubectl:
        path = tmp_path / f"{name}.kubeconfig"
        if token:
            write_kubeconfig(path, replace(access, token=token), user=name)
        else:
            mine = served.authority.client(name, groups)
            shown = replace(access, certificate_pem=mine.certificate_pem, key_pem=mine.key_pem)
            write_kubeconfig(path, shown, user=name)
        return Kubectl(kubectl_program, path, tmp_path / f"{name}-home")

    return Cluster(world, access, user)


@pytest.fixture
def admin(cluster: Cluster) -> Kubectl:
    return cluster.user("admin", "system:masters")


async def test_typed_commands_create_what_they_say(admin: Kubectl) -> None:
    await admin("create", "namespace", "team")
    await admin("create", "configmap", "settings", "-n", "team", "--from-literal=a=1", "--from-literal=b=")
    await admin("create", "secret", "generic", "key", "-n", "team", "--from-literal=password=swordfish")
    await admin("create", "serviceaccount", "bot", "-n", "team")
    await admin("create", "role", "reader", "-n", "team", "--verb=get,list", "--resource=agents,agents/log")
    named = ("--verb=get", "--resource=secrets", "--resource-name=key")
    await admin("create", "role", "opener", "-n", "team", *named)
    await admin("create", "rolebinding", "reads", "-n", "team", "--role=reader", "--serviceaccount=team:bot")
    await admin("create", "clusterrole", "nodes", "--verb=list", "--resource=agentnodes")
    await admin("create", "clusterrole", "doors", "--verb=get", "--non-resource-url=/door/*")
    await admin("create", "clusterrole", "sum", "--aggregation-rule=rbac.example.com/part=true")
    await admin("create", "clusterrolebinding", "looks", "--clusterrole=nodes", "--group=ops", "--user=eve")
    get = ("get", "-n", "team", "-o")
    assert json.loads(await admin(*get, "jsonpath={.data}", "cm", "settings")) == {"a": "1", "b": ""}
    assert await admin(*get, "jsonpath={.data.password}/{.type}", "secret", "key") == "c3dvcmRmaXNo/Opaque"
    rules = json.loads(await admin(*get, "jsonpath={.rules}", "role", "reader"))
    assert rules == [{"verbs": ["get", "list"], "apiGroups": ["choregos.dev"], "resources": ["agents", "agents/log"]}]
    assert "[key]" in await admin("describe", "role", "opener", "-n", "team")
    doors = json.loads(await admin("get", "clusterrole", "doors", "-o", "jsonpath={.rules}"))
    assert doors == [{"verbs": ["get"], "nonResourceURLs": ["/door/*"]}]
    selectors = "jsonpath={.aggregationRule.clusterRoleSelectors[0].matchLabels}"
    assert json.loads(await admin("get", "clusterrole", "sum", "-o", selectors)) == {"rbac.example.com/part": "true"}
    assert "ClusterRole/nodes" in await admin("get", "clusterrolebinding", "looks", "-o", "wide")
    assert "team/bot" in await admin("get", "rolebinding", "reads", "-n", "team", "-o", "wide")
    again = await admin.run("create", "serviceaccount", "bot", "-n", "team")
    assert 'serviceaccounts "bot" already exists' in again.error
    wrong = await admin.run("create", "configmap", "WRONG", "-n", "team")
    assert "metadata.name" in wrong.error


async def test_a_token_is_its_account_until_that_is_deleted(cluster: Cluster, admin: Kubectl) -> None:
    await admin("create", "namespace", "team")
    await admin("create", "serviceaccount", "bot", "-n", "team")
    await admin("create", "rolebinding", "views", "-n", "team", "--clusterrole=view", "--serviceaccount=team:bot")
    token = await admin("create", "token", "bot", "-n", "team", "--duration=1h")
    bot = cluster.user("bot", token=token)
    assert "system:serviceaccount:team:bot" in await bot("auth", "whoami")
    assert await bot("get", "agents,configmaps", "-n", "team") == ""
    refused = await bot.run("get", "secrets", "-n", "team")
    assert 'User "system:serviceaccount:team:bot" cannot list resource "secrets"' in refused.error
    other = await admin("create", "token", "bot", "-n", "team", "--audience=https://elsewhere.example")
    for wrong in (other, token[:-6] + "AAAAAA"):
        assert "You must be logged in" in (await cluster.user("wrong", token=wrong).run("get", "agents")).error
    await admin("delete", "serviceaccount", "bot", "-n", "team")
    await admin("create", "serviceaccount", "bot", "-n", "team")
    assert "You must be logged in" in (await bot.run("get", "agents", "-n", "team")).error


async def test_reviews_tell_what_is_allowed(cluster: Cluster, admin: Kubectl) -> None:
    await admin("create", "namespace", "team")
    await admin("create", "rolebinding", "edits", "-n", "team", "--clusterrole=edit", "--user=eve")
    eve = cluster.user("eve")
    assert await eve("auth", "can-i", "create", "agentclusters", "-n", "team") == "yes"
    refused = await eve.run("auth", "can-i", "create", "roles", "-n", "team")
    assert (refused.code, refused.out[:2]) == (1, "no")
    assert await admin("auth", "can-i", "get", "/version", "--as", "nobody") == "yes"
    assert (await admin.run("auth", "can-i", "get", "/metrics", "--as", "nobody")).out.startswith("no")
    listed = await eve("auth", "can-i", "--list", "-n", "team")
    assert "agents.choregos.dev/log" in listed
    assert "rolebindings" not in listed
    assert await admin("auth", "can-i", "*", "*", "--all-namespaces") == "yes"
    assert "Groups" in await eve("auth", "whoami")
    assert "mallory" in await admin("auth", "whoami", "--as", "mallory", "--as-group", "crooks")


RECONCILED = """
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: fresh, namespace: fresh}
rules: [{apiGroups: [""], resources: [configmaps], verbs: [get, list]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: fresh, namespace: fresh}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: eve}]
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: fresh}
"""


async def test_reconcile_adds_what_is_missing_and_keeps_the_rest(cluster: Cluster, admin: Kubectl) -> None:
    assert "reconciled" in await admin("auth", "reconcile", "-f", "-", stdin=RECONCILED)
    more = RECONCILED.replace("[configmaps]", "[configmaps, secrets]").replace("name: eve}]", "name: adam}]")
    assert "reconciled" in await admin("auth", "reconcile", "-f", "-", stdin=more)
    for user in ("eve", "adam"):
        assert await cluster.user(user)("auth", "can-i", "get", "configmaps", "-n", "fresh") == "yes"
    assert await cluster.user("eve")("auth", "can-i", "get", "secrets", "-n", "fresh") == "yes"
    assert "fresh" in await admin("apply", "-f", "-", stdin=more)


MANIFEST = """
apiVersion: choregos.dev/v1
kind: AgentCluster
metadata: {name: support}
spec:
  agents: [{name: chat, replicas: 1, runtime: {python: "m:C"}}]
"""


async def test_a_tenant_is_master_at_home_and_sees_nothing_of_another(cluster: Cluster, admin: Kubectl) -> None:
    for team in ("red", "blue"):
        await admin("create", "namespace", team)
        await admin("create", "rolebinding", team, "-n", team, "--clusterrole=admin", f"--group={team}")
        await admin("create", "secret", "generic", "key", "-n", team, "--from-literal=password=swordfish")
    red = cluster.user("eve", "red")
    await red("apply", "-n", "red", "-f", "-", stdin=MANIFEST)
    await red("create", "role", "mine", "-n", "red", "--verb=get", "--resource=configmaps")
    await red("get", "ac,as,agents,pods,cm,secrets,sa,roles,rolebindings,events", "-n", "red")
    assert "red" in await red("get", "namespace", "red", "-o", "name")
    before = len(cluster.refusals())
    attempts = [
        (["get", "agents", "-n", "blue"], "list", "agents"),
        (["get", "agents", "-A"], "list", "agents"),
        (["get", "pods", "-n", "blue"], "list", "pods"),
        (["get", "secret", "key", "-n", "blue", "-o", "yaml"], "get", "secrets"),
        (["get", "secrets", "-A"], "list", "secrets"),
        (["get", "ac", "-n", "blue", "-w"], "list", "agentclusters"),
        (["create", "configmap", "x", "-n", "blue"], "create", "configmaps"),
        (["create", "token", "default", "-n", "blue"], "create", "serviceaccounts"),
        (["create", "role", "x", "-n", "blue", "--verb=get", "--resource=pods"], "create", "roles"),
        (["create", "rolebinding", "x", "-n", "blue", "--clusterrole=admin", "--user=eve"], "create", "rolebindings"),
        (["create", "clusterrolebinding", "x", "--clusterrole=view", "--user=eve"], "create", "clusterrolebindings"),
        (["create", "namespace", "green"], "create", "namespaces"),
        (["delete", "namespace", "blue"], "delete", "namespaces"),
        (["delete", "ac", "support", "-n", "blue"], "delete", "agentclusters"),
        (["logs", "chat-0", "-n", "blue"], "get", "pods"),
        (["get", "agentnodes"], "list", "agentnodes"),
        (["cordon", "n1"], "get", "nodes"),
        (["get", "agents", "-n", "red", "--as", "admin"], "impersonate", "users"),
        (
            ["get", "agents", "-n", "blue", "--as", "system:serviceaccount:blue:default"],
            "impersonate",
            "serviceaccounts",
        ),
    ]
    for arguments, verb, resource in attempts:
        refused = await red.run(*arguments)
        assert refused.code != 0, arguments
        assert f'User "eve" cannot {verb} resource "{resource}' in refused.error, (arguments, refused.error)
        assert '"verbs"' in refused.error, "names the missing rule"
        recorded = cluster.refusals()[-1]
        assert (recorded["user"]["username"], recorded["verb"]) == ("eve", verb)
        assert recorded["objectRef"]["resource"] == resource
    assert len(cluster.refusals()) >= before + len(attempts)
    assert "swordfish" not in json.dumps(list(cluster.world.audit.events))
    assert "c3dvcmRmaXNo" not in json.dumps(list(cluster.world.audit.events))


async def test_nobody_grants_more_than_he_holds(cluster: Cluster, admin: Kubectl) -> None:
    await admin("create", "namespace", "team")
    await admin("create", "rolebinding", "admins", "-n", "team", "--clusterrole=admin", "--user=eve")
    await admin("create", "clusterrole", "all", "--verb=*", "--resource=*")
    eve = cluster.user("eve")
    refused = await eve.run("create", "role", "more", "-n", "team", "--verb=*", "--resource=secrets")
    assert "attempting to grant RBAC permissions not currently held" in refused.error
    refused = await eve.run("create", "rolebinding", "more", "-n", "team", "--clusterrole=cluster-admin", "--user=eve")
    assert "not currently held" in refused.error
    await eve("create", "rolebinding", "friend", "-n", "team", "--clusterrole=edit", "--user=adam")
    bind = ("--verb=bind", "--resource=clusterroles", "--resource-name=cluster-admin")
    await admin("create", "clusterrole", "binder", *bind)
    await admin("create", "clusterrolebinding", "binder", "--clusterrole=binder", "--user=eve")
    await eve("create", "rolebinding", "more", "-n", "team", "--clusterrole=cluster-admin", "--user=eve")


async def test_the_python_client_takes_tokens_and_token_files(
    cluster: Cluster, admin: Kubectl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await admin("create", "namespace", "team")
    await admin("create", "serviceaccount", "bot", "-n", "team")
    await admin("create", "rolebinding", "views", "-n", "team", "--clusterrole=view", "--serviceaccount=team:bot")
    token = await admin("create", "token", "bot", "-n", "team")
    (tmp_path / "token").write_text(token + "\n")
    (tmp_path / "ca.crt").write_bytes(cluster.access.authority_pem)
    for number, credentials in enumerate(({"token": token}, {"tokenFile": "token"})):
        config = {
            "clusters": [
                {"name": "c", "cluster": {"server": cluster.access.server, "certificate-authority": "ca.crt"}}
            ],
            "users": [{"name": "bot", "user": credentials}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "bot", "namespace": "team"}}],
            "current-context": "c",
        }
        path = tmp_path / f"config-{number}"
        path.write_text(json.dumps(config))
        async with Client.from_kubeconfig(path) as client:
            assert await client.list("agents", namespace="team") == []
            with pytest.raises(Denied, match="cannot list"):
                await client.list("secrets", namespace="team")
            if "tokenFile" in credentials:
                (tmp_path / "token").write_text("renewed by somebody who made a mistake")
                with pytest.raises(Unauthenticated):
                    await client.list("agents", namespace="team")
                (tmp_path / "token").write_text(token)
                assert await client.list("agents", namespace="team") == []
    await admin("delete", "serviceaccount", "bot", "-n", "team")
    async with Client.from_kubeconfig(tmp_path / "config-0") as client:
        with pytest.raises(Unauthenticated, match="is gone"):
            await client.list("agents", namespace="team")
