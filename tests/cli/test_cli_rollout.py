"""`choregos rollout` against a real API server; what controllers would write is written by the test."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from choregos.cli.exit_codes import ExitCode
from choregos.cli.rollout import going_back
from choregos.client import SyncClient
from choregos.resources.expansion import agent_sets, updated_set
from choregos.scheduling.revisions import merged, revision_of

Choregos = Callable[..., Any]
CAUSE = "kubernetes.io/change-cause"
API = "choregos.dev/v1"


class Controllers:
    """What fleet and region would have made of what is declared."""

    def __init__(self, server: SyncClient) -> None:
        self.server = server

    def declare(self, *entries: dict[str, Any], name: str = "shop", cause: str = "") -> None:
        metadata = {"name": name, "annotations": {CAUSE: cause} if cause else {}}
        self.server.apply(
            {"apiVersion": API, "kind": "AgentCluster", "metadata": metadata, "spec": {"agents": entries}}
        )
        self.act(name)

    def act(self, name: str = "shop", **status: Any) -> None:
        """The sets and their revisions are as the cluster says, and all agents ready, or as the status says."""
        present = {one["metadata"]["name"]: one for one in self.server.list("agentsets")}
        for desired in agent_sets(self.server.get("agentcluster", name)):
            existing = present.get(desired["metadata"]["name"])
            if existing is None:
                self.server.create(desired)
            else:
                self.server.replace(updated_set(existing, desired))
            self.record(desired["metadata"]["name"], **status)
        self.observe("agentcluster", name)

    def record(self, name: str, **status: Any) -> None:
        agent_set = self.server.get("agentset", name)
        known = self.server.list("controllerrevisions", selector=f"choregos.dev/set={name}")
        desired = revision_of(agent_set, known)
        found = [one for one in known if one["metadata"]["name"] == desired["metadata"]["name"]]
        if found:
            self.server.replace(merged(found[0], desired))
        else:
            self.server.create(desired)
        self.observe("agentset", name, **status)

    def observe(self, kind: str, name: str, **status: Any) -> None:
        found = self.server.get(kind, name)
        replicas = found["spec"].get("replicas", 0)
        counts = (
            dict.fromkeys(("replicas", "updatedReplicas", "availableReplicas"), replicas) if kind == "agentset" else {}
        )
        seen = {"observedGeneration": found["metadata"]["generation"], **counts, **status}
        self.server.patch(kind, name, {"status": seen}, subresource="status")

    def version(self, name: str = "shop-chat") -> Any:
        return self.server.get("agentset", name)["spec"]["template"].get("settings", {}).get("version")


@pytest.fixture
def control(server: SyncClient) -> Controllers:
    return Controllers(server)


def chat(version: int, **fields: Any) -> dict[str, Any]:
    return {"name": "chat", "replicas": 2, "settings": {"version": version}, **fields}


def test_history_shows_numbers_and_causes(choregos: Choregos, control: Controllers) -> None:
    control.declare(chat(1), cause="first")
    control.declare(chat(2), {"name": "other"})
    result = choregos("rollout", "history", "agentset/shop-chat")
    assert result.out == (
        "agentset.choregos.dev/shop-chat\nREVISION   CHANGE-CAUSE\n1          first\n2          <none>\n"
    )
    both = choregos("rollout", "history", "agentcluster", "shop").out
    assert both == result.out + ("\nagentset.choregos.dev/shop-other\nREVISION   CHANGE-CAUSE\n1          <none>\n")
    one = choregos("rollout", "history", "as/shop-chat", "--revision=1").out
    assert one.startswith("agentset.choregos.dev/shop-chat with revision 1, first\nname: chat\n")
    assert "version: 1\n" in one
    missing = choregos("rollout", "history", "as/shop-chat", "--revision=7")
    assert (missing.code, missing.out) == (ExitCode.NOT_FOUND, "")


def test_undo_of_a_set_by_itself_changes_the_set(choregos: Choregos, control: Controllers) -> None:
    template = {"name": "chat", "settings": {"version": 1}, "env": {"A": "1"}}
    manifest = {"apiVersion": API, "kind": "AgentSet", "metadata": {"name": "solo"}, "spec": {"template": template}}
    control.server.apply(manifest)
    control.record("solo")
    manifest["spec"] = {"template": {"name": "chat", "settings": {"version": 2}}}
    control.server.apply(manifest)
    control.record("solo")
    result = choregos("rollout", "undo", "agentset/solo")
    assert (result.code, result.out) == (0, "agentset.choregos.dev/solo rolled back to revision 1\n")
    now = control.server.get("agentset", "solo")["spec"]["template"]
    assert (now["settings"], now["env"]) == ({"version": 1}, {"A": "1"})
    control.record("solo")
    assert choregos("rollout", "undo", "agentset/solo", "--to-revision", "2").code == 0
    assert "env" not in control.server.get("agentset", "solo")["spec"]["template"]


def test_undo_of_a_clusters_set_changes_the_clusters_manifest(choregos: Choregos, control: Controllers) -> None:
    control.declare(chat(1), {"name": "other"}, cause="first")
    control.declare(chat(2, replicas=5), {"name": "other"}, cause="second")
    result = choregos("rollout", "undo", "agentset", "shop-chat")
    assert result.out == (
        "agentset.choregos.dev/shop-chat rolled back to revision 1, in the manifest of agentcluster.choregos.dev/shop\n"
    )
    cluster = control.server.get("agentcluster", "shop")
    assert cluster["spec"]["agents"] == [chat(1, replicas=5), {"name": "other"}]
    assert cluster["metadata"]["annotations"][CAUSE] == "first"
    control.act()
    assert control.version() == 1
    again = choregos("rollout", "undo", "agentset/shop-chat", "--to-revision=3")
    assert again.out == "agentset.choregos.dev/shop-chat stays as it is: it declares revision 3 already\n"
    assert choregos("rollout", "undo", "agentset/shop-chat").code == 0
    assert control.server.get("agentcluster", "shop")["spec"]["agents"][0]["settings"] == {"version": 2}


def test_nothing_is_lost_when_somebody_writes_at_the_same_time(
    choregos: Choregos, control: Controllers, monkeypatch: pytest.MonkeyPatch
) -> None:
    control.declare(chat(1))
    control.declare(chat(2))
    revisions, disturbed = going_back._revisions, []

    async def disturb(client: Any, agent_set: Any) -> Any:
        if not disturbed:
            disturbed.append(1)
            patch = {"metadata": {"labels": {"team": "care"}}}
            await client.patch("agentcluster", "shop", patch)
        return await revisions(client, agent_set)

    monkeypatch.setattr(going_back, "_revisions", disturb)
    assert choregos("rollout", "undo", "agentset/shop-chat").code == 0
    cluster = control.server.get("agentcluster", "shop")
    assert cluster["metadata"]["labels"] == {"team": "care"}
    assert cluster["spec"]["agents"][0]["settings"] == {"version": 1}


def test_undo_waits_until_the_latest_change_was_seen(
    choregos: Choregos, control: Controllers, monkeypatch: pytest.MonkeyPatch
) -> None:
    control.declare(chat(1))
    control.declare(chat(2))
    control.server.patch("agentcluster", "shop", {"spec": {"agents": [chat(3)]}})
    with monkeypatch.context() as patched:
        patched.setattr(going_back, "OBSERVED_WITHIN_S", 0.0)
        result = choregos("rollout", "undo", "agentset/shop-chat")
    assert result.code == ExitCode.UNAVAILABLE
    assert "no controller has seen the latest change of agentcluster shop" in result.err
    control.act()
    assert choregos("rollout", "undo", "agentset/shop-chat").out.startswith(
        "agentset.choregos.dev/shop-chat rolled back to revision 2"
    )


def test_a_cluster_of_several_sets_has_no_history_of_its_own(choregos: Choregos, control: Controllers) -> None:
    control.declare(chat(1), {"name": "other"})
    result = choregos("rollout", "undo", "agentcluster/shop")
    assert result.code == ExitCode.USAGE
    assert "agentset/shop-chat agentset/shop-other" in result.err
    control.declare(chat(1), name="single")
    control.declare(chat(2), name="single")
    assert "rolled back to revision 1" in choregos("rollout", "undo", "agentcluster/single").out


REFUSED = [
    ("undo agentset/shop-chat", ExitCode.NOT_FOUND),
    ("undo agentset/shop-chat --to-revision=4", ExitCode.NOT_FOUND),
    ("undo agentset/none", ExitCode.NOT_FOUND),
    ("undo agentset/a agentset/b", ExitCode.USAGE),
    ("undo agents/a", ExitCode.USAGE),
    ("undo", ExitCode.USAGE),
    ("status agentset", ExitCode.USAGE),
    ("status agentset/none", ExitCode.NOT_FOUND),
    ("status agentcluster/none", ExitCode.NOT_FOUND),
    ("status agentset/a agentset/b", ExitCode.USAGE),
    ("restart agentset/none", ExitCode.NOT_FOUND),
    ("roll", ExitCode.USAGE),
]


def test_what_cannot_be_done_says_why_and_does_nothing(choregos: Choregos, control: Controllers) -> None:
    control.declare(chat(1))
    for words, code in REFUSED:
        result = choregos("rollout", *words.split())
        assert (result.code, result.out) == (code, ""), words
        assert result.err.startswith("Error: "), words


def test_pause_and_resume(choregos: Choregos, control: Controllers) -> None:
    control.declare(chat(1), {"name": "other"})
    control.declare(chat(2), {"name": "other"})
    assert choregos("rollout", "pause", "agentcluster/shop").out == (
        "agentset.choregos.dev/shop-chat paused\nagentset.choregos.dev/shop-other paused\n"
    )
    assert control.server.get("agentset", "shop-chat")["spec"]["paused"] is True
    for words in (("undo", "agentset/shop-chat"), ("restart", "agentset/shop-chat")):
        result = choregos("rollout", *words)
        assert (result.code, result.out) == (ExitCode.FAILED, "")
        assert "is paused" in result.err
    control.observe("agentset", "shop-chat", updatedReplicas=0)
    assert choregos("rollout", "status", "as/shop-chat", "--watch=false").out == (
        'Rollout of agentset "shop-chat" is paused: 0 of 2 agents updated...\n'
    )
    assert choregos("rollout", "resume", "agentset/shop-chat").out == "agentset.choregos.dev/shop-chat resumed\n"
    assert "paused" not in control.server.get("agentset", "shop-chat")["spec"]


def test_a_restart_is_told_to_each_set_and_not_to_the_manifest(choregos: Choregos, control: Controllers) -> None:
    control.declare(chat(1), {"name": "other"})
    before = control.server.get("agentcluster", "shop")["metadata"]["resourceVersion"]
    assert choregos("-n", "default", "rollout", "restart", "agentcluster/shop").code == 0
    first = control.server.get("agentset", "shop-other")["spec"]["restartedAt"]
    assert control.server.get("agentset", "shop-chat")["spec"]["restartedAt"] == first
    assert choregos("rollout", "-n", "default", "restart", "as/shop-other").code == 0
    assert control.server.get("agentset", "shop-other")["spec"]["restartedAt"] > first
    assert control.server.get("agentcluster", "shop")["metadata"]["resourceVersion"] == before


def test_status_follows_all_sets_of_a_cluster_to_the_end(
    choregos: Choregos, control: Controllers, monkeypatch: pytest.MonkeyPatch
) -> None:
    control.declare(chat(1), {"name": "other"})
    control.server.patch("agentcluster", "shop", {"spec": {"agents": [chat(2), {"name": "other"}]}})
    said: list[str] = []
    steps: list[Callable[[], None]] = [
        lambda: control.act(updatedReplicas=1),
        lambda: control.observe("agentset", "shop-chat", availableReplicas=1),
        lambda: control.observe("agentset", "shop-chat"),
    ]

    def hear(text: str) -> None:
        said.append(text)
        if text.startswith(("Waiting for the update of agentcluster", "Waiting for agentset")) and steps:
            threading.Thread(target=steps.pop(0)).start()

    monkeypatch.setattr("choregos.cli.rollout.following.show", hear)
    assert choregos("rollout", "status", "agentcluster/shop", "--timeout=60s").code == 0
    assert said[0] == 'Waiting for the update of agentcluster "shop" to be observed...'
    assert 'Waiting for agentset "shop-chat" rollout to finish: 1 of 2 agents updated...' in said
    assert 'Waiting for agentset "shop-chat" rollout to finish: 1 of 2 updated agents are ready...' in said
    assert said[-1] == 'agentcluster "shop" successfully rolled out'


def test_status_of_a_clusters_set_waits_for_its_cluster(choregos: Choregos, control: Controllers) -> None:
    control.declare(chat(1))
    assert choregos("rollout", "status", "as/shop-chat").out == 'agentset "shop-chat" successfully rolled out\n'
    control.server.patch("agentcluster", "shop", {"spec": {"agents": [chat(2)]}})
    waiting = 'Waiting for the update of agentcluster "shop" to be observed...\n'
    assert choregos("rollout", "status", "as/shop-chat", "--watch=false").out == waiting
    result = choregos("rollout", "status", "agentset/shop-chat", "--timeout=2s")
    assert (result.code, result.out) == (ExitCode.TIMED_OUT, waiting)
    control.act()
    assert choregos("rollout", "status", "agentset/shop-chat").code == 0


def test_status_fails_with_a_rollout_that_gets_no_further(choregos: Choregos, control: Controllers) -> None:
    control.declare(chat(1), {"name": "other"})
    exceeded = {
        "type": "Progressing",
        "status": "False",
        "reason": "ProgressDeadlineExceeded",
        "message": "no progress",
    }
    control.observe("agentset", "shop-chat", updatedReplicas=1, conditions=[exceeded])
    for words in (("agentcluster/shop",), ("agentset/shop-chat",), ("agentset/shop-chat", "--watch=false")):
        result = choregos("rollout", "status", *words)
        assert result.code == ExitCode.FAILED
        assert 'agentset "shop-chat" exceeded its progress deadline: no progress' in result.err
