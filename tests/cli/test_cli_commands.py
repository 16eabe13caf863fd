"""The commands against a real API server: results on stdout, talk on stderr, an exit code that means something."""

from __future__ import annotations

import io
import json
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from choregos.cli import get as command
from choregos.cli.exit_codes import ExitCode
from choregos.cli.output import TablePrinter
from choregos.client import SyncClient

Choregos = Callable[..., Any]
Write = Callable[..., str]

NODE = {"apiVersion": "choregos.dev/v1", "kind": "AgentNode", "metadata": {"name": "n1"}, "spec": {"region": "local"}}


@pytest.fixture
def agents(background: Any) -> None:
    background.do(background.api.start_agents("web", 3, {"labels": {"tier": "gold"}}))


def test_apply_says_what_it_did(choregos: Choregos, server: SyncClient, manifest: Write) -> None:
    assert choregos("apply", "-f", manifest()).out == "agentcluster.choregos.dev/support created\n"
    assert choregos("apply", "-f", manifest()).out == "agentcluster.choregos.dev/support unchanged\n"
    assert choregos("apply", "-f", manifest(replicas=5)).out == "agentcluster.choregos.dev/support configured\n"
    assert server.get("ac", "support")["spec"]["agents"][0]["runtime"]["path"] == "."


def test_who_owns_which_field_is_not_printed(choregos: Choregos, server: SyncClient, manifest: Write) -> None:
    choregos("apply", "-f", manifest())
    assert "managedFields" in server.get("ac", "support")["metadata"]
    assert "managedFields" not in choregos("get", "ac", "support", "-o", "json").json["metadata"]
    assert "managedFields" not in choregos("get", "ac", "-o", "yaml").out


def test_apply_server_side(choregos: Choregos, server: SyncClient, manifest: Write) -> None:
    for outcome in ("created", "unchanged"):
        said = choregos("apply", "--server-side", "-f", manifest())
        assert said.out == f"agentcluster.choregos.dev/support {outcome}\n"
    assert "annotations" not in server.get("ac", "support")["metadata"]
    server.patch(
        "ac", "support", {"spec": {"agents": [{**server.get("ac", "support")["spec"]["agents"][0], "replicas": 9}]}}
    )
    refused = choregos("apply", "--server-side", "-f", manifest())
    assert refused.code == ExitCode.FAILED
    assert choregos("apply", "--server-side", "--force-conflicts", "-f", manifest()).code == 0
    assert choregos("apply", "--force-conflicts", "-f", manifest()).code == ExitCode.USAGE


def test_a_dry_run_says_so_and_changes_nothing(choregos: Choregos, server: SyncClient, manifest: Write) -> None:
    result = choregos("apply", "-f", manifest(), "--dry-run")
    assert result.out == "agentcluster.choregos.dev/support created (dry run)\n"
    assert server.list("ac") == []


def test_every_fault_of_a_manifest_is_shown_at_its_line(
    choregos: Choregos, server: SyncClient, manifest: Write
) -> None:
    path = manifest(extra="    isolation: none\n    resources: {cpu: much}\n")
    result = choregos("apply", "-f", path)
    assert result.code == ExitCode.INVALID
    assert result.out == ""
    assert f"{path}:10: spec.agents[0].isolation: " in result.err
    assert f"{path}:11: spec.agents[0].resources.cpu: " in result.err
    assert "Traceback" not in result.err


def test_a_lone_hyphen_is_standard_input(
    choregos: Choregos, server: SyncClient, manifest: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    piped = io.BytesIO(Path(manifest("piped")).read_bytes())
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(piped, encoding="utf-8"))
    assert choregos("apply", "-f", "-").out == "agentcluster.choregos.dev/piped created\n"
    monkeypatch.setattr(sys, "stdin", io.StringIO('{"text": "hi"}'))
    assert choregos("call", "web-1", "reply", "-", "--timeout", "5s").json == {"arguments": {"text": "hi"}}
    assert "unknown option --tiemout" in choregos("call", "web-1", "reply", "--tiemout", "5s").err


def test_one_bad_manifest_does_not_hide_the_others(choregos: Choregos, server: SyncClient, manifest: Write) -> None:
    bad = manifest("bad", extra="    isolation: none\n")
    result = choregos("apply", "-f", bad, "-f", manifest("good"))
    assert result.code == ExitCode.INVALID
    assert result.out == "agentcluster.choregos.dev/good created\n"


def test_a_file_that_is_no_yaml_is_named_with_its_line(choregos: Choregos, server: SyncClient, tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("a: [1\nb: 2\n")
    result = choregos("apply", "-f", str(tmp_path / "x.yaml"))
    assert (result.code, "x.yaml:2: " in result.err) == (ExitCode.INVALID, True)


def test_a_namespace_that_contradicts_the_manifest_is_refused(
    choregos: Choregos, server: SyncClient, tmp_path: Path
) -> None:
    (tmp_path / "x.yaml").write_text(
        "apiVersion: v1\nkind: AgentCluster\nmetadata: {name: x, namespace: a}\nspec: {}\n"
    )
    result = choregos("-n", "b", "apply", "-f", str(tmp_path / "x.yaml"))
    assert (result.code, "is for namespace a, not b" in result.err) == (ExitCode.USAGE, True)


@pytest.mark.usefixtures("agents")
class TestGet:
    def test_table(self, choregos: Choregos) -> None:
        heading, *rows = choregos("get", "agents").out.splitlines()
        assert heading.split()[:5] == ["NAME", "READY", "STATUS", "RESTARTS", "NODE"]
        assert [row.split()[0] for row in rows] == ["web-0", "web-1", "web-2"]
        assert {row.index("Running") for row in rows} == {heading.index("STATUS")}

    def test_wide_has_more_columns(self, choregos: Choregos) -> None:
        assert "HOST" in choregos("get", "ag", "-o", "wide").out
        assert "HOST" not in choregos("get", "ag").out

    def test_json_of_one_and_of_many(self, choregos: Choregos) -> None:
        assert choregos("get", "agent", "web-1", "-o", "json").json["metadata"]["name"] == "web-1"
        listed = choregos("get", "agents", "-o", "json").json
        assert (listed["kind"], len(listed["items"]), listed["items"][0]["kind"]) == ("List", 3, "Agent")

    def test_yaml(self, choregos: Choregos) -> None:
        assert yaml.safe_load(choregos("get", "agent/web-1", "-o", "yaml").out)["spec"]["set"] == "web"

    def test_names(self, choregos: Choregos) -> None:
        assert choregos("get", "agents", "-o", "name").out.splitlines()[0] == "agent.choregos.dev/web-0"

    def test_several_by_name(self, choregos: Choregos) -> None:
        lines = choregos("get", "agent", "web-0", "web-2").out.splitlines()
        assert [line.split()[0] for line in lines] == ["NAME", "web-0", "web-2"]

    def test_several_kinds_name_theirs(self, choregos: Choregos, server: SyncClient) -> None:
        server.create(NODE)
        out = choregos("get", "agents,agentnodes").out
        assert "agent.choregos.dev/web-0" in out
        assert "agentnode.choregos.dev/n1" in out
        assert out.count("NAME") == 2

    def test_all_namespaces_have_a_column(self, choregos: Choregos) -> None:
        lines = choregos("get", "agents", "-A").out.splitlines()
        assert lines[0].startswith("NAMESPACE")
        assert lines[1].split()[:2] == ["default", "web-0"]

    def test_selectors(self, choregos: Choregos) -> None:
        assert len(choregos("get", "agents", "-l", "tier=gold").out.splitlines()) == 4
        result = choregos("get", "agents", "-l", "tier=none")
        assert (result.code, result.out, result.err) == (0, "", "No agents found in namespace default.\n")

    def test_a_name_that_does_not_exist(self, choregos: Choregos) -> None:
        result = choregos("get", "agent", "gone")
        assert (result.code, result.err) == (ExitCode.NOT_FOUND, 'Error: agents "gone" not found\n')

    def test_a_kind_that_does_not_exist(self, choregos: Choregos) -> None:
        result = choregos("get", "pods2")
        assert result.code == ExitCode.INVALID
        assert "agents (ag)" in result.err

    def test_options_may_stand_before_the_command(self, choregos: Choregos) -> None:
        assert "in namespace other" in choregos("-n", "other", "get", "agents").err
        assert "in namespace other" in choregos("--namespace=other", "get", "agents").err

    def test_describe(self, choregos: Choregos) -> None:
        out = choregos("describe", "agent", "web-0").out
        for part in ("Name:", "web-0", "Agent (choregos.dev/v1)", "Spec:", "  set: web", "Status:", "phase: Running"):
            assert part in out
        assert "Events: none" in out
        assert "Conditions:\n  TYPE" in out
        assert "\n  Ready" in out

    def test_logs(self, choregos: Choregos) -> None:
        assert choregos("logs", "web-0").out == "INFO line 1\nINFO line 2\n"
        assert choregos("logs", "agent/web-0", "-f", "--tail", "1").out == "INFO line 2\n"
        assert choregos("logs", "gone").code == ExitCode.NOT_FOUND


def test_watch_shows_what_changes(choregos: Choregos, server: SyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ended as by Ctrl-C, once it has shown two rows."""
    rows: list[Any] = []
    seen = threading.Event()

    class Recorder(TablePrinter):
        def rows(self, more: Any) -> None:
            rows.extend(more)
            seen.set()
            if len(rows) > 1:
                raise KeyboardInterrupt

    server.create(NODE)
    changer = threading.Thread(
        target=lambda: (seen.wait(20), server.patch("agentnodes", "n1", {"spec": {"unschedulable": True}}))
    )
    changer.start()
    monkeypatch.setattr(command, "TablePrinter", Recorder)
    try:
        assert choregos("get", "agentnodes", "-w").code == ExitCode.INTERRUPTED
    finally:
        changer.join()
    assert [row[:2] for row in rows] == [["n1", "NotReady"], ["n1", "NotReady,SchedulingDisabled"]]


def test_scale(choregos: Choregos, server: SyncClient) -> None:
    template = {"name": "chat", "runtime": {"python": "m:C"}}
    spec = {"replicas": 1, "template": template}
    server.create({"apiVersion": "choregos.dev/v1", "kind": "AgentSet", "metadata": {"name": "chat"}, "spec": spec})
    assert choregos("scale", "as/chat", "--replicas", "4").out == "agentset.choregos.dev/chat scaled to 4\n"
    assert server.get("as", "chat")["spec"]["replicas"] == 4
    assert choregos("scale", "as", "gone", "--replicas", "4").code == ExitCode.NOT_FOUND
    assert choregos("scale", "as", "--replicas", "4").code == ExitCode.USAGE
    assert choregos("scale", "as", "chat", "--replicas", "-1").code == ExitCode.USAGE


def test_delete_waits_until_they_are_gone(choregos: Choregos, server: SyncClient, manifest: Write) -> None:
    server.create(NODE)
    assert choregos("delete", "agentnode", "n1").out == "agentnode.choregos.dev/n1 deleted\n"
    assert choregos("delete", "agentnode", "n1").code == ExitCode.NOT_FOUND
    assert choregos("delete", "agentnode", "n1", "--ignore-not-found").code == 0
    choregos("apply", "-f", manifest())
    # Its finalizer holds it, and no controller runs here.
    server.patch("ac", "support", {"metadata": {"finalizers": ["test/hold"]}})
    held = choregos("delete", "-f", manifest(), "--timeout", "100ms")
    assert held.code == ExitCode.TIMED_OUT
    assert "held by test/hold" in held.err
    assert choregos("delete", "-f", manifest(), "--no-wait").code == 0


def test_delete_all_and_by_label(choregos: Choregos, server: SyncClient) -> None:
    for name in ("a", "b", "c"):
        server.create({**NODE, "metadata": {"name": name, "labels": {"zone": name}}})
    assert choregos("delete", "agentnodes", "-l", "zone=a").out == "agentnode.choregos.dev/a deleted\n"
    assert choregos("delete", "agentnodes").code == ExitCode.USAGE
    assert len(choregos("delete", "agentnodes", "--all").out.splitlines()) == 2
    assert server.list("agentnodes") == []


def test_wait(choregos: Choregos, server: SyncClient) -> None:
    server.create(NODE)
    met = choregos("wait", "agentnode/n1", "--for=jsonpath={.spec.region}=local")
    assert met.out == "agentnode.choregos.dev/n1 condition met\n"
    late = choregos("wait", "agentnode", "n1", "--for", "condition=Ready", "--timeout", "50ms")
    assert late.code == ExitCode.TIMED_OUT
    assert "agentnode n1 did not reach condition=Ready within 0.05 s" in late.err
    assert choregos("wait", "agentnode", "n1", "--for", "nonsense").code == ExitCode.INVALID
    missing = choregos("wait", "agentnode/gone", "--for=condition=Ready")
    assert (missing.code, "agentnode gone does not exist" in missing.err) == (ExitCode.NOT_FOUND, True)
    assert choregos("wait", "agentnode", "gone", "--for", "delete").out.endswith("gone deleted\n")
    assert choregos("wait", "agentnode", "n1", "--for", "delete", "--timeout", "soon").code == ExitCode.USAGE


def test_call_prints_the_result_as_json(choregos: Choregos, server: SyncClient) -> None:
    result = choregos("call", "web-1", "reply", '{"text": "hi"}')
    assert result.json == {"arguments": {"text": "hi"}}
    assert result.err.startswith("web-1 answered in ")
    assert choregos("call", "--capability", "chat", "reply").json == {"arguments": {}}
    assert choregos("call", "--capability", "chat", '{"a": 1}').json == {"arguments": {"a": 1}}


@pytest.mark.parametrize(
    ("method", "code"),
    [
        ("HandlerFailed", ExitCode.FAILED),
        ("NoAgent", ExitCode.NOT_FOUND),
        ("DeadlineExceeded", ExitCode.TIMED_OUT),
        ("InvalidArguments", ExitCode.INVALID),
        ("Unavailable", ExitCode.UNAVAILABLE),
        ("Overloaded", ExitCode.UNAVAILABLE),
    ],
)
def test_a_call_that_fails_has_a_code_and_shows_the_agents_traceback(
    choregos: Choregos, server: SyncClient, method: str, code: ExitCode
) -> None:
    result = choregos("call", "a", method)
    assert (result.code, result.out) == (code, "")
    assert f"Error: {method} (default/a-0): it went wrong" in result.err
    assert "Traceback: here" in result.err


@pytest.mark.parametrize(
    "words", [["a"], [], ["a", "b", "c"], ["a", "b", "{"], ["a", "b", "[1]"], ["--capability", "c", "m", "x"]]
)
def test_a_call_without_sense_is_wrong_usage(choregos: Choregos, server: SyncClient, words: list[str]) -> None:
    assert choregos("call", *words).code == ExitCode.USAGE


def test_faults_of_a_call_name_no_object_that_there_is_not(choregos: Choregos, server: SyncClient) -> None:
    result = choregos("call", "a-0", "no method")
    assert (result.code, result.err.splitlines()[0]) == (ExitCode.INVALID, "Error: AgentCall.choregos.dev is invalid")
    assert "spec.method" in result.err


def test_events_oldest_first_and_about_one_object(choregos: Choregos, server: SyncClient) -> None:
    for number, about in ((2, "a"), (1, "b")):
        server.create(
            {
                "apiVersion": "v1",
                "kind": "Event",
                "metadata": {"name": f"e{number}"},
                "involvedObject": {"kind": "Agent", "name": about, "namespace": "default"},
                "reason": "Tested",
                "message": "two\nlines",
                "type": "Normal",
                "lastTimestamp": f"2026-01-01T00:00:0{number}Z",
            }
        )
    heading, first, second = choregos("events").out.splitlines()
    assert heading.split() == ["LAST", "SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"]
    assert "agent/b" in first
    assert second.endswith("two lines")
    assert len(choregos("events", "--for", "agent/a").out.splitlines()) == 2
    assert choregos("events", "-n", "other").out == ""


def test_version(choregos: Choregos, server: SyncClient) -> None:
    found = choregos("version", "-o", "json").json
    assert set(found) == {"client", "server"}
    assert choregos("version", "--client").out.startswith("client: ")


def test_results_are_json_that_scripts_can_read(choregos: Choregos, server: SyncClient) -> None:
    server.create(NODE)
    result = choregos("get", "agentnodes", "-o", "json")
    assert json.loads(result.out)["items"][0]["metadata"]["name"] == "n1"
    assert result.err == ""
