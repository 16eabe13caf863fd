"""`kubectl choregos …`, run by a real kubectl: our commands, for the server and namespace that kubectl means."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from choregos.cli.app import _command_first
from choregos.client import SyncClient

BIN = Path(sys.executable).parent
Kubectl = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("", ""),
        ("--help", "--help"),
        ("--like-kubectl", ""),
        ("--like-kubectl --help", "--help"),
        ("get agents", "get agents"),
        ("-n x --context=y get agents", "get -n x --context=y agents"),
        ("--server https://a:1 get agents", "get --server https://a:1 agents"),
        ("--like-kubectl get agents -n x", "get --like-kubectl agents -n x"),
        ("--like-kubectl rollout", "rollout"),
        ("--like-kubectl rollout --help", "rollout --help"),
        ("-n x rollout status a/b", "rollout status -n x a/b"),
        ("--context c rollout -n x status a/b", "rollout status --context c -n x a/b"),
    ],
)
def test_options_of_every_command_may_stand_before_it(words: str, expected: str) -> None:
    assert _command_first(words.split()) == expected.split()


@pytest.fixture
def kubectl(background: Any, tmp_path: Path) -> Kubectl:
    """kubectl with two contexts, the second of which is this server's in namespace `team`."""
    ours = yaml.safe_load(Path(background.api.kubeconfig).read_text())
    entry = ours["contexts"][0]["context"]
    other = {"name": "other", "cluster": {"server": "https://127.0.0.1:1"}}
    ours["clusters"].append(other)
    ours["contexts"] = [
        {"name": "nowhere", "context": {**entry, "cluster": "other"}},
        {"name": "here", "context": {**entry, "namespace": "team"}},
    ]
    ours["current-context"] = "nowhere"
    config = tmp_path / "home" / ".kube" / "config"
    config.parent.mkdir(parents=True)
    config.write_text(yaml.safe_dump(ours))

    def call(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [BIN / "kubectl", *words],
            capture_output=True,
            text=True,
            env={
                "HOME": str(tmp_path / "home"),
                "PATH": f"{BIN}:/usr/bin:/bin",
                "CHOREGOS_DATA_DIR": background.api.kubeconfig.parent,  # whose kubeconfig is not meant
                **environment,
            },
            timeout=60,
            check=False,
            cwd=tmp_path,
        )

    return call


@pytest.mark.real
def test_it_means_what_kubectl_means(kubectl: Kubectl, server: SyncClient, background: Any, tmp_path: Path) -> None:
    server.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team"}})
    template = {"name": "t", "runtime": {"python": "m:C"}}
    for namespace, name in (("team", "theirs"), ("default", "ours")):
        metadata = {"name": name, "namespace": namespace}
        spec = {"replicas": 0, "template": template}
        server.create({"apiVersion": "choregos.dev/v1", "kind": "AgentSet", "metadata": metadata, "spec": spec})
    result = kubectl("choregos", "get", "agentsets", "-o", "name")
    assert result.returncode == 7  # the current context's server is not there
    result = kubectl("choregos", "--context", "here", "get", "agentsets", "-o", "name")
    assert (result.returncode, result.stdout) == (0, "agentset.choregos.dev/theirs\n"), result.stderr
    result = kubectl("choregos", "rollout", "restart", "agentset/ours", "-n", "default", "--context=here")
    assert (result.returncode, result.stdout) == (0, "agentset.choregos.dev/ours restarted\n"), result.stderr
    result = kubectl("choregos", "get", "as", "-o", "name", f"--kubeconfig={background.api.kubeconfig}")
    assert result.stdout == "agentset.choregos.dev/ours\n"
    files = f"{tmp_path / 'none'}:{background.api.kubeconfig}"
    result = kubectl("choregos", "get", "as", "-o", "name", KUBECONFIG=files)
    assert result.stdout == "agentset.choregos.dev/ours\n"


@pytest.mark.real
def test_it_speaks_of_itself_as_it_was_called(kubectl: Kubectl) -> None:
    assert "kubectl-choregos" in kubectl("plugin", "list").stdout
    assert kubectl("choregos").stdout.startswith("Usage: kubectl choregos COMMAND")
    result = kubectl("choregos", "rollout", "forward")
    assert result.returncode == 2
    assert result.stderr.endswith("See `kubectl choregos rollout --help`.\n")
