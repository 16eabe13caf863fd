"""Two tenants of a real machine: each runs agents at home with a token, none reaches the other, over restarts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from e2e_machine import Result, UpProcess, as_yaml, cluster, wait_for

from choregos.security.kubeconfig import ApiAccess, load_kubeconfig, write_kubeconfig

pytestmark = pytest.mark.real


class Tenant:
    """A namespace, and a kubeconfig with a token of its service account, which administrates it."""

    def __init__(self, machine: UpProcess, name: str, folder: Path) -> None:
        self._machine = machine
        self.name = name
        self._kubeconfig = folder / f"{name}.kubeconfig"
        machine.kubectl("create", "namespace", name)
        machine.kubectl("create", "secret", "generic", "key", "-n", name, "--from-literal=password=swordfish")
        bind = ("--clusterrole=admin", f"--serviceaccount={name}:default")
        machine.kubectl("create", "rolebinding", "home", "-n", name, *bind)

    def sign_in(self) -> None:
        """With the account that every namespace has, once its controller has made it."""
        machine = self._machine
        wait_for(lambda: machine.run("kubectl", "get", "sa", "default", "-n", self.name).code == 0, "the account")
        self._token = machine.kubectl("create", "token", "default", "-n", self.name).strip()
        self.find_server()

    def find_server(self) -> None:
        """Its port is another after a restart; the token is the same."""
        admin = load_kubeconfig([self._machine.root / "kubeconfig"])
        mine = ApiAccess(admin.server, admin.authority_pem, token=self._token, namespace=self.name)
        write_kubeconfig(self._kubeconfig, mine)

    def kubectl(self, *arguments: str, given: str = "") -> Result:
        return self._machine.run("kubectl", "--kubeconfig", str(self._kubeconfig), *arguments, given=given)

    def choregos(self, *arguments: str) -> Result:
        return self._machine.choregos(*arguments, "--kubeconfig", str(self._kubeconfig))


def audit(machine: UpProcess, *options: str) -> list[Any]:
    return list(json.loads(machine.choregos("audit", "-o", "json", *options).out))


def test_tenants_are_kept_apart_and_tokens_survive_a_restart(make_up: Any, tmp_path: Path) -> None:
    machine = make_up()
    machine.start()
    red, blue = Tenant(machine, "red", tmp_path), Tenant(machine, "blue", tmp_path)
    for tenant in (red, blue):
        tenant.sign_in()
        manifest = as_yaml(cluster("desk", machine.template("worker", "Worker", 1), namespace=tenant.name))
        assert tenant.kubectl("apply", "-f", "-", given=manifest).code == 0
        ready = tenant.kubectl("wait", "--for=condition=Ready", "agentcluster/desk", "--timeout=60s")
        assert ready.code == 0, ready.err
    assert "desk-worker-0" in red.kubectl("get", "pods").out
    assert red.kubectl("logs", "desk-worker-0").code == 0
    assert red.choregos("get", "agents").code == 0
    for arguments in (
        ("get", "agents", "-n", "blue"),
        ("get", "agents", "-A"),
        ("get", "secret", "key", "-n", "blue"),
        ("logs", "desk-worker-0", "-n", "blue"),
        ("delete", "agent", "desk-worker-0", "-n", "blue"),
        ("scale", "agentset", "desk-worker", "-n", "blue", "--replicas=0"),
    ):
        refused = red.kubectl(*arguments)
        assert refused.code != 0
        assert "Forbidden" in refused.err, arguments
    refused = red.choregos("call", "desk-worker-0", "whoami", "-n", "blue")
    assert 'cannot create resource "agentcalls"' in refused.err
    recorded = audit(machine, "--refused", "--user", "system:serviceaccount:red:default")
    assert {each["objectRef"]["resource"] for each in recorded} >= {
        "agents",
        "secrets",
        "pods",
        "agentsets",
        "agentcalls",
    }
    assert all(each["responseStatus"]["code"] == 403 for each in recorded)
    said = "".join(path.read_text() for path in (machine.root / "logs").iterdir())
    assert "swordfish" not in said
    machine.stop()
    machine.start()
    for tenant in (red, blue):
        tenant.find_server()
    assert "desk-worker-0" in blue.kubectl("get", "agents").out
    machine.kubectl("delete", "serviceaccount", "default", "-n", "blue")
    assert blue.kubectl("get", "agents").code != 0
    wait_for(lambda: machine.run("kubectl", "get", "sa", "default", "-n", "blue").code == 0, "the account comes back")
    assert blue.kubectl("get", "agents").code != 0
    machine.kubectl("delete", "namespace", "red")
    assert red.kubectl("get", "agents").code != 0
    machine.stop()
