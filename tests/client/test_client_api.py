"""The client against the real API server, over TLS."""

from __future__ import annotations

import asyncio
import copy
import inspect
from contextlib import aclosing
from typing import Any

import pytest

from choregos.client import Client, SyncClient
from choregos.foundation.clock import SystemClock
from choregos.foundation.errors import (
    AlreadyExists,
    CallError,
    Conflict,
    DeadlineExceeded,
    HandlerFailed,
    Invalid,
    NotFound,
    Permanent,
    Temporary,
    TimedOut,
    Unauthenticated,
)
from choregos.foundation.tasks import Tasks
from choregos.security.kubeconfig import ApiAccess, load_kubeconfig
from choregos.security.pki import Authority
from choregos.testing.served_api import ServedApi

CLUSTER: dict[str, Any] = {
    "apiVersion": "choregos.dev/v1",
    "kind": "AgentCluster",
    "metadata": {"name": "support"},
    "spec": {"agents": [{"name": "chat", "replicas": 2, "runtime": {"python": "m:C"}, "env": {"A": "1"}}]},
}


def node(name: str, **labels: str) -> dict[str, Any]:
    metadata = {"name": name, "labels": labels}
    return {"apiVersion": "choregos.dev/v1", "kind": "AgentNode", "metadata": metadata, "spec": {"region": "local"}}


def changed(**spec: Any) -> dict[str, Any]:
    manifest = copy.deepcopy(CLUSTER)
    manifest["spec"]["agents"][0].update(spec)
    return manifest


async def test_create_get_list(client: Client) -> None:
    made = await client.create(CLUSTER)
    assert made == await client.get("agentcluster", "support") == await client.get("ac", "support", namespace="default")
    assert [c["metadata"]["name"] for c in await client.list("agentclusters.choregos.dev")] == ["support"]
    with pytest.raises(AlreadyExists, match="already exists"):
        await client.create(CLUSTER)
    with pytest.raises(NotFound, match='"other" not found'):
        await client.get("ac", "other")


async def test_apply_creates_changes_and_leaves_alone(client: Client) -> None:
    assert (await client.apply(CLUSTER)).outcome == "created"
    assert (await client.apply(CLUSTER)).outcome == "unchanged"
    applied = await client.apply(changed(replicas=5))
    assert applied.outcome == "configured"
    assert applied.object["spec"]["agents"][0]["replicas"] == 5
    assert (await client.apply(changed(replicas=5))).outcome == "unchanged"


async def test_apply_keeps_what_others_set_and_removes_what_it_set(client: Client) -> None:
    manifest = copy.deepcopy(CLUSTER)
    manifest["metadata"]["labels"] = {"mine": "1"}
    await client.apply(manifest)
    await client.patch("ac", "support", {"metadata": {"labels": {"theirs": "1"}}})
    assert (await client.apply(CLUSTER)).object["metadata"]["labels"] == {"theirs": "1"}


async def test_a_manifest_that_no_annotation_holds_is_applied_server_side(client: Client) -> None:
    manifest = changed(settings={"prompt": "x" * 300_000})
    with pytest.raises(Invalid, match=r"293 KiB.*at most 256.*--server-side"):
        await client.apply(manifest)
    assert (await client.apply(manifest, server_side=True, dry_run=True)).outcome == "created"
    assert await client.list("ac") == []
    outcomes = [(await client.apply(manifest, server_side=True)).outcome for _ in range(2)]
    outcomes.append((await client.apply(changed(replicas=5), server_side=True)).outcome)
    assert outcomes == ["created", "unchanged", "configured"]
    found = await client.get("ac", "support")
    assert "settings" not in found["spec"]["agents"][0]
    assert "annotations" not in found["metadata"]


async def test_what_others_own_is_taken_by_force_only(client: Client) -> None:
    await client.apply(CLUSTER, server_side=True)
    await client.patch("ac", "support", {"spec": {"replicas": 7}})
    wanted = {**CLUSTER, "spec": {**CLUSTER["spec"], "replicas": 8}}
    with pytest.raises(Conflict, match=r"spec\.replicas"):
        await client.apply(wanted, server_side=True)
    forced = await client.apply(wanted, server_side=True, force=True)
    assert forced.object["spec"]["replicas"] == 8
    with pytest.raises(Invalid, match="only a server-side apply"):
        await client.apply(wanted, force=True)


async def test_a_dry_run_changes_nothing(client: Client) -> None:
    assert (await client.apply(CLUSTER, dry_run=True)).outcome == "created"
    assert await client.list("ac") == []


async def test_every_fault_of_a_manifest_is_raised_with_its_path(client: Client) -> None:
    with pytest.raises(Invalid) as caught:
        await client.apply(changed(resources={"cpu": "much"}, isolation="none"))
    assert {c.path for c in caught.value.causes} == {"spec.agents[0].resources.cpu", "spec.agents[0].isolation"}


async def test_unknown_kinds_are_named_together_with_the_known(client: Client) -> None:
    with pytest.raises(Invalid, match=r"no resource type 'pods2'.*agentclusters \(ac\)"):
        await client.list("pods2")
    with pytest.raises(Invalid, match=r"serves AgentCluster as choregos\.dev/v1, v1"):
        await client.apply({**CLUSTER, "apiVersion": "v2"})


async def test_both_published_versions_are_taken(client: Client) -> None:
    await client.apply({**CLUSTER, "apiVersion": "v1"})
    assert (await client.get("ac", "support"))["apiVersion"] == "choregos.dev/v1"


async def test_replace_needs_the_version_that_was_read(client: Client) -> None:
    made = await client.create(node("n1"))
    await client.replace({**made, "spec": {**made["spec"], "unschedulable": True}})
    with pytest.raises(Conflict):
        await client.replace({**made, "spec": {**made["spec"], "region": "other"}})


async def test_json_patches_are_told_from_merge_patches(client: Client) -> None:
    await client.create(node("n1", zone="a"))
    patched = await client.patch("agentnodes", "n1", [{"op": "remove", "path": "/metadata/labels/zone"}])
    assert not patched["metadata"].get("labels")


async def test_scale(client: Client) -> None:
    template = {"name": "chat", "runtime": {"python": "m:C"}}
    await client.create(
        {
            "apiVersion": "choregos.dev/v1",
            "kind": "AgentSet",
            "metadata": {"name": "chat"},
            "spec": {"replicas": 1, "template": template},
        }
    )
    await client.scale("as", "chat", 7)
    assert (await client.get("agentset", "chat"))["spec"]["replicas"] == 7
    with pytest.raises(Invalid, match="cannot be scaled"):
        await client.scale("ac", "support", 7)


async def test_lists_are_read_in_pages_and_selected(client: Client, api: ServedApi) -> None:
    await api.start_agents("web", 1203, {"labels": {"tier": "gold"}})
    listing = await client.listing("agents")
    assert len(listing.items) == 1203
    assert listing.items[0]["kind"] == "Agent"
    assert len(await client.list("ag", field_selector="metadata.name=web-7")) == 1
    assert len(await client.list("ag", selector="tier=gold", namespace="")) == 1203
    tables = await client.listing("agents", tables=True)
    assert tables.document["columnDefinitions"][0]["name"] == "Name"
    assert len(tables.items) == 1203


async def test_watch_begins_with_what_is_there(client: Client) -> None:
    await client.create(node("a"))
    async with aclosing(client.watch("agentnodes")) as changes:
        assert (first := await anext(changes)).type == "ADDED"
        assert first.object["metadata"]["name"] == "a"
        await client.create(node("b"))
        assert (await anext(changes)).object["metadata"]["name"] == "b"
        await client.delete("agentnodes", "a")
        gone = await anext(changes)
        assert (gone.type, gone.object["metadata"]["name"]) == ("DELETED", "a")


async def test_watch_of_tables_after_a_listing(client: Client) -> None:
    listing = await client.listing("agentnodes", tables=True)
    async with aclosing(client.watch("agentnodes", after=listing, tables=True)) as changes:
        await client.create(node("a"))
        event = await anext(changes)
        assert event.object["rows"][0]["cells"][0] == "a"


async def test_wait_returns_when_the_goal_is_reached(client: Client) -> None:
    await client.create(node("a"))
    async with Tasks() as tasks:
        waiting = tasks.start(
            client.wait("agentnode", "a", "jsonpath={.spec.unschedulable}=true", timeout_s=20), "wait"
        )
        await client.patch("agentnodes", "a", {"spec": {"unschedulable": True}})
        found = await waiting
        assert found is not None
        assert found["spec"]["unschedulable"] is True
        gone = tasks.start(client.wait("agentnode", "a", "delete", timeout_s=20), "wait")
        await client.delete("agentnodes", "a")
        assert await gone is None


async def test_a_successor_of_the_same_name_counts_as_gone(client: Client) -> None:
    await client.create(node("a"))
    uid = await client.delete("agentnodes", "a")
    await client.create(node("a"))
    assert await client.wait("agentnode", "a", "delete", timeout_s=20, uid=uid) is None


async def test_wait_says_how_it_is_when_the_time_is_over(client: Client) -> None:
    await client.create(node("a"))
    with pytest.raises(
        TimedOut, match=r"agentnode a did not reach condition=Ready within 0\.05 s: it has no condition"
    ):
        await client.wait("agentnode", "a", "condition=Ready", timeout_s=0.05)


async def test_call_returns_the_result(client: Client) -> None:
    assert await client.call(agent="web-1", method="reply", text="hi") == {"arguments": {"text": "hi"}}
    answer = await client.call_detailed({"capability": "chat"}, {"method": "x"}, timeout_s=5)
    assert (answer.result, answer.agent) == ({"arguments": {"method": "x"}}, "a-0")


async def test_call_raises_what_the_agent_raised(client: Client) -> None:
    with pytest.raises(HandlerFailed, match="it went wrong") as caught:
        await client.call(capability="chat", method="HandlerFailed")
    assert (caught.value.remote_type, caught.value.remote_traceback) == ("KeyError", "T")
    with pytest.raises(DeadlineExceeded):
        await client.call(agent="a", method="DeadlineExceeded")
    with pytest.raises(Invalid, match="needs agent or capability"):
        await client.call(method="x")


async def test_a_call_that_is_dropped_ends(client: Client) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await client.call(agent="a", method="sleep")
    assert await client.call(agent="a", method="x") == {"arguments": {}}


async def test_logs(client: Client, api: ServedApi) -> None:
    await api.start_agents("web", 1)
    assert [line async for line in client.logs("web-0")] == ["INFO line 1", "INFO line 2"]
    assert len([line async for line in client.logs("web-0", tail_lines=1)]) == 1
    async with aclosing(client.logs("web-0", follow=True)) as lines:
        assert "line 1" in await anext(lines)
        assert "line 2" in await anext(lines)
    with pytest.raises(NotFound):
        await anext(client.logs("gone"))


async def test_events_about_one_object_in_order(client: Client) -> None:
    about = await client.create(CLUSTER)
    for name, uid, time in (
        ("late", about["metadata"]["uid"], 2),
        ("early", about["metadata"]["uid"], 1),
        ("o", "x", 3),
    ):
        await client.create(
            {
                "apiVersion": "v1",
                "kind": "Event",
                "metadata": {"name": name},
                "involvedObject": {"kind": "AgentCluster", "name": "support", "uid": uid},
                "reason": "Tested",
                "lastTimestamp": f"2026-01-01T00:00:0{time}Z",
            }
        )
    assert [e["metadata"]["name"] for e in await client.events(about=about)] == ["early", "late"]
    assert [e["metadata"]["name"] for e in await client.events()] == ["early", "late", "o"]


async def test_many_requests_at_once_share_few_connections(client: Client) -> None:
    await client.create(node("a"))
    found = await asyncio.gather(*(client.get("agentnodes", "a") for _ in range(300)))
    assert len(found) == 300


async def test_names_cannot_leave_their_path(client: Client) -> None:
    with pytest.raises(Invalid, match="is no name"):
        await client.get("agentnodes", "../../namespaces/default")
    with pytest.raises(NotFound):
        await client.get("agentnodes", "a?watch=true")


async def test_a_server_that_is_not_there_is_temporary(api: ServedApi) -> None:
    access = load_kubeconfig([api.kubeconfig])
    async with Client(ApiAccess("https://127.0.0.1:1", access.authority_pem)) as client:
        with pytest.raises(Temporary, match="cannot be reached"):
            await client.version()


async def test_a_server_of_another_authority_is_named(api: ServedApi, tmp_path: Any) -> None:
    other = Authority.open(tmp_path / "other", SystemClock())
    stranger = other.client("admin", ["system:masters"])
    async with Client(ApiAccess(api.url, other.pem, stranger.certificate_pem, stranger.key_pem)) as client:
        with pytest.raises(Permanent, match="is not the one of this kubeconfig"):
            await client.version()
    async with Client(ApiAccess(api.url, api.authority.pem, stranger.certificate_pem, stranger.key_pem)) as client:
        with pytest.raises((Unauthenticated, Temporary), match="does not take the certificate"):
            await client.version()
    async with Client(ApiAccess(api.url, api.authority.pem)) as client:
        with pytest.raises(Unauthenticated, match="neither a client certificate nor a token was shown"):
            await client.version()


@pytest.mark.parametrize("server", ["", "nonsense", "ftp://x", "https://"])
def test_an_address_that_is_none_is_invalid(server: str) -> None:
    with pytest.raises(Invalid, match="is no address"):
        Client(ApiAccess(server))


def test_the_synchronous_form_has_the_same_methods_with_the_same_arguments() -> None:
    methods = {name: member for name, member in vars(Client).items() if inspect.isfunction(member) and name[0] != "_"}
    for name in methods.keys() - {"catalogue", "connect_port"}:
        theirs = inspect.signature(getattr(SyncClient, name)).parameters
        assert theirs == inspect.signature(methods[name]).parameters, name


async def test_the_synchronous_form_works_beside_a_running_loop(api: ServedApi) -> None:
    def use() -> list[str]:
        with SyncClient.from_kubeconfig(api.kubeconfig) as client:
            assert client.apply(node("a")).outcome == "created"
            assert client.get("agentnode", "a")["metadata"]["name"] == "a"
            first = next(iter(client.watch("agentnodes")))
            with pytest.raises(CallError):
                client.call(agent="x", method="Overloaded")
            client.delete("agentnode", "a")
            assert client.wait("agentnode", "a", "delete", timeout_s=20) is None
            client.close()
            return [first.type, str(client.call)[:5]]

    assert (await asyncio.to_thread(use))[0] == "ADDED"
